"""The workers: as many as are wanted, replaced when they die, and let go when there are too many.

Main thread only; the only place that starts workers (`_start`) and counts them out (`_ended`). A worker has an index,
0 .. size - 1, for as long as it is wanted; one that leaves keeps it in its messages, while another may already have it.

    (wanted) ──> SERVING ── set_size(fewer), replace ──> LEAVING ──its last session ended, or moved──> gone
       ^            │ dies
       └── at once, or after a wait that doubles while they die young
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from tcp_proxy.control.processes.spawned import Spawned
from tcp_proxy.control.processes.workers import Process, Worker
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.words import counted
from tcp_proxy.wire.messages import Drain, Message

logger = logging.getLogger(__name__)

HEALTHY_AFTER = 10.0  # seconds: a worker that lived this long is replaced at once, an earlier death waits ever longer
BACKOFF_FIRST, BACKOFF_MOST = 0.1, 10.0
CUT_WITHIN = 2.0  # seconds that a worker has to reset and record its sessions at once


class WorkerPool:
    """What it needs of the supervisor:

    introduce(worker)  has a new one told everything, in slices; cannot_be_told when that cannot be done
    received(worker, message)
    count_out(worker)  takes over its counters, in slices; how many sessions ended with it
    left(worker)       after that
    dismiss(worker)    tells one that is not wanted any more to end when its sessions have ended
    """

    def __init__(
        self,
        loop: Loop,
        size: int,
        prestarted: Spawned | None,
        *,
        introduce: Callable[[Worker], Any],
        received: Callable[[Worker, Message], Any],
        count_out: Callable[[Worker], int],
        left: Callable[[Worker], Any],
        dismiss: Callable[[Worker], Any],
    ) -> None:
        """`prestarted`: a worker that is importing already, ours from now on."""
        self.size = size
        self.is_stopping = self.is_killing = False
        self._loop = loop
        self._prestarted = prestarted
        self._introduce = introduce
        self._received = received
        self._count_out = count_out
        self._on_left = left
        self._dismiss = dismiss
        self._serving: dict[int, Worker] = {}
        self._leaving: list[Worker] = []
        self._not_before: dict[int, float] = {}  # index -> when it may be started again
        self._backoff: dict[int, float] = {}
        self._needs_restart = False

    def __repr__(self) -> str:
        return f"<WorkerPool {len(self._serving)} of {self.size} workers, {len(self._leaving)} leaving>"

    def __iter__(self) -> Iterator[Worker]:
        """All that live, those that leave too."""
        return iter((*self._serving.values(), *self._leaving))

    def __len__(self) -> int:
        return len(self._serving) + len(self._leaving)

    @property
    def serving(self) -> list[Worker]:
        """Those that are wanted."""
        return list(self._serving.values())

    @property
    def is_complete(self) -> bool:
        """Whether every worker that is wanted serves."""
        return len(self._serving) == self.size and all(worker.is_ready for worker in self._serving.values())

    @property
    def ready(self) -> list[Worker]:
        """Those that serve and are to stay."""
        return [worker for worker in self._serving.values() if worker.is_ready]

    @property
    def introduced(self) -> list[Worker]:
        """Who is to be told of what is different; the others are told of all that there is then."""
        return [worker for worker in self if worker.is_introduced and not worker.is_unneeded]

    def send(self, message: Message) -> None:
        """To every worker. One that starts later is told in its Snapshot."""
        for worker in self:
            worker.tell(message)

    def manage(self) -> None:
        """Start what is missing and may be started now."""
        if self.is_stopping:
            return
        for index in range(self.size):
            if index not in self._serving and self._not_before.get(index, 0.0) <= self._loop.now:
                self._start(index)

    def set_size(self, size: int) -> None:
        """From now on this many; those too many leave when their sessions have ended."""
        self.size = size
        for index in [index for index in self._serving if index >= size]:
            self._let_go(index)
        self.manage()

    def replace(self, index: int) -> Worker | None:
        """This one leaves as if it were one too many, and another takes its place. None: there is no such one, or the
        program ends."""
        if self.is_stopping or index not in self._serving:
            return None
        worker = self._let_go(index)
        self.manage()
        return worker

    def _let_go(self, index: int) -> Worker:
        worker = self._serving.pop(index)
        worker.is_draining = True
        self._leaving.append(worker)
        logger.info("worker %d (pid %d) takes no new clients and ends with its last session", index, worker.pid)
        self._dismiss(worker)
        return worker

    def tell(self, worker: Worker, tell: Callable[[Worker], Any]) -> None:
        """A worker that cannot be handed what it needs would miss it for ever: it is ended, and another one started."""
        try:
            tell(worker)
        except OSError as error:
            self.cannot_be_told(worker, error)

    def cannot_be_told(self, worker: Worker, error: OSError) -> None:
        logger.error("worker %d (pid %d) cannot be given its descriptors: %s", worker.index, worker.pid, error)
        worker.tell(Drain(0.0))  # it resets and records its sessions; killed, they would end with FIN
        self._loop.call_later(CUT_WITHIN, worker.kill)

    def adopt(self, index: int, process: Process) -> Worker:
        """One that another program has started, which is to end when its sessions have: ours, unless it raises OSError."""
        worker = Worker(self._loop, index, process, self._received, self._ended)
        worker.is_ready = True
        self._leaving.append(worker)
        return worker

    def dismiss_adopted(self) -> None:
        """They take no new clients: ours do."""
        for worker in self._leaving:
            if not worker.is_draining:
                worker.is_draining = True
                self._dismiss(worker)

    def forget(self) -> list[Worker]:
        """They are another program's from now on. Who is told nothing yet is nobody's, and ended."""
        ours = self.introduced
        nobodys = [worker for worker in self if worker not in ours]
        self._serving, self._leaving = {}, []
        self.is_stopping = True
        for worker in nobodys:
            worker.discard()
        return ours

    def kill(self) -> None:
        """End everybody at once; `left` will be called for each."""
        self.is_stopping = self.is_killing = True
        for worker in self:
            worker.kill()

    def release(self) -> None:
        """At the end of everything; after an orderly one nobody is left."""
        if self._prestarted is not None:
            self._prestarted.discard()
        for worker in self:
            worker.kill()

    # -- one worker

    def _start(self, index: int) -> None:
        """Whatever is missing for it (descriptors, processes, memory) may be there later: the supervisor lives on."""
        try:
            worker = self._serving[index] = self._spawn(index)
        except OSError as error:
            logger.error("worker %d cannot be started: %s", index, error)  # noqa: TRY400
            self._try_again(index, max(BACKOFF_FIRST, self._next_wait(index)))
            return
        self._introduce(worker)

    def _spawn(self, index: int) -> Worker:
        spawned, self._prestarted = self._prestarted or Spawned(), None
        try:
            return Worker(self._loop, index, spawned, self._received, self._ended)
        except OSError:
            spawned.discard()
            raise

    def _ended(self, worker: Worker, explanation: str) -> None:
        was_wanted = self._serving.get(worker.index) is worker
        if was_wanted:
            del self._serving[worker.index]
        else:
            self._leaving.remove(worker)
        lost = self._count_out(worker)
        if self.is_stopping or not was_wanted:
            if lost or not (worker.has_ended_well or worker.has_wrong_version or self.is_killing):
                self._say_ended(worker, explanation, lost)
        elif worker.has_wrong_version:
            self._not_before[worker.index] = float("inf")
            if not self._needs_restart:
                self._needs_restart = True
                logger.error("the installed tcp_proxy is another version than the one that runs: restart needed")
        else:
            self._say_ended(worker, explanation, lost)
            self._replace(worker)
        self._on_left(worker)

    def _say_ended(self, worker: Worker, explanation: str, lost: int) -> None:
        text = "worker %d (pid %d) ended: %s; %s ended with it"
        logger.error(text, worker.index, worker.pid, explanation, counted(lost, "session"))

    def _replace(self, worker: Worker) -> None:
        if self._loop.now - worker.started < HEALTHY_AFTER:
            self._try_again(worker.index, self._next_wait(worker.index))
        else:
            self._backoff.pop(worker.index, None)
            self._try_again(worker.index, 0.0)

    def _next_wait(self, index: int) -> float:
        """0 seconds at first, then BACKOFF_FIRST and twice as long each time."""
        wait = self._backoff.get(index, 0.0)
        self._backoff[index] = min(BACKOFF_MOST, max(BACKOFF_FIRST, wait * 2))
        return wait

    def _try_again(self, index: int, wait: float) -> None:
        self._not_before[index] = self._loop.now + wait
        self._loop.call_later(wait, self.manage)
