"""Clients of an app that wait for a place, in a worker: first come first served over all workers.

The event loop's thread only, but for `ring`, which whoever gives a place back calls, in any thread. A place is one of
limits.sessions, or one of the sessions that a target may have (places.Places). Who finds none enters the queue of the app
and is a Waiter until it is given one, its time is over, it leaves, or nobody is left who could have a place for it.

Who waits for the same is a Line. Each worker has its own, and shows in its row of the counters since when the first of it
waits; nobody is given a place while another worker has somebody who has waited longer. Whoever gives a place back while
somebody waits rings a bell (an eventfd that all workers share), and every worker with waiters looks. One in whose
line somebody has moved, and who has left a place to another, rings again: an edge is told once, and may have come before it
was the other's turn. A worker that hangs does not take what is left to it: after LOOKS looks at a place that is free, its
first waiter counts no longer.

Always true:
- a Waiter is in one line, once, from `enter` to the call that ends it (`place_given`, `place_denied`) or to `leave`;
- the gauge QUEUED is the length of the lines, and a shown time that of the first of a line (test_place_queue);
- nothing is called while nothing moves: there is one timer, of whoever's time is over first, and no look without a bell.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from select import EPOLLET
from typing import Any, Protocol

from tcp_proxy.config.model import SessionLimits
from tcp_proxy.runtime.loop import READ, Loop, Timer
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.wire.counters import (
    QUEUE_FIRST,
    QUEUE_MICROSECONDS,
    QUEUED,
    QUEUED_TOTAL,
    Row,
)

YIELD, LOOKS = 0.25, 4  # seconds between two looks whether a place that is left to another worker is taken; so many
AT_ONCE = 100  # waiters that are dealt with in a turn of the loop
_MICRO = 1_000_000


First = tuple[int, int]  # a worker's row, and since when the first of its line waits


class Waiter(Protocol):
    """Each of its calls may end it."""

    def has_gone(self) -> bool:
        """Whether its client has, though no event may have told of it yet; then it has left, and ended."""

    def take_place(self) -> Any:
        """What it waits for, taken; None: there is none."""

    def return_place(self, place: Any) -> Any:
        """It was taken to see whether there is one."""

    def place_given(self, place: Any) -> Any:
        """It is out of the queue and has this, which it took."""

    def place_denied(self, reason: Reason) -> Any:
        """It is out of the queue, and has none."""


class Source(Protocol):
    """Whose places they are. `queue_line`: which of QUEUE_LINES shows who waits first."""

    queue_line: int

    def why_none(self, now: float) -> Reason:
        """LIMIT, while waiting may help."""


class Bell:
    """The one that all workers share; the queues that listen to it."""

    def __init__(self, loop: Loop, fd: int) -> None:
        """Owns `fd`."""
        self._loop = loop
        self._fd = fd
        self._listening: set[PlaceQueue] = set()

    def __repr__(self) -> str:
        return f"<Bell with {len(self._listening)} listening>"

    def close(self) -> None:
        os.close(self._fd)

    def ring(self) -> None:
        os.eventfd_write(self._fd, 1)

    def listen(self, queue: "PlaceQueue") -> None:
        if not self._listening:
            self._loop.watch(self._fd, READ | EPOLLET, self._rung)
        self._listening.add(queue)

    def stop(self, queue: "PlaceQueue") -> None:
        self._listening.discard(queue)
        if not self._listening and self._loop.is_watched(self._fd):
            self._loop.unwatch(self._fd)

    def look(self) -> None:
        """Have all who listen look whether there is a place."""
        for queue in tuple(self._listening):
            queue.look()

    def _rung(self, _events: int) -> None:
        self.look()


class Line:
    """Waiters for the same, each with the time since when it waits, in microseconds."""

    __slots__ = ("source", "waiters")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.waiters: OrderedDict[Waiter, int] = OrderedDict()

    @property
    def since(self) -> int:
        """Since when the first waits."""
        return next(iter(self.waiters.values()))

    def first(self) -> Waiter:
        return next(iter(self.waiters))


def _since(line: Line) -> int:
    return line.since


class PlaceQueue:
    """Of one app. `rows`: the first ones of all workers; a worker's loop writes its own, `mine`."""

    def __init__(self, loop: Loop, bell: Bell, rows: Callable[[], list[Row]], mine: Row, slot: int) -> None:
        self._loop = loop
        self._bell = bell
        self._rows = rows
        self._mine = mine
        self._slot = slot
        self._most, self._seconds = 0, 0.0
        self._lines: dict[Source, Line] = {}
        self._line_of: dict[Waiter, Line] = {}
        self._timer: Timer | None = None
        self._timer_due = 0.0
        self._yielding: dict[int, int] = {}  # line -> so many looks at a free place that is left to somebody else
        self._stalled: set[First] = set()  # who did not take it
        self._is_looking = self._has_missed = False

    def __repr__(self) -> str:
        return f"<PlaceQueue {len(self._line_of)} of {self._most} waiting>"

    def __len__(self) -> int:
        """Those of this worker."""
        return len(self._line_of)

    def configure(self, limits: SessionLimits) -> None:
        """Who waits already goes on, in a queue that is off now too: by the time that it had."""
        self._most = limits.queue
        if limits.queue:
            self._seconds = limits.queue_timeout
        self._set_timer()

    @property
    def waiting(self) -> int:
        """In all workers."""
        slot = self._slot + QUEUED
        return sum([row[slot] for row in self._rows()])

    def holds_back(self, line: int) -> bool:
        """Whether somebody waits there: nobody may have a place who has not waited."""
        slot = self._slot + QUEUE_FIRST + line
        return any([row[slot] for row in self._rows()])

    def ring(self) -> None:
        """In any thread: a place is free."""
        if self.waiting:
            self._bell.ring()

    # -- coming and going

    def enter(self, waiter: Waiter, source: Source) -> bool:
        """Whether there is room. Whoever is in calls `look`: a place may have become free before anybody knew of it."""
        mine = self._mine
        mine[self._slot + QUEUED] += 1
        if self.waiting > self._most:
            mine[self._slot + QUEUED] -= 1
            return False
        mine[self._slot + QUEUED_TOTAL] += 1
        line = self._lines.get(source)
        if line is None:
            line = self._lines[source] = Line(source)
        line.waiters[waiter] = int(self._loop.now * _MICRO)
        self._line_of[waiter] = line
        if len(line.waiters) == 1:
            self._show(source.queue_line)
        if len(self._line_of) == 1:
            self._bell.listen(self)
        self._set_timer()
        return True

    def leave(self, waiter: Waiter) -> None:
        """It does not wait any more, for reasons of its own."""
        if waiter in self._line_of and self._remove(waiter) and not self._is_looking:
            self._bell.ring()  # a place may have been left to it

    def _remove(self, waiter: Waiter) -> bool:
        """Whether it was the first of its line."""
        line = self._line_of.pop(waiter)
        was_first = line.first() is waiter
        since = line.waiters.pop(waiter)
        mine = self._mine
        mine[self._slot + QUEUED] -= 1
        mine[self._slot + QUEUE_MICROSECONDS] += int(self._loop.now * _MICRO) - since
        if not line.waiters:
            del self._lines[line.source]
        if was_first:
            self._show(line.source.queue_line)
        if not self._line_of:
            self._bell.stop(self)
        return was_first

    def _show(self, number: int) -> None:
        """Since when the first of all these lines waits."""
        times = [line.since for line in self._lines.values() if line.source.queue_line == number]
        self._mine[self._slot + QUEUE_FIRST + number] = min(times, default=0)

    # -- places

    def look(self) -> None:
        """Give what there is to those whose turn it is."""
        if self._is_looking:
            self._has_missed = True
            return
        self._is_looking, self._has_missed = True, False
        left = AT_ONCE
        moved: set[int] = set()
        try:
            for line in sorted(self._lines.values(), key=_since):  # lines may be for the same targets, in part
                left = self._serve(line, left, moved)
        finally:
            self._is_looking = False
        if any(map(self._others, moved)):
            self._bell.ring()
        if left <= 0 or self._has_missed:
            self._loop.call_again(self._look_again)

    def _look_again(self, _events: int = 0) -> None:
        self.look()

    def _serve(self, line: Line, left: int, moved: set[int]) -> int:
        """How many may still be dealt with in this turn."""
        number = line.source.queue_line
        while line.waiters and left > 0:
            waiter = line.first()
            if not waiter.has_gone():
                if self._is_behind_others(number, line.since):
                    self._yield(number)
                    break
                place = waiter.take_place()
                reason = line.source.why_none(self._loop.now) if place is None else None
                if reason is Reason.LIMIT:
                    break
                self._remove(waiter)
                self._call(waiter.place_given if reason is None else waiter.place_denied, reason or place)
            moved.add(number)
            left -= 1
        return left

    def _call(self, call: Callable[[Any], Any], argument: Any) -> None:
        try:
            call(argument)
        except Exception as error:  # noqa: BLE001  one session's bug must not end the others
            self._loop.on_error(call, error)

    # -- whose turn it is

    def _others(self, number: int) -> set[First]:
        """The first ones of this line in other workers."""
        slot, mine = self._slot + QUEUE_FIRST + number, self._mine
        return {(index, row[slot]) for index, row in enumerate(self._rows()) if row[slot] and row is not mine}

    def _is_behind_others(self, number: int, since: int) -> bool:
        return any(other < since for _, other in self._others(number) - self._stalled)

    def _yield(self, number: int) -> None:
        if number not in self._yielding:
            self._yielding[number] = 0
            self._loop.call_later(YIELD, self._look_whether_taken, number, self._others(number))

    def _look_whether_taken(self, number: int, before: set[First]) -> None:
        """Of those who were the first before, some may be still."""
        looks = self._yielding.pop(number) + 1
        line = next((line for line in self._lines.values() if line.source.queue_line == number), None)
        still = self._others(number) & before
        if line is None or not still or not self._is_behind_others(number, line.since):
            self.look()
            return
        waiter = line.first()
        place = waiter.take_place()
        if place is None:  # there was nothing to be taken
            return
        waiter.return_place(place)
        if looks < LOOKS:
            self._yielding[number] = looks
            self._loop.call_later(YIELD, self._look_whether_taken, number, still)
            return
        longest = min(still, key=lambda first: first[1])
        self._stalled = {longest} | (self._stalled & self._others(number))
        self.look()

    # -- time

    def _set_timer(self) -> None:
        """One for the first whose time is over."""
        if not self._lines:
            return
        due = min(line.since for line in self._lines.values()) / _MICRO + self._seconds
        if self._timer is not None and self._timer_due <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_later(max(0.0, due - self._loop.now), self._time_over)

    def _time_over(self) -> None:
        self._timer = None
        late = int((self._loop.now - self._seconds) * _MICRO) + 1
        left = AT_ONCE
        for line in tuple(self._lines.values()):
            while line.waiters and line.since <= late and left:
                left -= 1
                waiter = line.first()
                self._remove(waiter)
                self._call(waiter.place_denied, Reason.QUEUE_TIMEOUT)
        if left < AT_ONCE:
            self._bell.ring()
        self._set_timer()
