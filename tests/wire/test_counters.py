"""Shared memory: rows that lose nothing, totals that survive a worker, gauges that do not, other processes that see it."""

import errno
import mmap
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import procfs
from kit.proxy import ROOT
from tcp_proxy.sansio.reasons import FAILURES as sansio_failures
from tcp_proxy.sansio.reasons import Reason, Refusal
from tcp_proxy.wire.counters import (
    ACCEPTED,
    ACCEPTING,
    ACTIVE,
    APP_ACCEPTED,
    APP_SLOTS,
    BYTES_DOWN,
    BYTES_UP,
    CONNECT_BUCKETS,
    CONNECT_MICROSECONDS,
    CONNECTS,
    ENDS,
    FAILURES,
    PAGE,
    PROCESS_GAUGES,
    PROCESS_SLOTS,
    REFUSED,
    ROOM,
    SEMAPHORE,
    SESSION_BUCKETS,
    SESSIONS,
    TARGET_SLOTS,
    Counters,
)

SLOTS = PROCESS_SLOTS + 2 * TARGET_SLOTS
SECOND = PROCESS_SLOTS + TARGET_SLOTS  # the first slot of the second target
MOST = 2**63 - 1
GAUGES = {*PROCESS_GAUGES, PROCESS_SLOTS + ACTIVE, SECOND + ACTIVE}


class Memory:
    """Counters with their descriptor, for the time of a test."""

    def __init__(self, rows=4, slots=SLOTS):
        self.counters, self.fd = Counters.create(rows, slots)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.counters.close()
        os.close(self.fd)


@pytest.fixture
def memory():
    with Memory() as memory:
        yield memory


def test_new_counters_are_zero(memory):
    assert [row.tolist() for row in memory.counters.rows] == [[0] * SLOTS] * 4
    assert os.fstat(memory.fd).st_size == 4 * SLOTS * 8
    assert not os.get_inheritable(memory.fd)
    assert repr(memory.counters) == f"<Counters 4 rows of {SLOTS} slots>"


def test_a_word_holds_64_bits_with_a_sign(memory):
    row = memory.counters.rows[1]
    row[BYTES_UP], row[BYTES_DOWN] = MOST, -MOST - 1
    assert (row[BYTES_UP], row[BYTES_DOWN]) == (MOST, -MOST - 1)
    with pytest.raises(ValueError, match="format 'q'"):
        row[BYTES_UP] += 1


def test_rows_do_not_overlap(memory):
    for number, row in enumerate(memory.counters.rows):
        for slot in range(SLOTS):
            row[slot] = number * SLOTS + slot
    assert [word for row in memory.counters.rows for word in row] == list(range(4 * SLOTS))
    with pytest.raises(IndexError):
        memory.counters.rows[0][SLOTS] = 1


def test_a_total_is_the_sum_over_all_rows_some_of_them_negative(memory):
    """A session may end in another thread than it began."""
    for row, value in zip(memory.counters.rows, (100, 7, -3, 0), strict=True):
        row[SESSIONS] = value
    assert memory.counters.total(SESSIONS) == 104
    assert memory.counters.total(ACCEPTED) == 0


def test_two_threads_on_two_rows_lose_nothing(memory):
    """The same slot, each in its own row, while a reader looks: the total never goes back, and is exact at the end."""
    count, start, seen = 100_000, threading.Barrier(3), []

    def write(row):
        start.wait(5)
        for _ in range(count):
            row[ACCEPTED] += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=write, args=(row,), name="writer") for row in memory.counters.rows[1:3]]
        for thread in threads:
            thread.start()
        start.wait(5)
        while any(thread.is_alive() for thread in threads):
            seen.append(memory.counters.total(ACCEPTED))
        for thread in threads:
            thread.join(5)
    finally:
        sys.setswitchinterval(interval)
    assert seen == sorted(seen)
    assert memory.counters.total(ACCEPTED) == 2 * count


# -- folding


def test_the_blocks_have_room_for_everything():
    assert ENDS + len(Reason) <= SEMAPHORE
    assert REFUSED + len(Refusal) <= APP_SLOTS
    assert FAILURES + len(sansio_failures) <= CONNECT_MICROSECONDS
    assert APP_ACCEPTED < APP_SLOTS
    for bounds in (CONNECT_BUCKETS, SESSION_BUCKETS):
        assert list(bounds) == sorted(set(bounds))


def test_the_sums_of_a_block_are_its_totals(memory):
    for number, row in enumerate(memory.counters.rows):
        for slot in range(SLOTS):
            row[slot] = number * slot
    assert memory.counters.sums(SECOND, 5) == [memory.counters.total(SECOND + n) for n in range(5)]


def test_fold_saves_totals_and_lets_gauges_vanish(memory):
    base, dead, alive, _ = memory.counters.rows
    base[ACCEPTED], base[SECOND + BYTES_UP] = 10, 1000
    dead[ACCEPTING], dead[SESSIONS], dead[ACCEPTED] = 1, 5, 7
    dead[PROCESS_SLOTS + CONNECTS] = dead[PROCESS_SLOTS + FAILURES] = dead[PROCESS_SLOTS + ENDS] = 3
    dead[SECOND + ACTIVE], dead[SECOND + BYTES_UP], dead[SECOND + BYTES_DOWN] = 2, 500, 600
    alive[SESSIONS], alive[ACCEPTED] = 1, 1
    assert memory.counters.fold(1, 0, SLOTS, GAUGES) == {ACCEPTING: 1, SESSIONS: 5, SECOND + ACTIVE: 2}
    assert dead.tolist() == [0] * SLOTS
    assert (base[ACCEPTED], base[SECOND + BYTES_UP], base[SECOND + BYTES_DOWN]) == (17, 1500, 600)
    assert [base[PROCESS_SLOTS + slot] for slot in (CONNECTS, FAILURES, ENDS)] == [3, 3, 3]
    assert memory.counters.total(SESSIONS) == 1
    assert memory.counters.total(ACCEPTED) == 18
    assert memory.counters.fold(1, 0, SLOTS, GAUGES) == {}, "a second time there is nothing left"


def test_a_negative_gauge_is_told_as_it_is(memory):
    """The rows of one worker together are right, each alone need not be."""
    memory.counters.rows[1][SECOND + ACTIVE] = 5
    memory.counters.rows[2][SECOND + ACTIVE] = -3
    assert [memory.counters.fold(row, 0, SLOTS, GAUGES) for row in (1, 2)] == [{SECOND + ACTIVE: 5}, {SECOND + ACTIVE: -3}]


@given(rows=st.lists(st.lists(st.integers(-(2**40), 2**40), min_size=SLOTS, max_size=SLOTS), min_size=2, max_size=3))
def test_folding_every_row_changes_no_total_and_returns_every_gauge(rows):
    with Memory(len(rows)) as memory:
        for row, values in zip(memory.counters.rows, rows, strict=True):
            for slot, value in enumerate(values):
                row[slot] = value
        before = [memory.counters.total(slot) for slot in range(SLOTS)]
        gauges = [memory.counters.fold(row, 0, SLOTS, GAUGES) for row in range(1, len(rows))]
        for slot in range(SLOTS):
            returned = sum(part.get(slot, 0) for part in gauges)
            assert memory.counters.total(slot) + returned == before[slot]
            assert slot in GAUGES or returned == 0


# -- other mappings


def test_another_mapping_sees_every_write_and_writes_itself(memory):
    other = Counters(memory.fd, 4, SLOTS)
    memory.counters.rows[2][ACCEPTED] = 42
    other.rows[3][ACCEPTED] = 8
    assert (other.total(ACCEPTED), memory.counters.total(ACCEPTED)) == (50, 50)
    other.close()
    assert memory.counters.total(ACCEPTED) == 50


def test_the_words_lie_in_memory_row_by_row_in_native_order(memory):
    memory.counters.rows[2][ACCEPTED] = 0x1122334455667788
    with mmap.mmap(memory.fd, 4 * SLOTS * 8, prot=mmap.PROT_READ) as raw:
        at = (2 * SLOTS + ACCEPTED) * 8
        assert int.from_bytes(raw[at : at + 8], sys.byteorder) == 0x1122334455667788


def test_the_memory_outlives_its_descriptor_as_long_as_somebody_maps_it():
    counters, fd = Counters.create(2, SLOTS)
    other = Counters(fd, 2, SLOTS)
    os.close(fd)
    counters.rows[1][ACCEPTED] = 9
    counters.close()
    assert other.total(ACCEPTED) == 9
    other.close()


def test_a_mapping_larger_than_the_memory_is_refused(memory):
    with pytest.raises(ValueError, match="mmap length is greater than file size"):
        Counters(memory.fd, 5, SLOTS)


CHILD = """
import sys
from tcp_proxy.wire.counters import ACCEPTED, SESSIONS, Counters
counters = Counters(int(sys.argv[1]), 4, int(sys.argv[2]))
row = counters.rows[int(sys.argv[3])]
for _ in range(20_000):
    row[ACCEPTED] += 1
row[SESSIONS] = 3
sys.stdout.write("counted\\n")
sys.stdout.flush()
sys.stdin.readline()
"""


def start_child(memory, row):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(memory.fd), str(SLOTS), str(row)], pass_fds=(memory.fd,), cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def test_processes_share_the_memory_and_a_killed_one_is_counted_out(memory):
    """Two writers and the reader; what they had counted stays after kill -9, what they had open does not."""
    children = [start_child(memory, row) for row in (1, 2)]
    try:
        assert [child.stdout.readline() for child in children] == [b"counted\n"] * 2
        assert memory.counters.total(ACCEPTED) == 40_000
        assert memory.counters.total(SESSIONS) == 6
    finally:
        for child in children:
            child.kill()
            child.communicate(timeout=10)
    assert memory.counters.total(ACCEPTED) == 40_000
    assert [memory.counters.fold(row, 0, SLOTS, GAUGES) for row in (1, 2)] == [{SESSIONS: 3}, {SESSIONS: 3}]
    assert memory.counters.rows[0][ACCEPTED] == memory.counters.total(ACCEPTED) == 40_000
    assert memory.counters.total(SESSIONS) == 0


def test_the_memory_has_no_name(memory):
    """Nobody can unlink it, nobody finds it but by the descriptor."""
    assert os.readlink(f"/proc/self/fd/{memory.fd}") == "/memfd:tcp_proxy counters (deleted)"


def test_rows_are_added_while_others_use_the_memory():
    counters, fd = Counters.create(2, 512)
    other = Counters(fd, 2, 512)
    rows = counters.rows
    counters.rows[1][ACCEPTED] = 4
    os.ftruncate(fd, 5 * 512 * 8)
    counters.add_rows(fd, 5)
    counters.add_rows(fd, 3)
    assert len(counters.rows) == 5
    assert counters.rows is rows
    counters.rows[4][ACCEPTED] = 3
    assert other.total(ACCEPTED) == 4, "it does not know of them yet"
    other.add_rows(fd, 5)
    assert other.total(ACCEPTED) == counters.total(ACCEPTED) == 7
    for one in (counters, other):
        one.close()
    os.close(fd)


def test_room_that_is_not_used_is_no_memory():
    counters, fd = Counters.create(4, ROOM)
    counters.used = SLOTS
    counters.rows[1][ACCEPTED] = 1
    counters.fold(1, 0, SLOTS, GAUGES)
    assert os.fstat(fd).st_blocks * 512 < 1 << 16
    counters.close()
    os.close(fd)


def test_totals_of_many_slots_at_once(memory):
    memory.counters.rows[0][3], memory.counters.rows[2][3], memory.counters.rows[1][5] = 1, 2, 4
    assert memory.counters.totals([5, 3, 0, 3]) == [4, 3, 0, 3]
    assert memory.counters.totals([]) == []


def test_totals_without_a_look_where_nobody_has_written():
    with Memory(rows=3, slots=4 * PAGE) as memory:
        made = memory.counters
        made.fd = memory.fd
        made.rows[0][3], made.rows[2][3] = 1, 2
        assert made.written_totals([PAGE, 3, 2 * PAGE, 3], made.pages()) == [0, 3, 0, 3]
        assert made.written_totals([4, 3], made.pages()) == [0, 3]
        assert made.written_totals([], made.pages()) == []
        assert os.fstat(memory.fd).st_blocks * 512 <= 3 * mmap.PAGESIZE, "one page in each row"


def pages(fd):
    return os.fstat(fd).st_blocks * 512 // mmap.PAGESIZE


def test_released_slots_are_zero_and_no_memory():
    """Whole pages, in every row, those that were added included; what is beside them stays."""
    memory, fd = Counters.create(2, 2048)
    try:
        os.ftruncate(fd, 3 * 2048 * 8)
        memory.add_rows(fd, 3)
        for row in memory.rows:
            for slot in range(2048):
                row[slot] = 7
        before = pages(fd)
        for row in memory.rows:
            row[100:1600] = memoryview(bytes(1500 * 8)).cast("q")
        memory.release(100, 1500)
        assert before - pages(fd) == 3 * 2, "of 1,500 slots, two whole pages of 512"
        assert memory.sums(99, 2) == [21, 0]
        assert memory.sums(1599, 2) == [0, 21]
        memory.rows[1][700] = 5
        assert memory.total(700) == 5
    finally:
        memory.close()
        os.close(fd)


def test_pages_that_nobody_has_written():
    """To look for them makes none; in whatever row somebody writes, a block there may have something."""
    slots = 8 * PAGE
    with Memory(rows=3, slots=slots) as memory:
        made = memory.counters
        assert all(made.pages().have(slot) for slot in (0, slots - 1)), "without the descriptor nobody knows"
        made.fd = memory.fd
        assert not any(made.pages().have(slot) for slot in range(slots))
        made.rows[2][3 * PAGE + 5] = 1
        made.rows[1][6 * PAGE] = 1
        written = [number for number in range(8) if made.pages().have(number * PAGE)]
        assert written == [3, 6]
        assert made.pages().have(3 * PAGE - 1, 2), "a block over two pages"
        assert not made.pages().have(3 * PAGE - 2, 2)
        owners = [((str(slot),), slot) for slot in (0, 3 * PAGE - 1, 3 * PAGE, 6 * PAGE + 9)]
        assert made.pages().among(owners, 0) == owners[2:]
        assert made.pages().among(owners, 1) == owners[1:]
        assert os.fstat(memory.fd).st_blocks * 512 == 2 * mmap.PAGESIZE
        made.clear_row(2)
        assert [number for number in range(8) if made.pages().have(number * PAGE)] == [6]


def test_pages_of_rows_that_end_within_a_page():
    with Memory(rows=4) as memory:
        memory.counters.fd = memory.fd
        assert not memory.counters.pages().have(SECOND, TARGET_SLOTS)
        memory.counters.rows[3][SLOTS - 1] = 1
        assert memory.counters.pages().have(SECOND, TARGET_SLOTS)


def test_where_the_kernel_cannot_say_what_is_written_all_is_read(monkeypatch):
    def refused(*_args):
        raise OSError(errno.EINVAL, "Invalid argument")

    made, fd = Counters.create(2, 8 * PAGE)
    try:
        made.fd = fd
        assert not made.pages().have(0)
        monkeypatch.setattr(os, "lseek", refused)
        assert all(made.pages().have(number * PAGE) for number in range(8))
    finally:
        made.close()
        os.close(fd)


def test_it_is_in_no_core_dump():
    """Who writes one reads every page, and so makes it, for all processes: 32 MiB a row."""
    with Memory(rows=3, slots=2 * PAGE) as memory:
        os.ftruncate(memory.fd, 4 * 2 * PAGE * 8)
        memory.counters.add_rows(memory.fd, 4)
        assert procfs.dumped(os.getpid(), "tcp_proxy counters") == []
