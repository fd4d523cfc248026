"""Two workers without their processes: loops, counters and apps of their own in one thread, and a socketpair between them.

Each is served by an app whose targets are listening sockets of the test; clients come to the first.
"""

import os
import socket
from contextlib import ExitStack

from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.moving.moves import Moves
from tcp_proxy.dataplane.relay.pool import RelayPool, WorkerThread
from tcp_proxy.dataplane.server import Server
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import Counters
from tcp_proxy.wire.moves import ExportSessions, ImportSessions
from tcp_proxy.wire.views import AppView, TargetView
from tests.dataplane.house import Records

TARGET = counters.PROCESS_SLOTS
APP = TARGET + counters.TARGET_SLOTS
LISTENER = APP + counters.APP_SLOTS
SLOTS = -(-(LISTENER + counters.LISTENER_SLOTS) // 512) * 512
ADDRESS = "127.0.0.1:1"


class Side:
    """One worker of `index`."""

    def __init__(self, index, memory, view, relays, clock):
        first = 1 + index * counters.ROWS_PER_WORKER
        rows = memory.rows[first : first + counters.ROWS_PER_WORKER]
        self.loop = Loop(f"worker {index}") if clock is None else Loop(f"worker {index}", clock)
        self.records = Records(self.loop)
        self.records.incarnation = f"w.{index}"
        self.thread = WorkerThread(self.loop, rows[0], self.records)
        self.relays = RelayPool(self.thread, list(rows[1:]), self.records, self.bug, lambda: True)
        if relays:
            self.thread.relays = self.relays
        self.app = LiveApp(view, index, memory.rows, rows[0], lambda *_: None)
        self.apps = {self.app.name: self.app}
        self.server = Server(self.thread, memory, first, 2, lambda: self.relays.pipes, lambda _: None, 5.0)
        self.server.count_descriptors()
        self.told = []
        self.moves = Moves(self.server, self.relays, self.apps, self.records.incarnation, self.told.append)

    def bug(self, _handler, error):
        raise error

    @property
    def sessions(self):
        members = [one for thread in (self.thread, *self.relays.threads) for one in tuple(thread.members)]
        return sorted(members, key=lambda one: one.number)

    def close(self):
        self.moves.settle()
        self.server.close()
        self.loop.run_once(0)
        self.relays.stop()
        self.loop.run_once(0)
        self.loop.close()


class TwoWorkers:
    def __init__(self, relays=False, timeouts=None, limit=0, family="tcp", clock=None, **view):
        self.stack = ExitStack()
        self.family = family
        self.target = self.stack.enter_context(self._listening())
        self.listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        self.memory, fd = Counters.create(1 + 2 * counters.ROWS_PER_WORKER, SLOTS)
        os.close(fd)
        endpoint = int(self.target.family), self.target.getsockname()
        target = TargetView("t0", TARGET, 1, False, bool(limit), "up", (endpoint,))
        view = {"balance": "round_robin", "retries": 3, "timeouts": timeouts or Timeouts(), **view}
        app = AppView("web", APP, targets=(target,), **view)
        self.first, self.second = (Side(index, self.memory, app, relays, clock) for index in range(2))
        self.tokens = os.eventfd(limit, os.EFD_NONBLOCK | os.EFD_SEMAPHORE) if limit else -1
        for index, side in enumerate(self.sides if limit else ()):
            first = 1 + index * counters.ROWS_PER_WORKER
            mine = self.memory.rows[first : first + counters.ROWS_PER_WORKER]
            side.app.targets["t0"].adopt(os.dup(self.tokens), mine, 1)
        self.first.server.listen(1, LISTENER, self.first.app, ADDRESS, os.dup(self.listener.fileno()))
        self.orders = 0

    def _listening(self):
        if self.family == "tcp":
            return socket.create_server(("127.0.0.1", 0), backlog=4096)
        server = socket.socket(socket.AF_UNIX)
        server.bind(b"\0" + f"tcp_proxy moving {id(self)}".encode())
        server.listen(4096)
        return server

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.stack.close()  # all peers go: so do the sessions
        try:
            if kind is None:
                self.until(lambda: not (self.memory.total(counters.SESSIONS) or any(side.sessions for side in self.sides)))
                self.turn(3)
                slots = (counters.SESSIONS, TARGET + counters.ACTIVE, LISTENER + counters.LISTENER_MOVED)
                assert [self.memory.total(slot) for slot in slots] == [0, 0, 0], "gauges return to 0"
                ended, accepted = LISTENER + counters.LISTENER_ENDED, LISTENER + counters.LISTENER_ACCEPTED
                assert self.memory.total(ended) == self.memory.total(accepted), "one end for each beginning"
                ids = [record["id"] for record in self.records]
                assert len(ids) == len(set(ids)) == self.memory.total(accepted), "one record for each session"
        finally:
            for side in self.sides:
                side.close()
                side.app.leave()
            if self.tokens >= 0:
                os.close(self.tokens)
            del self.first, self.second

    @property
    def sides(self):
        return self.first, self.second

    @property
    def records(self):
        return [record for side in self.sides for record in side.records.all]

    def turn(self, rounds=1):
        for _ in range(rounds):
            for side in self.sides:
                side.loop.run_once(0)

    def until(self, condition, rounds=20_000):
        for _ in range(rounds):
            if condition():
                return
            self.first.loop.run_once(0)
            self.second.loop.run_once(0.0005)
        raise AssertionError("it did not happen")

    def pair(self):
        """A client and the target's end of its session, which is the first worker's."""
        client = self.stack.enter_context(socket.create_connection(self.listener.getsockname()))
        self.target.setblocking(False)
        found = []

        def accepted():
            try:
                found.append(self.target.accept()[0])
            except BlockingIOError:
                return False
            return True

        self.until(accepted)
        self.until(lambda: self.first.sessions[-1].up is not None)
        server = self.stack.enter_context(found[0])
        for sock in (client, server):
            sock.setblocking(False)
        return client, server

    def order(self, giver, taker, **what):
        """The two messages, without waiting for what becomes of them."""
        ours, theirs = socket.socketpair()
        foreign = what.get("is_foreign", False)
        taker.moves.take_in(ImportSessions(foreign), [theirs.detach()])
        self.orders += 1
        giver.moves.export(ExportSessions(self.orders, **what), [ours.detach()])
        return self.orders

    def move(self, giver=None, taker=None, **what):
        """What the giver says of it, when it is over."""
        giver, taker = giver or self.first, taker or self.second
        order = self.order(giver, taker, **what)
        self.until(lambda: any(told.order == order for told in giver.told))
        return giver.told[-1]

    def receive(self, sock, size=None):
        """So many bytes, or all until the end."""
        got = bytearray()

        def more():
            try:
                data = sock.recv(1 << 20)
            except BlockingIOError:
                return False
            got.extend(data)
            return len(got) >= size if size is not None else not data

        self.until(more)
        return bytes(got)
