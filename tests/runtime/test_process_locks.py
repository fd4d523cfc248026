"""Locks that processes share: one holder at a time, whoever it is; the dead give theirs back, the hanging are known."""

import mmap
import os
import signal
import subprocess
import sys
import threading

import pytest

from tcp_proxy.runtime.process_locks import SIZE, ProcessLocks, make_locks

COUNT, BEGIN = 3, 128
HOLDER = f"""
import mmap, sys
from tcp_proxy.runtime.process_locks import ProcessLocks
locks = ProcessLocks(mmap.mmap(int(sys.argv[1]), 4096), {BEGIN}, {COUNT})
print(locks.take(1), flush=True)
sys.stdin.readline()
locks.give(1)
print("given", flush=True)
sys.stdin.readline()
"""


class Shared:
    def __init__(self):
        self.fd = os.memfd_create("test locks")
        os.ftruncate(self.fd, 4096)
        memory = mmap.mmap(self.fd, 4096)
        make_locks(memory, BEGIN, COUNT)
        self.locks = ProcessLocks(memory, BEGIN, COUNT)


@pytest.fixture
def shared():
    """A descriptor of memory with locks, and these."""
    found = Shared()
    yield found
    os.close(found.fd)
    del found.locks


@pytest.fixture
def holder(shared):
    """Another process that has taken one of them."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(shared.fd)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        pass_fds=(shared.fd,),
    )  # fmt: skip
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


def test_each_is_taken_and_given_for_itself(shared):
    locks = shared.locks
    assert all(locks.take(number) for number in range(COUNT))
    for number in range(COUNT):
        locks.give(number)
    assert locks.take(0)
    locks.give(0)
    assert repr(locks) == "<ProcessLocks 3, 0 stuck>"


def test_memory_around_them_is_left_alone(shared):
    before = os.pread(shared.fd, BEGIN, 0), os.pread(shared.fd, 4096, BEGIN + COUNT * SIZE)
    assert not any(map(any, before))


def test_one_that_another_process_holds_is_waited_for_and_then_known_to_be_stuck(shared, holder):
    locks = shared.locks
    assert locks.take(0), "the others are free"
    locks.give(0)
    assert not locks.take(1)
    assert not locks.take(1), "at once now"
    assert repr(locks) == "<ProcessLocks 3, 1 stuck>"
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "given\n"
    assert locks.take(1)
    assert repr(locks) == "<ProcessLocks 3, 0 stuck>"
    locks.give(1)


def test_what_a_dead_process_held_is_free(shared, holder):
    locks = shared.locks
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    for _ in range(3):
        assert locks.take(1)
        locks.give(1)


def test_threads_of_one_process_take_turns(shared):
    """Whoever meets the other one waits without Python's lock, so that it can go on."""
    locks = shared.locks
    count = [0]

    def work():
        for _ in range(3000):
            assert locks.take(2)
            before = count[0]
            for _ in range(5):
                pass
            count[0] = before + 1
            locks.give(2)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, name=f"taker-{n}") for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert count == [12_000]
