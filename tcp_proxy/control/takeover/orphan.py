"""A program that is started as a child of process 1 and not as ours. Main thread only; what it returns is its caller's."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tcp_proxy.control.process_tree import become_subreaper

# $1: where its process id goes. It is there until standard input ends: a pidfd can be had, whatever the new process does.
_STARTER = """import os, sys
target = int(sys.argv[1])
os.set_inheritable(target, False)
null = os.open(os.devnull, os.O_RDONLY)
try:
    pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 0)])
except OSError:
    sys.exit(1)
os.write(target, b"%d" % pid)
os.read(0, 1)
"""


def start_orphan(argv: Sequence[str], environment: Mapping[str, str], passed: int) -> tuple[int, int]:
    """A process whose parent is process 1, or the subreaper that we have above us: its id, and a pidfd of it. OSError.

    It takes some 20 ms. Whoever is left by a script in that time is process 1's, too. `passed`: a descriptor that it has.
    """
    reads, writes = os.pipe()
    become_subreaper(really=False)
    try:
        starter = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _STARTER, str(writes), *argv],
            stdin=subprocess.PIPE, pass_fds=(writes, passed), env=dict(environment),
        )  # fmt: skip
        os.close(writes)
        writes = -1
        with starter:
            told = os.read(reads, 20)
            if not told:
                raise OSError(errno.ECHILD, "it was not started")
            pid = int(told)
            try:
                return pid, os.pidfd_open(pid)
            except OSError:
                os.kill(pid, signal.SIGKILL)  # it is there, dead or alive: its parent has not ended yet
                raise
    finally:
        become_subreaper()
        for descriptor in (reads, writes):
            if descriptor >= 0:
                os.close(descriptor)
