"""A worker's event loop without its process: a turnable clock, real sockets, records and counters to look at."""

import os
import socket
import struct
from collections import deque
from contextlib import ExitStack

from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.record import Recorder
from tcp_proxy.dataplane.relay.pool import RelayPool, WorkerThread
from tcp_proxy.dataplane.session import Session
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.runtime.socket_options import FIRST_OPTIONS, set_options
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import Counters
from tcp_proxy.wire.views import AppView, TargetView

FIELDS = (
    "id app listener client target tried connect_seconds seconds bytes_up bytes_down ended_by reason errno ended_at "
    "peer error tls notes processes trace"
).split()


SPARE_SLOTS = 16


def first_slot(target):
    """Of the counters of the n-th target; behind the last of them lie the app's."""
    return counters.PROCESS_SLOTS + target * counters.TARGET_SLOTS


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Records(Recorder):
    """Keeps the records that a worker's recorder would write."""

    def __init__(self, loop):
        self.incarnation, self.wall, self.all = "test", 0.0, []
        self.add = self.keep
        self._kept, self._loop = [], loop
        self.requests, self.keep_request = deque(), None
        self.sample = self.usual = None

    def keep(self, finished):
        self._kept.append(finished)
        self.all.append(dict(zip(FIELDS, self._record(finished), strict=True)))


class House:
    """One app, any number of targets, each a listening socket of this process."""

    def __init__(
        self, targets=1, relays=False, timeouts=None, balance="round_robin", retries=3, limits=(), family="tcp", splicing=1
    ):
        self.stack = ExitStack()
        self.clock = Clock()
        # Relay threads have clocks of their own, so with them time passes by itself.
        self.loop = Loop("test") if relays else Loop("test", self.clock)
        self.records = Records(self.loop)
        self.asked = []
        self.servers = [self.listen(family) for _ in range(targets)]
        app_slot = first_slot(targets)
        self.listener_slot = app_slot + counters.APP_SLOTS
        self.spare_slot = self.listener_slot + counters.LISTENER_SLOTS  # for whatever else a test has counted
        self.memory, fd = Counters.create(1 + counters.ROWS_PER_WORKER, self.spare_slot + SPARE_SLOTS)
        self.stack.callback(os.close, fd)
        rows = self.memory.rows
        self.row = rows[1]
        self.thread = WorkerThread(self.loop, rows[1], self.records)
        views = tuple(
            TargetView(f"t{n}", first_slot(n), 1, False, n < len(limits), "up", (self.endpoint(server),))
            for n, server in enumerate(self.servers)
        )
        view = AppView("web", app_slot, balance, retries, timeouts or Timeouts(), views)
        self.app = LiveApp(view, 0, rows, rows[1], lambda *what: self.asked.append(what))
        self.relays = None
        if relays:
            self.relays = RelayPool(self.thread, rows[2:], self.records, self.bug, lambda: True, splicing)
            self.thread.relays = self.relays
        self.listener = ListenerCounters("127.0.0.1:1", self.listener_slot)
        self.listening = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.sessions = []

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for session in self.sessions:
            session.thread.loop.call_soon(_end, session)
        self.turn(2)
        if self.relays is not None:
            self.relays.stop()
        self.turn(2)
        self.loop.close()
        self.stack.close()
        if kind is None:
            slots = [counters.SESSIONS, *(target.active_slot for target in self.app.targets.values())]
            assert [self.memory.total(slot) for slot in slots] == [0] * len(slots), "gauges return to 0"
            ids = [record["id"] for record in self.records.all]
            assert sorted(ids) == sorted({f"test-{s.number}" for s in self.sessions}), "one record per session"
        del self.app, self.thread, self.row
        self.memory.close()

    def bug(self, _handler, error):
        raise error

    def listen(self, family):
        if family == "tcp":
            return self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(b"\0" + f"tcp_proxy test {id(self)} {id(server)}".encode())
        server.listen()
        return server

    def endpoint(self, server):
        return int(server.family), server.getsockname()

    def client(self):
        """A client, and its session, which is dialing or relaying already."""
        client = self.stack.enter_context(socket.create_connection(self.listening.getsockname()))
        client.settimeout(5)
        session = self.admit()
        self.turn(2)
        return client, session

    def admit(self):
        """The session of the client that waits."""
        inner, address = self.listening.accept()
        set_options(inner, FIRST_OPTIONS)
        raw = socket.SocketType(inner.family, socket.SOCK_STREAM, 0, inner.detach())
        session = Session(len(self.sessions) + 1, self.thread, self.app, self.listener, raw, address)
        self.sessions.append(session)
        session.start()
        return session

    def pair(self, target=0):
        """A client and the server's end of its session."""
        client, session = self.client()
        self.servers[target].settimeout(5)
        server = self.stack.enter_context(self.servers[target].accept()[0])
        server.settimeout(5)
        self.turn(2)
        return client, server, session

    def turn(self, rounds=1, wait=0.0):
        for _ in range(rounds):
            self.loop.run_once(wait)

    def until(self, condition):
        for _ in range(5000):
            if condition():
                return
            self.loop.run_once(0.002)
        raise AssertionError("it did not happen")

    def pass_time(self, seconds):
        self.clock.now += seconds
        self.turn(3)

    def record(self, count=1):
        self.until(lambda: len(self.records.all) >= count)
        return self.records.all[count - 1]

    def receive(self, sock, size=1 << 20):
        """What `sock` gets until its end of file (or `size` bytes), while the loop turns."""
        sock.setblocking(False)
        got = bytearray()
        for _ in range(200_000):
            self.loop.run_once(0)
            try:
                data = sock.recv(1 << 20)
            except BlockingIOError:
                continue
            got += data
            if not data or len(got) >= size:
                return bytes(got)
        raise AssertionError(f"only {len(got)} of {size} bytes came")


def reset(sock):
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def blackhole(stack):
    """An address whose backlog is full: a connect to it neither succeeds nor fails."""
    server = stack.enter_context(socket.socket())
    server.bind(("127.0.0.1", 0))
    server.listen(0)
    for _ in range(4):
        filler = stack.enter_context(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(server.getsockname())
    return server.getsockname()


def _end(session):
    if session.state.name != "DONE":
        from tcp_proxy.sansio.reasons import Reason, Side

        session.kill(Reason.SHUTDOWN, Side.PROXY)
