"""A worker process: `python -P -m tcp_proxy.dataplane.worker FD VERSION`, started by control.processes.workers only.

Its main thread is the event loop. FD is its end of the channel to the supervisor: everything it knows comes from there
and it obeys nothing else. The signals that reach a whole process group are blocked by the supervisor before the exec
and ignored here before the first import, so they end no session (docs/rules.md, R7).

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

import dataclasses  # noqa: E402
import faulthandler  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402

from tcp_proxy import __version__  # noqa: E402
from tcp_proxy.dataplane.all_threads import AllThreads, cut_off, cut_off_by_and_by, record_to  # noqa: E402
from tcp_proxy.dataplane.apps import LiveApp  # noqa: E402
from tcp_proxy.dataplane.claims import Claims  # noqa: E402
from tcp_proxy.dataplane.edge.policy import Edges  # noqa: E402
from tcp_proxy.dataplane.fault_news import take_faults  # noqa: E402
from tcp_proxy.dataplane.in_order import InOrder  # noqa: E402
from tcp_proxy.dataplane.inquiry import Inquiry  # noqa: E402
from tcp_proxy.dataplane.leases import Leases  # noqa: E402
from tcp_proxy.dataplane.live_target import LiveTarget  # noqa: E402
from tcp_proxy.dataplane.new_limits import NewLimits  # noqa: E402
from tcp_proxy.dataplane.place_queues import PlaceQueues  # noqa: E402
from tcp_proxy.dataplane.primary_queue import demoted, dequeue_all, enqueue_all, orphan  # noqa: E402
from tcp_proxy.dataplane.record import Recorder  # noqa: E402
from tcp_proxy.dataplane.relay.pool import RelayPool, WorkerThread, threads_with_cpu  # noqa: E402
from tcp_proxy.dataplane.relay.session_thread import member_of, shut_down  # noqa: E402
from tcp_proxy.dataplane.server import Server  # noqa: E402
from tcp_proxy.dataplane.staged import Staged  # noqa: E402
from tcp_proxy.dataplane.sticky.copies import StickTableClient  # noqa: E402
from tcp_proxy.runtime.loop import Loop, Timer  # noqa: E402
from tcp_proxy.sansio.reasons import Reason, Side  # noqa: E402
from tcp_proxy.sansio.share import Share  # noqa: E402
from tcp_proxy.wire import counters  # noqa: E402
from tcp_proxy.wire.channel import Channel  # noqa: E402
from tcp_proxy.wire.counters import Counters  # noqa: E402
from tcp_proxy.wire.inquiries import AskRequests, AskSession, AskSessions, CloseSession  # noqa: E402
from tcp_proxy.wire.messages import (  # noqa: E402
    AppPart,
    Apps,
    Capacity,
    CloseSessions,
    Configure,
    Configured,
    ConnectFailed,
    Drain,
    Drained,
    Faults,
    Grow,
    HandOver,
    Limits,
    Listen,
    Logged,
    Paused,
    Ping,
    Pong,
    Primary,
    Ready,
    Records,
    Renewed,
    Snapshot,
    Stick,
    TargetChanged,
    TargetFailed,
    Targets,
    TicketKey,
    Unlisten,
    Unlistened,
)
from tcp_proxy.wire.moves import ExportSessions, ImportSessions  # noqa: E402
from tcp_proxy.wire.views import AppView  # noqa: E402

WRONG_VERSION = 78  # the exit status that says so; EX_CONFIG of sysexits
CLOSE_WITHIN = 0.05  # seconds: how long a worker without supervisor accepts what is on its way
LOOK_DRAINED = 0.02  # seconds between two looks whether the last session has ended
LAST_RECORDS = 2.0  # seconds


class Worker:
    """Everything of the process; one method for each message."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._loop = loop
        self._apps: dict[str, LiveApp] = {}
        self._former: list[LiveApp] = []  # apps that have left, whose sessions end when there is another primary
        self._table_client, self._claims = StickTableClient(loop), Claims()
        self._grace, self._cut, self._draining = 0.0, 0, False
        self._grace_timer = Timer(0.0, None, ())
        self._moving: Any = None  # dataplane.moving.moves.Moves, once a session is to move
        self._edges, self._staged = Edges(loop), Staged()
        self._leases = Leases(loop, self._apps, self._primary_changed, self._lapsed)
        self._server: Server
        self._warn, self._debug = partial(self._log, logging.WARNING), partial(self._log, logging.DEBUG)
        handlers: dict[type, Callable[..., Any]] = {
            Snapshot: self._snapshot,
            Configure: self._configure,
            Targets: self._staged.take_targets,
            Apps: self._staged.take_apps,
            Stick: self._stick,
            Grow: self._grow,
            Records: self._records,
            TicketKey: self._edges.take_ticket_key,
            Limits: self._limits,
            Listen: self._listen,
            HandOver: self._hand_over,
            Unlisten: self._unlisten,
            TargetChanged: self._target_changed,
            Primary: self._primary,
            Renewed: self._leases.hear,
            CloseSessions: self._close_sessions,
            Faults: partial(take_faults, self._apps),
            Drain: self._drain,
            AskSessions: lambda *what: self._inquiry.sessions(*what),
            AskSession: lambda *what: self._inquiry.session(*what),
            AskRequests: lambda *what: self._inquiry.requests(*what),
            CloseSession: lambda *what: self._inquiry.close(*what),
            ExportSessions: lambda *what: self._moves().export(*what),
            ImportSessions: lambda *what: self._moves().take_in(*what),
            Ping: lambda message, _: self._channel.send(Pong(message.number)),
        }
        for kind in (Configure, Limits, Primary, CloseSessions, CloseSession):  # each session is here then, or another's
            handlers[kind] = partial(self._settled, handlers[kind])
        self._in_order = InOrder(loop, handlers)
        self._channel = Channel(loop, sock, self._in_order.take, self._supervisor_gone)
        loop.on_error = self._handler_failed

    # -- what the supervisor says

    def _settled(self, handler: Callable[..., Any], message: Any, descriptors: list[int]) -> Any:
        self._settle_moves()
        return handler(message, descriptors)

    def _settle_moves(self) -> None:
        if self._moving is not None:
            self._moving.settle()

    def _moves(self) -> Any:
        if self._moving is None:  # loaded with the first session that moves
            from tcp_proxy.dataplane.moving.moves import Moves  # noqa: PLC0415

            self._moving = Moves(self._server, self._relays, self._apps, self._incarnation, self._channel.send)
        self._moving.is_draining = self._draining
        return self._moving

    def _snapshot(self, message: Snapshot, descriptors: list[int]) -> None:
        memory_fd, bell, *rest = descriptors
        memory = self._memory = Counters(memory_fd, message.rows, message.slots)
        os.close(memory_fd)
        self._index, self._incarnation, self._grace = message.worker, message.incarnation, message.grace
        first = message.first_row
        self._mine = memory.rows[first : first + counters.ROWS_PER_WORKER]
        self._row, *relay_rows = self._mine
        pipe = rest[0] if message.records is not None else None
        self._queues = PlaceQueues(self._loop, bell, memory.rows, self._row)
        records = message.incarnation, self._warn, message.records, None, message.keeps_requests
        self._recorder = recorder = Recorder(self._loop, pipe, *records)
        self._thread = thread = WorkerThread(self._loop, self._row, recorder)
        hooks: Any = self._handler_failed, lambda: self._server.may_open_pipe, threads_with_cpu(message.workers)
        self._relays = thread.relays = RelayPool(thread, relay_rows, recorder, *hooks)
        self._threads = AllThreads(thread, self._relays)
        self._inquiry = Inquiry(thread, self._relays, lambda: self._recorder, self._channel.send)
        self._server = Server(
            thread, memory, first, message.workers, lambda: self._relays.pipes, self._warn, message.grace,
            self._relays.close_idle_pipes, self._debug,
        )  # fmt: skip
        for view, _ in self._staged.all_of(message):
            for _ in self._setting(view, None, Share()):
                pass  # nobody is served yet
        self._server.count_descriptors()
        gc.freeze()  # what is here now stays; the collector need not look at it again
        gc.enable()
        self._staged.done()
        self._capacity = self._server.capacity(message.to_come)
        self._channel.send(Ready(self._capacity))

    def _limits(self, message: Limits, descriptors: list[int]) -> None:
        """Who has a first limit knows since `Configure`; the semaphore counts from when every thread knows."""
        new = NewLimits(self._apps.values(), message, descriptors)
        self._threads.when_all_have(new.count_in, partial(self._adopt, new))

    def _adopt(self, new: NewLimits) -> None:
        new.adopt(self._thread, self._mine)
        self._queues.look()
        self._count_descriptors()

    def _configure(self, message: Configure, _descriptors: list[int]) -> Iterator[None]:
        """An app or more in a slice: sessions, of this app and of others, are served in between."""
        self._server.workers = message.workers
        self._grace = message.grace
        share = Share()
        for view, part in self._staged.all_of(message):
            yield from self._setting(view, part, share)
        for name in message.removed:
            app = self._apps.pop(name)
            self._former.append(app)
            self._table_client.configure(app, None)
            yield from app.leaving(share)
            self._queues.look()
            self._former = [former for former in self._former if former.may_be_demoted]
        self._claim()
        self._staged.done()
        self._channel.send(Configured(message.generation))

    def _setting(self, view: AppView, part: AppPart | None, share: Share) -> Iterator[None]:
        if view.http is not None:
            self._server.serve_http()
        now = self._loop.now
        is_new = view.name not in self._apps
        app = self._apps.get(view.name) or LiveApp(
            dataclasses.replace(view, targets=()), self._index, self._memory.rows, self._row, self._target_failed, now
        )
        was_made = is_new or bool(app.made_targets)
        if not (is_new and view.later):
            yield from app.configuring(view, now, part, share)
        self._apps[view.name] = app
        if not is_new:
            self._primary_changed(app)
        self._wait_for_primary(app)
        app.sticks = self._table_client.configure(app, view.sticky)
        self._edges.configure(app, view)
        self._queues.configure(app, view)
        if share.is_used_up(1 if was_made else 1 + len(app.made_targets)):
            yield

    def _stick(self, _message: Stick, descriptors: list[int]) -> None:
        self._table_client.connect(socket.socket(fileno=descriptors[0]))
        self._count_descriptors()

    def _grow(self, message: Grow, descriptors: list[int]) -> None:
        self._memory.add_rows(descriptors[0], message.rows)
        os.close(descriptors[0])
        self._count_descriptors()

    def _records(self, message: Records, descriptors: list[int]) -> None:
        old, pipe = self._recorder, descriptors[0] if descriptors else None
        new = Recorder(self._loop, pipe, self._incarnation, self._warn, message.logs, old)
        self._recorder = self._relays.recorder = new
        self._threads.when_all_have(partial(record_to, new), partial(old.close, LAST_RECORDS))
        self._count_descriptors()

    def _listen(self, message: Listen, descriptors: list[int]) -> None:
        for number, slot, app, address, fd in zip(
            message.ids, message.slots, message.apps, message.addresses, descriptors, strict=True
        ):
            self._server.listen(number, slot, self._apps[app], address, fd, is_kept=number in message.kept)
        self._claim()
        self._row[counters.ACCEPTING] = 1

    def _hand_over(self, message: HandOver, _descriptors: list[int]) -> None:
        for number, slot, app in zip(message.ids, message.slots, message.apps, strict=True):
            self._server.hand_over(number, slot, self._apps[app])
        self._claim()

    def _claim(self) -> None:
        """Show that there may be sessions with a primary, before there are any."""
        for app, address in self._server.first_addresses():
            if app.primary_queue is not None and app.primary_queue.closes:
                self._claims.hold(address)
        self._count_descriptors()

    def _unlisten(self, message: Unlisten, _descriptors: list[int]) -> None:
        self._server.unlisten(message.ids, message.drain, self._unlistened)

    def _unlistened(self, numbers: tuple[int, ...]) -> None:
        self._say_capacity()
        self._channel.send(Unlistened(numbers))

    def _target_changed(self, message: TargetChanged, _descriptors: list[int]) -> None:
        app = self._apps.get(message.app)
        if app is not None:
            app.change_target(message.target, message.state, message.endpoints, message.servers, message.since)
            self._queues.look()

    def _primary(self, message: Primary, _descriptors: list[int]) -> None:
        app = self._apps.get(message.app)
        if app is not None and app.primary_queue is not None:
            app.elect(message.epoch, message.target, message.since)
            self._primary_changed(app)
            self._wait_for_primary(app)
        if not message.target:
            apps = [known for known in (*self._apps.values(), *self._former) if known.name == message.app]
            targets, paused = demoted(apps), partial(self._channel.send, Paused(message.app, message.epoch))
            self._give_up(targets, paused) if targets else paused()

    def _give_up(self, targets: frozenset[LiveTarget], done: Callable[[], Any]) -> None:
        """`done`, when every session with one of these has reset it. One that was on its way to the loop has arrived by the
        time that all threads have answered."""

        def at_last() -> None:
            cut_off(targets, self._thread)
            self._loop.after_batch(done)

        self._threads.when_all_have(partial(cut_off, targets), at_last)

    def _primary_changed(self, app: LiveApp) -> None:
        if app.primary_queue is not None and not app.primary_queue.primary:
            enqueue_all(app, self._thread.members)
        else:  # or it is no failover app any more
            dequeue_all(app, self._thread.members)
        self._server.look_who_waits(app)
        self._server.look_again()

    def _lapsed(self, app: LiveApp) -> None:
        """This node may not say any more who is primary; others may say so soon."""
        self._settle_moves()
        self._primary_changed(app)
        self._wait_for_primary(app)
        self._give_up(demoted([app]), lambda: None)

    def _wait_for_primary(self, app: LiveApp) -> None:
        if app.holds and app.primary_queue is not None:
            self._loop.call_later(app.primary_queue.wait, self._receive, app, app.primary_queue.epoch)

    def _receive(self, app: LiveApp, epoch: int) -> None:
        """Clients have waited in the kernel's queue for as long as they may."""
        if app.primary_queue is not None and app.primary_queue.receive(epoch):
            self._server.look_again()

    def _close_sessions(self, message: CloseSessions, _descriptors: list[int]) -> None:
        """There may be none: of a change that was broken off, for the program ends, or nobody has come for any."""
        app = self._apps.get(message.app)
        target = app.made_targets.get(message.target) if app is not None else None
        if target is not None:
            target.cut_reason = Reason(message.reason)
            target.cut += 1
            self._threads.call(partial(cut_off_by_and_by, frozenset((target,))))

    def _drain(self, message: Drain, _descriptors: list[int]) -> None:
        self._grace_timer.cancel()
        if message.grace >= 0:
            self._grace_timer = self._loop.call_later(message.grace, self._grace_over)
        if not message.moves:
            self._server.drain()
        if not self._draining:
            self._draining = True
            self._row[counters.ACCEPTING] = 0
            self._look_drained()

    def _target_failed(self, app: str, target: str, error: str, rows: Any = ()) -> None:
        self._channel.send(TargetFailed(app, target, rows, error) if rows else ConnectFailed(app, target, error))

    def _log(self, level: int, text: str) -> None:
        self._channel.send(Logged(level, text))

    def _count_descriptors(self) -> None:
        self._server.count_descriptors()
        self._say_capacity()

    def _say_capacity(self) -> None:
        capacity = self._server.capacity()
        if capacity != self._capacity:
            self._capacity = capacity
            self._channel.send(Capacity(capacity))

    def _handler_failed(self, handler: Callable[..., Any], error: Exception) -> None:
        """A bug met in one session, in whatever thread owns it: that session ends, the others go on."""
        text = "".join(traceback.format_exception(error))
        self._loop.call_soon(self._channel.send, Logged(logging.ERROR, f"internal error, please report it: {text}"))
        session = member_of(getattr(handler, "__self__", None))
        if session is None:
            raise error
        session.kill(Reason.INTERNAL_ERROR, Side.PROXY)

    def _supervisor_gone(self) -> None:
        """Nobody will ever give an order again: what `Unlisten` and `Drain` would do."""
        self._in_order.forget()
        self._staged.done()
        if not hasattr(self, "_server"):
            self._loop.stop()
            return
        self._settle_moves()
        elected = [app for app in (*self._apps.values(), *self._former) if app.primary_queue is not None]
        for app in elected:
            orphan(app, self._thread.members)
        self._give_up(demoted(elected), self._close_as_orphan)

    def _close_as_orphan(self) -> None:
        """The listeners come last: whoever binds the port anew knows that we have no connection to a former primary."""
        self._claims.release()
        self._server.refuse_new()
        numbers = self._server.numbers()
        self._server.unlisten(numbers, CLOSE_WITHIN, lambda _ids: self._drain(Drain(self._grace), []))

    def _look_drained(self) -> None:
        if self._server.sessions > 0:
            self._loop.call_later(LOOK_DRAINED, self._look_drained)
        else:
            self._exit()

    def _grace_over(self) -> None:
        self._settle_moves()
        self._server.close()
        self._cut += self._server.sessions
        self._threads.call(shut_down)

    def cut(self) -> None:
        """After a bug, outside of the loop: sessions are reset and recorded, not ended by a FIN as the process goes."""
        if hasattr(self, "_server"):
            self._settle_moves()
            self._threads.call(shut_down)
            self._relays.stop()
            self._recorder.close(LAST_RECORDS)

    def _exit(self) -> None:
        self._relays.stop()
        self._recorder.close(LAST_RECORDS)
        self._channel.send(Drained(self._cut))
        self._loop.stop()


def main(argv: list[str]) -> int:
    faulthandler.enable()  # SIGABRT: a supervisor that finds us silent wants to see our stacks
    fd, version = int(argv[1]), argv[2]
    if version != __version__:
        return WRONG_VERSION
    gc.collect()  # what importing has left, while the supervisor has something to do
    loop = Loop("loop")
    worker = Worker(loop, socket.socket(fileno=fd))
    try:
        loop.run()
    except BaseException:
        worker.cut()
        raise
    loop.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
