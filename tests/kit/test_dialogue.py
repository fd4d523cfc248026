"""The words of a dialogue, on a pair of sockets."""

import socket

import pytest

from kit.dialogue import OK, closing, head, status, whole_status
from kit.peer import Peer


@pytest.fixture
def ends():
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = Peer(socket.create_connection(server.getsockname()))
        with one, Peer(server.accept()[0]) as other:
            yield one, other


def test_heads_and_bodies(ends):
    one, other = ends
    one.send(OK * 3)
    assert head(other) == OK[:-5]
    other.expect(b"hello")
    assert status(other) == 200
    other.expect(b"hello")
    assert whole_status(other) == 200
    other.expect_silence(0.01)


def test_a_last_answer(ends):
    one, other = ends
    one.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nno\n").fin()
    assert closing(other, 400).endswith(b"no\n")
    with pytest.raises(AssertionError):
        closing(other, 400)
