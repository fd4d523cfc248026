"""Live sessions go from one worker to another: of those that leave, and to even out what each has.

Main thread only. An order is a socketpair: one worker gives by its end, the other takes by its own (wire.moves), and the
giver says what became of it. What cannot move now (a session that is being connected, a request under way) is asked again.

    a worker that leaves: no new clients ──> rounds, ROUND apart: some to each of those that stay ──> none left: it ends
                                               └─after ROUNDS of them: clients of mode http that ask for nothing are let go
"""

import contextlib
import itertools
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Any

from tcp_proxy.control.processes.worker_pool import WorkerPool
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.control.statistics.counter_rows import CounterRows
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.sansio.words import counted
from tcp_proxy.wire.messages import Drain, Unlisten
from tcp_proxy.wire.moves import ExportSessions, ImportSessions, SessionsMoved

logger = logging.getLogger(__name__)

ROUND = 0.5  # seconds
ROUNDS = 10  # in which a request that is under way may end, and its client's connection move
NO_LIMIT = -1.0  # a grace for sessions of a worker that is not wanted any more

Told = Callable[[SessionsMoved], Any]


@dataclass(frozen=True, slots=True)
class Order:
    """`done` is called once, when the giver has said what became of it, or has ended."""

    giver: Worker
    done: Told


class SessionMoves:
    """`pool()` has the workers, `rows` knows how many sessions each has."""

    def __init__(self, loop: Loop, pool: Callable[[], WorkerPool], rows: CounterRows) -> None:
        self._loop = loop
        self._pool = pool
        self._rows = rows
        self._numbers = itertools.count(1)
        self._open: dict[int, Order] = {}
        self._emptied: set[Worker] = set()
        self.is_held = False  # another program is about to take over: no order begins
        self.have_moved = False  # perhaps: some session is not where its id says

    def __repr__(self) -> str:
        return f"<SessionMoves {len(self._open)} orders under way>"

    # -- one order

    def order(self, giver: Worker, taker: Worker, most: int, done: Told) -> None:
        """Of the giver's sessions, the oldest first, at most so many (0: all). Raises OSError: there is no descriptor."""
        number = next(self._numbers)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            taker.send(ImportSessions(), [theirs.fileno()])
            giver.send(ExportSessions(number, most), [ours.fileno()])
        self._open[number] = Order(giver, done)
        self.have_moved = True

    def prepare(self, workers: Iterable[Worker]) -> None:
        """They load what moving needs before a session waits for it: each is to take from one that gives nothing."""
        with contextlib.suppress(OSError):  # no descriptor is left: they load it later
            for worker in workers:
                ours, theirs = socket.socketpair()
                with ours, theirs:
                    worker.send(ImportSessions(), [theirs.fileno()])

    @property
    def is_busy(self) -> bool:
        """Whether some session may be on its way."""
        return bool(self._open)

    def told(self, _worker: Worker, message: SessionsMoved) -> None:
        order = self._open.pop(message.order, None)
        if order is not None:
            if message.why:
                logger.info("%s: %d sessions moved, the others stay: %s", order.giver.name, message.moved, message.why)
            order.done(message)

    def left(self, worker: Worker) -> None:
        """It has ended."""
        self._emptied.discard(worker)
        for number, order in tuple(self._open.items()):
            if order.giver is worker:
                self.told(worker, SessionsMoved(number, 0, 0, 0))

    # -- a worker that leaves

    def dismiss(self, worker: Worker) -> None:
        """It takes no new clients. The others go on accepting: nobody is lost when it closes its copies of the listeners."""
        worker.tell(Unlisten(tuple(worker.open_listeners), 0.0))

    def empty(self, worker: Worker) -> None:
        """It has no listener any more. Its sessions go to those that stay; it ends with the last one."""
        if worker not in self._emptied:
            self._emptied.add(worker)
            worker.send(Drain(NO_LIMIT, moves=True))
            self._round(worker, 1)

    def _round(self, worker: Worker, number: int) -> None:
        if self._is_over(worker):
            return
        if self.is_held:
            self._loop.call_later(ROUND, self._round, worker, number)
            return
        if number == ROUNDS:
            worker.send(Drain(NO_LIMIT))
        takers, left = self._pool().ready, self._rows.sessions(worker)
        waiting = 1

        def one_less(_message: SessionsMoved | None = None) -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                self._loop.call_later(ROUND, self._round, worker, number + 1)

        for taker in takers if left else ():
            waiting += self._try_order(worker, taker, -(-left // len(takers)), one_less)
        one_less()

    def _is_over(self, worker: Worker) -> bool:
        """It has ended, or the program does, which lets its sessions end where they are."""
        pool = self._pool()
        return pool.is_stopping or worker not in pool

    def _try_order(self, giver: Worker, taker: Worker, most: int, done: Told) -> bool:
        try:
            self.order(giver, taker, most, done)
        except OSError as error:
            logger.warning("no sessions move from %s to %s: %s", giver.name, taker.name, error)
            return False
        return True

    def replace(self, index: int) -> Worker | None:
        """This worker leaves, and another one takes its place; None: there is no such worker."""
        worker = self._pool().replace(index)
        if worker is not None:
            many = counted(self._rows.sessions(worker), "session")
            logger.info("%s (pid %d) is emptied: %s move to the others", worker.name, worker.pid, many)
        return worker

    # -- the same for all

    def even_out(self, done: Callable[[list[tuple[Worker, Worker, SessionsMoved]]], Any]) -> None:
        """Who has more than the mean gives to those that have less. `done`, when all have: who gave to whom what."""
        workers = self._pool().ready
        sessions = {worker: self._rows.sessions(worker) for worker in workers}
        found: list[tuple[Worker, Worker, SessionsMoved]] = []
        plan = shares(list(sessions.values()))
        waiting = len(plan) + 1

        def one_less() -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                done(found)

        for giver, taker, most in plan:
            pair = workers[giver], workers[taker]

            def told(message: SessionsMoved, pair: tuple[Worker, Worker] = pair) -> None:
                found.append((*pair, message))
                one_less()

            if not self._try_order(*pair, most, told):
                one_less()
        one_less()


def shares(counts: list[int]) -> list[tuple[int, int, int]]:
    """Who gives how many to whom, by their places, so that no two differ by more than one; nobody gives in vain."""
    if not counts:
        return []
    mean, more = divmod(sum(counts), len(counts))
    order = sorted(range(len(counts)), key=lambda place: -counts[place])
    wanted = {place: mean + (rank < more) for rank, place in enumerate(order)}
    givers = [[place, counts[place] - wanted[place]] for place in order if counts[place] > wanted[place]]
    takers = [[place, wanted[place] - counts[place]] for place in order if counts[place] < wanted[place]]
    found = []
    while givers and takers:
        (giver, spare), (taker, room) = givers[0], takers[0]
        size = min(spare, room)
        found.append((giver, taker, size))
        givers[0][1] -= size
        takers[0][1] -= size
        givers = givers[givers[0][1] == 0 :]
        takers = takers[takers[0][1] == 0 :]
    return found
