"""Frames come out as they went in, wherever the stream is cut."""

from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.wire.frames import whole


@given(st.lists(st.binary(max_size=20), max_size=5), st.data())
def test_wherever_it_is_cut(messages, data):
    stream = b"".join(len(message).to_bytes(4, "little") + message for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    buffer, found = bytearray(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        buffer += stream[begin:end]
        found += whole(buffer)
    assert found == messages
    assert not buffer


def test_what_is_not_whole_stays():
    buffer = bytearray(b"\x03\x00\x00\x00ab")
    assert not list(whole(buffer))
    assert buffer == b"\x03\x00\x00\x00ab"
