"""A worker that another program has started, from which ours has taken over: no child of ours, but as good as one.

Main thread only. It is told, heard and watched by what was handed over: its channel, the descriptor of its process (so that
no other process is ever meant), its standard error. Its exit status is known to its parent alone.
"""

import contextlib
import io
import os
import select
import signal
import socket


class AdoptedHandle:
    """What a Popen has, as far as it is used. Owns `pidfd`."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = pidfd

    def __repr__(self) -> str:
        return f"<AdoptedHandle {self.pid}>"

    def open_pidfd(self) -> int:
        return os.dup(self._pidfd)

    def send_signal(self, sig: int) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self) -> int:
        """When it has ended. Its status; 0 where nobody tells us."""
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll()
            self.returncode = 0
            with contextlib.suppress(ChildProcessError):  # we may be the reaper of orphans, and the old program's parent
                result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
                if result is not None and result.si_code != os.CLD_EXITED:
                    self.returncode = -result.si_status
            os.close(self._pidfd)
            self._pidfd = -1
        return self.returncode


class AdoptedProcess:
    """In the place of Spawned. Owns what it is given; `stderr` -1: it has closed it."""

    def __init__(self, handle: AdoptedHandle, channel: int, begun: bytes, stderr: int, stderr_begun: bytes) -> None:
        self.process = handle
        self.sock = socket.socket(fileno=channel)
        self.begun = begun
        self.stderr = io.FileIO(stderr if stderr >= 0 else _ended_pipe(), "rb")
        self.stderr_begun = stderr_begun

    def __repr__(self) -> str:
        return f"<AdoptedProcess {self.process.pid}>"

    def open_pidfd(self) -> int:
        return self.process.open_pidfd()


def _ended_pipe() -> int:
    reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.close(writes)
    return reads
