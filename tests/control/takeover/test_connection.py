"""What two programs say to each other at a take-over: whole, or not at all."""

import os
import socket

import pytest

from tcp_proxy.control.takeover.connection import Connection, Ended, close_all, put_in_memory, read_from_memory


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pair = Connection(ours), Connection(theirs)
    yield pair
    for end in pair:
        end.close()


def test_a_question_with_what_is_long_beside_it(pair):
    old, new = pair
    value = {"entries": [[f"key {n}", n] for n in range(10_000)], "lone": "\udc80"}
    fd = put_in_memory(value)
    old.send("state", [fd], count=3)
    os.close(fd)
    message, descriptors = new.wait(5)
    assert message == {"is": "state", "count": 3}
    assert read_from_memory(descriptors[0]) == value
    close_all(descriptors)
    assert new.receive() is None


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"is": 3}', b"\xff", b"null", b"[" * 60_000])
def test_what_nobody_understands_ends_it(pair, data):
    old, new = pair
    new._socket.send(data)
    with pytest.raises(Ended, match="nobody understands"):
        old.receive()


def test_the_other_end_is_gone(pair):
    old, new = pair
    new.close()
    with pytest.raises(Ended):
        old.receive()
    with pytest.raises(Ended):
        old.send("state")


def test_silence_is_an_end(pair):
    with pytest.raises(Ended, match="nothing for 0 s"):
        pair[0].wait(0)


def test_what_came_before_more_was_refused_is_there_and_nothing_after(pair):
    """The point of no return: both sides know whether it was passed."""
    old, new = pair
    new.send("taken")
    old.refuse_more()
    with pytest.raises(Ended):
        new.send("taken")
    assert old.receive() == ({"is": "taken"}, [])
    with pytest.raises(Ended):
        old.receive()
