"""Accepting: fair, paused in time, never by EMFILE; leaving clients to other workers; closing without losing one."""

import os
import resource
import socket

import pytest

from kit.waiting import wait_until
from tcp_proxy.dataplane import server as server_module
from tcp_proxy.dataplane.server import ACCEPTS, GIVE_WAY, LOOK_AGAIN, Server
from tcp_proxy.runtime.socket_options import refuse_by_hop_limit, refuse_new_connections
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import Counters
from tests.dataplane.house import House

TCP_FIN_WAIT2 = 5


class Rig:
    """A House whose context door is a real Server with one listener; `others` more workers exist as rows only."""

    def __init__(self, others=0, **house):
        self.house = House(**house)
        self.memory = self.house.memory
        if others:
            self.memory, fd = Counters.create(1 + (1 + others) * counters.ROWS_PER_WORKER, counters.PROCESS_SLOTS + 300)
            os.close(fd)
            self.house.thread.row = self.house.app.row = self.memory.rows[1]
            for target in self.house.app.targets.values():
                target.rows = self.memory.rows
        self.warnings = []
        self.pipes = 0
        self.server = Server(self.house.thread, self.memory, 1, 1 + others, lambda: self.pipes, self.warnings.append, 5.0)
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = self.listening.getsockname()
        self.server.listen(7, self.house.listener_slot, self.house.app, "127.0.0.1:80", self.listening.fileno())
        self.listening.detach()
        self.server.count_descriptors()
        self.clients = []
        self.done = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in tuple(self.house.thread.members):
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
        return len(self.house.thread.members)


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


@pytest.mark.parametrize("room", [8, 20, 42, 60, 100, 127, 128, 200])
def test_in_any_room_accepting_goes_on_when_the_sessions_have_ended(monkeypatch, room):
    """A mark for going on that is above all there can be is never reached."""
    with Rig() as rig:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = soft - rig.server.free_descriptors
        monkeypatch.setattr(server_module.resource, "getrlimit", lambda _which: (used + room, hard))
        rig.server.count_descriptors()
        rig.connect(room + 10)
        rig.house.until(lambda: "pauses" in "".join(rig.warnings))
        first = rig.taken
        assert 0 < first < room
        for member in tuple(rig.house.thread.members):
            member.kill(server_module_shutdown(), side())
        rig.house.turn(5)
        assert rig.taken == 0
        rig.house.pass_time(LOOK_AGAIN + 0.01)
        rig.house.until(lambda: rig.taken > 0)
        monkeypatch.setattr(server_module.resource, "getrlimit", lambda _which: (soft, hard))
        rig.server.count_descriptors()
        rig.house.pass_time(LOOK_AGAIN + 0.01)
        rig.house.until(lambda: rig.taken == room + 10 - first)


def test_idle_pipes_do_not_keep_a_small_worker_from_accepting(monkeypatch):
    """16 pipes that nobody uses are all of the room; they are let go when accepting pauses."""
    closed = []
    with Rig() as rig:
        rig.server._close_idle_pipes = lambda: closed.append(rig.pipes) or setattr(rig, "pipes", 0)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = soft - rig.server.free_descriptors
        monkeypatch.setattr(server_module.resource, "getrlimit", lambda _which: (used + 42, hard))
        rig.server.count_descriptors()
        rig.pipes = 20
        rig.connect(1)
        rig.house.turn(2)
        assert rig.taken == 0
        rig.house.pass_time(LOOK_AGAIN + 0.01)
        rig.house.until(lambda: rig.taken == 1)
        assert closed == [20]
        monkeypatch.setattr(server_module.resource, "getrlimit", lambda _which: (soft, hard))


def test_clients_without_a_target_make_no_room_that_is_not_there():
    """Each is counted with two descriptors and has one: many of them once made the limit look twice as high."""
    with Rig() as rig:
        rig.server._own, room = rig.server._usable, rig.server.free_descriptors
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        rig.server._own = limit - room - 1
        rig.house.thread.row[counters.SESSIONS] += 50
        rig.server.count_descriptors()
        assert rig.server.free_descriptors == room - 100
        rig.house.thread.row[counters.SESSIONS] -= 50


def test_a_count_that_finds_no_descriptor_for_looking_leaves_what_was_counted(monkeypatch):
    with Rig() as rig:
        before = rig.server.free_descriptors
        with monkeypatch.context() as patch:
            patch.setattr(server_module, "open_descriptors", exhausted)
            rig.server.count_descriptors()
        assert rig.server.free_descriptors == before


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


@pytest.mark.parametrize("refuse", [refuse_new_connections, refuse_by_hop_limit])
def test_closing_a_listener_takes_every_client_whose_connect_succeeded(refuse):
    with Rig() as rig:
        rig.connect(100)
        for sock in rig.server.listeners:
            assert refuse(sock)
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


def question(rig):
    """A client that ends its direction as soon as it has asked, and whose FIN has come."""
    (client,) = rig.connect()
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    wait_until(lambda: client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_FIN_WAIT2, "its FIN has come")
    return client


@pytest.mark.parametrize("waits", [False, True], ids=["nobody waited", "somebody waited"])
def test_who_ends_its_direction_in_the_moment_in_which_there_is_a_primary(waits):
    """It is served, unless it may be one that waited in the kernel's queue and has gone meanwhile."""
    with Rig(balance="failover") as rig:
        house, server, app = rig.house, rig.server, rig.house.app
        server.look_again()
        if waits:
            question(rig)
        house.turn(3)
        assert not rig.taken
        app.elect(1, "t0", house.loop.now)
        server.look_who_waits(app)
        server.look_again()
        if not waits:
            house.clock.now += 0.001
            question(rig)
        house.until(lambda: rig.taken or house.records.all)
        assert [record["reason"] for record in house.records.all] == (["client_gone"] if waits else [])


def test_a_listener_that_comes_to_a_primary_may_have_clients_that_waited():
    with Rig(balance="failover") as rig:
        house, server, app = rig.house, rig.server, rig.house.app
        app.elect(1, "t0", house.loop.now)
        server.look_who_waits(app)
        with socket.create_server(("127.0.0.1", 0)) as other:
            rig.address = other.getsockname()
            question(rig)
            server.listen(8, house.listener_slot, app, "127.0.0.1:81", os.dup(other.fileno()))
            house.clock.now += 0.001
            house.until(lambda: house.records.all)
            assert house.records.all[0]["reason"] == "client_gone"
            server.unlisten((8,), 0.0, rig.done.append)
            house.pass_time(0.1)
