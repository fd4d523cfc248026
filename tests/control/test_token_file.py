"""The token in its file: read, refused with a reason, read again when it changes, and nobody in when it has gone."""

import os

import pytest

from tcp_proxy.control.token_file import TokenFile, read_token

TOKEN = "correct-horse-battery-staple"


def test_a_token_is_one_word_with_or_without_an_end_of_line(tmp_path):
    path = tmp_path / "token"
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
    tokens = TokenFile(str(path))
    assert not tokens.admits("")
    assert "No such file" in tokens.error
    path.write_text(TOKEN)
    assert tokens.admits(TOKEN)
    assert not any(map(tokens.admits, ("", TOKEN + "x", TOKEN[1:], "ü", "\ud800")))
    other = tmp_path / "other"
    other.write_text("another-token-of-16")
    os.replace(other, path)
    assert not tokens.admits(TOKEN)
    assert tokens.admits("another-token-of-16")
    path.unlink()
    assert not tokens.admits("another-token-of-16")
    assert tokens.error
