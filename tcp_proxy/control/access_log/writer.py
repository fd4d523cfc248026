"""The access log: one line for each session that ended, or for each request of an app in mode http, from the record
pipes of the workers to one file, or to several where apps have logs of their own. The workers write the lines
(wire/log_lines.py), for there are as many threads for it as there are workers; here they are passed on, byte for byte.

A thread of its own, `access-log`, owns the files and the read ends of the pipes; nobody else writes the files, so a slow
disk holds up this thread and nothing more. Other threads call `attach`, `change`, `reopen` and `stop` only.

    start() ──> WRITING ── stop() ──> every pipe read to its end (LAST_WAIT at most) ──> closed, thread ended

Always true:
- what was read is written at once: the workers send a batch every half second, so nothing need wait here as well;
- a file that is not in the configuration any more is closed when the last pipe has ended that was there before, and has the
  lines that these still hold (test_lines_of_before_a_change_go_where_they_belong);
- a file ends with a whole line, also after a write that stopped half-way; of a worker that is killed, the line that it
  had not finished is left out.
"""

import json
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from tcp_proxy.config.log_model import TRACES, AccessLogs
from tcp_proxy.control.access_log.destinations import Destination, close_all, open_all
from tcp_proxy.control.access_log.output import Output
from tcp_proxy.control.tracing.output import TraceOutput
from tcp_proxy.runtime.loop import READ, Loop

logger = logging.getLogger(__name__)

LAST_WAIT = 2.0  # seconds for pipes whose worker is still alive when the log is stopped
STUCK = 3.0  # seconds more until a file that takes nothing (a pipe that nobody reads) is given up
READ_SIZE = 1 << 18
READS_A_TURN = 64  # of READ_SIZE from one pipe, then the others
SWITCH = b"\x01"  # wire.log_lines, which need not be loaded for it


class Pipe:
    """Of a worker, one after another. `at`: where its next line belongs."""

    __slots__ = ("age", "at", "begun")

    def __init__(self, at: str, age: int) -> None:
        self.at = at
        self.age = age  # how many changes there were before it
        self.begun = b""  # of a line whose end has not come

    def __repr__(self) -> str:
        return f"<Pipe of age {self.age} to {self.at}>"


class AccessLog:
    """`logs` is what workers are told with their pipes; the main thread's."""

    def __init__(self, logs: AccessLogs, traces: TraceOutput | None = None) -> None:
        """`traces`: where what is traced goes to, if `logs` say that there is such a thing; ours from now on."""
        self.logs = logs
        self.traces = traces
        self._loop = Loop("access-log")
        self._loop.on_error = self._bug
        self._thread = threading.Thread(target=self._serve, name="access-log", daemon=True)
        self._outputs: dict[str, Output | TraceOutput] = {}  # by path
        self._pipes: dict[int, Pipe] = {}
        self._changes = 0
        self._last = ""  # the path that was written to last
        self._stopping = self._is_given = False

    def __repr__(self) -> str:
        return f"<AccessLog {', '.join(self._outputs)} {len(self._pipes)} pipes, {self.dropped} dropped>"

    @property
    def dropped(self) -> int:
        """Lines, of the files that are open."""
        return sum(output.dropped for path, output in tuple(self._outputs.items()) if path != TRACES)

    def start(self) -> None:
        """Open the files and start the thread. Raises OSError with a clause for the user, and nothing started."""
        try:
            opened = open_all(self.logs.files)
        except OSError:
            self._loop.close()
            raise
        self._outputs = {path: Output(path, to) for path, to in opened.items()}
        if self.traces is not None:
            self._outputs[TRACES] = self.traces
        self._thread.start()

    def attach(self, fd: int, at: str = "", begun: bytes = b"") -> None:
        """From the main thread: read records from `fd`, which is ours from now on. `at`, `begun`: what another program has
        found out about it, whose worker's it was."""
        os.set_blocking(fd, False)
        if not self._loop.call_soon(self._attach, fd, at or self.logs.path, begun):
            os.close(fd)

    def pause(self, done: Callable[[list[tuple[int, str, bytes]]], Any]) -> None:
        """From any thread: read no more, until `resume`. `done` is called in the thread with the pipes: where each leads to,
        and what of a line has come by it."""
        self._loop.call_soon(self._pause, done)

    def resume(self) -> None:
        self._loop.call_soon(self._resume)

    def let_go(self) -> None:
        """The pipes are another program's: end without a look at them. Paused."""
        self._is_given = True
        self._loop.call_soon(self._loop.stop)
        self._thread.join(LAST_WAIT)

    def reopen(self) -> None:
        """From any thread: go on in new files of the same names, for logrotate."""
        self._loop.call_soon(self._reopen)

    def change(self, logs: AccessLogs, opened: dict[str, Destination]) -> None:
        """From the main thread, before workers have pipes for it. `opened`: where `logs` leads to and the ones before did
        not; ours from now on."""
        self.logs = logs
        if not self._loop.call_soon(self._change, logs.paths, opened):
            close_all(opened)

    def stop_soon(self) -> None:
        """From any thread: end when the pipes have ended, which are being closed. Nobody waits."""
        self._loop.call_soon(self._stop)

    def stop(self) -> None:
        """From any thread: write what the pipes still hold, then end. Returns when that is done, or hopeless."""
        self._loop.call_soon(self._stop)
        self._thread.join(LAST_WAIT + STUCK)
        if self._thread.is_alive():
            logger.warning("access log %s takes no lines: the last ones are lost", self._last)

    # -- the thread's own

    def _serve(self) -> None:
        self._loop.run()
        for fd in () if self._is_given else tuple(self._pipes):
            self._ready(fd)
        for fd in () if self._is_given else tuple(self._pipes):
            self._detach(fd)
        for fd in self._pipes:
            os.close(fd)
        self._loop.close()
        for output in self._outputs.values():
            output.close()

    def _attach(self, fd: int, path: str, begun: bytes) -> None:
        pipe = self._pipes[fd] = Pipe(path, self._changes)
        pipe.begun = begun
        self._watch(fd)

    def _watch(self, fd: int) -> None:
        self._loop.watch(fd, READ, lambda _events: self._ready(fd))

    def _pause(self, done: Callable[[list[tuple[int, str, bytes]]], Any]) -> None:
        for fd in self._pipes:
            self._loop.unwatch(fd)
        done([(fd, pipe.at, pipe.begun) for fd, pipe in self._pipes.items()])

    def _resume(self) -> None:
        for fd in self._pipes:
            self._watch(fd)

    def _detach(self, fd: int) -> None:
        """Its worker is gone. What is left of a line is what a killed one had not finished."""
        del self._pipes[fd]
        self._loop.unwatch(fd)
        os.close(fd)
        self._close_left()
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
            pipe = self._pipes[fd]
            end = data.rfind(b"\n") + 1
            begun, pipe.begun = pipe.begun, data[end:] if end else pipe.begun + data
            if end:
                self._take(pipe, begun + data[:end])

    def _take(self, pipe: Pipe, lines: bytes) -> None:
        """Whole ones."""
        if SWITCH in lines:
            lines, *others = lines.split(SWITCH)
        else:
            others = []
        if lines:
            self._write(pipe.at, lines)
        for part in others:
            path, _, lines = part.partition(b"\n")
            pipe.at = json.loads(path)
            if lines:
                self._write(pipe.at, lines)

    def _write(self, path: str, lines: bytes) -> None:
        self._last = path
        output = self._outputs.get(path)
        if output is None and path != TRACES:  # of a program that was taken over, there may be none of that name
            output = next(iter(self._outputs.values()))
        if output is not None and (path == TRACES) is (output is self.traces):
            output.write(lines, self._loop.now)

    def _change(self, paths: tuple[str, ...], opened: dict[str, Destination]) -> None:
        self._changes += 1
        for path, to in opened.items():
            known = self._outputs.get(path)
            if isinstance(known, Output):  # it had left, and old pipes have kept it
                known.take(to)
            else:
                self._outputs[path] = Output(path, to)
        for path, output in self._outputs.items():
            output.left_at = 0 if path in paths else output.left_at or self._changes
        self._close_left()

    def _close_left(self) -> None:
        oldest = min((pipe.age for pipe in self._pipes.values()), default=self._changes)
        for output in tuple(self._outputs.values()):
            if output.left_at and oldest >= output.left_at:
                del self._outputs[output.path]
                output.close()

    def _reopen(self) -> None:
        for output in self._outputs.values():
            if not output.left_at:
                output.reopen()

    def _stop(self) -> None:
        self._stopping = True
        if self._pipes:
            self._loop.call_later(LAST_WAIT, self._loop.stop)
        else:
            self._loop.stop()

    def _bug(self, _handler: Callable[[int], Any], error: Exception) -> None:
        """A mistake of ours costs a batch, not the log."""
        logger.error("access log %s: a batch is lost", self._last, exc_info=error)

