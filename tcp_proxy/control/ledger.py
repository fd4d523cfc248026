"""The counters' memory, as the supervisor keeps it: made at the start, rows for each worker, those of the dead counted out.

Main thread only. A worker has a seat: the rows that its threads write. The seat of one that has ended is the next one's;
one that leaves (fewer workers) keeps its seat to its end, so there may be more seats than workers are wanted.
"""

import os
from collections import Counter
from collections.abc import Hashable

from tcp_proxy import counters
from tcp_proxy.control.slots import Slots
from tcp_proxy.counters import (
    ACTIVE,
    CONNECT_SLOTS,
    CONNECTS,
    LISTENER_ACCEPTED,
    LISTENER_ENDED,
    LOST,
    ROOM,
    ROWS_PER_WORKER,
    Counters,
)

PAGE = 512  # slots


class Ledger:
    """`slots` says who owns which counters; those of the first configuration are taken by now."""

    def __init__(self, slots: Slots, workers: int) -> None:
        self.slots = slots
        slots.room = max(ROOM, -(-2 * slots.used // PAGE) * PAGE)
        self.memory, self.fd = Counters.create(1 + workers * ROWS_PER_WORKER, slots.room)
        self._seats: dict[Hashable, int] = {}  # worker -> number of its seat

    def __repr__(self) -> str:
        return f"<Ledger {len(self._seats)} seats taken, {self.memory!r}, {self.slots!r}>"

    def seat(self, worker: Hashable) -> int:
        """The first row of a new worker. Raises OSError when there is no memory for more rows."""
        taken = set(self._seats.values())
        number = next(n for n in range(len(taken) + 1) if n not in taken)
        first = 1 + number * ROWS_PER_WORKER
        if first >= len(self.memory.rows):
            rows = first + ROWS_PER_WORKER
            os.ftruncate(self.fd, rows * self.memory.slots * 8)
            self.memory.add_rows(self.fd, rows)
        self._seats[worker] = number
        return first

    def count_out(self, worker: Hashable) -> dict[int, int]:
        """Its totals go to the base row, its gauges vanish, its seat is free; the gauges it had, by slot."""
        number = self._seats.pop(worker, None)
        if number is None:
            return {}
        held: dict[int, int] = {}
        memory, gauges = self.memory, self.slots.gauges()
        memory.used = self.slots.used
        first = 1 + number * ROWS_PER_WORKER
        rows = memory.rows[first : first + ROWS_PER_WORKER]
        without_target: Counter[str] = Counter()  # app -> sessions that ended with the worker
        for (app, _), slot in self.slots.blocks("listener"):
            lost = sum(row[slot + LISTENER_ACCEPTED] - row[slot + LISTENER_ENDED] for row in rows)
            memory.rows[0][slot + LISTENER_ENDED] += lost
            without_target[app] += lost
        for row in range(first, first + ROWS_PER_WORKER):
            for slot, value in memory.fold(row, gauges).items():
                held[slot] = held.get(slot, 0) + value
        for (app, _), slot in self.slots.blocks("target"):
            memory.rows[0][slot + LOST] += held.get(slot + ACTIVE, 0)
            without_target[app] -= held.get(slot + ACTIVE, 0)
        for (app,), slot in self.slots.blocks("app"):
            memory.rows[0][slot + LOST] += max(0, without_target.pop(app, 0))
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

    def settle(self, known: int) -> None:
        """Every worker knows the generation `known`."""
        self.slots.settle(self.memory, known)

    def close(self) -> None:
        self.memory.close()
        os.close(self.fd)
