"""A real worker process, driven over its channel by the test in the supervisor's place. Sockets on loopback."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import types

import pytest

from kit import procfs
from kit.peer import Target, connect
from kit.proxy import ROOT
from kit.waiting import Deadline, wait_until
from tcp_proxy.config.log_model import AccessLogs
from tcp_proxy.config.model import Timeouts
from tcp_proxy.control.processes.spawned import Spawned
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.runtime.socket_options import refuse_new_connections
from tcp_proxy.wire import counters
from tcp_proxy.wire.channel import Channel
from tcp_proxy.wire.counters import Counters
from tcp_proxy.wire.messages import (
    CloseSessions,
    ConnectFailed,
    Drain,
    Drained,
    Limits,
    Listen,
    Logged,
    Ping,
    Pong,
    Ready,
    Snapshot,
    TargetChanged,
    Unlisten,
    Unlistened,
)
from tcp_proxy.wire.views import AppView, TargetView

ROWS = 1 + counters.ROWS_PER_WORKER
SLOT = counters.PROCESS_SLOTS  # the listener's block; then the targets' and the app's
FIRST_TARGET = SLOT + counters.LISTENER_SLOTS
FOREIGN = [
    "jsonschema", "fastapi", "sqlite3", "subprocess", "asyncio", "ping3", "argparse", "multiprocessing", "ssl",
    "tcp_proxy.control", "tcp_proxy.config.load", "tcp_proxy.config.schema", "tcp_proxy.cli",
]  # fmt: skip


class Driver:
    """The supervisor's part, played by the test: one worker, one app `web`, one listener, scripted targets."""

    def __init__(self, targets=1, grace=5.0, limited=False, listen=True, timeouts=None):
        self.loop = Loop("test")
        self.heard = []
        self.gone = False
        self.spawned = Spawned()
        self.pid = self.spawned.process.pid
        self.channel = Channel(self.loop, self.spawned.sock, self._hear, self._end)
        self.memory, self.memory_fd = Counters.create(ROWS, -(-self.slots(targets) // 512) * 512)
        self.records_fd, write_fd = os.pipe()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.targets = [Target(name=f"t{number}") for number in range(targets)]
        self.clients = []
        views = tuple(self.view(number, limited) for number in range(targets))
        app = AppView("web", FIRST_TARGET + targets * counters.TARGET_SLOTS, "round_robin", 3, timeouts or Timeouts(), views)
        slots = self.memory.slots
        snapshot = Snapshot(0, 1, "inc", ROWS, slots, 1, AccessLogs(format="json"), "info", grace, (app,), 3)
        bell = os.eventfd(0)
        self.channel.send(snapshot, [self.memory_fd, bell, write_fd])
        os.close(write_fd)
        os.close(bell)
        self.wait(Ready)
        if listen:
            self.listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for peer in (*self.clients, *self.targets, self.listener):
            peer.close()
        self.channel.close()
        self.loop.run_once(0)
        self.loop.close()
        self.spawned.discard()
        os.close(self.records_fd)
        self.memory.close()
        os.close(self.memory_fd)

    @staticmethod
    def slots(targets):
        return FIRST_TARGET + targets * counters.TARGET_SLOTS + counters.APP_SLOTS

    def _hear(self, message, _descriptors):
        self.heard.append(message)

    def _end(self):
        self.gone = True

    def view(self, number, limited=False):
        slot = FIRST_TARGET + number * counters.TARGET_SLOTS
        return TargetView(f"t{number}", slot, 1, False, limited, "up", (self.endpoint(number),))

    def endpoint(self, number):
        return int(socket.AF_INET), ("127.0.0.1", self.targets[number].port)

    # -- what the supervisor says

    def say(self, message, descriptors=()):
        """Say it, and know that it was obeyed: a worker handles its messages in order."""
        self.channel.send(message, descriptors)
        number = len(self.heard) + 1000
        self.channel.send(Ping(number))
        self.until(lambda: Pong(number) in self.heard or self.gone)

    def listen(self, number=7):
        self.say(Listen((number,), (SLOT,), ("web",), (f"127.0.0.1:{self.port}",), 1), [self.listener.fileno()])

    def say_state(self, state, target=0):
        self.say(TargetChanged("web", f"t{target}", state, (self.endpoint(target),)))

    # -- what it hears
    def until(self, condition, seconds=10.0):
        deadline = Deadline(seconds)
        while not condition():
            assert not deadline.is_over, f"it did not happen; heard: {self.heard}"
            self.loop.run_once(0.01)

    def wait(self, kind):
        self.until(lambda: any(isinstance(message, kind) for message in self.heard))
        return next(message for message in self.heard if isinstance(message, kind))

    def of(self, kind):
        return [message for message in self.heard if isinstance(message, kind)]

    def wait_end(self, seconds=10.0):
        """The exit status."""
        return self.spawned.process.wait(seconds)

    def leave(self):
        """The supervisor dies."""
        self.channel.close()
        self.loop.run_once(0)

    # -- sessions

    def connect(self):
        self.clients.append(client := connect(self.port))
        return client

    def session(self, target=0):
        client = self.connect()
        server = self.targets[target].accept()
        client.send(b"hello")
        server.expect(b"hello")
        return client, server

    def serve(self, waiting):
        """Each of these clients gets a whole session."""
        for client in waiting:
            client.send(b"x").fin()
        for _ in waiting:
            self.targets[0].accept().expect(b"x").expect_fin().fin()
        for client in waiting:
            client.expect_fin()

    def records(self, count):
        """The records of the worker, in the order of their ends."""
        begun, found, deadline = b"", [], Deadline()
        os.set_blocking(self.records_fd, False)
        while len(found) < count:
            assert not deadline.is_over, f"{count} records wanted: {found}"
            try:
                *whole, begun = (begun + os.read(self.records_fd, 65536)).split(b"\n")
                found += [types.SimpleNamespace(**json.loads(line)) for line in whole]
            except BlockingIOError:
                self.loop.run_once(0.01)
        return found

    def total(self, slot):
        return self.memory.total(slot)


@pytest.fixture
def driver():
    with Driver() as driver:
        yield driver


def listens(driver):
    return procfs.tcp_sockets(driver.pid)["LISTEN"]


def unread(driver):
    """Bytes that the kernel holds for the worker, of all its connections to the target."""
    port = f":{driver.targets[0].port:04X}"
    lines = pathlib.Path(f"/proc/{driver.pid}/net/tcp").read_text().splitlines()
    return sum(int(line.split()[4].split(":")[1], 16) for line in lines if line.split()[2].endswith(port))


# -- what it loads


def test_what_a_worker_loads_and_what_it_does_not():
    code = "import tcp_proxy.dataplane.worker, sys; print(*sorted(sys.modules))"
    loaded = subprocess.check_output([sys.executable, "-S", "-c", code], cwd=ROOT, text=True, timeout=20).split()
    assert "tcp_proxy.dataplane.session" in loaded
    assert [name for name in loaded if any(name == no or name.startswith(f"{no}.") for no in FOREIGN)] == []


# -- serving


def test_it_serves_what_it_was_lent(driver):
    client, server = driver.session()
    server.send(b"world").fin()
    client.expect(b"world").expect_fin().fin()
    server.expect_fin()
    (record,) = driver.records(1)
    assert (record.app, record.target, record.reason, record.bytes_up, record.bytes_down) == ("web", "t0", "done", 5, 5)
    assert record.id == "inc-1"
    assert record.listener == f"127.0.0.1:{driver.port}"
    assert record.client == client.address
    assert [driver.total(slot) for slot in (counters.SESSIONS, counters.ACCEPTED)] == [0, 1]
    connects = range(FIRST_TARGET + counters.CONNECTS, FIRST_TARGET + counters.CONNECTS + counters.CONNECT_SLOTS)
    assert sum(map(driver.total, connects)) == 1, "however long it took"
    assert driver.total(counters.ACCEPTING) == 1


def test_it_accepts_nobody_before_it_is_lent_a_socket():
    with Driver(listen=False) as driver:
        client = driver.connect()
        driver.say(Ping(1))
        assert driver.total(counters.ACCEPTED) == driver.total(counters.ACCEPTING) == 0
        driver.listen()
        client.send(b"x")
        driver.targets[0].accept().expect(b"x")


def test_a_ping_is_answered_with_its_number(driver):
    for number in (1, 5, 2**40):
        driver.channel.send(Ping(number))
        driver.until(lambda number=number: Pong(number) in driver.heard)


def test_a_failed_connect_is_reported(driver):
    driver.targets[0].sock.close()
    driver.connect().expect_rst()
    assert driver.wait(ConnectFailed) == ConnectFailed("web", "t0", "ECONNREFUSED")
    (record,) = driver.records(1)
    assert (record.reason, record.target) == ("connect_failed", "")


def test_target_states_are_obeyed():
    with Driver(targets=2) as driver:
        driver.say_state("down", 0)
        for _ in range(3):
            driver.session(target=1)
        driver.say_state("draining", 1)
        driver.connect().expect_rst()
        driver.say_state("up", 0)
        driver.session(target=0)
        assert driver.targets[0].has_client() is driver.targets[1].has_client() is False


def test_with_every_target_down_clients_are_reset_and_sessions_go_on(driver):
    client, server = driver.session()
    driver.say_state("down")
    late = driver.connect().expect_rst()
    server.send(b"still here").fin()
    client.expect(b"still here").expect_fin().fin()
    reasons = {record.client: (record.reason, record.ended_by) for record in driver.records(2)}
    assert reasons == {late.address: ("no_target", "proxy"), client.address: ("done", reasons[client.address][1])}


def test_a_new_address_of_a_target_is_used_for_new_sessions():
    with Driver(targets=2) as driver:
        driver.say_state("down", 1)
        driver.session(target=0)
        driver.say(TargetChanged("web", "t0", "up", (driver.endpoint(1),)))
        driver.session(target=1)


def test_tokens_limit_the_sessions_of_a_target():
    with Driver(limited=True) as driver:
        tokens = os.eventfd(2, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
        try:
            driver.say(Limits((FIRST_TARGET,), 1), [tokens])
            first, second = driver.session(), driver.session()
            driver.connect().expect_rst()
            for peer in first:
                peer.fin()
            assert driver.records(2)[0].reason == "limit"
            driver.session()
            second[0].close()
        finally:
            os.close(tokens)


# -- orders that end sessions


def test_close_sessions_resets_the_client_with_what_was_read_delivered(driver):
    """The client has not read a byte when the order comes."""
    client, server = driver.session()
    server.send(b"x" * 100_000)
    server.wait_acknowledged()
    wait_until(lambda: unread(driver) == 0, "that the worker has read it")
    driver.say(CloseSessions("web", "t0", "target_down"))
    assert len(client.read_to_end()) == 100_000
    assert client.ended == "rst"
    server.expect_rst()
    (record,) = driver.records(1)
    assert (record.reason, record.ended_by, record.bytes_down) == ("target_down", "proxy", 100_000)


@pytest.mark.parametrize(("app", "target"), [("other", "t0"), ("web", "other")])
def test_news_of_what_it_was_never_told_about_is_none(driver, app, target):
    """The program ends in the middle of a change of the configuration: the supervisor knows more than the workers."""
    client, server = driver.session()
    driver.say(TargetChanged(app, target, "down", ()))
    driver.say(CloseSessions(app, target, "target_down"))
    server.send(b"still").fin()
    client.expect(b"still").expect_fin().fin()
    server.expect_fin()


def test_close_sessions_ends_those_of_that_target_only():
    with Driver(targets=2) as driver:
        pairs = []
        for number in (1, 0):
            driver.say_state("down", 1 - number)
            driver.say_state("up", number)
            pairs.append(driver.session(number))
        driver.say(CloseSessions("web", "t1", "target_down"))
        pairs[0][0].expect_rst()
        pairs[0][1].expect_rst()
        assert driver.records(1)[0].reason == "target_down"
        pairs[1][0].send(b"me not")
        pairs[1][1].expect(b"me not")


def test_an_idle_worker_ends_at_once_when_it_is_to_drain(driver):
    """And not only when its 30 seconds are over."""
    driver.channel.send(Unlisten((7,), 0.05))
    assert driver.wait(Unlistened) == Unlistened((7,))
    wait_until(lambda: not listens(driver), "closed listeners")
    driver.channel.send(Drain(30.0))
    driver.until(lambda: driver.gone)
    assert driver.wait_end() == 0
    assert driver.heard[-1] == Drained(0)
    assert driver.total(counters.ACCEPTING) == 0


def test_drain_waits_for_the_last_session(driver):
    client, server = driver.session()
    driver.say(Unlisten((7,), 0.05))
    driver.wait(Unlistened)
    driver.say(Drain(30.0))
    client.send(b"more")
    server.expect(b"more").fin()
    client.expect_fin()
    assert not driver.of(Drained)
    client.fin()
    assert driver.wait_end() == 0
    driver.until(lambda: driver.gone)
    assert driver.heard[-1] == Drained(0)
    assert driver.records(1)[0].reason == "done", "its record was written before the end"


def test_drain_resets_what_outlives_the_grace_and_counts_it(driver):
    pairs = [driver.session() for _ in range(3)]
    driver.say(Unlisten((7,), 0.0))
    driver.say(Drain(0.3))
    for client, server in pairs:
        client.expect_rst()
        server.expect_rst()
    assert driver.wait_end() == 0
    driver.until(lambda: driver.gone)
    assert driver.heard[-1] == Drained(3)
    assert {(record.reason, record.ended_by) for record in driver.records(3)} == {("shutdown", "proxy")}


def test_clients_that_wait_when_it_is_to_unlisten_are_served(driver):
    """It is stopped meanwhile, so that they do wait in the queue."""
    driver.spawned.process.send_signal(signal.SIGSTOP)
    waiting = [driver.connect() for _ in range(30)]
    refuse_new_connections(driver.listener)
    driver.channel.send(Unlisten((7,), 0.05))
    driver.spawned.process.send_signal(signal.SIGCONT)
    driver.wait(Unlistened)
    driver.channel.send(Drain(10.0))
    driver.serve(waiting)
    assert driver.wait_end() == 0


# -- without a supervisor


def test_a_worker_whose_supervisor_is_gone_closes_its_listeners_and_finishes_its_sessions(driver):
    client, server = driver.session()
    driver.leave()
    driver.listener.close()
    wait_until(lambda: not listens(driver), "closed listeners")
    client.send(b"go on")
    server.expect(b"go on").send(b"yes").fin()
    client.expect(b"yes").expect_fin()
    assert driver.spawned.process.poll() is None
    client.fin()
    assert driver.wait_end() == 0
    assert driver.records(1)[0].reason == "done"


def test_the_grace_of_its_snapshot_ends_what_does_not_end_by_itself():
    with Driver(grace=0.3) as driver:
        client, server = driver.session()
        driver.leave()
        client.expect_rst()
        server.expect_rst()
        assert driver.wait_end() == 0
        assert driver.records(1)[0].reason == "shutdown"


def test_clients_that_wait_when_the_supervisor_dies_are_served(driver):
    driver.spawned.process.send_signal(signal.SIGSTOP)
    waiting = [driver.connect() for _ in range(30)]
    driver.leave()
    driver.listener.close()
    driver.spawned.process.send_signal(signal.SIGCONT)
    driver.serve(waiting)
    assert driver.wait_end() == 0


def test_a_supervisor_that_dies_while_it_drains_changes_nothing(driver):
    client, server = driver.session()
    driver.say(Unlisten((7,), 0.0))
    driver.say(Drain(30.0))
    driver.leave()
    client.send(b"x").fin()
    server.expect(b"x").expect_fin().fin()
    client.expect_fin()
    assert driver.wait_end() == 0


def test_one_without_sessions_is_gone_at_once():
    with Driver(grace=60.0) as driver:
        driver.leave()
        assert driver.wait_end() == 0


def test_it_logs_through_its_supervisor_and_prints_nothing(driver, capfd):
    assert driver.of(Logged) == []
    driver.session()
    assert capfd.readouterr().err == ""


def test_another_version_than_its_supervisors_is_refused_before_anything_else():
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-P", "-m", "tcp_proxy.dataplane.worker", str(theirs.fileno()), "0.0.1-other"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with ours, theirs, subprocess.Popen(argv, pass_fds=(theirs.fileno(),), env=env, stderr=subprocess.PIPE) as process:
        assert process.wait(10) == 78
        assert process.stderr.read() == b""
