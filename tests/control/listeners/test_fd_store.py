"""What a service manager is told to keep: all that there is, in order, when there is room, and no more than it keeps."""

import array
import contextlib
import os
import socket

import pytest

from tcp_proxy.control.listeners import fd_store as module
from tcp_proxy.control.listeners.fd_store import FdStore
from tcp_proxy.control.listeners.sockets import Listening
from tcp_proxy.control.service_manager import SEND_AGAIN, ServiceManager
from tcp_proxy.sansio.address import ListenAddress


class Heard:
    """A manager's socket; `read` has what has come: names put in (`+`) and taken out (`-`). The kernel has room for some."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(self.path)
        self.inodes = []

    def read(self):
        said = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(4 * 8))
                kind, name = data.decode().split("\nFDNAME=")
                said.append({"FDSTORE=1": "+", "FDSTOREREMOVE=1": "-"}[kind] + name.removeprefix("listener/127.0.0.1/"))
                for _, _, value in ancillary:
                    for fd in array.array("i", value):
                        self.inodes.append(os.fstat(fd).st_ino)
                        os.close(fd)
        return said

    def read_all(self, bench):
        """All that comes, however often there was no room."""
        said = self.read()
        while some := (bench.turn(SEND_AGAIN), self.read())[1]:
            said += some
        return said


@pytest.fixture
def heard(tmp_path):
    made = Heard(tmp_path / "notify")
    yield made
    made.socket.close()


@pytest.fixture
def listening():
    """listening(port, …): listeners there; the ports are only names."""
    with contextlib.ExitStack() as stack:

        def made(*ports, **how):
            socks = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in ports]
            return [
                Listening(port, "a", ListenAddress("127.0.0.1", port), sock, **how)
                for port, sock in zip(ports, socks, strict=True)
            ]

        yield made


@pytest.fixture
def store(bench, heard):
    """store(room): one whose manager hears it."""
    with contextlib.ExitStack() as stack:

        def made(room=1000, unusable=(), waits=False):
            manager = ServiceManager(bench.loop, {"NOTIFY_SOCKET": heard.path, "FDSTORE": str(room)})
            stack.callback(manager.close)
            one = FdStore(bench.loop, manager.keeps, unusable)
            if not waits:
                one.tell(manager)
            one.manager = manager
            return one

        yield made


def test_each_is_told_once_and_what_is_gone_is_taken_out(bench, heard, listening, store):
    one, (a, b, c) = store(), listening(1, 2, 3)
    one.keep([a, b])
    assert heard.read_all(bench) == ["+1", "+2"]
    assert heard.inodes == [os.fstat(item.sock.fileno()).st_ino for item in (a, b)]
    one.keep([b, c])
    assert heard.read_all(bench) == ["-1", "+3"]
    assert [item.is_stored for item in (a, b, c)] == [False, True, True]
    one.keep([b, c])
    assert heard.read_all(bench) == []


def test_another_socket_of_the_same_address_takes_the_place_of_the_first(bench, heard, listening, store):
    one = store()
    for (item,) in (listening(1), listening(1)):
        one.keep([item])
    assert heard.read_all(bench) == ["+1", "-1", "+1"]


def test_what_there_is_no_room_for_comes_later_and_behind_what_else_is_said(bench, heard, listening, store):
    one, items = store(), listening(*range(1, 200))
    one.keep(items)
    bench.turn(10)
    one.keep(items[100:])  # meanwhile there are others
    said = heard.read_all(bench)
    kept = [int(name[1:]) for name in said if name[0] == "+"]
    gone = [int(name[1:]) for name in said if name[0] == "-"]
    assert sorted(set(kept) - set(gone)) == list(range(101, 200))
    assert len(kept) == len(set(kept))


def test_nothing_is_told_while_something_else_waits(bench, heard, listening, store):
    one = store()
    for number in range(1000):
        one.manager.ready(str(number))
    one.keep(listening(1))
    bench.turn(1)
    assert one._told == {}


def test_since_an_earlier_life_it_is_not_told_anew(bench, heard, listening, store):
    one = store(unusable=["listener/127.0.0.1/7", "listener/127.0.0.1/2"])
    one.keep(listening(1, 2, is_stored=True))
    assert heard.read_all(bench) == ["-7", "-2", "+2"]


def test_those_of_socket_units_and_closed_ports_are_not_kept(bench, heard, listening, store):
    one = store()
    one.keep([*listening(1, is_activated=True), *listening(2, is_listening=False)])
    assert heard.read_all(bench) == []


def test_no_more_than_the_manager_keeps_and_those_stay_that_are_kept(bench, heard, listening, store, caplog):
    one, items = store(room=2), listening(1, 2, 3)
    one.keep(items[1:])
    one.keep(items)
    assert heard.read_all(bench) == ["+2", "+3"]
    assert [item.is_stored for item in items] == [False, True, True]
    one.keep(items)
    said = "the service manager keeps 2 of 3 listening sockets (FileDescriptorStoreMax=): a restart closes others"
    assert caplog.messages == [said]
    caplog.clear()


def test_names_that_would_not_fit_into_a_variable_are_not_given(bench, heard, listening, store, monkeypatch, caplog):
    monkeypatch.setattr(module, "MOST_OF_NAMES", 2 * len("listener/127.0.0.1/1:"))
    one = store()
    one.keep(listening(1, 2, 3))
    assert heard.read_all(bench) == ["+1", "+2"]
    assert "keeps 2 of 3" in caplog.text
    caplog.clear()


def test_a_manager_that_keeps_nothing_or_is_gone(bench, heard, listening, store, caplog):
    item, *_ = items = listening(1, 2)
    one = store(room=0)
    one.keep(items)
    assert heard.read_all(bench) == []
    assert not item.is_stored
    item.is_stored = True  # it came back, and nobody keeps it any more
    one.keep(items)
    assert heard.read_all(bench) == ["-1"]
    assert not item.is_stored
    one = store()
    heard.socket.close()
    one.keep(items)
    bench.turn(10)
    assert not item.is_stored
    assert caplog.messages == ["the service manager hears nothing of us any more: NOTIFY_SOCKET: Connection refused"]
    caplog.clear()


def test_a_program_that_takes_over_marks_before_it_may_tell(bench, heard, listening, store):
    one, items = store(waits=True), listening(1)
    one.keep(items)
    bench.turn(10)
    assert items[0].is_stored
    assert heard.read() == []
    one.tell(one.manager)
    assert heard.read_all(bench) == ["+1"]
