"""A process of ours is started here and nowhere else: spawned, never forked, with the signals of a process group blocked,
so that a Ctrl-C in the first millisecond of a child's life ends no session (docs/rules.md, R7).

Main thread only. The first worker is spawned before anything else is imported, and imports while the supervisor does: so
this file imports next to nothing, of ours and of Python's.
"""

import io
import os
import resource
import signal
import site
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

import tcp_proxy

MODULE = "tcp_proxy.dataplane.worker"
BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def raise_descriptor_limit() -> None:
    """The soft limit becomes the hard one. Workers inherit it, so this comes before the first (docs/rules.md, R8)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Spawned:
    """A process that has been started and knows nothing yet: a worker, or another `module` that is passed descriptors."""

    def __init__(self, module: str = "", passed: Sequence[int] = ()) -> None:
        self.stderr, writes = make_pipe()
        try:
            self.sock, theirs = socket.socketpair()
        except OSError:
            self.stderr.close()
            os.close(writes)
            raise
        argv = [sys.executable, "-P", "-m", module or MODULE, str(theirs.fileno()), tcp_proxy.__version__, *map(str, passed)]
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
        try:
            self.process = subprocess.Popen(
                argv, pass_fds=(theirs.fileno(), *passed), stdin=subprocess.DEVNULL, stderr=writes, env=_environment()
            )
        except OSError:
            self.sock.close()
            self.stderr.close()
            raise
        finally:
            theirs.close()
            os.close(writes)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    begun = stderr_begun = b""  # of a message and of a line: whoever had the process before has read them

    def open_pidfd(self) -> int:
        return os.pidfd_open(self.process.pid)

    def discard(self) -> None:
        """It is not needed after all. Nothing happens the second time."""
        self.sock.close()
        self.stderr.close()
        self.process.kill()
        self.process.wait()


def make_pipe() -> tuple[io.FileIO, int]:
    """(read end, write end), for what a child writes to its standard error. Raises OSError."""
    reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    return io.FileIO(reads, "rb"), writes


def _environment() -> dict[str, str]:
    """Children run with -P, so a tcp_proxy that is not installed (a source tree) must be named to them."""
    # A turn of bulk with TLS takes 768 KiB and gives them back: glibc would return them to the kernel, and have each page
    # made anew in the next turn (155,000 page faults in 1.5 GB, a quarter of the CPU). What is larger
    # than these pieces goes back at once, as OpenSSL's memory does when a session is quiet.
    environ = {"MALLOC_TRIM_THRESHOLD_": "2097152", "MALLOC_MMAP_THRESHOLD_": "270336", **os.environ}
    root = os.path.dirname(os.path.dirname(os.path.abspath(tcp_proxy.__file__)))
    if root in site.getsitepackages() or root == site.getusersitepackages():
        return environ
    path = os.environ.get("PYTHONPATH")
    return {**environ, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}
