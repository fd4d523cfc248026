"""Counters in memory that the supervisor and all workers share: rows of 64-bit integers in a memfd.

`row[i] += n` from two threads loses counts, so every writing thread has a row of its own and readers add the rows up
(docs/rules.md, R4). Row 0 is the base: the totals of workers that have died. A gauge is a slot whose rows add up to "now";
one row of it may be negative (a session may end in another thread than it began).

The supervisor creates the memory and gives out slots; a worker maps what it was handed. The memory lives as long as
any process maps it; nobody unlinks anything. A row has room for ROOM slots and more, of which the most are never touched
and so are no memory; a core dump, which would touch them, has none of it. More rows can be added while it is in use.
"""

import errno
import mmap
import os
from collections.abc import Collection, Iterable, Sequence
from operator import add, itemgetter
from typing import Final, Self

from tcp_proxy.runtime.memory import leave_out_of_dumps

PAGE: Final = mmap.PAGESIZE // 8  # slots
LAYOUT: Final = 1  # the next number when a word moves: a program that takes over has the memory of the one before it
ROOM: Final = 1 << 22  # slots in a row at the least: about 40,000 targets, 32 MiB of addresses
RELAY_THREADS: Final = 2  # in a worker, beside its loop
ROWS_PER_WORKER: Final = 1 + RELAY_THREADS

# The process-wide slots come first. After them lie blocks, each from its owner's `slot` on
# (control.statistics.counter_slots).
ACCEPTING: Final = 0  # gauge, in the worker's first row: 1 while it serves its listeners
SESSIONS: Final = 1  # gauge: sessions from accept to end
ACCEPTED: Final = 2
PROCESS_SLOTS: Final = 8

# The block of a target, and that of an app: it counts there what happened without a target, or at one that has left.
ACTIVE: Final = 0  # gauge: sessions that hold the target, or are connecting to it; of an app: those of limits.sessions
BYTES_UP: Final = 1  # from the client to the target
BYTES_DOWN: Final = 2
RETRIES: Final = 3  # connects after another connect of the same session had failed
LOST: Final = 4  # sessions that ended with their worker; written by the supervisor only
FAILURES: Final = 5  # one slot for each of sansio.reasons.FAILURES: connects that failed
CONNECT_MICROSECONDS: Final = 11  # the sum, of the sessions that were connected
CONNECTS: Final = 12  # the same sessions, one slot for each of CONNECT_BUCKETS and one for all above
SESSION_MICROSECONDS: Final = 27  # the sum, of the sessions that have ended
DURATIONS: Final = 28  # the same sessions, one slot for each of SESSION_BUCKETS and one for all above
ENDS: Final = 44  # the same sessions, one slot for each of sansio.reasons.Reason, in its order: 20 at most
HTTP_STATUS: Final = 64  # requests of mode http by the first digit of their answer's status; 0: by none
HTTP_FAILURES: Final = 70  # requests that the target did not answer, or not as it should
HTTP_MICROSECONDS: Final = 71  # the sum of the times to the head of the answer, of all requests
HTTP_LATENCIES: Final = 72  # the same requests, one slot for each of HTTP_BUCKETS and one for all above
HTTP_CONNECTIONS: Final = 88  # gauge: connections to the target that are open for requests, idle ones too; no tunnels
UNPAID: Final = 89  # gauge of a target, or an app, with a limit of sessions: those that hold no token (dataplane.places)
SEMAPHORE: Final = 90  # of the same: the number of the semaphore that the worker's tokens are of; in its first row
OUTLIER_FAILURES: Final = 91  # of a target in an app with `outlier`: what counts as a failure there
OUTLIER_SERVER_ERRORS: Final = 92  # of these: answers of 500 and above that are no gateway failures
OUTLIER_BOTH: Final = 93  # of these: those that other slots count as connected (resets before a byte), or as answered (late)
TARGET_SLOTS: Final = 96
APP_ACCEPTED: Final = 96  # clients of listeners that have left
STICK_FALLBACKS: Final = 97  # clients that said nothing in time where their first bytes are part of the key
REFUSED: Final = 98  # clients that were refused before they were sessions, one slot for each of sansio.reasons.Refusal
QUEUED: Final = 112  # gauge: clients that wait for a place
QUEUED_TOTAL: Final = 113  # those who had to
QUEUE_MICROSECONDS: Final = 114  # the sum of the times that they have waited
QUEUE_FIRST: Final = 116  # in a worker's first row, for each of QUEUE_LINES: since when its first client waits (loop.now)
QUEUE_LINES: Final = 16  # 0: for the app; 1: for any of its targets; the others: for those of a route
LIMITED: Final = 132  # clients, or requests, that were above a limit, one slot for each of LIMITS
DELAYED: Final = 135  # those that had to wait for their turn (limits.action), or still do
DELAY_MICROSECONDS: Final = 136  # the sum of the times that they had to
CLIENTS_UNTRACKED: Final = 137  # that came while there was no room for what is known of them
CLIENTS_FORGOTTEN: Final = 138  # of whom something was known, for which there was no room any more
FAULTED: Final = 139  # sessions that have met a fault on purpose
APP_SLOTS: Final = 144
LIMITS = ("rate", "rate_per_client", "sessions_per_client")

# The block of a listener. Sessions now are the difference; of one worker, with those that have moved.
LISTENER_ACCEPTED: Final = 0
LISTENER_ENDED: Final = 1
LISTENER_ARRIVING: Final = 2  # gauge: clients that have come and are counted as neither yet (dataplane.edge.arrival)
LISTENER_MOVED: Final = 3  # gauge: sessions that came from other workers, less those that went there (dataplane.moving)
LISTENER_SLOTS: Final = 8

# The block of a rule of access: its clients.
RULE_SLOTS: Final = 1

CONNECT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds, at most
HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds, at most
SESSION_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0)
CONNECT_SLOTS, SESSION_SLOTS = len(CONNECT_BUCKETS) + 1, len(SESSION_BUCKETS) + 1
HTTP_SLOTS: Final = len(HTTP_BUCKETS) + 1

assert CONNECTS + CONNECT_SLOTS == SESSION_MICROSECONDS
assert DURATIONS + SESSION_SLOTS == ENDS
assert HTTP_LATENCIES + HTTP_SLOTS == HTTP_CONNECTIONS

BLOCKS: Final = {"target": TARGET_SLOTS, "app": APP_SLOTS, "listener": LISTENER_SLOTS, "rule": RULE_SLOTS}  # by owner
GAUGES: Final = {  # where in the block
    "target": (ACTIVE, SEMAPHORE, UNPAID, HTTP_CONNECTIONS),
    "app": (ACTIVE, SEMAPHORE, UNPAID, QUEUED, *range(QUEUE_FIRST, QUEUE_FIRST + QUEUE_LINES)),
    "listener": (LISTENER_ARRIVING, LISTENER_MOVED),
    "rule": (),
}
PROCESS_GAUGES = (ACCEPTING, SESSIONS)

Owner = tuple[tuple[str, ...], int]  # its key, and its first slot
Row = memoryview
ZERO: Final = memoryview(bytes(8 * max(BLOCKS.values()))).cast("q")


class Pages:
    """Of a row, those where somebody has written, in any row."""

    def __init__(self, count: int, are_written: bool) -> None:
        self._written = bytearray([are_written]) * count

    def __repr__(self) -> str:
        return f"<Pages {sum(self._written)} of {len(self._written)} written>"

    def add(self, first: int, end: int) -> None:
        self._written[first:end] = b"\1" * (end - first)

    def among(self, owners: Iterable[Owner], word: int) -> list[Owner]:
        """Of 20,000 in 2 ms, those of whom this word may be anything but zero."""
        written = self._written
        return [owner for owner in owners if written[(owner[1] + word) // PAGE]]

    def have(self, slot: int, size: int = 1) -> bool:
        """Whether there may be anything but zero. `size`: no more than a page."""
        return bool(self._written[slot // PAGE] or self._written[(slot + size - 1) // PAGE])


class Counters:
    """The whole memory. `rows[i][slot]` reads and writes one word; only row i's own thread may write it. `fd`: its
    descriptor, where its owner keeps that open."""

    def __init__(self, fd: int, rows: int, slots: int) -> None:
        """Map `fd`, which stays the caller's."""
        self.fd = -1
        self.slots = slots
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
        leave_out_of_dumps(mapped)
        view = memoryview(mapped).cast("q")
        self._maps.append((mapped, view))
        self.rows.extend(view[i * self.slots : (i + 1) * self.slots] for i in range(rows - before))

    def pages(self) -> Pages:
        """As they are now. To read where nobody has written makes pages there: of 20,000 targets without sessions 60 MB, and
        the time to look at them. Without `fd`, or where the kernel cannot say, all are taken for written."""
        count = -(-self.slots // PAGE) + 1
        try:
            return self._written(Pages(count, self.fd < 0))
        except OSError:
            return Pages(count, True)

    def _written(self, pages: Pages) -> Pages:
        """Raises OSError: the kernel does not know SEEK_DATA here."""
        for row in range(len(self.rows) if self.fd >= 0 else 0):
            begin, end = row * self.slots * 8, (row + 1) * self.slots * 8
            at = _seek(self.fd, begin, os.SEEK_DATA, end)
            while at < end:
                hole = _seek(self.fd, at, os.SEEK_HOLE, end)
                pages.add((at - begin) // mmap.PAGESIZE, -(-(hole - begin) // mmap.PAGESIZE))
                at = _seek(self.fd, hole, os.SEEK_DATA, end)
        return pages

    def total(self, slot: int) -> int:
        return sum(row[slot] for row in self.rows)

    def sums(self, slot: int, size: int) -> list[int]:
        """The totals of a block. Most rows of most blocks are zero: of 20,000 targets it is a tenth of the time to look."""
        zero = bytes(8 * size)
        blocks = [self._block(row, slot, size) for row in range(len(self.rows))]
        live = [memoryview(block).cast("q").tolist() for block in blocks if block != zero]
        return list(map(sum, zip(*live, strict=True))) if live else [0] * size

    def _block(self, row: int, slot: int, size: int) -> bytes:
        """By a call to the kernel, which makes no pages: else each look at blocks that lie over two of them would make the
        next one, and after some time all would be there."""
        if self.fd < 0:
            return self.rows[row][slot : slot + size].tobytes()
        return os.pread(self.fd, 8 * size, 8 * (row * self.slots + slot))

    def totals(self, slots: Sequence[int]) -> list[int]:
        """Of many slots, at the least cost: below 10 ms for 20,000 in seven rows."""
        if len(slots) < 2:
            return [self.total(slot) for slot in slots]
        found, pick = [0] * len(slots), itemgetter(*slots)
        for row in self.rows:
            found = list(map(add, found, pick(row)))
        return found

    def written_totals(self, slots: Sequence[int], pages: Pages) -> list[int]:
        """The same, without a look where nobody has written."""
        written = list(filter(pages.have, slots))
        if len(written) == len(slots):
            return self.totals(slots)
        found = dict(zip(written, self.totals(written), strict=True))
        return [found.get(slot, 0) for slot in slots]

    def clear(self, slot: int, size: int) -> None:
        """A block is nobody's."""
        for row in self.rows:
            row[slot : slot + size] = ZERO[:size]

    def release(self, first: int, count: int) -> None:
        """These slots are zero, and nobody's: whole pages of them are memory no more until they are written again."""
        page = mmap.PAGESIZE
        for mapped, view in self._maps:
            for row in range(len(view) // self.slots):
                slot = row * self.slots + first
                begin, end = -(-slot * 8 // page) * page, (slot + count) * 8 // page * page
                if begin < end:
                    mapped.madvise(mmap.MADV_REMOVE, begin, end - begin)

    def clear_row(self, row: int) -> None:
        """It is nobody's, and as much memory as one that was never written. In a memory of whole pages."""
        for mapped, view in self._maps:
            count = len(view) // self.slots
            if row < count:
                mapped.madvise(mmap.MADV_REMOVE, row * self.slots * 8, self.slots * 8)
                return
            row -= count

    def fold(self, row: int, first: int, size: int, gauges: Collection[int]) -> dict[int, int]:
        """Take a block of a dead writer's row into the base and clear it. Gauges (where in the block) vanish; returns them,
        by slot, where not 0."""
        base, dead = self.rows[0], self.rows[row]
        block = dead[first : first + size]
        if block == ZERO[:size]:
            return {}
        lost: dict[int, int] = {}
        for place, value in enumerate(block.tolist()):
            if not value:
                continue
            if place in gauges:
                lost[first + place] = value
            else:
                base[first + place] += value
            dead[first + place] = 0
        return lost

    def close(self) -> None:
        for row in self.rows:
            row.release()
        for mapped, view in self._maps:
            view.release()
            mapped.close()


def _seek(fd: int, at: int, whence: int, end: int) -> int:
    """`end` at the most. Nobody uses the place where the descriptor is then. Raises OSError."""
    try:
        return min(end, os.lseek(fd, at, whence))
    except OSError as error:
        if error.errno != errno.ENXIO:  # else there is no more
            raise
        return end
