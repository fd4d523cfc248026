"""The access log: one line for each session that ended, or for each request of an app in mode http, from the record
pipes of the workers to one file.

A thread of its own, `access-log`, owns the file and the read ends of the pipes; nobody else writes the file, so a slow
disk holds up this thread and nothing more. Other threads call `attach`, `reopen` and `stop` only.

    start() ──> WRITING ── stop() ──> every pipe read to its end (LAST_WAIT at most) ──> closed, thread ended

Always true:
- what was read is written at once: the workers send a batch every half second, so nothing need wait here as well;
- an error of the file is one warning; the lines it did not take are counted, the next batch tries again, and when that
  is taken a second warning says how many were lost (test_a_full_disk_is_said_once_and_counted);
- the file ends with a whole line, also after a write that stopped half-way.
"""

import contextlib
import errno
import logging
import os
import select
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any

from tcp_proxy.control.log_lines import FORMATS
from tcp_proxy.loop import READ, Loop
from tcp_proxy.records import FrameReader, SessionRecord

logger = logging.getLogger(__name__)

LAST_WAIT = 2.0  # seconds for pipes whose worker is still alive when the log is stopped
STUCK = 3.0  # seconds more until a file that takes nothing (a pipe that nobody reads) is given up
STALL = 1.0  # seconds that a non-blocking stdout may take nothing before lines are dropped
READ_SIZE = 1 << 18
READS_A_TURN = 64  # of READ_SIZE from one pipe, then the others


class AccessLog:
    """`path` is a file's, or "-" for stdout; `format` is "text" or "json"."""

    def __init__(self, path: str, format: str) -> None:
        self.path = path
        self.dropped = 0
        self._format = FORMATS[format]
        self._loop = Loop("access-log")
        self._loop.on_error = self._bug
        self._thread = threading.Thread(target=self._serve, name="access-log", daemon=True)
        self._fd = -1
        self._pipes: dict[int, FrameReader] = {}
        self._stopping = False
        self._lost = 0  # lines since the file was last in order

    def __repr__(self) -> str:
        return f"<AccessLog {self.path} {len(self._pipes)} pipes, {self.dropped} dropped>"

    def start(self) -> None:
        """Open the file and start the thread. Raises OSError, with nothing started."""
        try:
            self._fd = open_log(self.path)
        except OSError:
            self._loop.close()
            raise
        self._thread.start()

    def attach(self, fd: int) -> None:
        """From any thread: read records from `fd`, which is ours from now on."""
        os.set_blocking(fd, False)
        if not self._loop.call_soon(self._attach, fd):
            os.close(fd)

    def reopen(self) -> None:
        """From any thread: go on in a new file of the same name, for logrotate."""
        self._loop.call_soon(self._reopen)

    def move(self, fd: int, path: str, format: str) -> None:
        """From any thread: go on in this file, which is ours from now on, with the next batch."""
        if not self._loop.call_soon(self._move, fd, path, format):
            os.close(fd)

    def set_format(self, format: str) -> None:
        """From any thread: the lines of the next batch are text or JSON."""
        self._loop.call_soon(self._set_format, format)

    def stop_soon(self) -> None:
        """From any thread: end when the pipes have ended, which are being closed. Nobody waits."""
        self._loop.call_soon(self._stop)

    def stop(self) -> None:
        """From any thread: write what the pipes still hold, then end. Returns when that is done, or hopeless."""
        self._loop.call_soon(self._stop)
        self._thread.join(LAST_WAIT + STUCK)
        if self._thread.is_alive():
            logger.warning("access log %s takes no lines: the last ones are lost", self.path)

    # -- the thread's own

    def _serve(self) -> None:
        self._loop.run()
        for fd in tuple(self._pipes):
            self._ready(fd)
        for fd in tuple(self._pipes):
            self._detach(fd)
        self._loop.close()
        os.close(self._fd)

    def _attach(self, fd: int) -> None:
        self._pipes[fd] = FrameReader()
        self._loop.watch(fd, READ, lambda _events: self._ready(fd))

    def _detach(self, fd: int) -> None:
        """Its worker is gone. What is left of a frame is what a killed one had not finished."""
        del self._pipes[fd]
        self._loop.unwatch(fd)
        os.close(fd)
        if self._stopping and not self._pipes:
            self._loop.stop()

    def _ready(self, fd: int) -> None:
        for _ in range(READS_A_TURN):
            try:
                data = os.read(fd, READ_SIZE)
            except BlockingIOError:
                return
            if not data:
                self._detach(fd)
                return
            try:
                records = self._pipes[fd].feed(data)
            except ValueError as error:
                logger.error("access log %s: a worker's records make no sense and are given up: %s", self.path, error)  # noqa: TRY400
                self._detach(fd)
                return
            self._write(records)

    def _write(self, records: list[SessionRecord]) -> None:
        if not records:
            return
        lines = "".join([self._format(record) for record in records])
        was_failing = self._lost > 0
        error = self._append(lines.encode(errors="backslashreplace"))
        if error is not None and not was_failing:
            logger.warning("access log %s: %s; lines are lost until it can be written", self.path, error.strerror)
        elif error is None and was_failing:
            logger.warning("access log %s: writing again; %d lines were lost", self.path, self._lost)
            self._lost = 0

    def _append(self, data: bytes) -> OSError | None:
        """Write all of it; or count the lines that the file did not take, and say why."""
        written, view = 0, memoryview(data)
        try:
            while written < len(data):
                written += self._write_some(view[written:])
        except OSError as error:
            whole = data.rfind(b"\n", 0, written) + 1
            lost = data.count(b"\n", whole)
            self._lost += lost
            self.dropped += lost
            self._cut(written - whole)
            return error
        return None

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:  # somebody made the stdout that we share non-blocking
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

    def _move(self, fd: int, path: str, format: str) -> None:
        os.close(self._fd)
        self._fd, self.path, self._format = fd, path, FORMATS[format]

    def _set_format(self, format: str) -> None:
        self._format = FORMATS[format]

    def _reopen(self) -> None:
        try:
            new = open_log(self.path)
        except OSError as error:
            logger.warning("access log %s cannot be opened again: %s; it goes on in the old file", self.path, error.strerror)
            return
        os.close(self._fd)
        self._fd = new
        logger.info("access log %s: opened again", self.path)

    def _stop(self) -> None:
        self._stopping = True
        if self._pipes:
            self._loop.call_later(LAST_WAIT, self._loop.stop)
        else:
            self._loop.stop()

    def _bug(self, _handler: Callable[[int], Any], error: Exception) -> None:
        """A mistake of ours costs a batch, not the log."""
        logger.error("access log %s: a batch is lost", self.path, exc_info=error)


def open_log(path: str) -> int:
    """The file's descriptor. Raises OSError."""
    if path != "-":
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    if sys.stdout is None:  # closed by whoever started us: number 1 may be anything by now
        raise OSError(errno.EBADF, "there is no standard output", path)
    return os.dup(sys.stdout.fileno())
