"""What a worker does about orders to give sessions away, or to take some: apps of every kind, and orders that do not fit."""

import os
import socket

import pytest

from tcp_proxy.config.model import SessionLimits
from tcp_proxy.dataplane.moving.moves import BROKEN_OFF
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire import counters
from tcp_proxy.wire.moved_session import MovedSession, answers, encode
from tcp_proxy.wire.moves import ExportSessions, ImportSessions
from tests.dataplane.moving.two_workers import ADDRESS, APP, LISTENER, TARGET, TwoWorkers

SESSION = MovedSession(
    "tcp", "w.0-1", (1,), "web", ADDRESS, ("127.0.0.1", 2), int(socket.AF_INET), 1.0, 2.0, 1.5, "t0", int(socket.AF_INET),
    listener_slot=LISTENER, target_slot=TARGET,
)  # fmt: skip


class Giver:
    """An exporter that says what it likes."""

    def __init__(self, two, is_foreign=False):
        self.two = two
        self.sock, theirs = socket.socketpair()
        self.sock.setblocking(False)
        two.second.moves.take_in(ImportSessions(is_foreign), [theirs.detach()])

    def give(self, session, change=None):
        """The answer."""
        frame = bytearray(encode(7, session))
        if change is not None:
            change(frame)
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(session.descriptors)]
        socket.send_fds(self.sock, [frame], fds)
        for fd in fds:
            os.close(fd)
        got = bytearray()
        found = []

        def answered():
            try:
                got.extend(self.sock.recv(1000))
            except BlockingIOError:
                return False
            found.extend(answers(got))
            return bool(found)

        self.two.until(answered)
        assert found[0].number == 7
        return found[0].refusal


def refused(session, is_foreign=False, change=None, **view):
    with TwoWorkers(**view) as two:
        giver = Giver(two, is_foreign)
        answer = giver.give(session, change)
        giver.sock.close()
        two.turn(2)
        return answer


def test_what_is_not_known_is_refused():
    assert refused(SESSION._replace(app="other")) == "there is no app other"
    assert refused(SESSION._replace(target="t9")) == "app web has no target t9"
    assert refused(SESSION._replace(target_slot=1)) == "app web has no target t0"
    assert refused(SESSION._replace(target_tokens=3)) == "its limits are being changed"
    assert refused(SESSION._replace(app_tokens=3)) == "its limits are being changed"
    assert refused(SESSION, is_foreign=True) == f"app web has no listener {ADDRESS}"


def test_another_version_is_refused():
    def newer(frame):
        frame[8] = 99

    assert refused(SESSION, change=newer) == "it is told in version 99, and this program knows 1"


def test_nobody_comes_to_a_former_primary_that_must_not_be_reached():
    view = {"balance": "failover", "primary": "t0", "epoch": 5, "closes": True, "since": 1.0}
    now = SESSION._replace(epoch=4)
    assert refused(now, **view) == "t0 is not primary any more"


def test_a_worker_that_is_to_end_takes_nobody():
    with TwoWorkers() as two:
        client, server = two.pair()
        two.second.moves.is_draining = True
        assert two.move().moved == 0
        client.send(b"x")
        assert two.receive(server, 1) == b"x"


def test_an_order_in_between_is_said_to_have_broken_it_off():
    with TwoWorkers() as two:
        two.pair()
        ours, theirs = socket.socketpair()
        two.first.moves.export(ExportSessions(3), [ours.detach()])
        two.first.moves.settle()
        assert [(told.order, told.moved, told.why) for told in two.first.told] == [(3, 0, BROKEN_OFF)]
        theirs.close()


@pytest.mark.parametrize("garbage", [b"\xff" * 64, b"\0" * 64])
def test_a_stream_that_is_no_stream_of_sessions_ends(garbage):
    with TwoWorkers() as two:
        giver = Giver(two)
        giver.sock.send(garbage)
        two.turn(3)
        assert giver.sock.recv(10) == b""
        giver.sock.close()


def test_a_session_that_cannot_be_watched_ends_alone(monkeypatch):
    """No more watches of epoll for this user, when it is ours already."""
    with TwoWorkers() as two:
        pairs = [two.pair() for _ in range(3)]
        two.second.loop.on_error = lambda call, _error: call.__self__.kill(Reason.INTERNAL_ERROR, Side.PROXY)
        epoll, fails = two.second.loop._epoll, [OSError("no more watches")]

        class Full:
            def register(self, *what):
                if len(two.second.sessions) == 2 and fails:
                    raise fails.pop()
                epoll.register(*what)

            def __getattr__(self, name):
                return getattr(epoll, name)

        monkeypatch.setattr(two.second.loop, "_epoll", Full())
        assert two.move().moved == 3
        assert [record["reason"] for record in two.records] == ["internal_error"]
        assert len(two.second.sessions) == 2
        for client, server in (pairs[0], pairs[2]):
            client.send(b"x")
            assert two.receive(server, 1) == b"x"


def test_half_a_frame_and_its_descriptors_leave_nothing_behind():
    with TwoWorkers() as two:
        giver = Giver(two)
        read_fd, write_fd = os.pipe()
        socket.send_fds(giver.sock, [encode(1, SESSION)[:50]], [write_fd, write_fd])
        os.close(write_fd)
        two.turn(3)
        giver.sock.close()
        two.turn(3)
        assert os.read(read_fd, 1) == b"", "every copy is closed"
        os.close(read_fd)


def test_a_session_of_an_app_whose_sessions_are_limited_keeps_its_place():
    with TwoWorkers(limited=True) as two:
        tokens = os.eventfd(2, os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        for index, side in enumerate(two.sides):
            first = 1 + index * counters.ROWS_PER_WORKER
            side.app.places.adopt(os.dup(tokens), two.memory.rows[first : first + counters.ROWS_PER_WORKER], 4)
        client, server = two.pair()
        assert two.move().moved == 1
        assert [len(side.app.places.holders) for side in two.sides] == [0, 1]
        assert two.memory.total(APP + counters.ACTIVE) == 1
        assert os.eventfd_read(tokens) == 1
        with pytest.raises(BlockingIOError):
            os.eventfd_read(tokens)
        client.close()
        server.close()
        two.until(lambda: not two.second.sessions)
        assert os.eventfd_read(tokens) == 1, "it has given back what it had brought along"
        os.close(tokens)


def test_a_session_that_is_slowed_down_is_so_there():
    with TwoWorkers(limits=SessionLimits(bytes_per_second=1_000_000)) as two:
        client, server = two.pair()
        client.send(b"a" * 1000)
        assert two.receive(server, 1000) == b"a" * 1000
        assert two.move().moved == 1
        client.send(b"b" * 50_000)
        assert two.receive(server, 50_000) == b"b" * 50_000
        assert type(two.second.sessions[0].up).__name__ == "PacedPump"
