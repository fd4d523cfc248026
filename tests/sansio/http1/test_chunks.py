"""Chunked bodies, cut at every byte and anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.malformed import CHUNK_FAULTS
from tcp_proxy.sansio.http1.chunks import Chunks
from tcp_proxy.sansio.http1.fields import Refused


def encode(pieces, trailers=b""):
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


def feed_all(parts, decode=False):
    """What went on and what is left behind the body, fed part by part."""
    chunks, rest, passed = Chunks(decode), b"", b""
    for part in parts:
        rest += part
        if not chunks.is_done:
            taken = chunks.feed(rest)
            passed, rest = passed + rest[:taken], rest[taken:]
    return chunks, passed, rest


bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
trailer_lines = st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nDigest: \xff\r\n"])


@given(bodies, trailer_lines, st.data())
def test_it_goes_on_as_it_came_however_it_is_cut(pieces, trailers, data):
    text = encode(pieces, trailers)
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
