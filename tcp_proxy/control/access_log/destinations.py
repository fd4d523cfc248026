"""Where the lines of the access log go to: a file, or standard output (a syslog server: syslog.py).

Owned by the thread of the log that writes there; opened by whoever wants to know whether that can be done.
"""

import contextlib
import errno
import os
import select
import stat
import sys
from collections.abc import Iterable, Mapping
from typing import Protocol

from tcp_proxy.config.files import open_to_append
from tcp_proxy.control.access_log.syslog import SyslogDestination
from tcp_proxy.sansio import syslog

STALL = 1.0  # seconds that a pipe, or a non-blocking stdout, may take nothing before lines are dropped


class Destination(Protocol):
    def append(self, data: bytes, is_failing: bool, now: float, /) -> tuple[int, OSError | None]:
        """Write these lines: how many were lost, and why. `is_failing`: the last ones were, too; `now`: the loop's time."""

    def close(self) -> None: ...


class FileDestination:
    """A file that ends with a whole line, also after a write that stopped half-way."""

    def __init__(self, fd: int) -> None:
        """`fd` is ours from now on."""
        self._fd = fd

    def __repr__(self) -> str:
        return f"<FileDestination {self._fd}>"

    def append(self, data: bytes, is_failing: bool, _now: float, /) -> tuple[int, OSError | None]:
        written, view = 0, memoryview(data)
        try:
            while written < len(data):
                written += self._write_some(view[written:], is_failing)
        except OSError as error:
            whole = data.rfind(b"\n", 0, written) + 1
            self._cut(written - whole)
            return data.count(b"\n", whole), error
        return 0, None

    def _write_some(self, data: memoryview, is_failing: bool) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:  # a pipe, or somebody made the stdout that we share non-blocking
            if is_failing:  # it has been waited for already
                raise
            writable = select.poll()
            writable.register(self._fd, select.POLLOUT)
            writable.poll(STALL * 1000)
            return os.write(self._fd, data)

    def _cut(self, size: int) -> None:
        """Take back the beginning of a line whose end did not fit."""
        with contextlib.suppress(OSError):
            now = os.fstat(self._fd)
            if size and stat.S_ISREG(now.st_mode):
                os.ftruncate(self._fd, now.st_size - size)

    def close(self) -> None:
        os.close(self._fd)


def open_all(paths: Iterable[str]) -> dict[str, Destination]:
    """By path. Raises OSError, with a clause for the user, and none open."""
    found: dict[str, Destination] = {}
    for path in paths:
        try:
            found[path] = open_destination(path)
        except OSError as error:
            close_all(found)
            raise OSError(f"access_log {path}: {error.strerror}") from None
    return found


def close_all(found: Mapping[str, Destination]) -> None:
    for destination in found.values():
        destination.close()


def open_destination(path: str) -> Destination:
    """Of a path, "-" for standard output, or a syslog server. Raises OSError."""
    if syslog.is_syslog(path):
        return SyslogDestination(syslog.parse(path))
    if path != "-":
        return FileDestination(open_to_append(path))
    if sys.stdout is None:  # closed by whoever started us: number 1 may be anything by now
        raise OSError(errno.EBADF, "there is no standard output", path)
    return FileDestination(os.dup(sys.stdout.fileno()))
