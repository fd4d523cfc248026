"""What is known of an app's clients, in memory that all workers share: buckets of tokens, and sessions at the moment.

    0 ..             words: see the constants
    LOCKS ..         STRIPES locks for clients, one for the app's own word
    HEAD ..          of each entry a key; when the bucket of its sessions (or requests) is full again; that of its bytes, up
                     and down: four arrays of 64 bits
    then             for each worker the sessions that it has of each entry: two columns of 32 bits, which its loop's thread
                     and its other threads write; one of them may be negative, as a session may end in another thread

A client has one of 16 entries, in two sets of WAYS, chosen by its key and numbers that nobody outside knows. Who has no
session and whose buckets are full is as good as unknown, so its entry is free. When none of the 16 is, a client without
sessions leaves: the one whose buckets are full soonest, and who so loses the least (`forgotten`). When all 16 have sessions
there is no entry for the newcomer.

Always true:
- columns are written by their worker alone, so the supervisor takes back what a dead one has by making them zero;
- everything else of a set is written under its stripe's lock, one word at a time, each of them whole: who dies in between
  leaves an entry that has a bucket of its owner, or a full one (test_client_table);
- both sets of a client have the same lock.
"""

import mmap
import os

from tcp_proxy.runtime.memory import leave_out_of_dumps
from tcp_proxy.runtime.process_locks import SIZE, ProcessLocks, make_locks

ENTRIES, WORKERS, FIRST_FACTOR, SECOND_FACTOR, APP_FULL_AT = range(5)  # words; WORKERS: whose columns are in use
WAYS, STRIPES = 8, 16
LOCKS, APP_LOCK = 512, STRIPES
HEAD = 4096
MOST_WORKERS = 1024  # address space, and memory only where a worker has sessions
LEAST = 4096  # entries: sets enough for each stripe to be filled evenly
_64 = (1 << 64) - 1

assert LOCKS + (STRIPES + 1) * SIZE <= HEAD

Place = tuple[int, int, int]  # the first entries of both sets, the lock


def entries_for(clients: int) -> int:
    """A power of two."""
    return max(LEAST, 1 << (clients - 1).bit_length())


def create(entries: int) -> int:
    """A new table, and the descriptor to hand to workers. Raises OSError."""
    fd = os.memfd_create("tcp_proxy clients", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, HEAD + entries * (32 + 8 * MOST_WORKERS))
        with mmap.mmap(fd, HEAD) as memory:
            words = memoryview(memory).cast("Q")
            words[ENTRIES] = entries
            factors = memoryview(os.urandom(16)).cast("Q")
            words[FIRST_FACTOR], words[SECOND_FACTOR] = factors[0] | 1, factors[1] | 1
            words.release()
            make_locks(memory, LOCKS, STRIPES + 1)
    except OSError:
        os.close(fd)
        raise
    return fd


def forget_worker(fd: int, worker: int) -> None:
    """In the supervisor: it is dead."""
    with mmap.mmap(fd, HEAD) as memory:
        head = memoryview(memory).cast("Q")
        entries, workers = head[ENTRIES], head[WORKERS]
        head.release()
    size = 8 * entries
    if 0 <= worker < workers:
        # A page of the system may be longer than the columns: what is before it is mapped, and left as it is.
        begin = HEAD + 32 * entries + worker * size
        first = begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        with mmap.mmap(fd, begin - first + size, offset=first) as memory:
            if begin == first and not size % mmap.PAGESIZE:
                memory.madvise(mmap.MADV_REMOVE, 0, size)  # and it is no memory any more
            else:
                memory[begin - first :] = bytes(size)


class ClientTable:
    """`keys`, `full_at` and so on are arrays, by the number of an entry; 0 is nobody's key."""

    def __init__(self, fd: int, worker: int) -> None:
        """Map `fd`, which stays the caller's. `worker`: its number, below MOST_WORKERS."""
        memory = self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        leave_out_of_dumps(memory)
        self.words = memoryview(memory)[:LOCKS].cast("q")
        factors = memoryview(memory)[:LOCKS].cast("Q")
        self.entries, self._factors = self.words[ENTRIES], (factors[FIRST_FACTOR], factors[SECOND_FACTOR])
        self.locks = ProcessLocks(memory, LOCKS, STRIPES + 1)
        size = 8 * self.entries
        parts = [memoryview(memory)[HEAD + number * size : HEAD + (number + 1) * size] for number in range(4)]
        self.keys = parts[0].cast("Q")
        self.full_at, self.bytes_full_at = parts[1].cast("q"), (parts[2].cast("q"), parts[3].cast("q"))
        self.columns: list[memoryview] = []
        self.workers = 0  # whose columns these are
        is_ours = self.locks.take(APP_LOCK)
        self.words[WORKERS] = max(self.words[WORKERS], worker + 1)
        if is_ours:
            self.locks.give(APP_LOCK)
        self.look_at_workers()
        self.own, self.own_of_others = self.columns[2 * worker : 2 * worker + 2]

    def __repr__(self) -> str:
        return f"<ClientTable of {self.entries} entries, {self.workers} workers>"

    def look_at_workers(self) -> None:
        """A new one has shown its columns, before it has a session."""
        size = 4 * self.entries
        for number in range(2 * self.workers, 2 * self.words[WORKERS]):
            begin = HEAD + 32 * self.entries + number * size
            self.columns.append(memoryview(self._memory)[begin : begin + size].cast("i"))
        self.workers = len(self.columns) // 2

    def place_of(self, key: int) -> Place:
        one, other = self._factors
        mixed = (key ^ one) * other & _64
        mixed = (mixed ^ mixed >> 32) * one & _64
        mixed ^= mixed >> 29
        sets = self.entries // WAYS
        first = mixed % sets
        second = (mixed >> 32) % sets // STRIPES * STRIPES + first % STRIPES
        return first * WAYS, second * WAYS, first % STRIPES

    def find(self, key: int, place: Place) -> int:
        """Its entry, -1: it has none. Under the lock, as `find_room`."""
        for begin in place[:2]:
            some = self.keys[begin : begin + WAYS].tolist()
            if key in some:
                return begin + some.index(key)
        return -1

    def find_room(self, key: int, place: Place, now: int) -> tuple[int, bool]:
        """An entry that is this client's from now on, -1: there is none; whether another one was forgotten for it."""
        entry, full_at = self._unused(place)
        if entry < 0:
            ways = (*range(place[0], place[0] + WAYS), *range(place[1], place[1] + WAYS))
            by_time = sorted((max(array[entry] for array in (self.full_at, *self.bytes_full_at)), entry) for entry in ways)
            full_at, entry = next(((when, entry) for when, entry in by_time if not self.sessions(entry)), (0, -1))
        if entry >= 0:
            self.keys[entry] = 0
            self.full_at[entry] = self.bytes_full_at[0][entry] = self.bytes_full_at[1][entry] = 0
            self.keys[entry] = key
        return entry, full_at > now

    def _unused(self, place: Place) -> tuple[int, int]:
        """One that nobody has had, of the set that has more of these: so sets fill evenly."""
        sets = [self.keys[begin : begin + WAYS].tolist() for begin in place[:2]]
        more = sets[1].count(0) > sets[0].count(0)
        return (place[more] + sets[more].index(0) if 0 in sets[more] else -1), 0

    def sessions(self, entry: int) -> int:
        """At the moment, in all workers. Under the lock."""
        if self.workers < self.words[WORKERS]:
            self.look_at_workers()
        if self.workers == 1:
            return int(self.own[entry] + self.own_of_others[entry])
        count = 0
        for column in self.columns:
            count += column[entry]
        return count
