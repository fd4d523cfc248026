"""Chunked bodies, cut at every byte and anywhere."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.malformed import CHUNK_FAULTS, EXTENSIONS, TOLERATED_CHUNKS
from tcp_proxy.sansio.http1.chunks import EXTENSIONS_MOST, SIZE_LINE_MOST, Chunks
from tcp_proxy.sansio.http1.fields import Refused


def encode(pieces, trailers=b"", extensions=(b"",)):
    lines = itertools.cycle(extensions)
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), next(lines), piece) for piece in pieces)
    return chunks + b"0" + next(lines) + b"\r\n" + trailers + b"\r\n"


def feed_all(parts, decode=False, is_answer=False):
    """What went on and what is left behind the body, fed part by part."""
    chunks, rest, passed = Chunks(decode, is_answer), b"", b""
    for part in parts:
        rest += part
        if not chunks.is_done:
            taken = chunks.feed(rest)
            passed, rest = passed + chunks.without_cuts(rest, taken), rest[taken:]
    return chunks, passed, rest


bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
extension_lines = st.lists(st.sampled_from([b"", *EXTENSIONS[:-1]]), min_size=1, max_size=3)
trailer_lines = st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nDigest: \xff\r\n"])


@given(bodies, trailer_lines, extension_lines, st.data())
def test_it_goes_on_as_it_came_but_for_extensions_however_it_is_cut(pieces, trailers, extensions, data):
    text = encode(pieces, trailers)
    whole = encode(pieces, trailers, extensions)
    whole = text + b"GET / HTTP/1.1\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    chunks, passed, rest = feed_all(parts, decode=True)
    assert chunks.is_done
    assert (passed, rest) == (text, b"GET / HTTP/1.1\r\n")
    assert b"".join(chunks.pieces) == b"".join(pieces)
    assert chunks.bytes == len(b"".join(pieces))
    assert chunks.trailers == trailers.count(b"\n")


@given(bodies, trailer_lines)
def test_byte_by_byte(pieces, trailers):
    text = encode(pieces, trailers)
    chunks, passed, _ = feed_all([text[i : i + 1] for i in range(len(text))])
    assert chunks.is_done
    assert passed == text


@given(bodies, trailer_lines, extension_lines, st.booleans(), st.data())
def test_another_one_goes_on_from_anywhere(pieces, trailers, extensions, decode, data):
    text = encode(pieces, trailers, extensions)
    cut = data.draw(st.integers(0, len(text)))
    one, whole = Chunks(decode), Chunks(decode)
    taken = one.feed(text[:cut])
    other = Chunks(decode)
    other.go_to(one.place)
    for chunks in (other, whole):
        assert chunks.feed(text, taken if chunks is other else 0) == len(text)
        assert chunks.is_done
    assert other.place == whole.place
    if decode:
        assert b"".join(one.pieces + other.pieces) == b"".join(whole.pieces)


def test_a_place_that_is_none_is_no_place():
    with pytest.raises(ValueError, match="9 is not a valid Step"):
        Chunks().go_to((9, 0, 0, 0, 0))
    with pytest.raises(ValueError, match="not enough values"):
        Chunks().go_to((1, 2))


def test_no_size_line_goes_on_by_halves():
    chunks = Chunks()
    assert chunks.feed(b"5") == 0
    assert chunks.feed(b"5\r") == 0
    assert chunks.feed(b"5\r\nhe") == 5
    assert chunks.in_chunk == 3
    assert chunks.feed(b"llo\r") == 3


def test_bytes_may_go_another_way():
    chunks = Chunks()
    chunks.feed(b"a\r\n0123")
    chunks.skip(6)
    assert chunks.in_chunk == 0
    assert chunks.feed(b"\r\n0\r\n\r\n") == 7
    assert (chunks.is_done, chunks.bytes) == (True, 10)


def test_malformed():
    for body in CHUNK_FAULTS.values():
        with pytest.raises(Refused):
            Chunks().feed(body)
        with pytest.raises(Refused):
            feed_all([body[i : i + 1] for i in range(len(body))])


@given(st.binary(max_size=60))
def test_nothing_raises_but_refused(junk):
    try:
        Chunks().feed(junk)
    except Refused:
        pass


def test_extensions_are_read_and_do_not_go_on():
    for extension in EXTENSIONS:
        text = encode([b"hello", b"world"], extensions=[extension])
        for parts in ([text], [text[i : i + 1] for i in range(len(text))]):
            chunks, passed, _ = feed_all(parts)
            assert chunks.is_done
            assert passed == encode([b"hello", b"world"])


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_a_size_line_has_a_limit_and_so_have_all_extensions(over, step):
    line = b"1;" + b"a" * (SIZE_LINE_MOST - 4 + over)
    assert len(line) + 2 == SIZE_LINE_MOST + over
    all_of_them = b"".join(b"%x;%b\r\nx\r\n" % (1, b"a" * 1023) for _ in range(15))
    # what has come of the content counts; the 16th is as long as it may be, or by one longer
    all_of_them += b"%x;%b\r\nx\r\n" % (1, b"a" * (EXTENSIONS_MOST + 15 - 15 * 1024 - 1 + over))
    for text in (line + b"\r\nx\r\n", all_of_them):
        parts = [text[i : i + step] for i in range(0, len(text), step)]
        if over:
            with pytest.raises(Refused):
                feed_all(parts)
        else:
            chunks, _, rest = feed_all(parts)
            assert (chunks.in_chunk, rest) == (0, b"")


def test_content_pays_for_extensions():
    """Signed chunks, as some programs send them, may come for ever."""
    text = (b"400;chunk-signature=" + b"f" * 64 + b"\r\n" + bytes(1024) + b"\r\n") * 1000
    chunks, _, _ = feed_all([text + b"0\r\n\r\n"])
    assert chunks.is_done


def test_targets_may_fill_the_line_up():
    for _, body, wanted in TOLERATED_CHUNKS:
        for parts in ([body], [body[i : i + 1] for i in range(len(body))]):
            assert feed_all(parts, is_answer=True)[1] == wanted
        with pytest.raises(Refused):
            feed_all([body])
