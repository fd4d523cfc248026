"""The supervisor: everything but bytes. It compares what is wanted with what is there, and acts on the difference.

Its main thread owns the configuration, the process tree (worker_pool), the target states (states) and the listening sockets.
Signals only enqueue (a byte on the wake-up socket); health threads and resolver threads report by call_soon; workers by
their channels. Nothing in this thread waits for anything but its selector.

    STARTING ──every name answered once, or RESOLVE_WAIT over──> SERVING ──SIGTERM, SIGINT──> STOPPING
    STOPPING ──no worker left──> run() returns; a second signal has the workers reset every session
"""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from tcp_proxy.config.model import Config
from tcp_proxy.control.access_log.writer import AccessLog
from tcp_proxy.control.answers.sessions import Questions
from tcp_proxy.control.changes import saved_overrides
from tcp_proxy.control.changes.operator import Operator
from tcp_proxy.control.changes.reload import Reload
from tcp_proxy.control.changes.transition import LISTEN_DRAIN
from tcp_proxy.control.changes.watches import Watches
from tcp_proxy.control.changes.worker_updates import WorkerUpdates
from tcp_proxy.control.context import Context
from tcp_proxy.control.events import Events
from tcp_proxy.control.failover.all_apps import Failovers
from tcp_proxy.control.listeners.api_socket import ApiSocket
from tcp_proxy.control.listeners.sockets import Listening
from tcp_proxy.control.operations import administration
from tcp_proxy.control.processes import orphans
from tcp_proxy.control.processes.api_process import ApiProcess
from tcp_proxy.control.processes.pid_file import PidFile
from tcp_proxy.control.processes.spawned import Spawned
from tcp_proxy.control.processes.worker_pool import CUT_WITHIN, WorkerPool
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.control.signals import Signals
from tcp_proxy.control.statistics.counter_rows import CounterRows
from tcp_proxy.control.statistics.counter_slots import CounterSlots
from tcp_proxy.control.statistics.totals import SAMPLE_EVERY, Statistics
from tcp_proxy.control.sticky.tables import StickTables
from tcp_proxy.control.store.state import State
from tcp_proxy.control.takeover.handover import HandOver
from tcp_proxy.control.takeover.program import Program
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.control.targets.restored import RestoredStates
from tcp_proxy.control.targets.states import States
from tcp_proxy.control.tls.ticket_key import TicketKeys
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.runtime.socket_options import Refusal, refusal
from tcp_proxy.sansio.words import counted
from tcp_proxy.wire.inquiries import RequestsTold, SessionClosed, SessionsTold, SessionTold
from tcp_proxy.wire.messages import (
    Capacity,
    Configured,
    ConnectFailed,
    Drain,
    Drained,
    Logged,
    Message,
    Paused,
    Ready,
    TargetFailed,
    Unlisten,
    Unlistened,
)
from tcp_proxy.wire.moves import SessionsMoved

if TYPE_CHECKING:  # imported where there is a take-over
    from tcp_proxy.control.takeover.taken import Taken

logger = logging.getLogger(__name__)

RESOLVE_WAIT = 2.0  # seconds to wait for the first answer of every name before clients are served
API_WAIT = 3.0  # seconds that workers have to get ready before the management API imports, beside them
KILL_MARGIN = 5.0  # seconds after the grace until a worker that has not ended is killed


class Supervisor:
    """Takes over `listening`, `access_log` (started), `prestarted` (a worker that is importing already) and `api_socket`.

    `load` reads the configuration again; it raises ConfigErrors. `store`, left to its owner to close, is what outlives the
    process; None: nothing does. `unusable`: what a service manager has kept of an earlier life, and nobody wants.
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
        pid_file: PidFile | None = None,
        taken: "Taken | None" = None,
        unusable: Iterable[str] = (),
    ) -> None:
        loop = self._loop = Loop("main")
        store = self._store = store or State()
        overrides = saved_overrides.load(store, config)
        config = overrides.apply()
        self.events, slots = Events(), CounterSlots() if taken is None else taken.slots()
        targets = Targets(config.apps, slots, is_clustered=config.cluster is not None)
        for item in listening:
            slots.take("listener", item.app, str(item.address))
        size = config.workers or len(os.sched_getaffinity(0))
        context = self._context = Context(
            loop, config, targets, CounterRows(slots, size, taken.rows() if taken else None), self.events,
            {item.number: item for item in listening}, access_log, numbers=len(listening), unusable=unusable,
        )  # fmt: skip
        started, began = (taken.started if taken else time.time()), time.time()
        incarnations = max(int(began * 1000), taken.incarnations + 1 if taken else 0)  # a start takes less than a second
        self._worker_updates = WorkerUpdates(context, incarnations)
        self._worker_pool = context.worker_pool = WorkerPool(
            loop, size, prestarted, introduce=self._introduce, received=self._received,
            count_out=context.count_out, left=self._worker_left, dismiss=context.session_moves.dismiss,
        )  # fmt: skip
        context.sticks = StickTables(loop, store.sticks(), is_shared=config.cluster is not None)
        context.sticks.configure(config.apps)
        context.ticket_keys = TicketKeys(loop, self._worker_pool.send, taken.ticket_key if taken else b"")
        send, memory = self._worker_pool.send, context.counter_rows.memory
        context.states = States(loop, targets, self.events, send, self._name_answered, RestoredStates(store), memory)
        self.failovers = Failovers(context, store)
        self.questions = Questions(loop, lambda: self._worker_pool, lambda: context.session_moves.have_moved)
        keep, keep_one = partial(saved_overrides.saving, store), partial(saved_overrides.save_one, store)
        saved_overrides.save(store, overrides)  # what no longer stands is forgotten
        self._reload = Reload(context, self._worker_updates, overrides, context.found.asking(load), keep, keep_one)
        self.operator = Operator(context, overrides, self._reload)
        self._watches = Watches(context, self._reload, self._name_answered)
        context.changed = self._changed
        self.statistics = Statistics(context.counter_rows.memory, slots, targets, context.states.probes, started)
        parts = context, self.failovers, self._reload, self.statistics, store, config.state or "", pid_file
        program = Program(*parts, incarnations, self._given_away)
        self._hand_over = HandOver(program, taken, self._worker_updates, self._own)
        program.api = self._api = self._api_process(api_socket) if api_socket is not None else None
        self._pid_file, self._is_away, self._signals = pid_file, False, Signals(loop, self._signalled)
        self._said_ready = self._is_cutting = self._is_resolved = False
        self._stop_signal, self._cut, self._status, self._stopped_at = 0, 0, 0, 0.0
        self._handlers = self._message_handlers()

    def _message_handlers(self) -> dict[type, Callable[[Worker, Any], None]]:
        return {
            Ready: self._worker_ready,
            Capacity: lambda worker, message: setattr(worker, "capacity", message.capacity),
            Configured: self._worker_configured,
            Unlistened: self._worker_unlistened,
            ConnectFailed: self._connect_failed,
            TargetFailed: lambda _, message: self._context.states.target_failed(message),
            Paused: self.failovers.paused,
            Logged: self._worker_logged,
            Drained: self._worker_drained,
            SessionsMoved: self._context.session_moves.told,
            **dict.fromkeys((SessionsTold, SessionTold, RequestsTold, SessionClosed), self.questions.told),
        }

    def _api_process(self, api_socket: ApiSocket) -> ApiProcess:
        context, state, more = self._context, lambda: self._state, self._hand_over.upgrade.operations()
        parts = context, self.questions, self.operator, self.failovers, self.statistics, self._store, state, more
        return ApiProcess(self._loop, api_socket, administration(*parts), self.events, context.config.log.level)

    @property
    def _state(self) -> str:
        return "stopping" if self._stop_signal else "serving" if self._said_ready else "starting"

    def run(self) -> int:
        """Serve until a signal says otherwise; the exit status."""
        self._signals.catch()
        try:
            self._start()
            self._loop.run()
        except BaseException:
            self._cut_sessions()
            self._loop.call_later(CUT_WITHIN + 1.0, self._loop.stop)
            with contextlib.suppress(Exception):  # the first error is the one to be told
                self._loop.run()
            raise
        finally:
            self._release()
        return self._status

    # -- start ---------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        orphans.begin(self._loop)  # before the first script: what loses its parent earlier is process 1's for good
        if (node := self._context.cluster) is not None:  # before anything is found that others are to know
            from tcp_proxy.control.sharing import Sharing  # noqa: PLC0415  nobody else pays for it

            node.shares = Sharing(self._context, node, self.operator, self._reload)
            node.start(self._context.sticks)
        if self._hand_over.is_ours:
            self._own()
        self._context.states.start()
        self._watches.start()
        self._sample()
        self._worker_pool.manage()
        if self._context.targets.is_resolved():
            self._serve()
        else:
            self._loop.call_later(RESOLVE_WAIT, self._serve)

    def _own(self) -> None:
        """All that we have is ours."""
        self._context.start_manager()
        self._context.start_tracer()
        self._context.own_node()
        self._hand_over.start()
        if self._is_resolved:
            self._serve()
        if self._api is not None:
            self._loop.call_later(API_WAIT, self._api.start)

    def _changed(self) -> None:
        """Another configuration has been taken over."""
        self.failovers.look()
        self._watches.look()

    def _sample(self) -> None:
        self._context.slices.do(self._sampling())

    def _sampling(self) -> Iterator[None]:
        yield from self.statistics.sampling()
        self._loop.call_later(SAMPLE_EVERY, self._sample)

    def _name_answered(self) -> None:
        if not self._context.is_serving and self._context.targets.is_resolved():
            self._serve()
        self._reload.look()

    def _serve(self) -> None:
        """Let the workers accept: every target's first address is known, or has been waited for long enough."""
        context = self._context
        self._is_resolved = True
        if not self._hand_over.is_ours:
            self._hand_over.look()
            return
        if context.is_serving or self._stop_signal or not context.may_serve(self._serve):
            return
        context.is_serving = context.states.is_serving = True
        self.failovers.start()
        for worker in [worker for worker in self._worker_pool.serving if worker.is_introduced]:
            self._worker_pool.tell(worker, lambda one: self._worker_updates.pass_listeners(one, context.listening.values()))
        self._say_ready()

    def _say_ready(self) -> None:
        context = self._context
        if context.is_serving and not self._said_ready and not self._stop_signal and self._worker_pool.is_complete:
            self._said_ready = True
            context.health_file.begin()
            if refusal() is Refusal.NONE:
                logger.warning(
                    "this kernel lets no listener refuse connections before it closes: a client that connects in the very "
                    "moment in which a port is given up may be reset"
                )
            apps, listeners = counted(len(context.config.apps), "app"), counted(len(context.listening), "listener")
            workers = counted(self._worker_pool.size, "worker")
            logger.info("ready: %s on %s, %s, process %d", apps, listeners, workers, os.getpid())
            self._hand_over.ready_text = f"{apps} on {listeners}, {workers}"
            context.service_manager.ready(self._hand_over.ready_text)
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
        if self._is_resolved:
            self._hand_over.look()
        self._say_ready()
        self._reload.look()

    def _worker_configured(self, worker: Worker, message: Configured) -> None:
        worker.generation = message.generation
        self._say_ready()  # fewer workers may be wanted than could not be started
        self._reload.look()

    def _worker_logged(self, worker: Worker, message: Logged) -> None:
        logger.log(message.level, "worker %d: %s", worker.index, message.text)

    def _worker_drained(self, worker: Worker, message: Drained) -> None:
        worker.cut = message.cut
        self._cut += message.cut

    def _connect_failed(self, worker: Worker, message: ConnectFailed) -> None:
        self._context.states.connect_failed(message, worker.index)
        self.failovers.connect_failed(message)

    def _worker_unlistened(self, worker: Worker, message: Unlistened) -> None:
        worker.open_listeners.difference_update(message.ids)
        if worker.is_draining and not worker.open_listeners:
            if self._stop_signal:
                worker.send(Drain(max(0.0, self._stopped_at + self._context.config.shutdown_grace - self._loop.now)))
            else:
                self._context.session_moves.empty(worker)
        if self._stop_signal:
            self._close_listeners()
        else:
            self._reload.look()

    def _worker_left(self, worker: Worker) -> None:
        self.events.publish("worker", {"worker": worker.index, "pid": worker.pid, "state": "ended"})
        self.questions.left(worker)
        self.failovers.left(worker)
        self._context.session_moves.left(worker)
        self._context.sticks.detach(worker)
        self.statistics.workers_died += not worker.is_draining
        if self._stop_signal:
            self._close_listeners()
            self._end_if_over()
        else:
            self._reload.look()

    def _end_if_over(self) -> None:
        """No worker is left, and no other node thinks that this one serves."""
        if not self._worker_pool and self._context.has_left_cluster:
            self._loop.stop()

    def _introduce(self, worker: Worker) -> None:
        self._context.slices.do(self._introducing(worker))

    def _introducing(self, worker: Worker) -> Iterator[None]:
        try:
            yield from self._worker_updates.introducing(worker)
        except OSError as error:
            self._worker_pool.cannot_be_told(worker, error)

    # -- signals and the end ---------------------------------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        if self._is_away:  # what it means is for another program
            return
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop(number)
        elif number == signal.SIGUSR2 and self._context.access_log is not None:
            self._context.access_log.reopen()
        elif number in (signal.SIGHUP, signal.SIGUSR1):
            self._reload.request(signal.Signals(number).name)

    def _stop(self, number: int) -> None:
        if not self._hand_over.is_ours:
            logger.info("%s: this program has not taken over", signal.Signals(number).name)
            self._status = 128 + number
            self._loop.stop()
            return
        self._hand_over.socket.stop()
        if self._stop_signal:
            text = "another %s: ending already" if self._is_cutting else "a second %s: ending at once"
            logger.warning(text, signal.Signals(number).name)
            self._status = 128 + number
            self._cut_sessions()
            return
        self._stop_signal, self._stopped_at = number, self._loop.now
        self._context.is_stopping = True
        self._reload.abort()
        grace = self._context.config.shutdown_grace
        logger.info("%s: no new clients; running sessions have %g s to end", signal.Signals(number).name, grace)
        status = f"no new clients; running sessions have {grace:g} s to end"
        self._context.service_manager.stopping(status, grace + KILL_MARGIN + CUT_WITHIN)
        self._context.health_file.end()
        for listening in self._context.listening.values():
            listening.refuse_new()
        self._worker_pool.is_stopping = True
        for worker in self._worker_pool:
            worker.is_draining = True
            worker.tell(Unlisten(tuple(worker.open_listeners), LISTEN_DRAIN))
        self._loop.call_later(grace + KILL_MARGIN, self._kill_the_rest)
        self._context.leave_cluster(self._end_if_over)
        self._end_if_over()

    def _cut_sessions(self) -> None:
        """Every session is reset and recorded: a worker that is killed instead would end them with FIN, and a FIN looks like
        a complete answer. That has its time, however often it is said."""
        if self._is_cutting:
            return
        self._is_cutting = True
        self._stop_signal = self._stop_signal or signal.SIGTERM
        self._context.is_stopping = self._worker_pool.is_stopping = True
        self._worker_pool.send(Drain(0.0))
        self._loop.call_later(CUT_WITHIN, self._worker_pool.kill)
        self._context.leave_cluster(self._end_if_over)
        self._end_if_over()

    def _close_listeners(self) -> None:
        """The supervisor closes last: when no worker that lives has one open."""
        if not any(worker.open_listeners for worker in self._worker_pool):
            for listening in self._all_listeners():
                listening.sock.close()

    def _all_listeners(self) -> list[Listening]:
        return [*self._context.listening.values(), *self._context.closing.values()]

    def _kill_the_rest(self) -> None:
        for worker in self._worker_pool:
            logger.error("worker %d (pid %d) did not end in time: it is killed", worker.index, worker.pid)
        self._worker_pool.kill()

    def _given_away(self, text: str) -> None:
        """Another program is the owner of all that we have but of the processes of the API and of the cluster's agent."""
        logger.info("%s: this one ends, and its sessions go on there", text)
        self._is_away = self._context.is_stopping = True
        self._loop.stop() if self._context.cluster is None else self._context.leave_cluster(self._loop.stop)

    def _release(self) -> None:
        """The one place where everything the supervisor owns is given back, whatever happened. What is another program's, or
        not ours yet, is let go of."""
        context, is_ours = self._context, not self._is_away
        self._signals.stop()
        self._hand_over.socket.stop(is_given=not is_ours)
        if self._api is not None:
            self._api.stop(is_given=not (is_ours and self._hand_over.is_ours))
        self._worker_pool.release() if is_ours else self._worker_pool.forget()
        context.stop_cluster()
        self.failovers.stop()
        self._watches.stop()
        context.states.stop()
        context.sticks.stop() if is_ours else context.sticks.let_go()
        for listening in self._all_listeners():
            listening.sock.close()
        accepted, served = context.counter_rows.accepted, context.counter_rows.served
        if context.access_log is not None:
            context.access_log.stop() if is_ours else context.access_log.let_go()
        context.stop_tracer()
        context.service_manager.close()
        if is_ours:
            context.health_file.end()
            self._say_stopped(accepted, served)
        elif self._pid_file is not None:
            self._pid_file.let_go()
        self._loop.close()
        self._signals.close()
        context.targets.close()
        context.counter_rows.close()

    def _say_stopped(self, accepted: int, served: int) -> None:
        if self._cut:
            many = "sessions did not end in time and were reset"
            logger.warning("%s", counted(self._cut, "session did not end in time and was reset", many))
        logger.info("stopped: %s accepted, %d connected to a target", counted(accepted, "session"), served)
