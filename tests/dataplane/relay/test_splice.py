"""Pipes: taken when needed, given back clean, never past what this machine or this user allows."""

import os
import subprocess
import sys

import pytest

from tcp_proxy.dataplane.relay.splice import KEPT, PipePool


def test_a_dirty_pipe_is_closed():
    pool = PipePool()
    pipe = pool.take()
    os.write(pipe.write_fd, b"somebody's")
    pipe.count = 10
    pool.give(pipe)
    assert pool.open == 0
    again = pool.take()
    assert again.count == 0
    with pytest.raises(BlockingIOError):
        os.read(again.read_fd, 1)
    pool.give(again)
    assert pool.open == 1
    pool.close()
    assert pool.open == 0


def test_there_are_no_more_pipes_when_the_budget_is_used_up():
    """An ordinary user has 64 pipes of 1 MiB; the kernel would give more, of two pages, which are of no use."""
    script = """
import os
from tcp_proxy.dataplane.relay.splice import Pipe
os.setgid(65534); os.setuid(65534)
sizes = [pipe.size for pipe in iter(Pipe.open, None)]
print(min(sizes) >= 65536, 60 < len(sizes) < 500)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "True True\n", done.stdout + done.stderr


def test_a_pipe_is_none_when_descriptors_are_short():
    pool = PipePool(lambda: False)
    assert pool.take() is None


def test_a_pool_keeps_only_a_few_free_pipes():
    pool = PipePool()
    pipes = [pool.take() for _ in range(KEPT + 3)]
    for pipe in pipes:
        pool.give(pipe)
    assert pool.open == KEPT
    pool.close()
    assert pool.open == 0
