"""Accepting: fair, paused in time, never by EMFILE; leaving clients to other workers; closing without losing one."""

import os
import resource
import socket

import pytest

from tcp_proxy import counters
from tcp_proxy.counters import Counters
from tcp_proxy.dataplane import server as server_module
from tcp_proxy.dataplane.server import ACCEPTS, GIVE_WAY, LOOK_AGAIN, Server
from tcp_proxy.socket_options import refuse_new_connections
from tests.dataplane.house import House


class Rig:
    """A House whose front door is a real Server with one listener; `others` more workers exist as rows only."""

    def __init__(self, others=0, **house):
        self.house = House(**house)
        self.memory = self.house.memory
        if others:
            self.memory, fd = Counters.create(1 + (1 + others) * counters.ROWS_PER_WORKER, counters.PROCESS_SLOTS + 300)
            os.close(fd)
            self.house.home.row = self.house.app.row = self.memory.rows[1]
            for target in self.house.app.targets.values():
                target.rows = self.memory.rows
        self.warnings = []
        self.pipes = 0
        self.server = Server(self.house.home, self.memory, 1, 1 + others, lambda: self.pipes, self.warnings.append, 5.0)
        self.front = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = self.front.getsockname()
        self.server.listen(7, self.house.listener_slot, self.house.app, "127.0.0.1:80", self.front.fileno())
        self.front.detach()
        self.server.count_descriptors()
        self.clients = []
        self.done = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in tuple(self.house.home.members):
            member.kill(server_module_shutdown(), side())
        if self.server.listeners:
            self.server.unlisten((7,), 0.0, self.done.append)
            self.house.pass_time(0.1)
        for client in self.clients:
            client.close()
        self.house.records.all.clear()
        self.house.__exit__(None)

    def connect(self, count=1):
        new = [socket.create_connection(self.address) for _ in range(count)]
        self.clients += new
        return new

    @property
    def taken(self):
        return len(self.house.home.members)


def server_module_shutdown():
    from tcp_proxy.sansio.reasons import Reason

    return Reason.SHUTDOWN


def side():
    from tcp_proxy.sansio.reasons import Side

    return Side.PROXY


def test_every_listening_socket_is_mapped_to_the_name_of_its_app():
    with Rig() as rig:
        assert list(rig.server.listeners.values()) == ["web"]
        assert [sock.getsockname() for sock in rig.server.listeners] == [rig.address]


def test_a_burst_is_taken_in_batches_with_the_sessions_in_between():
    with Rig() as rig:
        rig.connect(3 * ACCEPTS)
        rig.house.turn(1)
        assert rig.taken == ACCEPTS
        rig.house.until(lambda: rig.taken == 3 * ACCEPTS)


def test_accepting_pauses_before_the_descriptors_are_gone_and_says_so_once(monkeypatch):
    with Rig() as rig:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = soft - rig.server.free_descriptors
        monkeypatch.setattr(server_module.resource, "getrlimit", lambda _which: (used + 64 + 20, hard))
        rig.server.count_descriptors()
        rig.connect(40)
        rig.house.turn(5)
        taken = rig.taken
        assert taken < 40, "the rest waits in the kernel's queue"
        assert rig.server.free_descriptors >= 0
        assert len(rig.warnings) == 1
        assert "accepting pauses" in rig.warnings[0]
        monkeypatch.setattr(server_module.resource, "getrlimit", lambda _which: (soft, hard))
        rig.server.count_descriptors()
        rig.house.pass_time(LOOK_AGAIN + 0.01)
        rig.house.until(lambda: rig.taken == 40)
        assert "goes on" in rig.warnings[1]


def test_a_listener_that_closes_while_we_are_full_waits_for_room(monkeypatch):
    """Who waits in the queue has been told that he is connected."""
    with Rig() as rig:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = soft - rig.server.free_descriptors
        monkeypatch.setattr(server_module.resource, "getrlimit", lambda _which: (used + 64 + 20, hard))
        rig.server.count_descriptors()
        rig.connect(40)
        rig.house.turn(5)
        rig.server.unlisten((7,), 0.05, rig.done.append)
        rig.house.pass_time(0.06)
        assert rig.done == []
        monkeypatch.setattr(server_module.resource, "getrlimit", lambda _which: (soft, hard))
        rig.server.count_descriptors()
        for _ in range(3):
            rig.house.pass_time(LOOK_AGAIN + 0.01)
        assert rig.done == [(7,)]
        assert rig.taken == 40


def test_an_accept_that_fails_again_and_again_is_said_once():
    """The count says that there is room, the kernel says there is none (another limit, or no memory)."""
    with Rig() as rig:
        (listener,) = rig.server._open.values()
        accept, listener._accept = listener._accept, exhausted
        rig.connect(3)
        for _ in range(5):
            rig.house.pass_time(LOOK_AGAIN + 0.01)
        assert len(rig.warnings) == 1
        listener._accept = accept
        rig.house.pass_time(LOOK_AGAIN + 0.01)
        rig.house.until(lambda: rig.taken == 3)
        assert len(rig.warnings) == 2


def exhausted():
    raise OSError(23, "Too many open files in system")


def test_pipes_count_as_descriptors():
    with Rig() as rig:
        before = rig.server.free_descriptors
        rig.pipes = 5
        assert rig.server.free_descriptors == before - 10


def test_a_worker_far_ahead_leaves_clients_to_the_others():
    with Rig(others=1) as rig:
        other = rig.memory.rows[1 + counters.ROWS_PER_WORKER]
        other[counters.ACCEPTING] = 1
        rig.connect(60)
        for _ in range(20):
            other[counters.ACCEPTED] += 1  # the other one moves
            rig.house.pass_time(GIVE_WAY / 2)
        ahead = rig.taken
        assert 16 < ahead < 60
        other[counters.SESSIONS] = 60
        rig.house.pass_time(GIVE_WAY + 0.001)
        rig.house.until(lambda: rig.taken == 60)


def test_a_worker_that_hangs_does_not_keep_clients_waiting():
    with Rig(others=1) as rig:
        rig.memory.rows[1 + counters.ROWS_PER_WORKER][counters.ACCEPTING] = 1
        rig.connect(60)
        for _ in range(50):
            rig.house.pass_time(GIVE_WAY + 0.001)
        assert rig.taken == 60


def test_a_worker_that_does_not_accept_yet_counts_for_nothing():
    with Rig(others=1) as rig:
        rig.connect(60)
        rig.house.turn(10)
        assert rig.taken == 60


def test_closing_a_listener_takes_every_client_whose_connect_succeeded():
    with Rig() as rig:
        rig.connect(100)
        for sock in rig.server.listeners:
            refuse_new_connections(sock)
        rig.server.unlisten((7,), 0.05, rig.done.append)
        late = socket.socket()
        late.setblocking(False)
        late.connect_ex(rig.address)
        rig.clients.append(late)
        rig.house.pass_time(0.06)
        assert rig.done == [(7,)]
        assert rig.taken == 100
        assert rig.server.listeners == {}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(rig.address)
