"""CPU time, memory and listeners of real processes."""

import os
import socket
import subprocess
import sys

import pytest

from benchmarks import procfs

BUSY = "import time\nwhile time.process_time() < 0.3: sum(range(20000))\nprint(flush=True); open(0).read()\n"
PARENT = (
    "import subprocess, sys\n"
    f"child = subprocess.Popen([sys.executable, '-c', {BUSY!r}], stdout=subprocess.PIPE)\n"
    "child.stdout.readline(); print(child.pid, flush=True); open(0).read()\n"
)


@pytest.fixture
def parent():
    """A process that is idle, whose child was busy for 0.3 s."""
    argv = [sys.executable, "-c", PARENT]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.child = int(process.stdout.readline())
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait()


def test_the_whole_tree_is_counted(parent):
    assert procfs.tree(parent.pid) == [parent.pid, parent.child]
    assert procfs.cpu(procfs.tree(parent.pid)).total >= 0.3
    assert procfs.cpu([parent.child]).total >= 0.3 > procfs.cpu([parent.pid]).total


def test_user_and_system_make_the_total(parent):
    used = procfs.cpu([parent.child]) - procfs.Cpu(0, 0, 0)
    assert used.user + used.system == pytest.approx(used.total)
    assert used.user > used.system


def test_time_without_a_tick_is_shared():
    assert procfs.Cpu(1, 1, 2.25) - procfs.Cpu(1, 1, 2.0) == procfs.Cpu(0.125, 0.125, 0.25)


def test_memory(parent):
    both = procfs.pss([parent.pid, parent.child])
    assert both > procfs.pss([parent.pid]) > 1 << 20


def test_listeners():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert procfs.listens(sock.getsockname()[1])
        port = sock.getsockname()[1]
    assert not procfs.listens(port)


def test_nobody_traces_us():
    assert not procfs.is_traced(os.getpid())
