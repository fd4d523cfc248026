"""What comes in one message is answered in one step, each session with its own sockets, as far as there is room."""

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.dataplane.moving.importer import TOGETHER, Importer
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.moved_session import MovedSession, answers, encode

SESSION = MovedSession("tcp", "w.0-1", (1,), "web", "127.0.0.1:1", ("127.0.0.1", 2), 2, 1.0, 2.0, 1.5, "t0", 2)


class Taker:
    """Has room for some, and knows the app "web". Keeps what the descriptors say that belong to each session."""

    def __init__(self, room):
        self.room = room
        self.taken = []

    def refusal(self, session, _is_foreign, beside):
        if session.app != "web":
            return "there is no such app"
        return "" if len(self.taken) + beside < self.room else "there is no room"

    def take(self, session, descriptors, _is_foreign):
        self.taken.append((session.id, [os.read(fd, 10) for fd in descriptors]))
        for fd in descriptors:
            os.close(fd)


class End:
    """An importer whose other end the test has."""

    def __init__(self, room=1000):
        self.loop, self.taker = Loop("importer"), Taker(room)
        self.sock, theirs = socket.socketpair()
        self.sock.setblocking(False)
        self.importer = Importer(self.loop, theirs, self.taker, False, lambda _importer: None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
        self.turn()
        self.loop.close()

    def turn(self, rounds=5):
        for _ in range(rounds):
            self.loop.run_once(0)

    def send(self, stream, told):
        """With two pipes for each session, whose bytes say which they are."""
        fds = []
        for number in range(2 * told):
            fd, writing = os.pipe()
            os.write(writing, b"%d" % number)
            os.close(writing)
            fds.append(fd)
        socket.send_fds(self.sock, [stream], fds)
        for fd in fds:
            os.close(fd)

    def answers(self):
        """All that have come."""
        try:
            return list(answers(bytearray(self.sock.recv(1 << 16))))
        except BlockingIOError:
            return []


def stream_of(sessions):
    return b"".join(encode(number, session) for number, session in enumerate(sessions))


@given(st.lists(st.booleans(), min_size=1, max_size=TOGETHER), st.data())
def test_each_of_a_message_is_taken_or_refused_with_its_own_sockets(known, data):
    """Wherever the message is cut: its descriptors come with its first byte."""
    sessions = [
        SESSION._replace(id=str(number), app="web" if is_known else "other") for number, is_known in enumerate(known)
    ]
    stream = stream_of(sessions)
    cut = data.draw(st.integers(1, len(stream)))
    with End() as end:
        end.send(stream[:cut], len(sessions))
        end.turn()
        if stream[cut:]:
            end.sock.send(stream[cut:])
            end.turn()
        found = end.answers()
        assert [(answer.number, not answer.refusal) for answer in found] == list(enumerate(known))
        wanted = [(str(n), [b"%d" % (2 * n), b"%d" % (2 * n + 1)]) for n, is_known in enumerate(known) if is_known]
        assert end.taker.taken == wanted


def test_they_are_taken_as_far_as_there_is_room():
    with End(room=2) as end:
        end.send(stream_of([SESSION] * 4), 4)
        end.turn()
        found = end.answers()
        assert [answer.refusal for answer in found] == ["", "", "there is no room", "there is no room"]
        assert len(end.taker.taken) == 2


@pytest.mark.parametrize("told", [1, 3])
def test_none_is_taken_when_the_exporter_has_given_up(told):
    """The answers of one message are heard together, or none of them is."""
    with End() as end:
        end.send(stream_of([SESSION] * told), told)
        end.sock.shutdown(socket.SHUT_RDWR)
        end.turn()
        assert end.taker.taken == []
        assert "over" in repr(end.importer)
