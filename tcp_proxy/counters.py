"""Counters in memory that the supervisor and all workers share: rows of 64-bit integers in a memfd.

`row[i] += n` from two threads loses counts, so every writing thread has a row of its own and readers add the rows up
(DESIGN 9.4). Row 0 is the base: the totals of workers that have died. A gauge is a slot whose rows add up to "now";
one row of it may be negative (a session may end in another thread than it began).

The supervisor creates the memory and gives out slots; a worker maps what it was handed. The memory lives as long as
any process maps it; nobody unlinks anything.
"""

import mmap
import os
from typing import Self

RELAY_THREADS = 2  # in a worker, beside its loop
ROWS_PER_WORKER = 1 + RELAY_THREADS

# The process-wide slots, then TARGET_SLOTS for each target, from its `slot` on.
ACCEPTING = 0  # gauge, in the worker's first row: 1 while it serves its listeners
SESSIONS = 1  # gauge: sessions from accept to end
ACCEPTED = 2
PROCESS_SLOTS = 8

ACTIVE = 0  # gauge: sessions that hold a connection to the target
SERVED = 1  # sessions that got one
FAILED = 2  # connects that failed by the target's or the network's doing
LOCAL = 3  # connects that failed for want of something on this machine
BYTES_UP = 4
BYTES_DOWN = 5
TARGET_SLOTS = 6

_GAUGES_OF_PROCESS = (ACCEPTING, SESSIONS)

Row = memoryview


class Counters:
    """The whole memory. `rows[i][slot]` reads and writes one word; only row i's own thread may write it."""

    def __init__(self, fd: int, rows: int, slots: int) -> None:
        """Map `fd`, which stays the caller's."""
        self.slots = slots
        self._map = mmap.mmap(fd, rows * slots * 8)
        self._view = memoryview(self._map).cast("q")
        self.rows: list[Row] = [self._view[i * slots : (i + 1) * slots] for i in range(rows)]

    @classmethod
    def create(cls, rows: int, slots: int) -> tuple[Self, int]:
        """A new zeroed memory, and the descriptor to hand to workers; the caller closes it."""
        fd = os.memfd_create("tcp_proxy counters", os.MFD_CLOEXEC)
        os.ftruncate(fd, rows * slots * 8)
        return cls(fd, rows, slots), fd

    def __repr__(self) -> str:
        return f"<Counters {len(self.rows)} rows of {self.slots} slots>"

    def total(self, slot: int) -> int:
        return sum(row[slot] for row in self.rows)

    def fold(self, row: int) -> dict[int, int]:
        """Take a dead writer's row into the base and clear it. Gauges vanish; returns them, by slot, where not 0."""
        base, dead, gauges = self.rows[0], self.rows[row], {}
        for slot in range(self.slots):
            if self.is_gauge(slot):
                if dead[slot]:
                    gauges[slot] = dead[slot]
            else:
                base[slot] += dead[slot]
            dead[slot] = 0
        return gauges

    @staticmethod
    def is_gauge(slot: int) -> bool:
        if slot < PROCESS_SLOTS:
            return slot in _GAUGES_OF_PROCESS
        return (slot - PROCESS_SLOTS) % TARGET_SLOTS == ACTIVE

    def close(self) -> None:
        for row in self.rows:
            row.release()
        self._view.release()
        self._map.close()
