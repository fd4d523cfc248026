"""The token in its file: read, refused with a reason, read again when it changes, and nobody in when it has gone."""

import os

import pytest

from tcp_proxy.control.api.token_file import TokenFile, read_token

TOKEN = "correct-horse-battery-staple"


def test_a_token_is_one_word_with_or_without_an_end_of_line(tmp_path):
    path = tmp_path / "token"
    path.touch(0o600)
    for text in (TOKEN, f"{TOKEN}\n", f"  {TOKEN}\r\n"):
        path.write_text(text)
        assert read_token(str(path)) == TOKEN


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"short", "at least 16"), (b"two words of a pass phrase", "without space"),
     (b"correct-horse-b\xc3\xa4ttery", "not ASCII"), (b"correct-horse\0battery-staple", "at least 16")],
)  # fmt: skip
def test_what_is_no_token_is_said(tmp_path, content, words):
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        read_token(str(path))
    assert str(path) in str(error.value)


def test_no_file_no_token(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        read_token(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="Is a directory"):
        read_token(str(tmp_path))


def test_it_follows_its_file(tmp_path):
    path = tmp_path / "token"
    path.touch(0o600)
    tokens = TokenFile(str(path))
    path.unlink()
    assert not tokens.admits("")
    assert "No such file" in tokens.error
    path.touch(0o600)
    path.write_text(TOKEN)
    assert tokens.admits(TOKEN)
    assert not any(map(tokens.admits, ("", TOKEN + "x", TOKEN[1:], "ü", "\ud800")))
    other = tmp_path / "other"
    other.touch(0o600)
    other.write_text("another-token-of-16")
    os.replace(other, path)
    assert not tokens.admits(TOKEN)
    assert tokens.admits("another-token-of-16")
    path.unlink()
    assert not tokens.admits("another-token-of-16")
    assert tokens.error


def test_a_pipe_as_token_file_blocks_nobody(tmp_path):
    """The API's process reads it for a request, in its event loop."""
    os.mkfifo(tmp_path / "token")
    with pytest.raises(ValueError, match="this is a pipe; wanted a file"):
        read_token(str(tmp_path / "token"))


@pytest.mark.parametrize(
    ("mode", "group", "is_good"),
    [
        (0o600, 1000, True), (0o400, 1000, True), (0o640, 0, True), (0o440, 0, True),
        (0o640, 1000, False), (0o620, 1000, False), (0o644, 0, False), (0o604, 0, False), (0o602, 1000, False),
        (0o666, 0, False),
    ],
)  # fmt: skip
def test_who_else_may_read_it_is_refused_with_what_to_do(tmp_path, mode, group, is_good):
    if os.geteuid():
        pytest.skip("only root gives files to other groups")
    path = tmp_path / "token"
    path.write_text(TOKEN)
    os.chown(path, 0, group)
    path.chmod(mode)
    if is_good:
        assert read_token(str(path)) == TOKEN
    else:
        with pytest.raises(ValueError, match=rf"mode 0{mode:o} lets others at it; mend it with: chmod 600 {path}$"):
            read_token(str(path))


def test_a_file_that_is_opened_to_others_lets_nobody_in(tmp_path):
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(TOKEN)
    tokens = TokenFile(str(path))
    assert tokens.admits(TOKEN)
    path.chmod(0o604)
    assert not tokens.admits(TOKEN)
    path.chmod(0o600)
    assert tokens.admits(TOKEN)
