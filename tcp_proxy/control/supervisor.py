"""The supervisor: everything but bytes. It compares what is wanted with what is there, and acts on the difference.

Its main thread owns the configuration, the process tree (crew), the target states (states) and the listening sockets.
Signals only enqueue (a byte on the wake-up socket); health threads and resolver threads report by call_soon; workers by
their channels. Nothing in this thread waits for anything but its selector.

    STARTING ──every name answered once, or RESOLVE_WAIT over──> SERVING ──SIGTERM, SIGINT──> STOPPING
    STOPPING ──no worker left──> run() returns; a second signal kills the workers
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
from tcp_proxy.control.administration import Administration
from tcp_proxy.control.api_process import ApiProcess
from tcp_proxy.control.api_socket import ApiSocket
from tcp_proxy.control.crew import Crew
from tcp_proxy.control.events import Events
from tcp_proxy.control.questions import Questions
from tcp_proxy.control.recall import Recall
from tcp_proxy.control.slots import Slots
from tcp_proxy.control.sockets import Listening
from tcp_proxy.control.state import State
from tcp_proxy.control.states import States
from tcp_proxy.control.targets import Targets
from tcp_proxy.control.workers import Spawned, Worker
from tcp_proxy.counters import Counters
from tcp_proxy.loop import READ, Loop
from tcp_proxy.messages import (
    ConnectFailed,
    Drain,
    Drained,
    Limits,
    Listen,
    Logged,
    Message,
    Ready,
    SessionClosed,
    SessionsTold,
    SessionTold,
    Snapshot,
    Unlisten,
    Unlistened,
)

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
RESOLVE_WAIT = 2.0  # seconds to wait for the first answer of every name before clients are served
API_WAIT = 1.0  # seconds that the workers have to get ready before the management API imports, beside them
LISTEN_DRAIN = 0.05  # seconds that a closing listener still accepts what is on its way (DESIGN 9.5)
KILL_MARGIN = 5.0  # seconds after the grace until a worker that has not ended is killed


class Supervisor:
    """Takes over `listening`, `access_log` (started), `prestarted` (a worker that is importing already) and `api_socket`.

    `store`, left to its owner to close, is what outlives the process; None: nothing does.
    """

    def __init__(
        self,
        config: Config,
        listening: list[Listening],
        access_log: AccessLog | None,
        prestarted: Spawned | None,
        store: State | None = None,
        api_socket: ApiSocket | None = None,
    ) -> None:
        self._config = config
        self._listening = {item.number: item for item in listening}
        self._access_log = access_log
        self._loop = Loop("main")
        self.events = Events()
        self._slots = Slots()
        self._targets = Targets(config.apps, self._slots)
        for item in listening:
            self._slots.take("listener", item.app, str(item.address))
        size = config.workers or len(os.sched_getaffinity(0))
        self._crew = Crew(
            self._loop, size, prestarted, introduce=self._introduce, received=self._received,
            count_out=self._count_out, left=self._worker_left, dismiss=self._dismiss,
        )  # fmt: skip
        rows = 1 + size * counters.ROWS_PER_WORKER
        self._memory, self._memory_fd = Counters.create(rows, self._slots.used)
        recall = Recall(store or State())
        self._states = States(self._loop, self._targets, self.events, self._crew.send, self._name_answered, recall)
        self.questions = Questions(self._loop, lambda: self._crew)
        started = time.time()
        self._birth = f"{int(started):x}"
        self._api: ApiProcess | None = None
        if api_socket is not None:
            administration = Administration(
                lambda: self._config, self._targets, self._crew, self.events, lambda: self._state, started
            )
            self._api = ApiProcess(self._loop, api_socket, administration, self.events, config.log.level)
        self._is_serving = self._said_ready = False
        self._stop_signal = 0
        self._stopped_at = 0.0
        self._cut = 0
        self._status = 0
        self._handlers: dict[type, Callable[[Worker, Any], None]] = {
            Ready: self._worker_ready,
            Unlistened: self._worker_unlistened,
            ConnectFailed: self._connect_failed,
            Logged: self._worker_logged,
            Drained: self._worker_drained,
            **dict.fromkeys((SessionsTold, SessionTold, SessionClosed), self.questions.told),
        }

    @property
    def _state(self) -> str:
        return "stopping" if self._stop_signal else "serving" if self._said_ready else "starting"

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
        self._states.start()
        self._crew.manage()
        if self._targets.is_resolved():
            self._serve()
        else:
            self._loop.call_later(RESOLVE_WAIT, self._serve)
        if self._api is not None:
            self._loop.call_later(API_WAIT, self._api.start)

    def _name_answered(self) -> None:
        if not self._is_serving and self._targets.is_resolved():
            self._serve()

    def _serve(self) -> None:
        """Let the workers accept: every target's first address is known, or has been waited for long enough."""
        if self._is_serving or self._stop_signal:
            return
        self._is_serving = True
        for worker in self._crew:
            self._crew.tell(worker, self._lend_listeners)
        self._say_ready()

    def _say_ready(self) -> None:
        if self._is_serving and not self._said_ready and not self._stop_signal and self._crew.is_complete:
            self._said_ready = True
            logger.info(
                "ready: %d apps on %d listeners, %d workers, process %d",
                len(self._config.apps), len(self._listening), self._crew.size, os.getpid(),
            )  # fmt: skip
            if self._api is not None:
                self._api.start()

    # -- workers -------------------------------------------------------------------------------------------------------

    def _introduce(self, worker: Worker) -> None:
        descriptors = [self._memory_fd]
        write_fd = -1
        if self._access_log is not None:
            read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
            self._access_log.attach(read_fd)
            descriptors.append(write_fd)
        worker.incarnation = f"{self._birth}.{self._crew.spawned}"
        snapshot = Snapshot(
            worker=worker.index,
            workers=self._crew.size,
            incarnation=worker.incarnation,
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

    def _connect_failed(self, worker: Worker, message: ConnectFailed) -> None:
        self._states.connect_failed(message, worker.index)

    def _dismiss(self, worker: Worker) -> None:
        """The others go on accepting: nobody is lost when it closes its copies of the listeners."""
        worker.send(Unlisten(tuple(worker.open_listeners), 0.0))

    def _worker_left(self, worker: Worker) -> None:
        self.questions.left(worker)
        if self._stop_signal:
            self._close_listeners()
            if not self._crew:
                self._loop.stop()

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
            self._crew.kill()
            return
        self._stop_signal = number
        self._stopped_at = self._loop.now
        grace = self._config.shutdown_grace
        logger.info("%s: no new clients; running sessions have %g s to end", signal.Signals(number).name, grace)
        for listening in self._listening.values():
            listening.refuse_new()
        self._crew.is_stopping = True
        for worker in self._crew:
            worker.is_draining = True
            worker.send(Unlisten(tuple(worker.open_listeners), LISTEN_DRAIN))
        self._loop.call_later(grace + KILL_MARGIN, self._kill_the_rest)
        if not self._crew:
            self._loop.stop()

    def _worker_unlistened(self, worker: Worker, message: Unlistened) -> None:
        worker.open_listeners.difference_update(message.ids)
        left = self._config.shutdown_grace - (self._loop.now - self._stopped_at)
        worker.send(Drain(max(0.0, left)))
        self._close_listeners()

    def _close_listeners(self) -> None:
        """The supervisor closes last: when no worker that lives has one open."""
        if not any(worker.open_listeners for worker in self._crew):
            for listening in self._listening.values():
                self._loop.close_after_batch(listening.sock)
            self._listening.clear()

    def _kill_the_rest(self) -> None:
        for worker in self._crew:
            logger.error("worker %d (pid %d) did not end in time: it is killed", worker.index, worker.pid)
        self._crew.kill()

    def _release(self, wakeup: socket.socket) -> None:
        """The one place where everything the supervisor owns is given back, whatever happened."""
        signal.set_wakeup_fd(-1)
        if self._api is not None:
            self._api.stop()
        self._crew.release()
        self._states.stop()
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
