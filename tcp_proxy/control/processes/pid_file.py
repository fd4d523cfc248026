"""The pid file: it names the supervisor and proves by its lock that it lives.

Main thread only. A pid file is live only while its flock is held, so one that a killed supervisor left is simply
overwritten (docs/rules.md, R7). Nothing is written before the lock is held, and only a file that is still ours is removed.
"""

import contextlib
import fcntl
import os
import stat

FLAGS = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
LONGEST = 32  # bytes; what is longer was not written by us


class PidFileError(Exception):
    """One line for the user."""


class PidFile:
    """Owns the locked descriptor between `acquire` and `release`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def __repr__(self) -> str:
        return f"<PidFile {self.path} {'held' if self._fd >= 0 else 'not held'}>"

    def acquire(self) -> None:
        """Lock the file and write our pid. Raises PidFileError when another supervisor lives, or it cannot be written."""
        while self._fd < 0:
            try:
                fd = os.open(self.path, FLAGS, 0o644)
                try:
                    self._take(fd)
                finally:
                    if self._fd != fd:
                        os.close(fd)
            except OSError as error:
                raise PidFileError(f"cannot write the pid file {self.path}: {error.strerror}") from None

    @property
    def fd(self) -> int:
        """-1: it is not ours."""
        return self._fd

    def adopt(self, fd: int) -> None:
        """Another program has locked it, and it is ours from now on: write our pid."""
        self._fd = fd
        os.ftruncate(fd, os.pwrite(fd, f"{os.getpid()}\n".encode(), 0))

    def let_go(self) -> None:
        """It is another program's."""
        os.close(self._fd)
        self._fd = -1

    def _take(self, fd: int) -> None:
        """Make an opened file ours, unless its owner removed it between our open and our lock: then there is a new one."""
        there = os.fstat(fd)
        if not stat.S_ISREG(there.st_mode) or there.st_size > LONGEST:
            raise PidFileError(f"{self.path} is no pid file but something else: it is left alone")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, LONGEST, 0).decode(errors="replace").strip() or "unknown"
            raise PidFileError(
                f"the pid file {self.path} belongs to a running tcp_proxy, process {holder}; stop that one first"
            ) from None
        if self._is_at_path(fd):
            os.ftruncate(fd, os.pwrite(fd, f"{os.getpid()}\n".encode(), 0))  # in this order it is never seen empty
            self._fd = fd

    def release(self) -> None:
        """Remove the file, if it is still the one that was locked; let go of the lock."""
        if self._fd < 0:
            return
        if self._is_at_path(self._fd):
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        os.close(self._fd)
        self._fd = -1

    def _is_at_path(self, fd: int) -> bool:
        try:
            there = os.stat(self.path)
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(fd))
