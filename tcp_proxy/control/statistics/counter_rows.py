"""The counters' memory, as the supervisor keeps it: made at the start, rows for each worker, those of ended ones added up.

Main thread only. A worker has ROWS_PER_WORKER rows, which its threads write. The rows of one that has ended are used again;
one that drains (fewer workers) keeps its rows to its end, so there may be more rows than the wanted workers need.
"""

import os
from collections import Counter
from collections.abc import Collection, Hashable, Iterator

from tcp_proxy.control.statistics.counter_slots import AT_ONCE, CounterSlots, Key
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import (
    ACTIVE,
    APP_SLOTS,
    CONNECT_SLOTS,
    CONNECTS,
    GAUGES,
    LISTENER_ACCEPTED,
    LISTENER_ENDED,
    LISTENER_MOVED,
    LISTENER_SLOTS,
    LOST,
    PROCESS_GAUGES,
    PROCESS_SLOTS,
    ROOM,
    ROWS_PER_WORKER,
    RULE_SLOTS,
    SESSIONS,
    TARGET_SLOTS,
    Counters,
)

PAGE = 512  # slots
GENERATIONS = 8  # of the owners that there are at first have room side by side


@dataclass(frozen=True, slots=True)
class GivenRows:
    """The memory of a program that is taken over, and its bell; ours from now on."""

    fd: int
    bell: int
    rows: int


class CounterRows:
    """`slots` says who owns which counters; those of the first configuration are taken by now."""

    def __init__(self, slots: CounterSlots, workers: int, given: "GivenRows | None" = None) -> None:
        self.slots = slots
        self._assigned: dict[Hashable, int] = {}  # worker -> which of the groups of rows
        if given is not None:
            self.fd, self.bell = given.fd, given.bell
            self.memory = Counters(given.fd, given.rows, slots.room)
            self.memory.fd = self.fd
            return
        # Reloads may replace all of it again before what has left is idle and its slots are free; addresses cost nothing.
        slots.room = max(ROOM, -(-GENERATIONS * slots.used // PAGE) * PAGE)
        self.memory, self.fd = Counters.create(1 + workers * ROWS_PER_WORKER, slots.room)
        self.memory.fd = self.fd
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # rung when a place is free that somebody waits for

    def __repr__(self) -> str:
        return f"<CounterRows {len(self._assigned)} workers, {self.memory!r}, {self.slots!r}>"

    def assign(self, worker: Hashable) -> int:
        """The first row of a new worker. Raises OSError when there is no memory for more rows."""
        taken = set(self._assigned.values())
        number = next(n for n in range(len(taken) + 1) if n not in taken)
        first = 1 + number * ROWS_PER_WORKER
        if first >= len(self.memory.rows):
            rows = first + ROWS_PER_WORKER
            os.ftruncate(self.fd, rows * self.memory.slots * 8)
            self.memory.add_rows(self.fd, rows)
        self._assigned[worker] = number
        return first

    def adopt(self, worker: Hashable, number: int) -> None:
        """It was there before us, and has these rows."""
        self._assigned[worker] = number

    def accepts(self, worker: Hashable) -> bool:
        """Whether it serves its listeners."""
        rows = self._rows_of(worker)
        return bool(rows) and self.memory.rows[rows[0]][counters.ACCEPTING] == 1

    def rename(self, worker: Hashable, new: Hashable) -> None:
        """It is known by another name from now on."""
        self._assigned[new] = self._assigned.pop(worker)

    def assigned(self) -> list[int]:
        """The numbers of all who have rows."""
        return list(self._assigned.values())

    def clear_unassigned(self) -> None:
        """Somebody else may have written there, who was to take over and did not: as good as new."""
        taken = {0}.union(*map(self._rows_of, self._assigned))
        for row in range(self.rows):
            if row not in taken:
                self.memory.clear_row(row)

    def number_of(self, worker: Hashable) -> int:
        """Which of the groups of rows it has; -1, as long as it has none."""
        return self._assigned.get(worker, -1)

    def sessions(self, worker: Hashable) -> int:
        """That it has now."""
        return sum(self.memory.rows[row][SESSIONS] for row in self._rows_of(worker))

    def leave(self, worker: Hashable) -> int:
        """It has ended: nobody takes it for one that accepts. How many sessions it had. Its rows are its own, and in every
        sum, until it is counted out."""
        return self._fold(self._rows_of(worker), 0, PROCESS_SLOTS, PROCESS_GAUGES).get(SESSIONS, 0)

    def counting_out(self, worker: Hashable) -> Iterator[tuple[list[tuple[Key, int]], dict[int, int]]]:
        """In slices: its totals go to the base row, its gauges vanish; at the end its rows are free. Given are the targets,
        or apps, of a slice, with their first slots, and the gauges that it had of them, by slot."""
        rows = self._rows_of(worker)
        if not rows:
            return
        memory, slots, pages = self.memory, self.slots, self.memory.pages()
        without_target: Counter[str] = Counter()  # app -> sessions that ended with the worker
        for some in _cut(slots.blocks("listener")):
            for (app, _), slot in some:
                dead = [memory.rows[row] for row in rows]
                began = sum(row[slot + LISTENER_ACCEPTED] + row[slot + LISTENER_MOVED] for row in dead)
                lost = began - sum(row[slot + LISTENER_ENDED] for row in dead)
                memory.rows[0][slot + LISTENER_ENDED] += lost
                without_target[app] += lost
                self._fold(rows, slot, LISTENER_SLOTS, GAUGES["listener"])
            yield [], {}
        for some in _cut(slots.blocks("rule")):
            for _, slot in some:
                self._fold(rows, slot, RULE_SLOTS, GAUGES["rule"])
            yield [], {}
        for some in _cut(slots.blocks("target")):
            held: dict[int, int] = {}
            for (app, _), slot in some:
                if not pages.have(slot, TARGET_SLOTS):
                    continue
                held |= self._fold(rows, slot, TARGET_SLOTS, GAUGES["target"])
                memory.rows[0][slot + LOST] += held.get(slot + ACTIVE, 0)
                without_target[app] -= held.get(slot + ACTIVE, 0)
            yield some, held
        for some in _cut(slots.blocks("app")):
            held = {}
            for (app,), slot in some:
                held |= self._fold(rows, slot, APP_SLOTS, GAUGES["app"])
                memory.rows[0][slot + LOST] += max(0, without_target.pop(app, 0))
            yield some, held
        self._assigned.pop(worker, None)
        os.eventfd_write(self.bell, 1)  # places have come back meanwhile, and nobody waits there any more

    def _rows_of(self, worker: Hashable) -> range:
        """None, if it never had any, or has been counted out."""
        number = self._assigned.get(worker)
        first = 0 if number is None else 1 + number * ROWS_PER_WORKER
        return range(first, first + (ROWS_PER_WORKER if first else 0))

    def _fold(self, rows: range, first: int, size: int, gauges: Collection[int]) -> dict[int, int]:
        held: dict[int, int] = {}
        for row in rows:
            for slot, value in self.memory.fold(row, first, size, gauges).items():
                held[slot] = held.get(slot, 0) + value
        return held

    @property
    def rows(self) -> int:
        return len(self.memory.rows)

    @property
    def accepted(self) -> int:
        return self.memory.total(counters.ACCEPTED)

    @property
    def served(self) -> int:
        """Sessions that were connected to a target."""
        blocks = [slot for kind in ("target", "app") for _, slot in self.slots.blocks(kind)]
        return self.slots.gone + sum(sum(self.memory.sums(slot + CONNECTS, CONNECT_SLOTS)) for slot in blocks)

    def settle(self, known: int) -> Iterator[None]:
        """In slices; every worker knows the generation `known`."""
        return self.slots.settle(self.memory, known)

    def close(self) -> None:
        self.memory.close()
        os.close(self.fd)
        os.close(self.bell)


def _cut(blocks: list[tuple[Key, int]]) -> Iterator[list[tuple[Key, int]]]:
    for begin in range(0, len(blocks), AT_ONCE):
        yield blocks[begin : begin + AT_ONCE]
