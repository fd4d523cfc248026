"""What earlier versions told, as it was recorded, said once more to the program of today, which takes over from it: the old
program and its workers are played here, with real sockets, files and processes in the place of those that there were.
"""

import contextlib
import copy
import json
import os
import pathlib
import socket
import subprocess
import threading

import pytest

from kit import procfs
from kit.api import Api
from kit.ports import free_port
from kit.proxy import Proxy
from kit.takeover import TOP
from kit.waiting import PATIENCE, wait_until
from tcp_proxy.control.processes.pid_file import PidFile
from tcp_proxy.control.takeover.connection import MOST_DESCRIPTORS, Connection, Ended, close_all, put_in_memory
from tcp_proxy.wire.counters import Counters
from tcp_proxy.wire.frames import whole
from tcp_proxy.wire.messages import Drain, Ping, Pong, Unlisten, Unlistened, decode, encode

RECORDED = pathlib.Path(__file__).with_name("recorded")
LATER = {"from a later version": [{"fd": 0}]}


class OldWorker:
    """A process, and its end of the channel, on which it obeys. `heard`: what it was told, by kind; `is_alone`: nobody tells
    it anything any more."""

    def __init__(self):
        self.process = subprocess.Popen(["sleep", "1000"])
        self.heard, self.is_alone = [], False
        self.theirs, self._ours = socket.socketpair()
        self._thread = threading.Thread(target=self._obey, name="old-worker", daemon=True)
        self._thread.start()

    def _obey(self):
        buffer = bytearray()
        with contextlib.suppress(OSError):
            while True:
                data, descriptors, _, _ = socket.recv_fds(self._ours, 1 << 20, 253)
                close_all(descriptors)
                if not data:
                    break
                buffer += data
                for message in whole(buffer):
                    self._hear(decode(message))
        self.is_alone = True

    def _hear(self, message):
        self.heard.append(type(message))
        if isinstance(message, Unlisten):
            self._ours.sendall(encode(Unlistened(message.ids)))
        elif isinstance(message, Ping):
            self._ours.sendall(encode(Pong(message.number)))
        elif isinstance(message, Drain):  # it has no sessions
            self.process.kill()

    def close(self):
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._ours.close()
        self.theirs.close()


class OldProgram:
    """It says what was recorded, `changed(state, last)`; ports, paths and process ids are those of this test."""

    def __init__(self, folder, recorded, changed=lambda _state, _last: None):
        record = copy.deepcopy(recorded)
        self.folder, self.state, self.last = folder, record["state"], record["last"]
        self.workers = [OldWorker() for _ in self.state["workers"]]
        self.heard, self.lent = [], {"state": {}, "last": {}}
        self.listener = socket.create_server(("127.0.0.1", free_port()), backlog=16)
        self.port = self.listener.getsockname()[1]
        self.api_port = free_port()
        self._fill_state()
        self._fill_last()
        changed(self.state, self.last)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(folder / "proxy.pid.takeover"))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, name="old-program", daemon=True)
        self._thread.start()

    def _lend(self, kind, place, fd):
        """A copy of it."""
        self.lent[kind][place] = os.dup(fd)

    def _fill_state(self):
        state, (listening,) = self.state, self.state["listeners"]
        memory, fd = Counters.create(state["counters"]["rows"], state["counters"]["slots"]["room"])
        with contextlib.ExitStack() as stack:
            stack.callback(memory.close)
            stack.callback(os.close, fd)
            self._lend("state", state["counters"]["fd"], fd)
            bell = os.eventfd(0, os.EFD_NONBLOCK)
            stack.callback(os.close, bell)
            self._lend("state", state["counters"]["bell"], bell)
            for told, worker in zip(state["workers"], self.workers, strict=True):
                told["pid"] = worker.process.pid
                pidfd = os.pidfd_open(told["pid"])
                stack.callback(os.close, pidfd)
                self._lend("state", told["process"], pidfd)
            old_port, listening["port"] = listening["port"], self.port
            self._lend("state", listening["fd"], self.listener.fileno())
            slots = state["counters"]["slots"]["first"]["listener"]
            assert slots[0][0] == ["app", f"127.0.0.1:{old_port}"]
            slots[0][0][1] = f"127.0.0.1:{self.port}"
            with socket.create_server(("127.0.0.1", self.api_port)) as api:
                state["api"]["listen"] = f"127.0.0.1:{self.api_port}"
                self._lend("state", state["api"]["fd"], api.fileno())
            pid_file = PidFile(str(self.folder / "proxy.pid"))
            pid_file.acquire()
            stack.callback(pid_file.let_go)
            self._lend("state", state["pid_file"]["fd"], pid_file.fd)
            state["pid_file"]["path"] = pid_file.path

    def _fill_last(self):
        with contextlib.ExitStack() as stack:
            for told, worker in zip(self.last["workers"], self.workers, strict=True):
                told["pid"] = worker.process.pid
                reads, writes = os.pipe2(os.O_NONBLOCK)
                pidfd = os.pidfd_open(told["pid"])
                for fd in (reads, writes, pidfd):
                    stack.callback(os.close, fd)
                for place, fd in zip(told["fds"], (worker.theirs.fileno(), pidfd, reads), strict=True):
                    self._lend("last", place, fd)
                worker.theirs.close()
            for pipe in self.last["pipes"]:
                reads, writes = os.pipe2(os.O_NONBLOCK)
                stack.callback(os.close, writes)
                stack.callback(os.close, reads)
                self._lend("last", pipe["fd"], reads)
            lock = os.open(self.folder / "proxy.state", os.O_RDWR | os.O_CREAT)
            stack.callback(os.close, lock)
            self._lend("last", self.last["lock"], lock)

    def _serve(self):
        with self._socket, contextlib.suppress(OSError, Ended):
            sock, _ = self._socket.accept()
            connection = Connection(sock)
            try:
                while "taken" not in self.heard and "failed" not in self.heard:
                    self._answer(connection, connection.wait(PATIENCE)[0])
            finally:
                self._give_up_all()
                connection.close()

    def _answer(self, connection, message):
        kind = message["is"]
        self.heard.append(kind)
        if kind == "hello":
            connection.send("welcome", protocol=1, version=self.state["version"], pid=os.getpid())
        elif kind in ("state", "last"):
            fd = put_in_memory(getattr(self, kind))
            connection.send(kind, [fd], count=len(self.lent[kind]))
            os.close(fd)
        elif kind == "descriptors":
            some = [self.lent[message["of"]][place] for place in sorted(self.lent[message["of"]])]
            connection.send("descriptors", some[message["from"] :][:MOST_DESCRIPTORS])

    def _give_up_all(self):
        """It ends."""
        for lent in self.lent.values():
            close_all(lent.values())
            lent.clear()

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.listener.close()
        self._give_up_all()
        for worker in self.workers:
            worker.close()


@pytest.fixture
def replay(tmp_path, servers, service):
    """replay(version, changed): the old program, and the new one, which has taken over from it."""

    def start(version, changed=lambda _state, _last: None):
        recorded = json.loads((RECORDED / f"{version}.json").read_text())
        old = OldProgram(tmp_path, recorded, changed)
        servers.callback(old.close)
        app = {"name": "app", "ports": [old.port], "targets": [service().address], "health": []}
        config = {
            "workers": 2, "access_log": "access.log", "shutdown_grace": 5, **TOP, "apps": [app],
            "api": {"listen": f"127.0.0.1:{old.api_port}"},
        }  # fmt: skip
        new = Proxy(config, tmp_path, args=("--takeover",))
        servers.callback(new.kill)
        return old, new.wait_ready()

    return start


def add_what_is_unknown(state, last):
    for view in (state, state["counters"], *state["workers"], *state["listeners"], last, *last["workers"]):
        view |= LATER
    last["events"].append([3, 1796035134.0, "of a later version", LATER])


def speak_otherwise(state, _last):
    state["messages"] += 1


@pytest.mark.parametrize("version", sorted(path.stem for path in RECORDED.glob("*.json")))
@pytest.mark.parametrize("changed", [lambda _state, _last: None, add_what_is_unknown], ids=["as it was", "and more"])
def test_what_a_version_has_told_is_taken_over(replay, version, changed):
    """The listener itself, the counters, the events; and its workers, which end when their sessions have."""
    old, new = replay(version, changed)
    inode = os.fstat(old.listener.fileno()).st_ino
    assert old.heard[-1] == "taken"
    assert f"socket:[{inode}]" in procfs.descriptors(new.pid).values()
    new.connect().send(b"x").expect(b"x").close()
    for worker in old.workers:
        wait_until(lambda worker=worker: worker.process.poll() is not None, "an old worker has nobody and is let go")
        assert {Unlisten, Drain} <= set(worker.heard)
    api = Api.of(new)
    status = api.get("/api/v1/status").json
    assert (status["pid"], status["state"]) == (new.pid, "serving")
    wait_until(lambda: len(api.get("/api/v1/workers").json) == 2, "only our workers are left")
    assert (old.folder / "proxy.pid").read_text() == f"{new.pid}\n"
    new.close_clients()
    assert new.stop() == 0, new.log
    assert "Traceback" not in new.log


def test_workers_that_understand_other_messages_are_left_to_drain(replay):
    old, new = replay("0.2.0", speak_otherwise)
    assert "understand other messages: they end as without a supervisor" in new.log
    new.connect().send(b"x").expect(b"x").close()
    for worker in old.workers:
        wait_until(lambda worker=worker: worker.is_alone, "it is left to itself")
        assert (worker.heard, worker.process.poll()) == ([], None)
        worker.process.kill()
    new.close_clients()
    assert new.stop() == 0, new.log
    assert "Traceback" not in new.log


def test_a_worker_that_knew_nothing_so_far_is_left_to_its_end(replay):
    """Earlier versions told of it, too: it has no rows, and the old program ends it."""

    def started_late(_state, last):
        last["workers"][0]["number"] = -1

    old, new = replay("0.2.0", started_late)
    late, other = old.workers
    wait_until(lambda: late.is_alone, "it is left to itself")
    assert late.heard == []
    wait_until(lambda: other.process.poll() is not None, "the other has nobody and is let go")
    new.connect().send(b"x").expect(b"x").close()
    late.process.kill()
    new.close_clients()
    assert new.stop() == 0, new.log
    assert "Traceback" not in new.log
