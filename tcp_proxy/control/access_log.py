"""The access log: one line for each session that ended, from the record pipes of the workers to one file.

A thread of its own, `access-log`, owns the file and the read ends of the pipes; nobody else writes the file, so a slow
disk holds up this thread and nothing more. Other threads call `attach`, `reopen` and `stop` only.

    start() ──> WRITING ── stop() ──> every pipe read to its end (LAST_WAIT at most) ──> flushed, closed, thread ended

Always true: lines are flushed at most FLUSH_EVERY after their record came; an error of the file is one warning, then
lines are dropped and counted until the file takes lines again, which is one more.
"""

import json
import logging
import os
import sys
import threading
from typing import IO

from tcp_proxy.log import one_line, utc
from tcp_proxy.loop import READ, Loop
from tcp_proxy.records import FrameReader, Record, SessionRecord

logger = logging.getLogger(__name__)

FLUSH_EVERY = 0.5  # seconds
LAST_WAIT = 2.0  # seconds for pipes whose worker is still alive when the log is stopped
READ_SIZE = 1 << 18
DRAIN_READS = 64  # of READ_SIZE from one pipe in one turn


class AccessLog:
    """`path` is a file's, or "-" for stdout; `format` is "text" or "json"."""

    def __init__(self, path: str, format: str) -> None:
        self.path = path
        self.dropped = 0
        self._format = json_line if format == "json" else text_line
        self._loop = Loop("access-log")
        self._thread = threading.Thread(target=self._serve, name="access-log", daemon=True)
        self._file: IO[str] | None = None
        self._pipes: dict[int, FrameReader] = {}
        self._stopping = False
        self._flushes = False
        self._failing = False

    def __repr__(self) -> str:
        return f"<AccessLog {self.path} {len(self._pipes)} pipes, {self.dropped} dropped>"

    def start(self) -> None:
        """Open the file and start the thread. Raises OSError, with nothing started."""
        try:
            self._file = self._open()
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

    def stop(self) -> None:
        """From any thread: write what the pipes still hold, then end. Returns when that is done."""
        self._loop.call_soon(self._stop)
        self._thread.join()

    # -- the thread's own

    def _serve(self) -> None:
        self._loop.run()
        for fd in tuple(self._pipes):
            self._ready(fd)
        for fd in tuple(self._pipes):
            self._detach(fd)
        self._flush()
        self._loop.close()
        self._close()

    def _attach(self, fd: int) -> None:
        self._pipes[fd] = FrameReader()
        self._loop.watch(fd, READ, lambda _events: self._ready(fd))

    def _detach(self, fd: int) -> None:
        del self._pipes[fd]
        self._loop.unwatch(fd)
        os.close(fd)
        if self._stopping and not self._pipes:
            self._loop.stop()

    def _ready(self, fd: int) -> None:
        for _ in range(DRAIN_READS):
            try:
                data = os.read(fd, READ_SIZE)
            except BlockingIOError:
                return
            if not data:
                self._detach(fd)
                return
            self._write(self._pipes[fd].feed(data))

    def _write(self, records: list[SessionRecord]) -> None:
        if not records:
            return
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write("".join([self._format(Record(*record)) for record in records]))  # type: ignore[arg-type]
        except OSError as error:
            self._failed(error, len(records))
            return
        if not self._flushes:
            self._flushes = True
            self._loop.call_later(FLUSH_EVERY, self._flush)

    def _flush(self) -> None:
        self._flushes = False
        if self._file is None:
            return
        try:
            self._file.flush()
        except OSError as error:
            self._failed(error, 0)
            return
        if self._failing:
            self._failing = False
            logger.warning("access log %s: writing again; about %d lines were lost", self.path, self.dropped)

    def _failed(self, error: OSError, lost: int) -> None:
        """The disk is full or gone: say so once, lose what it does not take, and try the file afresh."""
        self.dropped += max(lost, 1)
        if not self._failing:
            self._failing = True
            logger.warning("access log %s: %s; lines are lost until it can be written", self.path, error.strerror)
        self._close()

    def _reopen(self) -> None:
        self._flush()
        try:
            new = self._open()
        except OSError as error:
            logger.warning("access log %s cannot be opened again: %s; it goes on in the old file", self.path, error.strerror)
            return
        self._close()
        self._file = new
        logger.info("access log %s: opened again", self.path)

    def _stop(self) -> None:
        self._stopping = True
        if self._pipes:
            self._loop.call_later(LAST_WAIT, self._loop.stop)
        else:
            self._loop.stop()

    def _open(self) -> IO[str]:
        if self.path == "-":
            return open(os.dup(sys.stdout.fileno()), "a", buffering=READ_SIZE, encoding="utf-8")
        return open(self.path, "a", buffering=READ_SIZE, encoding="utf-8")

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                self.dropped += 1  # already said by whoever flushed


def text_line(record: Record) -> str:
    """key=value, in a fixed order; "-" stands for nothing. Names are quoted when they hold a space or a quote."""
    tried = ",".join(f"{target}:{error}" for target, error in record.tried)
    return (
        f"{utc(record.ended_at)} id={record.id} app={_word(record.app)} listener={record.listener}"
        f" client={record.client} target={_word(record.target)} tried={_word(tried)}"
        f" connect={_seconds(record.connect_seconds)} seconds={_seconds(record.seconds)}"
        f" up={record.bytes_up} down={record.bytes_down}"
        f" ended_by={record.ended_by} reason={record.reason} errno={record.errno or '-'}\n"
    )


def json_line(record: Record) -> str:
    """One object a line."""
    line = {
        "time": utc(record.ended_at),
        "id": record.id,
        "app": record.app,
        "listener": record.listener,
        "client": record.client,
        "target": record.target,
        "tried": [{"target": target, "error": error} for target, error in record.tried],
        "connect_seconds": round(record.connect_seconds, 6) if record.connect_seconds >= 0 else None,
        "seconds": round(record.seconds, 6),
        "bytes_up": record.bytes_up,
        "bytes_down": record.bytes_down,
        "ended_by": record.ended_by,
        "reason": record.reason,
        "errno": record.errno,
    }
    return json.dumps(line, ensure_ascii=False) + "\n"


def _seconds(value: float) -> str:
    return f"{value:.6f}" if value >= 0 else "-"


def _word(text: str) -> str:
    if not text:
        return "-"
    text = one_line(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if " " in text or '"' in text else text
