"""The supervisor in this process, a round of its loop at a time, with workers and an API process that are only sockets.

Its health threads are real ones, whose probes never answer; what workers and the API's process are sent is read by somebody
and kept in `sent`. Counted are the calls that the main thread makes in one round (kit.calls): what other threads and
processes do beside it does not count.
"""

import contextlib
import itertools
import json
import re
import socket
import threading

from kit.calls import Calls
from kit.ports import free_port
from kit.waiting import wait_until
from tcp_proxy.config.load import load_text
from tcp_proxy.control import supervisor as module
from tcp_proxy.control.health import runner as runners
from tcp_proxy.control.listeners.sockets import bind_now
from tcp_proxy.control.processes import worker_pool as pools
from tcp_proxy.control.processes.api_process import _Reply
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.wire.channel import Channel
from tcp_proxy.wire.messages import (
    Answer,
    Configured,
    Drain,
    Drained,
    Encoded,
    Paused,
    Pong,
    Primary,
    Ready,
    Snapshot,
    Unlisten,
    Unlistened,
    decode,
    encode,
)

GENERATION = re.compile(rb'.{4}{"v":1,"is":"Configure","generation":(\d+)', re.DOTALL)


class Idle:
    def cancel(self):
        """A probe that never answers."""


class Line:
    """The supervisor's end of a socket whose other end is read and forgotten."""

    keeps = False  # what it was sent

    def __init__(self, loop):
        ours, self._theirs = socket.socketpair()
        self._channel = Channel(loop, ours, lambda *_: None, lambda: None)
        self.longest = 0
        self.sent = []
        self._thread = threading.Thread(target=self._drain, name="drain", daemon=True)
        self._thread.start()

    def _drain(self):
        while self._theirs.recv(1 << 20):
            pass

    def send(self, message, descriptors=()):
        self.longest = max(self.longest, len(encode(message)))
        if self.keeps:
            self.sent.append(decode(message.frame[4:]) if isinstance(message, Encoded) else message)
        self._channel.send(message, descriptors)

    def send_in_turn(self, make):
        if self.keeps:
            self.sent.append(make()[0])
        self._channel.send_in_turn(make)

    @property
    def is_waiting(self):
        return self._channel.is_waiting

    def close(self):
        with contextlib.suppress(OSError):
            self._theirs.shutdown(socket.SHUT_RDWR)
        self._channel.close()
        self._thread.join()
        self._theirs.close()


class SilentWorker(Line):
    """It obeys at once, and has no sessions."""

    pid, stderr, capacity, cut, started = 1 << 22, None, 0, 0, 0.0
    is_ready = is_draining = has_wrong_version = False
    has_ended_well = True
    is_introduced, is_unneeded, _news = False, False, None
    is_told, begin_introduction, end_introduction = Worker.is_told, Worker.begin_introduction, Worker.end_introduction
    tell = Worker.tell

    def __init__(self, loop, index, received):
        super().__init__(loop)
        self.index, self.incarnation, self.generation, self.open_listeners = index, "", -1, set()
        self._loop, self._received = loop, received

    def send(self, message, descriptors=()):
        super().send(message, descriptors)
        answers = {
            Snapshot: lambda: Ready(100), Unlisten: lambda: Unlistened(message.ids), Drain: lambda: Drained(0),
            Primary: lambda: Pong(0) if message.target else Paused(message.app, message.epoch),
        }  # fmt: skip
        if type(message) in answers:
            self._loop.call_soon(self._received, self, answers[type(message)]())
        elif isinstance(message, Encoded) and (generation := GENERATION.match(message.frame)):
            self._loop.call_soon(self._received, self, Configured(int(generation[1])))

    def descriptors(self):
        return 20

    def kill(self):
        """There is no process."""


class Api(Line):
    """In the place of ApiProcess."""

    def __init__(self, loop, _socket, administration, _events, _level):
        super().__init__(loop)
        self._administration = administration
        self.operations = administration._operations
        self._numbers = itertools.count()
        self.statuses = []

    def start(self):
        """There is no process."""

    def stop(self, **_how):
        """The test closes it."""

    def send(self, message, descriptors=()):
        super().send(message, descriptors)
        if isinstance(message, Answer) and not message.more:
            self.statuses.append(message.status)

    def ask(self, operation, **arguments):
        self._administration.ask(operation, json.dumps(arguments), _Reply(self, next(self._numbers)))


class Rig:
    """`app`: keys of each app; `target(n, weight)`: keys of one of their targets, in the place of what it is usually. The
    targets are spread over `apps` of them: "web", and others of a name and an address of their own."""

    def __init__(self, monkeypatch, targets, workers=2, app=None, target=None, apps=1):
        self._app, self._target = app or {}, target or (lambda n, weight: {"weight": weight})
        self._targets, self._workers, self._apps = targets, workers, apps
        self.workers = []  # all that were started
        self._port = free_port()
        self.text = self.file(1)
        config = load_text(self.text, "file")
        wanted = ((app, address) for app in config.apps for address in app.listeners)
        listening = [bind_now(number, *one) for number, one in enumerate(wanted)]
        monkeypatch.setitem(runners.KINDS, "tcp", lambda *_: Idle())
        monkeypatch.setattr(module, "ApiProcess", Api)
        monkeypatch.setattr(module.orphans, "begin", lambda _loop: None)  # nobody's children become those of the tests
        monkeypatch.setattr(pools.WorkerPool, "_spawn", lambda pool, index: self._spawned(pool, index))
        load = lambda: load_text(self.text, "file")  # noqa: E731
        self.supervisor = module.Supervisor(config, load, listening, None, None, None, object())
        self.loop, self.api = self.supervisor._loop, self.supervisor._api
        self.calls = Calls()
        self.supervisor._start()
        self.turn_until(lambda: self.supervisor._said_ready)

    def _spawned(self, pool, index):
        self.workers.append(SilentWorker(pool._loop, index, pool._received))
        return self.workers[-1]

    @property
    def pool(self):
        return self.supervisor._worker_pool

    def end(self, worker):
        """It is dead."""
        worker.close()
        self.pool._ended(worker, "SIGKILL")

    def file(self, weight, targets=None):
        count = self._targets if targets is None else targets
        usual = ({"name": f"t{n}", "address": f"127.0.{n >> 8}.{n & 255}:80"} for n in range(count))
        servers = [{**one, **self._target(n, weight)} for n, one in enumerate(usual)]
        each = -(-count // self._apps)
        apps = [self._an_app(n, servers[n * each : (n + 1) * each]) for n in range(self._apps)]
        return json.dumps({"workers": self._workers, "apps": apps}).encode()

    def _an_app(self, n, targets):
        name, bind = (f"app{n}", f"127.1.{n >> 8}.{n & 255}") if n else ("web", "127.0.0.1")
        health = [{"type": "tcp", "interval": 3600}]
        return {"name": name, "bind": bind, "ports": [self._port], "targets": targets, "health": health, **self._app}

    def turn(self):
        with self.calls:
            self.loop.run_once(0.05)

    def turn_until(self, condition):
        def turned():
            self.turn()
            return condition()

        wait_until(turned, "the supervisor", 300)

    def worst_of(self, operation, **arguments):
        """Calls in the longest round from the question until its answer is on its way; and what came."""
        self.calls.most, self.api.statuses = 0, []
        with self.calls:
            self.api.ask(operation, **arguments)
        self.turn_until(lambda: self.api.statuses)
        for _ in range(3):
            self.turn()
        return self.calls.most, self.api.statuses[0]

    def close(self):
        supervisor = self.supervisor
        supervisor._context.is_stopping = True
        supervisor._worker_pool.is_stopping = True
        workers = tuple(supervisor._worker_pool)
        supervisor._worker_pool._serving.clear()
        supervisor._worker_pool._leaving.clear()
        for line in (self.api, *workers):
            line.close()
        supervisor._release()
