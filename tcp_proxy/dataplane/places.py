"""How many sessions there are, of a target or of an app, and how many there may be: exact over all workers.

A target takes a session by `take` and gets it back by `give`: the gauge of its sessions and, with a limit, one token of
the semaphore that all workers share (an eventfd: see docs/decisions.md) change together, so the supervisor can return the
tokens of a worker that died by looking at its gauges (test_the_tokens_of_a_dead_worker_come_back). An app with
limits.sessions is counted in the same way, and knows its sessions by their numbers: those that are there already count
from when it gets its first limit (`count_in`).

A limit that changes is a new semaphore. `adopt` buys a token of it for every session there is; those for which there is
none are `unpaid`, and as many of the next that end give nothing back (test_a_limit_below_the_sessions_there_are…). They buy
what becomes free elsewhere (`settle`), and until every session in every worker has its token, whoever lets somebody new in
makes sure that there are enough for them. What `give` of a limited owner and `adopt` share is under `lock`; a target that
gets its first limit is `limited` before, until no relay thread is in the middle of a `give` without the lock any more.

Owned by the loop's thread; `give` and `end` are also called by relay threads, each with its own row.
"""

import os
import threading
from collections.abc import Iterable, Sequence
from os import eventfd_read, eventfd_write
from typing import Any, Protocol

from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import Row


class Ringing(Protocol):
    """A place_queue.PlaceQueue."""

    def ring(self) -> Any:
        """A place is free. In any thread."""

    def holds_back(self, line: int) -> bool:
        """Whether somebody waits in this line."""


class Places:
    """`slot`: the first of its owner's counters; `rows`: those of all threads of all workers."""

    __slots__ = (
        "active_slot", "is_settled", "limited", "lock", "number", "queue", "rows", "slot", "tokens", "unpaid", "unpaid_row",
    )  # fmt: skip

    def __init__(self, slot: int, rows: list[Row]) -> None:
        self.slot = slot
        self.rows = rows
        self.active_slot = slot + counters.ACTIVE
        self.limited = False
        self.lock = threading.Lock()  # guards tokens and unpaid, and the gauge together with them
        self.tokens = -1  # the semaphore's descriptor, once it has come
        self.unpaid = 0  # sessions of this worker that have no token
        self.number = 0  # of that semaphore
        self.is_settled = False  # every session in every worker has a token of it
        self.queue: Ringing | None = None  # of the app, where clients wait for a place
        self.unpaid_row: Row | None = None  # where that is shown: the loop's; from the first `adopt` on

    def take(self, row: Row) -> bool:
        """Count one session more; False, and nothing changed, when it is at its limit."""
        row[self.active_slot] += 1
        if self.tokens >= 0:
            try:
                eventfd_read(self.tokens)
            except BlockingIOError:
                row[self.active_slot] -= 1
                return False
            if not self.is_settled and not self._has_room_beside_others():
                eventfd_write(self.tokens, 1)
                row[self.active_slot] -= 1
                return False
        return True

    def _has_room_beside_others(self) -> bool:
        """After a change: whether enough tokens are left for the sessions, in all workers, that have none and should."""
        owed, knows = self._owed()
        bought, self.is_settled = 0, knows and not owed
        while bought < owed and _bought(self.tokens):
            bought += 1
        if bought:
            eventfd_write(self.tokens, bought)
        return bought == owed

    def _owed(self) -> tuple[int, bool]:
        """Of workers that have adopted this semaphore, the sessions that got none; of others, all. Whether all have."""
        unpaid_slot, number_slot = self.slot + counters.UNPAID, self.slot + counters.SEMAPHORE
        size = counters.ROWS_PER_WORKER
        owed, all_know = 0, True
        for first in range(1, len(self.rows), size):
            rows = self.rows[first : first + size]
            knows = rows[0][number_slot] == self.number
            owed += rows[0][unpaid_slot] if knows else sum([row[self.active_slot] for row in rows])
            all_know &= knows or not rows[0][counters.ACCEPTING]
        return max(0, owed), all_know

    def give(self, row: Row) -> None:
        """One session less; `row` is the calling thread's."""
        if self.limited:
            self._give_back(row)
        else:
            row[self.active_slot] -= 1

    def _give_back(self, row: Row) -> None:
        if self.tokens >= 0 and row is self.unpaid_row and not self.unpaid:  # the loop's thread, which alone adds to these
            eventfd_write(self.tokens, 1)
            row[self.active_slot] -= 1
        else:
            with self.lock:
                if self.unpaid:
                    self._set_unpaid(self.unpaid - 1)
                elif self.tokens >= 0:
                    eventfd_write(self.tokens, 1)
                row[self.active_slot] -= 1
        if self.queue is not None:
            self.queue.ring()

    @property
    def semaphore(self) -> int:
        """The number of the one that sessions of this worker have their tokens of; -1: of none."""
        return self.number if self.tokens >= 0 else -1

    def depart(self, row: Row, semaphore: int) -> None:
        """A session is another worker's now, with its token of this semaphore, -1 for none; in the loop's thread. If ours is
        another one by now, or it took none along, it is given back as at an end."""
        with self.lock:
            takes_along = semaphore == self.semaphore
            if takes_along:
                row[self.active_slot] -= 1
        if not takes_along:
            self.give(row)

    def arrive(self, row: Row, has_token: bool) -> None:
        """A session comes from another worker, with its token or, from another supervisor's, without one, which it owes if
        there is none to be had (`settle`)."""
        with self.lock:
            row[self.active_slot] += 1
            if not has_token and self.tokens >= 0:
                self._set_unpaid(self.unpaid + 1)
                self._buy()

    def adopt(self, tokens: int, mine: Sequence[Row], number: int = 0) -> None:
        """In the loop's thread: from now on this semaphore counts. `mine`: this worker's rows, the loop's first."""
        with self.lock:
            old, self.tokens = self.tokens, tokens
            self.unpaid_row = mine[0]
            self._set_unpaid(sum(row[self.active_slot] for row in mine))
            self._buy()
            self.number = mine[0][self.slot + counters.SEMAPHORE] = number
            self.is_settled = False
        _close(old)
        if self.queue is not None:
            self.queue.ring()  # others have kept tokens for these sessions

    def settle(self) -> bool:
        """In the loop's thread: whether there are none, any more, without a token."""
        if self.unpaid:
            with self.lock:
                self._buy()
            if not self.unpaid and self.queue is not None:
                self.queue.ring()
        return not self.unpaid

    def _buy(self) -> None:
        while self.unpaid and self.tokens >= 0 and _bought(self.tokens):
            self._set_unpaid(self.unpaid - 1)

    def _set_unpaid(self, count: int) -> None:
        """Under the lock, which every thread that writes this word has."""
        assert self.unpaid_row is not None
        self.unpaid = self.unpaid_row[self.slot + counters.UNPAID] = count

    def lift(self) -> None:
        """In the loop's thread: no limit (any more)."""
        with self.lock:
            old, self.tokens = self.tokens, -1
            if self.unpaid:
                self._set_unpaid(0)
        self.limited = False
        _close(old)


class SessionPlaces(Places):
    """Those of an app, a place_queue.Source. `holders`: the numbers of its sessions in this worker, wherever they live."""

    __slots__ = ("holders",)

    def __init__(self, slot: int, rows: list[Row]) -> None:
        super().__init__(slot, rows)
        self.holders: dict[int, bool] = {}  # changed by one call each time: several threads do

    def __repr__(self) -> str:
        return f"<SessionPlaces {len(self.holders)} held, {self.unpaid} unpaid>"

    queue_line = 0

    def why_none(self, _now: float) -> Reason:
        return Reason.LIMIT

    def admits(self, number: int, row: Row) -> bool:
        """As `begin`, for one that comes: nobody overtakes those who wait. In one piece, as `take` does it: each client pays
        it."""
        if self.queue is not None and self.queue.holds_back(self.queue_line):
            return False
        tokens = self.tokens
        if tokens < 0 or not self.is_settled:
            return self.begin(number, row)
        slot = self.active_slot
        row[slot] += 1
        try:
            eventfd_read(tokens)
        except BlockingIOError:
            row[slot] -= 1
            return False
        self.holders[number] = True
        return True

    def begin(self, number: int, row: Row) -> bool:
        """In the loop's thread: whether there is a place for this session, which has it then until `end`."""
        if not self.take(row):
            return False
        self.holders[number] = True
        return True

    def end(self, number: int, row: Row) -> None:
        """It is over; one that has no place may say so, too. In its own thread."""
        if not self.holders.pop(number, False):
            return
        if self.tokens < 0 or row is not self.unpaid_row or self.unpaid:
            self.give(row)
            return
        eventfd_write(self.tokens, 1)  # as `_give_back`
        row[self.active_slot] -= 1
        if self.queue is not None:
            self.queue.ring()

    def arrive_as(self, number: int, row: Row, has_token: bool) -> None:
        self.holders[number] = True
        self.arrive(row, has_token)

    def depart_as(self, number: int, row: Row, semaphore: int) -> None:
        if self.holders.pop(number, False):
            self.depart(row, semaphore)

    def count_in(self, members: Iterable[Any], row: Row) -> None:
        """In the thread of these sessions, which are of the app: those that are not counted yet."""
        for member in members:
            if member.number not in self.holders:
                self.holders[member.number] = True
                row[self.active_slot] += 1

    def leave(self, row: Row) -> None:
        """In the loop's thread, with its row: there is no such app any more. Its sessions go on, and count for nothing."""
        self.lift()
        for number in tuple(self.holders):
            if self.holders.pop(number, False):
                row[self.active_slot] -= 1


def _close(tokens: int) -> None:
    if tokens >= 0:
        os.close(tokens)


def _bought(tokens: int) -> bool:
    try:
        eventfd_read(tokens)
    except BlockingIOError:
        return False
    return True
