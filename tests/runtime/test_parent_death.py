"""A child ends with its parent: also when it is stopped, and when the parent is gone before it has begun."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from kit import procfs
from kit.waiting import wait_until

CHILD = """
import os, sys, time
from tcp_proxy.runtime.parent_death import end_with_parent
channel = int(sys.argv[1])
if sys.argv[2] == "late":
    os.read(0, 1)
end_with_parent(channel)
print(os.getpid(), flush=True)
time.sleep(1000)
"""
PARENT = """
import socket, subprocess, sys
ours, theirs = socket.socketpair()
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(theirs.fileno()), sys.argv[2]], pass_fds=[theirs.fileno()])
theirs.close()
sys.stdin.read()
"""


@pytest.fixture
def parent():
    """parent(when): a process with a child, which tells its number when it is bound to its parent."""
    started = []

    def start(when):
        argv = [sys.executable, "-c", PARENT, CHILD, when]
        started.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_child_ends_with_its_parent(parent, is_stopped):
    process = parent("at once")
    child = int(process.stdout.readline())
    if is_stopped:
        os.kill(child, signal.SIGSTOP)
    process.kill()
    wait_until(lambda: not procfs.is_running(child), "its end")


def test_one_whose_parent_is_gone_already_ends_too():
    """It had not begun to ask for that."""
    ours, theirs = socket.socketpair()
    ours.sendall(b"something that was said")
    argv = [sys.executable, "-c", CHILD, str(theirs.fileno()), "late"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[theirs.fileno()]) as child:
        theirs.close()
        ours.close()
        said, _ = child.communicate(b"x")
    assert (child.returncode, said) == (0, b"")
