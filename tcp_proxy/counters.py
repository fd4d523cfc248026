"""Counters in memory that the supervisor and all workers share: rows of 64-bit integers in a memfd.

`row[i] += n` from two threads loses counts, so every writing thread has a row of its own and readers add the rows up
(DESIGN 9.4). Row 0 is the base: the totals of workers that have died. A gauge is a slot whose rows add up to "now";
one row of it may be negative (a session may end in another thread than it began).

The supervisor creates the memory and gives out slots; a worker maps what it was handed. The memory lives as long as
any process maps it; nobody unlinks anything. A row has room for ROOM slots and more, of which the most are never touched
and so are no memory; `used` says how many are given out. More rows can be added while it is in use.
"""

import mmap
import os
from collections.abc import Collection, Sequence
from typing import Self

ROOM = 1 << 20  # slots in a row at the least: about 10,000 targets, 8 MiB of addresses
RELAY_THREADS = 2  # in a worker, beside its loop
ROWS_PER_WORKER = 1 + RELAY_THREADS

# The process-wide slots come first. After them lie blocks, each from its owner's `slot` on: control.slots hands them out.
ACCEPTING = 0  # gauge, in the worker's first row: 1 while it serves its listeners
SESSIONS = 1  # gauge: sessions from accept to end
ACCEPTED = 2
PROCESS_SLOTS = 8

# The block of a target, and that of an app: it counts there what happened without a target, or at one that has left.
ACTIVE = 0  # gauge: sessions that hold the target, or are being connected to it
BYTES_UP = 1  # from the client to the target
BYTES_DOWN = 2
RETRIES = 3  # connects after another connect of the same session had failed
LOST = 4  # sessions that ended with their worker; written by the supervisor only
FAILURES = 5  # one slot for each of sansio.reasons.FAILURES: connects that failed
CONNECT_MICROSECONDS = 11  # the sum, of the sessions that were connected
CONNECTS = 12  # the same sessions, one slot for each of CONNECT_BUCKETS and one for all above
SESSION_MICROSECONDS = 27  # the sum, of the sessions that have ended
DURATIONS = 28  # the same sessions, one slot for each of SESSION_BUCKETS and one for all above
ENDS = 44  # the same sessions, one slot for each of sansio.reasons.Reason, in its order
UNPAID = 63  # gauge of a target with max_connections: sessions that hold it without a token (dataplane.apps)
HTTP_STATUS = 64  # requests of mode http by the first digit of their answer's status; 0: by none
HTTP_FAILURES = 70  # requests that the target did not answer, or not as it should
HTTP_MICROSECONDS = 71  # the sum of the times to the head of the answer, of all requests
HTTP_LATENCIES = 72  # the same requests, one slot for each of HTTP_BUCKETS and one for all above
TARGET_SLOTS = 96
APP_ACCEPTED = 96  # clients of listeners that have left
STICK_FALLBACKS = 97  # clients that said nothing in time where their first bytes are part of the key
APP_SLOTS = 104

# The block of a listener. Sessions now are the difference.
LISTENER_ACCEPTED = 0
LISTENER_ENDED = 1
LISTENER_SLOTS = 8

CONNECT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds, at most
HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds, at most
SESSION_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0)
CONNECT_SLOTS, SESSION_SLOTS = len(CONNECT_BUCKETS) + 1, len(SESSION_BUCKETS) + 1
HTTP_SLOTS = len(HTTP_BUCKETS) + 1

assert CONNECTS + CONNECT_SLOTS == SESSION_MICROSECONDS
assert DURATIONS + SESSION_SLOTS == ENDS
assert HTTP_LATENCIES + HTTP_SLOTS <= TARGET_SLOTS

SEMAPHORE = 62  # of a target with max_connections: the number of the one that the worker's tokens are of; in its first row
BLOCKS = {"target": TARGET_SLOTS, "app": APP_SLOTS, "listener": LISTENER_SLOTS}  # kind of owner -> slots
GAUGES = {"target": (ACTIVE, SEMAPHORE, UNPAID), "app": (), "listener": ()}  # where in the block
PROCESS_GAUGES = (ACCEPTING, SESSIONS)

Row = memoryview


class Counters:
    """The whole memory. `rows[i][slot]` reads and writes one word; only row i's own thread may write it."""

    def __init__(self, fd: int, rows: int, slots: int) -> None:
        """Map `fd`, which stays the caller's."""
        self.slots = slots
        self.used = slots  # whoever gives them out says how many
        self._maps: list[tuple[mmap.mmap, memoryview]] = []
        self.rows: list[Row] = []
        self.add_rows(fd, rows)

    @classmethod
    def create(cls, rows: int, slots: int) -> tuple[Self, int]:
        """A new zeroed memory, and the descriptor to hand to workers; the caller closes it. Whole pages: slots % 512 == 0
        where rows are to be added later."""
        fd = os.memfd_create("tcp_proxy counters", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, rows * slots * 8)
            return cls(fd, rows, slots), fd
        except OSError:
            os.close(fd)
            raise

    def __repr__(self) -> str:
        return f"<Counters {len(self.rows)} rows of {self.slots} slots>"

    def add_rows(self, fd: int, rows: int) -> None:
        """Have `rows` in all; `fd` is the memory's, already long enough. Nothing happens when there are as many."""
        before, size = len(self.rows), self.slots * 8
        if rows <= before:
            return
        mapped = mmap.mmap(fd, (rows - before) * size, offset=before * size)
        view = memoryview(mapped).cast("q")
        self._maps.append((mapped, view))
        self.rows.extend(view[i * self.slots : (i + 1) * self.slots] for i in range(rows - before))

    def total(self, slot: int) -> int:
        return sum(row[slot] for row in self.rows)

    def sums(self, slot: int, size: int) -> list[int]:
        """The totals of a block."""
        return list(map(sum, zip(*(row[slot : slot + size].tolist() for row in self.rows), strict=True)))

    def totals(self, slots: Sequence[int]) -> list[int]:
        """Of many slots, at the least cost."""
        rows = self.rows
        return list(map(sum, zip(*(map(row.__getitem__, slots) for row in rows), strict=True)))

    def fold(self, row: int, gauges: Collection[int]) -> dict[int, int]:
        """Take a dead writer's row into the base and clear it. Gauges vanish; returns them, by slot, where not 0."""
        base, dead = self.rows[0], self.rows[row]
        values = dead[: self.used].tolist()
        lost = {slot: values[slot] for slot in gauges if values[slot]}
        for slot, value in enumerate(values):
            if value:
                if slot not in lost:
                    base[slot] += value
                dead[slot] = 0
        return lost

    def close(self) -> None:
        for row in self.rows:
            row.release()
        for mapped, view in self._maps:
            view.release()
            mapped.close()
