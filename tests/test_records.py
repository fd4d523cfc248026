"""Batches of records cross a pipe whole and in order, however the pipe cuts them."""

import marshal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.records import MAX_FRAME, FrameReader, Record, frame

seconds = st.floats(allow_nan=False)
records = st.builds(
    lambda *fields: tuple(Record(*fields)),
    *[st.text(max_size=5)] * 5, st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=3).map(tuple),
    seconds, seconds, st.integers(0, 2**63), st.integers(0, 2**63), *[st.text(max_size=5)] * 3, seconds,
)  # fmt: skip


@given(st.lists(st.lists(records, max_size=3), max_size=4), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_any_cut_of_the_stream(batches, sizes):
    stream, reader, got, turn = b"".join(map(frame, batches)), FrameReader(), [], 0
    while stream:
        size = sizes[turn % len(sizes)]
        got += reader.feed(stream[:size])
        stream, turn = stream[size:], turn + 1
    assert got == [record for batch in batches for record in batch]
    assert repr(reader) == "<FrameReader 0 bytes of an unfinished frame>"


def test_many_frames_at_once():
    assert FrameReader().feed(b"".join(frame([(n,)]) for n in range(1000))) == [(n,) for n in range(1000)]


def test_an_unfinished_frame_waits():
    reader = FrameReader()
    assert reader.feed(frame([("a",)])[:-1]) == []
    assert "unfinished" in repr(reader)


@pytest.mark.parametrize("body", [b"", b"N", b"hello", b"[\x09", marshal.dumps({"a": 1}), b"\xff" * 9])
def test_what_is_no_batch_is_a_value_error(body):
    with pytest.raises(ValueError):  # noqa: PT011  marshal has words of its own
        FrameReader().feed(len(body).to_bytes(4, "little") + body)


def test_a_frame_too_long_is_not_waited_for():
    with pytest.raises(ValueError, match="a frame of"):
        FrameReader().feed((MAX_FRAME + 1).to_bytes(4, "little"))


@given(st.binary(min_size=4, max_size=60))
def test_any_bytes_give_records_or_a_value_error(data):
    try:
        FrameReader().feed(data)
    except ValueError:
        pass
