"""A worker process: `python -P -m tcp_proxy.dataplane.worker FD VERSION`, started by control.workers only.

Its main thread is the event loop. FD is its end of the channel to the supervisor: everything it knows comes from there
and it obeys nothing else. The signals that reach a whole process group are blocked by the supervisor before the exec
and ignored here before the first import, so they end no session (DESIGN 9.7).

    STARTING ──Snapshot──> SERVING ──Drain, or the channel ended──> DRAINING ──no session left, or the grace is over──> exit

When the supervisor is gone the worker itself closes its listeners (within 100 ms), drains for `shutdown_grace`, exits.
"""

import gc
import signal

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
if __name__ == "__main__":
    for _number in _IGNORED:
        signal.signal(_number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
    gc.disable()  # until it serves: what is imported stays, and looking at it again and again is a tenth of the start

import faulthandler  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402

from tcp_proxy import __version__, counters  # noqa: E402
from tcp_proxy.channel import Channel  # noqa: E402
from tcp_proxy.counters import Counters  # noqa: E402
from tcp_proxy.dataplane.apps import LiveApp, LiveTarget  # noqa: E402
from tcp_proxy.dataplane.homes import Home  # noqa: E402
from tcp_proxy.dataplane.inquiry import Inquiry  # noqa: E402
from tcp_proxy.dataplane.parking import park_all, unpark_all  # noqa: E402
from tcp_proxy.dataplane.record import Recorder  # noqa: E402
from tcp_proxy.dataplane.relay_pool import RelayPool, WorkerHome  # noqa: E402
from tcp_proxy.dataplane.server import PAUSE_AT, Server  # noqa: E402
from tcp_proxy.dataplane.sticks import StickBook  # noqa: E402
from tcp_proxy.inquiries import AskSession, AskSessions, CloseSession  # noqa: E402
from tcp_proxy.loop import Loop, Timer  # noqa: E402
from tcp_proxy.messages import (  # noqa: E402
    AppView,
    CloseSessions,
    Configure,
    Configured,
    ConnectFailed,
    Drain,
    Drained,
    Grow,
    HandOver,
    Limits,
    Listen,
    Logged,
    Message,
    Paused,
    Ping,
    Pong,
    Primary,
    Ready,
    Records,
    Snapshot,
    Stick,
    TargetChanged,
    Unlisten,
    Unlistened,
)
from tcp_proxy.sansio.reasons import Reason, Side  # noqa: E402
from tcp_proxy.socket_options import refuse_new_connections  # noqa: E402

WRONG_VERSION = 78  # the exit status that says so; EX_CONFIG of sysexits
CLOSE_WITHIN = 0.05  # seconds: how long a worker without supervisor accepts what is on its way
LOOK_DRAINED = 0.02  # seconds between two looks whether the last session has ended
LAST_RECORDS = 2.0  # seconds


class Worker:
    """Everything of the process; one method for each message."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._loop = loop
        self._channel = Channel(loop, sock, self._received, self._supervisor_gone)
        self._apps: dict[str, LiveApp] = {}
        self._book = StickBook(loop)
        self._grace = 0.0
        self._cut = 0
        self._draining = False
        self._grace_timer = Timer(0.0, None, ())
        self._handlers: dict[type, Callable[..., Any]] = {
            Snapshot: self._snapshot,
            Configure: self._configure,
            Stick: self._stick,
            Grow: self._grow,
            Records: self._records,
            Limits: self._limits,
            Listen: self._listen,
            HandOver: self._hand_over,
            Unlisten: self._unlisten,
            TargetChanged: self._target_changed,
            Primary: self._primary,
            CloseSessions: self._close_sessions,
            Drain: self._drain,
            AskSessions: lambda *what: self._inquiry.sessions(*what),
            AskSession: lambda *what: self._inquiry.session(*what),
            CloseSession: lambda *what: self._inquiry.close(*what),
            Ping: self._ping,
        }
        loop.on_error = self._handler_failed

    def _received(self, message: Message, descriptors: list[int]) -> None:
        self._handlers[type(message)](message, descriptors)

    # -- what the supervisor says

    def _snapshot(self, message: Snapshot, descriptors: list[int]) -> None:
        memory_fd, *rest = descriptors
        memory = Counters(memory_fd, message.rows, message.slots)
        os.close(memory_fd)
        self._memory = memory
        self._index = message.worker
        self._incarnation = message.incarnation
        self._grace = message.grace
        first = message.first_row
        self._mine = memory.rows[first : first + counters.ROWS_PER_WORKER]
        row, *relay_rows = self._mine
        self._row = row
        recorder = Recorder(self._loop, rest[0] if message.records else None, message.incarnation, self._warn)
        self._recorder = recorder
        self._home = home = WorkerHome(self._loop, row, recorder)
        self._relays = home.relays = RelayPool(home, relay_rows, recorder, self._handler_failed, self._may_open_pipe)
        self._inquiry = Inquiry(home, self._relays, lambda: self._recorder, self._channel.send)
        self._server = Server(home, memory, first, message.workers, lambda: self._relays.pipes, self._warn, message.grace)
        for view in message.apps:
            self._set_app(view)
        self._server.count_descriptors()
        gc.collect()
        gc.freeze()  # what is here now stays; the collector need not look at it again
        gc.enable()
        self._channel.send(Ready(self._server.capacity))

    def _limits(self, message: Limits, descriptors: list[int]) -> None:
        """A target with a first limit is guarded since `Configure`; the semaphore counts from when every thread knows."""
        by_slot = {target.slot: target for app in self._apps.values() for target in app.targets.values()}
        numbers = message.numbers or (0,) * len(message.slots)
        parts = zip(message.slots, descriptors, numbers, strict=True)
        semaphores = [(by_slot[slot], fd, number) for slot, fd, number in parts]
        self._when_all_have(lambda _home: None, partial(self._adopt, semaphores))

    def _adopt(self, semaphores: list[tuple[LiveTarget, int, int]]) -> None:
        for target, fd, number in semaphores:
            if target.limited:
                target.adopt(fd, self._mine, number)
            else:  # it has lost its limit meanwhile, or has left
                os.close(fd)
        self._server.count_descriptors()

    def _configure(self, message: Configure, _descriptors: list[int]) -> None:
        self._server.workers = message.workers
        self._grace = message.grace
        for view in message.apps:
            self._set_app(view)
        for name in message.removed:
            app = self._apps.pop(name)
            self._book.configure(app, None)
            app.leave()
        self._channel.send(Configured(message.generation))

    def _set_app(self, view: AppView) -> None:
        if view.http is not None:
            self._server.serve_http()
        now = self._loop.now
        app = self._apps.get(view.name)
        if app is None:
            app = self._apps[view.name] = LiveApp(
                view, self._index, self._memory.rows, self._row, self._connect_failed, now
            )
        else:
            app.configure(view, now)
            self._primary_changed(app)
        self._wait_for_primary(app)
        app.sticks = self._book.configure(app, view.sticky)

    def _stick(self, _message: Stick, descriptors: list[int]) -> None:
        self._book.connect(socket.socket(fileno=descriptors[0]))
        self._server.count_descriptors()

    def _grow(self, message: Grow, descriptors: list[int]) -> None:
        self._memory.add_rows(descriptors[0], message.rows)
        os.close(descriptors[0])
        self._server.count_descriptors()

    def _records(self, _message: Records, descriptors: list[int]) -> None:
        old = self._recorder
        new = Recorder(self._loop, descriptors[0] if descriptors else None, self._incarnation, self._warn, old)
        self._recorder = self._relays.recorder = new
        self._when_all_have(partial(_record_to, new), partial(old.close, LAST_RECORDS))
        self._server.count_descriptors()

    def _listen(self, message: Listen, descriptors: list[int]) -> None:
        for number, slot, app, address, fd in zip(
            message.ids, message.slots, message.apps, message.addresses, descriptors, strict=True
        ):
            self._server.listen(number, slot, self._apps[app], address, fd)
        self._server.count_descriptors()
        self._row[counters.ACCEPTING] = 1

    def _hand_over(self, message: HandOver, _descriptors: list[int]) -> None:
        for number, slot, app in zip(message.ids, message.slots, message.apps, strict=True):
            self._server.hand_over(number, slot, self._apps[app])

    def _unlisten(self, message: Unlisten, _descriptors: list[int]) -> None:
        self._server.unlisten(message.ids, message.drain, lambda ids: self._channel.send(Unlistened(ids)))

    def _target_changed(self, message: TargetChanged, _descriptors: list[int]) -> None:
        self._apps[message.app].change_target(message.target, message.state, message.endpoints, message.servers)

    def _primary(self, message: Primary, _descriptors: list[int]) -> None:
        app = self._apps.get(message.app)
        if app is not None and app.parking is not None:
            app.elect(message.epoch, message.target, message.since)
            self._primary_changed(app)
            self._wait_for_primary(app)
        if not message.target:
            self._channel.send(Paused(message.app, message.epoch))

    def _primary_changed(self, app: LiveApp) -> None:
        if app.parking is not None and not app.parking.primary:
            park_all(app, self._home.members)
        else:  # or it is no failover app any more
            unpark_all(app, self._home.members)
        self._server.look_again()

    def _wait_for_primary(self, app: LiveApp) -> None:
        if app.holds and app.parking is not None:
            self._loop.call_later(app.parking.wait, self._receive, app, app.parking.epoch)

    def _receive(self, app: LiveApp, epoch: int) -> None:
        """Clients have waited in the kernel's queue for as long as they may."""
        if app.parking is not None and app.parking.receive(epoch):
            self._server.look_again()

    def _close_sessions(self, message: CloseSessions, _descriptors: list[int]) -> None:
        target = self._apps[message.app].targets[message.target]
        target.cut_reason = Reason(message.reason)
        target.cut += 1
        self._in_all_homes(partial(_cut_off, target))

    def _drain(self, message: Drain, _descriptors: list[int]) -> None:
        self._grace_timer.cancel()
        if message.grace >= 0:
            self._grace_timer = self._loop.call_later(message.grace, self._grace_over)
        if not self._draining:
            self._draining = True
            self._row[counters.ACCEPTING] = 0
            self._server.drain()
            self._look_drained()

    def _ping(self, message: Ping, _descriptors: list[int]) -> None:
        self._channel.send(Pong(message.number))

    # -- what the worker says

    def _connect_failed(self, app: str, target: str, error: str) -> None:
        self._channel.send(ConnectFailed(app, target, error))

    def _warn(self, text: str) -> None:
        self._channel.send(Logged(logging.WARNING, text))

    def _may_open_pipe(self) -> bool:
        return self._server.free_descriptors >= PAUSE_AT + 2

    def _handler_failed(self, handler: Callable[..., Any], error: Exception) -> None:
        """A bug met in one session, in whatever thread owns it: that session ends, the others go on."""
        text = "".join(traceback.format_exception(error))
        self._loop.call_soon(self._channel.send, Logged(logging.ERROR, f"internal error, please report it: {text}"))
        session = getattr(handler, "__self__", None)
        while session is not None and not hasattr(session, "kill"):
            session = getattr(session, "owner", None)
        if session is None:
            raise error
        session.kill(Reason.INTERNAL_ERROR, Side.PROXY)

    # -- the end

    def _supervisor_gone(self) -> None:
        """Nobody will ever give an order again: what `Unlisten` and `Drain` would do."""
        if not hasattr(self, "_server"):
            self._loop.stop()
            return
        for sock in self._server.listeners:
            refuse_new_connections(sock)
        numbers = self._server.numbers()
        self._server.unlisten(numbers, CLOSE_WITHIN, lambda _ids: self._drain(Drain(self._grace), []))

    def _look_drained(self) -> None:
        if self._server.sessions > 0:
            self._loop.call_later(LOOK_DRAINED, self._look_drained)
        else:
            self._exit()

    def _grace_over(self) -> None:
        self._cut = self._server.sessions
        self._in_all_homes(_close_home)

    def _in_all_homes(self, call: Callable[[Home], Any]) -> None:
        call(self._home)
        self._relays.call_in_all(call)

    def _when_all_have(self, call: Callable[[Home], Any], done: Callable[[], Any]) -> None:
        """`call` in every thread with its home, then `done` here."""
        homes = list(self._relays.homes)
        waiting = len(homes)

        def arrived() -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                done()

        def call_there(home: Home) -> None:
            call(home)
            self._loop.call_soon(arrived)

        call(self._home)
        for home in homes:
            home.loop.call_soon(call_there, home)
        if not homes:
            done()

    def _exit(self) -> None:
        self._relays.stop()
        self._recorder.close(LAST_RECORDS)
        self._channel.send(Drained(self._cut))
        self._loop.stop()


def _cut_off(target: Any, home: Home) -> None:
    for session in tuple(home.members):
        if session.target is target:
            session.cut_off()


def _record_to(recorder: Recorder, home: Home) -> None:
    home.recorder = recorder


def _close_home(home: Home) -> None:
    """The grace is over: whoever is here, or comes from now on, is reset."""
    home.closing = Reason.SHUTDOWN
    for session in tuple(home.members):
        session.kill(Reason.SHUTDOWN, Side.PROXY)


def main(argv: list[str]) -> int:
    faulthandler.enable()  # SIGABRT: a supervisor that finds us silent wants to see our stacks
    fd, version = int(argv[1]), argv[2]
    if version != __version__:
        return WRONG_VERSION
    loop = Loop("loop")
    Worker(loop, socket.socket(fileno=fd))
    loop.run()
    loop.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
