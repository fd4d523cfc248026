"""The supervisor: everything but bytes. It compares what is wanted with what is there, and acts on the difference.

Its main thread owns the configuration, the process tree (crew), the target states (states) and the listening sockets.
Signals only enqueue (a byte on the wake-up socket); health threads and resolver threads report by call_soon; workers by
their channels. Nothing in this thread waits for anything but its selector.

    STARTING ──every name answered once, or RESOLVE_WAIT over──> SERVING ──SIGTERM, SIGINT──> STOPPING
    STOPPING ──no worker left──> run() returns; a second signal kills the workers
"""

import functools
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from tcp_proxy import counters
from tcp_proxy.config.model import Config
from tcp_proxy.control import orphans, saved_overrides
from tcp_proxy.control.access_log import AccessLog
from tcp_proxy.control.administration import Administration
from tcp_proxy.control.api_process import ApiProcess
from tcp_proxy.control.api_socket import ApiSocket
from tcp_proxy.control.briefing import Briefing
from tcp_proxy.control.crew import Crew
from tcp_proxy.control.durable import Durable
from tcp_proxy.control.estate import Estate
from tcp_proxy.control.events import Events
from tcp_proxy.control.failovers import Failovers
from tcp_proxy.control.ledger import Ledger
from tcp_proxy.control.operations import Looking
from tcp_proxy.control.operator import Operator
from tcp_proxy.control.orders import Orders
from tcp_proxy.control.questions import Questions
from tcp_proxy.control.recall import Recall
from tcp_proxy.control.reload import Reload
from tcp_proxy.control.slots import Slots
from tcp_proxy.control.sockets import Listening
from tcp_proxy.control.state import State
from tcp_proxy.control.states import States
from tcp_proxy.control.statistics import SAMPLE_EVERY, Statistics
from tcp_proxy.control.stick_orders import StickOrders
from tcp_proxy.control.stick_tables import StickTables
from tcp_proxy.control.targets import Targets
from tcp_proxy.control.transition import LISTEN_DRAIN
from tcp_proxy.control.workers import Spawned, Worker
from tcp_proxy.inquiries import SessionClosed, SessionsTold, SessionTold
from tcp_proxy.loop import READ, Loop
from tcp_proxy.messages import (
    Configured,
    ConnectFailed,
    Drain,
    Drained,
    Logged,
    Message,
    Paused,
    Ready,
    Unlisten,
    Unlistened,
)

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
RESOLVE_WAIT = 2.0  # seconds to wait for the first answer of every name before clients are served
API_WAIT = 1.0  # seconds that the workers have to get ready before the management API imports, beside them
KILL_MARGIN = 5.0  # seconds after the grace until a worker that has not ended is killed
NO_LIMIT = -1.0  # a grace for sessions of a worker that is not wanted any more


class Supervisor:
    """Takes over `listening`, `access_log` (started), `prestarted` (a worker that is importing already) and `api_socket`.

    `load` reads the configuration again; it raises ConfigErrors. `store`, left to its owner to close, is what outlives the
    process; None: nothing does.
    """

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        listening: list[Listening],
        access_log: AccessLog | None,
        prestarted: Spawned | None,
        store: State | None = None,
        api_socket: ApiSocket | None = None,
    ) -> None:
        loop = self._loop = Loop("main")
        store = store or State()
        overrides = saved_overrides.load(store, config)
        config = overrides.apply()
        self.events = Events()
        slots = Slots()
        targets = Targets(config.apps, slots)
        for item in listening:
            slots.take("listener", item.app, str(item.address))
        size = config.workers or len(os.sched_getaffinity(0))
        estate = self._estate = Estate(
            loop, config, targets, Ledger(slots, size), self.events, {item.number: item for item in listening}, access_log,
            numbers=len(listening),
        )  # fmt: skip
        started = time.time()
        self._briefing = Briefing(estate, started)
        self._crew = estate.crew = Crew(
            loop, size, prestarted, introduce=self._briefing.introduce, received=self._received,
            count_out=self._count_out, left=self._worker_left, dismiss=self._dismiss,
        )  # fmt: skip
        estate.sticks = StickTables(loop, store.sticks())
        estate.sticks.configure(config.apps)
        recall = Recall(store)
        estate.states = States(loop, targets, self.events, self._crew.send, self._name_answered, recall)
        self.failovers = Failovers(estate)
        self.questions = Questions(loop, lambda: self._crew)
        keep = functools.partial(saved_overrides.save, store)
        keep(overrides)  # what no longer stands is forgotten
        self._reload = Reload(estate, self._briefing, overrides, load, keep)
        self.operator = Operator(estate, overrides, self._reload)
        self.statistics = Statistics(estate.ledger.memory, slots, targets, estate.states.probes, started)
        self._api = self._api_process(api_socket, started, store) if api_socket is not None else None
        self._said_ready = False
        self._stop_signal = 0
        self._stopped_at = 0.0
        self._cut = 0
        self._status = 0
        self._handlers: dict[type, Callable[[Worker, Any], None]] = {
            Ready: self._worker_ready,
            Configured: self._worker_configured,
            Unlistened: self._worker_unlistened,
            ConnectFailed: self._connect_failed,
            Paused: self.failovers.paused,
            Logged: self._worker_logged,
            Drained: self._worker_drained,
            **dict.fromkeys((SessionsTold, SessionTold, SessionClosed), self.questions.told),
        }

    def _api_process(self, api_socket: ApiSocket, started: float, store: State) -> ApiProcess:
        looking = Looking(self._estate, self.questions, lambda: self._state, started)
        operations = {**looking.operations(), **Orders(self.operator, Durable(self._loop, store).answer).operations()}
        operations |= self.failovers.operations() | StickOrders(self._estate).operations()
        operations["statistics"] = lambda _: {**self.statistics.as_dict(), "elections": self.failovers.statistics()}
        level = self._estate.config.log.level
        return ApiProcess(self._loop, api_socket, Administration(operations), self.events, level)

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
        self._estate.states.start()
        orphans.begin(self._loop)
        self._sample()
        self._crew.manage()
        if self._estate.targets.is_resolved():
            self._serve()
        else:
            self._loop.call_later(RESOLVE_WAIT, self._serve)
        if self._api is not None:
            self._loop.call_later(API_WAIT, self._api.start)

    def _sample(self) -> None:
        self.statistics.sample()
        self._loop.call_later(SAMPLE_EVERY, self._sample)

    def _name_answered(self) -> None:
        if not self._estate.is_serving and self._estate.targets.is_resolved():
            self._serve()
        self._reload.look()

    def _serve(self) -> None:
        """Let the workers accept: every target's first address is known, or has been waited for long enough."""
        estate = self._estate
        if estate.is_serving or self._stop_signal:
            return
        estate.is_serving = True
        self.failovers.start()
        for worker in self._crew:
            self._crew.tell(worker, lambda worker: self._briefing.lend(worker, estate.listening.values()))
        self._say_ready()

    def _say_ready(self) -> None:
        estate = self._estate
        if estate.is_serving and not self._said_ready and not self._stop_signal and self._crew.is_complete:
            self._said_ready = True
            logger.info(
                "ready: %d apps on %d listeners, %d workers, process %d",
                len(estate.config.apps), len(estate.listening), self._crew.size, os.getpid(),
            )  # fmt: skip
            if self._api is not None:
                self._api.start()
            self._reload.look()

    # -- workers -------------------------------------------------------------------------------------------------------

    def _received(self, worker: Worker, message: Message) -> None:
        handler = self._handlers.get(type(message))
        if handler is not None:  # a Pong has done its work by being heard
            handler(worker, message)

    def _worker_ready(self, worker: Worker, message: Ready) -> None:
        worker.is_ready, worker.capacity = True, message.capacity
        logger.info("worker %d (pid %d) serves, with room for %d sessions", worker.index, worker.pid, message.capacity)
        self.events.publish("worker", {"worker": worker.index, "pid": worker.pid, "state": "ready"})
        self._say_ready()

    def _worker_configured(self, worker: Worker, message: Configured) -> None:
        worker.generation = message.generation
        self._reload.look()

    def _worker_logged(self, worker: Worker, message: Logged) -> None:
        logger.log(message.level, "worker %d: %s", worker.index, message.text)

    def _worker_drained(self, worker: Worker, message: Drained) -> None:
        worker.cut = message.cut
        self._cut += message.cut

    def _connect_failed(self, worker: Worker, message: ConnectFailed) -> None:
        self._estate.states.connect_failed(message, worker.index)
        self.failovers.connect_failed(message)

    def _dismiss(self, worker: Worker) -> None:
        """The others go on accepting: nobody is lost when it closes its copies of the listeners."""
        worker.send(Unlisten(tuple(worker.open_listeners), 0.0))

    def _worker_unlistened(self, worker: Worker, message: Unlistened) -> None:
        worker.open_listeners.difference_update(message.ids)
        if worker.is_draining and not worker.open_listeners:
            left = self._estate.config.shutdown_grace - (self._loop.now - self._stopped_at)
            worker.send(Drain(max(0.0, left) if self._stop_signal else NO_LIMIT))
        if self._stop_signal:
            self._close_listeners()
        else:
            self._reload.look()

    def _worker_left(self, worker: Worker) -> None:
        self.events.publish("worker", {"worker": worker.index, "pid": worker.pid, "state": "ended"})
        self.questions.left(worker)
        self.failovers.left(worker)
        self._estate.sticks.detach(worker)
        self.statistics.workers_died += not worker.is_draining
        if self._stop_signal:
            self._close_listeners()
            if not self._crew:
                self._loop.stop()
        else:
            self._reload.look()

    def _count_out(self, worker: Worker) -> int:
        """Its totals are kept, its gauges vanish, its tokens are free; how many sessions it had."""
        held = self._estate.ledger.count_out(worker)
        self._estate.targets.give_back_tokens(held)
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
            elif number == signal.SIGUSR2 and self._estate.access_log is not None:
                self._estate.access_log.reopen()
            elif number in (signal.SIGHUP, signal.SIGUSR1):
                self._reload.request(signal.Signals(number).name)

    def _stop(self, number: int) -> None:
        if self._stop_signal:
            logger.warning("a second %s: ending at once", signal.Signals(number).name)
            self._status = 128 + number
            self._crew.kill()
            return
        self._stop_signal = number
        self._stopped_at = self._loop.now
        self._estate.is_stopping = True
        self._reload.abort()
        grace = self._estate.config.shutdown_grace
        logger.info("%s: no new clients; running sessions have %g s to end", signal.Signals(number).name, grace)
        for listening in self._estate.listening.values():
            listening.refuse_new()
        self._crew.is_stopping = True
        for worker in self._crew:
            worker.is_draining = True
            worker.send(Unlisten(tuple(worker.open_listeners), LISTEN_DRAIN))
        self._loop.call_later(grace + KILL_MARGIN, self._kill_the_rest)
        if not self._crew:
            self._loop.stop()

    def _close_listeners(self) -> None:
        """The supervisor closes last: when no worker that lives has one open."""
        if not any(worker.open_listeners for worker in self._crew):
            for listening in self._all_listeners():
                listening.sock.close()

    def _all_listeners(self) -> list[Listening]:
        return [*self._estate.listening.values(), *self._estate.closing.values()]

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
        estate = self._estate
        self.failovers.stop()
        estate.states.stop()
        estate.sticks.stop()
        for listening in self._all_listeners():
            listening.sock.close()
        accepted, served = estate.ledger.accepted, estate.ledger.served
        if estate.access_log is not None:
            estate.access_log.stop()
        if self._cut:
            logger.warning("%d sessions were reset because they did not end in time", self._cut)
        logger.info("stopped: %d sessions accepted, %d of them connected to a target", accepted, served)
        self._loop.close()
        wakeup.close()
        self._wakeup.close()
        estate.targets.close()
        estate.ledger.close()
        for number in SIGNALS:  # the interpreter, as it ends, gives back only what Python handles: a late signal is nothing
            signal.signal(number, signal.SIG_IGN)


def _enqueued(_number: int, _frame: object) -> None:
    """The byte on the wake-up socket is the whole effect of a signal."""
