"""The supervisor: everything but bytes. It compares what is wanted with what is there, and acts on the difference.

Its main thread owns the configuration, the process tree, the target states and the listening sockets. Signals only
enqueue (a byte on the wake-up socket); health threads and resolver threads report by call_soon; workers by their
channels. Nothing in this thread waits for anything but its selector.

    STARTING ──every name answered once, or RESOLVE_WAIT over──> SERVING ──SIGTERM, SIGINT──> STOPPING
    STOPPING ──no worker left──> run() returns; a second signal kills the workers
    `_manage_workers` is the only place that starts workers; `_worker_ended` the only one that counts them out.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from tcp_proxy import counters, messages
from tcp_proxy.config.model import Config
from tcp_proxy.control.access_log import AccessLog
from tcp_proxy.control.health.runner import Finding, HealthRunner
from tcp_proxy.control.resolver import Answer, Resolver
from tcp_proxy.control.slots import Slots
from tcp_proxy.control.sockets import Listening
from tcp_proxy.control.targets import KnownTarget, Targets
from tcp_proxy.control.workers import Spawned, Worker
from tcp_proxy.counters import Counters
from tcp_proxy.loop import READ, Loop
from tcp_proxy.messages import (
    CloseSessions,
    ConnectFailed,
    Drain,
    Drained,
    Limits,
    Listen,
    Logged,
    Message,
    Ready,
    Snapshot,
    Unlisten,
    Unlistened,
)
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.sansio.verdict import State

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
RESOLVE_WAIT = 2.0  # seconds to wait for the first answer of every name before clients are served
LISTEN_DRAIN = 0.05  # seconds that a closing listener still accepts what is on its way (DESIGN 9.5)
KILL_MARGIN = 5.0  # seconds after the grace until a worker that has not ended is killed
HEALTHY_AFTER = 10.0  # seconds: a worker that lived this long is replaced at once, an earlier death waits ever longer
BACKOFF_FIRST, BACKOFF_MOST = 0.1, 10.0


class Supervisor:
    """Takes over `listening`, `access_log` (started) and `prestarted` (a worker that is importing already, or None)."""

    def __init__(
        self, config: Config, listening: list[Listening], access_log: AccessLog | None, prestarted: Spawned | None
    ) -> None:
        self._config = config
        self._listening = {item.number: item for item in listening}
        self._access_log = access_log
        self._prestarted = prestarted
        self._loop = Loop("main")
        self._slots = Slots()
        self._targets = Targets(config.apps, self._slots)
        for item in listening:
            self._slots.take("listener", item.app, str(item.address))
        self._count = config.workers or len(os.sched_getaffinity(0))
        rows = 1 + self._count * counters.ROWS_PER_WORKER
        self._memory, self._memory_fd = Counters.create(rows, self._slots.used)
        self._workers: dict[int, Worker] = {}
        self._not_before: dict[int, float] = {}  # worker index -> when it may be started again
        self._backoff: dict[int, float] = {}
        self._spawned = 0
        self._birth = f"{int(time.time()):x}"
        self._is_serving = self._said_ready = False
        self._needs_restart = self._is_killing = False
        self._stop_signal = 0
        self._stopped_at = 0.0
        self._cut = 0
        self._status = 0
        self._resolver = Resolver(self._loop, self._answered)
        self._health = {
            app.name: HealthRunner(app.name, app.health, lambda finding: self._loop.call_soon(self._found, finding))
            for app in config.apps
            if app.health
        }
        self._handlers: dict[type, Callable[[Worker, Any], None]] = {
            Ready: self._worker_ready,
            Unlistened: self._worker_unlistened,
            ConnectFailed: self._connect_failed,
            Logged: self._worker_logged,
            Drained: self._worker_drained,
        }

    def run(self) -> int:
        """Serve until a signal says otherwise; the exit status."""
        wakeup = self._catch_signals()
        try:
            self._start()
            self._loop.run()
        finally:
            self._release(wakeup)
        return self._status

    # -- start ---------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        for host in self._targets.by_host:
            self._resolver.want(host)
        for name, runner in self._health.items():
            runner.set_targets(self._targets.apps[name].endpoints())
            runner.start()
        for target in self._targets:
            if target.config.disabled:
                logger.info("app %s: target %s is down: %s", target.app, target.config.name, target.why)
        self._manage_workers()
        if self._targets.is_resolved():
            self._serve()
        else:
            self._loop.call_later(RESOLVE_WAIT, self._serve)

    def _serve(self) -> None:
        """Let the workers accept: every target's first address is known, or has been waited for long enough."""
        if self._is_serving or self._stop_signal:
            return
        self._is_serving = True
        for worker in self._workers.values():
            self._tell(worker, self._lend_listeners)
        self._say_ready()

    def _say_ready(self) -> None:
        if self._said_ready or not self._is_serving or self._stop_signal:
            return
        if all(worker.is_ready for worker in self._workers.values()) and len(self._workers) == self._count:
            self._said_ready = True
            logger.info(
                "ready: %d apps on %d listeners, %d workers, process %d",
                len(self._config.apps), len(self._listening), self._count, os.getpid(),
            )  # fmt: skip

    # -- workers -------------------------------------------------------------------------------------------------------

    def _manage_workers(self) -> None:
        """Start what is missing and may be started now."""
        if self._stop_signal:
            return
        for index in range(self._count):
            if index not in self._workers and self._not_before.get(index, 0.0) <= self._loop.now:
                self._start_worker(index)

    def _start_worker(self, index: int) -> None:
        """Whatever is missing for it (descriptors, processes, memory) may be there later: the supervisor lives on."""
        try:
            worker = self._workers[index] = self._spawn(index)
        except OSError as error:
            logger.error("worker %d cannot be started: %s", index, error)  # noqa: TRY400
            self._try_again(index, max(BACKOFF_FIRST, self._next_wait(index)))
            return
        self._spawned += 1
        self._tell(worker, self._introduce)

    def _spawn(self, index: int) -> Worker:
        spawned, self._prestarted = self._prestarted or Spawned(), None
        try:
            return Worker(self._loop, index, spawned, self._received, self._worker_ended)
        except OSError:
            spawned.discard()
            raise

    def _tell(self, worker: Worker, tell: Callable[[Worker], None]) -> None:
        """A worker that cannot be handed what it needs would miss it for ever: it is ended, and another one started."""
        try:
            tell(worker)
        except OSError as error:
            logger.error("worker %d (pid %d) cannot be given its descriptors: %s", worker.index, worker.pid, error)  # noqa: TRY400
            worker.kill()

    def _introduce(self, worker: Worker) -> None:
        descriptors = [self._memory_fd]
        write_fd = -1
        if self._access_log is not None:
            read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
            self._access_log.attach(read_fd)
            descriptors.append(write_fd)
        snapshot = Snapshot(
            worker=worker.index,
            workers=self._count,
            incarnation=f"{self._birth}.{self._spawned}",
            rows=len(self._memory.rows),
            slots=self._memory.slots,
            first_row=self._first_row(worker.index),
            records=self._access_log is not None,
            log_level=self._config.log.level,
            grace=self._config.shutdown_grace,
            apps=tuple(app.view() for app in self._targets.apps.values()),
            descriptors=len(descriptors),
        )
        try:
            worker.send(snapshot, descriptors)
        finally:
            if write_fd >= 0:
                os.close(write_fd)
        limited = [target for target in self._targets if target.tokens >= 0]
        for part in _parts(limited):
            worker.send(Limits(tuple(t.slot for t in part), len(part)), [t.tokens for t in part])
        if self._is_serving:
            self._lend_listeners(worker)

    def _lend_listeners(self, worker: Worker) -> None:
        for part in _parts(list(self._listening.values())):
            worker.open_listeners.update(item.number for item in part)
            ids, apps = tuple(item.number for item in part), tuple(item.app for item in part)
            addresses = tuple(str(item.address) for item in part)
            slots = tuple(self._slots.take("listener", item.app, str(item.address)) for item in part)
            worker.send(Listen(ids, slots, apps, addresses, len(part)), [item.sock.fileno() for item in part])

    def _first_row(self, index: int) -> int:
        return 1 + index * counters.ROWS_PER_WORKER

    def _received(self, worker: Worker, message: Message) -> None:
        handler = self._handlers.get(type(message))
        if handler is not None:  # a Pong has done its work by being heard
            handler(worker, message)

    def _worker_ready(self, worker: Worker, message: Ready) -> None:
        worker.is_ready = True
        logger.info("worker %d (pid %d) serves, with room for %d sessions", worker.index, worker.pid, message.capacity)
        self._say_ready()

    def _worker_logged(self, worker: Worker, message: Logged) -> None:
        logger.log(message.level, "worker %d: %s", worker.index, message.text)

    def _worker_drained(self, worker: Worker, message: Drained) -> None:
        worker.cut = message.cut
        self._cut += message.cut

    def _worker_ended(self, worker: Worker, explanation: str) -> None:
        del self._workers[worker.index]
        lost = self._count_out(worker)
        if self._stop_signal:
            if not (worker.has_ended_well or worker.has_wrong_version or self._is_killing):
                self._say_ended(worker, explanation, lost)
            self._close_listeners()
            if not self._workers:
                self._loop.stop()
            return
        if worker.has_wrong_version:
            self._not_before[worker.index] = float("inf")
            if not self._needs_restart:
                self._needs_restart = True
                logger.error("the installed tcp_proxy is another version than the one that runs: restart needed")
            return
        self._say_ended(worker, explanation, lost)
        if self._loop.now - worker.started < HEALTHY_AFTER:
            self._try_again(worker.index, self._next_wait(worker.index))
        else:
            self._backoff.pop(worker.index, None)
            self._try_again(worker.index, 0.0)

    def _say_ended(self, worker: Worker, explanation: str, lost: int) -> None:
        logger.error("worker %d (pid %d) ended: %s; %d sessions ended with it", worker.index, worker.pid, explanation, lost)

    def _next_wait(self, index: int) -> float:
        """0 seconds at first, then BACKOFF_FIRST and twice as long each time."""
        wait = self._backoff.get(index, 0.0)
        self._backoff[index] = min(BACKOFF_MOST, max(BACKOFF_FIRST, wait * 2))
        return wait

    def _try_again(self, index: int, wait: float) -> None:
        self._not_before[index] = self._loop.now + wait
        self._loop.call_later(wait, self._manage_workers)

    def _count_out(self, worker: Worker) -> int:
        """Its totals go to the base row, its gauges vanish, its tokens are free; how many sessions it had."""
        held: dict[int, int] = {}
        first = self._first_row(worker.index)
        gauges = self._slots.gauges()
        for row in range(first, first + counters.ROWS_PER_WORKER):
            for slot, value in self._memory.fold(row, gauges).items():
                held[slot] = held.get(slot, 0) + value
        self._targets.give_back_tokens(held)
        return held.get(counters.SESSIONS, 0)

    # -- targets -------------------------------------------------------------------------------------------------------

    def _found(self, finding: Finding) -> None:
        target = self._targets.find(finding.app, finding.target)
        before = target.state
        self._targets.found(finding)
        self._tell_change(target, before, finding.changed)

    def _answered(self, answer: Answer) -> None:
        before = {id(target): target.state for target in self._targets.by_host.get(answer.host, [])}
        for target in self._targets.answered(answer):
            self._tell_change(target, before[id(target)], changed=True)
        if answer.error:
            logger.warning("name %s: %s", answer.host, answer.error)
        else:
            logger.info("name %s is %s", answer.host, ", ".join(ip for _, ip in answer.addresses))
        for name, runner in self._health.items():
            app = self._targets.apps[name]
            if any(target.config.address.host == answer.host for target in app.targets.values()):
                runner.set_targets(app.endpoints())
        if not self._is_serving and self._targets.is_resolved():
            self._serve()

    def _tell_change(self, target: KnownTarget, before: State, changed: bool) -> None:
        after = target.state
        level = logging.INFO if after is State.UP else logging.WARNING
        if after is not before:
            name = target.config.name
            logger.log(level, "app %s: target %s is %s (was %s): %s", target.app, name, after, before, target.why)
        elif changed:
            logger.log(level, "app %s: target %s is %s: %s", target.app, target.config.name, after, target.why)
        for worker in self._workers.values():
            worker.send(target.change())
        if after is State.DOWN and before is not State.DOWN and self._targets.apps[target.app].config.on_down == "close":
            for worker in self._workers.values():
                worker.send(CloseSessions(target.app, target.config.name, Reason.TARGET_DOWN.value))

    def _connect_failed(self, worker: Worker, message: ConnectFailed) -> None:
        target = self._targets.find(message.app, message.target)
        text = "app %s: connecting to target %s failed: %s (worker %d)"
        logger.warning(text, message.app, message.target, message.error, worker.index)
        if message.app in self._health:
            self._health[message.app].probe_now(message.target)
        if target in self._targets.by_host.get(target.config.address.host, []):
            self._resolver.refresh(target.config.address.host)

    # -- signals and the end ---------------------------------------------------------------------------------------------

    def _catch_signals(self) -> socket.socket:
        """Every signal becomes a byte on a socket that the loop reads."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._wakeup = theirs
        for number in SIGNALS:
            signal.signal(number, _enqueued)
        self._loop.watch(ours.fileno(), READ, lambda _events: self._signals(ours))
        return ours

    def _signals(self, ours: socket.socket) -> None:
        for number in ours.recv(64):
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop(number)
            elif number == signal.SIGUSR2 and self._access_log is not None:
                self._access_log.reopen()
            elif number in (signal.SIGHUP, signal.SIGUSR1):
                name = signal.Signals(number).name
                logger.warning("%s: this version cannot reload its configuration; it goes on as it is", name)

    def _stop(self, number: int) -> None:
        if self._stop_signal:
            logger.warning("a second %s: ending at once", signal.Signals(number).name)
            self._status = 128 + number
            self._is_killing = True
            for worker in self._workers.values():
                worker.kill()
            return
        self._stop_signal = number
        self._stopped_at = self._loop.now
        grace = self._config.shutdown_grace
        logger.info("%s: no new clients; running sessions have %g s to end", signal.Signals(number).name, grace)
        for listening in self._listening.values():
            listening.refuse_new()
        for worker in self._workers.values():
            worker.is_draining = True
            worker.send(Unlisten(tuple(worker.open_listeners), LISTEN_DRAIN))
        self._loop.call_later(grace + KILL_MARGIN, self._kill_the_rest)
        if not self._workers:
            self._loop.stop()

    def _worker_unlistened(self, worker: Worker, message: Unlistened) -> None:
        worker.open_listeners.difference_update(message.ids)
        left = self._config.shutdown_grace - (self._loop.now - self._stopped_at)
        worker.send(Drain(max(0.0, left)))
        self._close_listeners()

    def _close_listeners(self) -> None:
        """The supervisor closes last: when no worker that lives has one open."""
        if not any(worker.open_listeners for worker in self._workers.values()):
            for listening in self._listening.values():
                self._loop.close_after_batch(listening.sock)
            self._listening.clear()

    def _kill_the_rest(self) -> None:
        self._is_killing = True
        for worker in self._workers.values():
            logger.error("worker %d (pid %d) did not end in time: it is killed", worker.index, worker.pid)
            worker.kill()

    def _release(self, wakeup: socket.socket) -> None:
        """The one place where everything the supervisor owns is given back, whatever happened."""
        signal.set_wakeup_fd(-1)
        if self._prestarted is not None:
            self._prestarted.discard()
        for worker in self._workers.values():  # only after an exception: an orderly end has none left
            worker.kill()
        for runner in self._health.values():
            runner.stop()
        self._resolver.stop()
        for listening in self._listening.values():
            listening.sock.close()
        served = sum(sum(self._memory.sums(t.slot + counters.CONNECTS, counters.CONNECT_SLOTS)) for t in self._targets)
        accepted = self._memory.total(counters.ACCEPTED)
        if self._access_log is not None:
            self._access_log.stop()
        if self._cut:
            logger.warning("%d sessions were reset because they did not end in time", self._cut)
        logger.info("stopped: %d sessions accepted, %d of them connected to a target", accepted, served)
        self._loop.close()
        wakeup.close()
        self._wakeup.close()
        self._targets.close()
        self._memory.close()
        os.close(self._memory_fd)
        for number in SIGNALS:  # the interpreter, as it ends, gives back only what Python handles: a late signal is nothing
            signal.signal(number, signal.SIG_IGN)


def _enqueued(_number: int, _frame: object) -> None:
    """The byte on the wake-up socket is the whole effect of a signal."""


def _parts(items: list[Any]) -> list[list[Any]]:
    size = messages.MAX_DESCRIPTORS
    return [items[i : i + size] for i in range(0, len(items), size)]
