"""What a child process writes to its standard error: lines of our log, under the child's name.

Main thread only. Owns the read end of a pipe that the child alone has the write end of, non-blocking at both ends: the
interpreter's last words (a traceback that nobody caught, the stacks after SIGABRT) reach the log like everything else, and
neither a child nor the supervisor waits for a reader of the log. What does not fit into the pipe while the supervisor does
not read is lost to the child.
"""

import io
import logging
from collections.abc import Callable

from tcp_proxy.runtime.loop import READ, Loop

logger = logging.getLogger(__name__)

READ_SIZE = 1 << 16  # the size of a pipe
MOST_LINE = 1 << 16  # bytes without an end of line that become one


class ChildStderr:
    """`name()` is what the lines begin with."""

    def __init__(self, loop: Loop, pipe: io.FileIO, name: Callable[[], str], begun: bytes = b"") -> None:
        """Owns `pipe` from now on, unless it raises OSError."""
        self._loop = loop
        self._pipe = pipe
        self._name = name
        self._rest = begun
        loop.watch(pipe.fileno(), READ, lambda _events: self._ready())

    def __repr__(self) -> str:
        return f"<ChildStderr of {self._name()}>"

    def pause(self) -> tuple[int, bytes]:
        """Read no more, until `resume`: the pipe, -1 when it has ended, and the line that was begun."""
        if self._pipe.closed:
            return -1, b""
        self._loop.unwatch(self._pipe.fileno())
        return self._pipe.fileno(), self._rest

    def resume(self) -> None:
        if not self._pipe.closed:
            self._loop.watch(self._pipe.fileno(), READ, lambda _events: self._ready())

    def close(self) -> None:
        """With what is there still. Nothing happens the second time."""
        while not self._pipe.closed and self._read():
            pass
        self._end()

    def _ready(self) -> None:
        if self._read() == b"":
            self._end()

    def _read(self) -> bytes | None:
        """What came; b"" at the end, None for nothing now."""
        data = self._pipe.read(READ_SIZE)
        *lines, self._rest = (self._rest + (data or b"")).split(b"\n")
        if len(self._rest) > MOST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        for line in filter(None, lines):
            self._say(line)
        return data

    def _end(self) -> None:
        if self._pipe.closed:
            return
        self._loop.unwatch(self._pipe.fileno())
        self._pipe.close()
        if self._rest:
            self._say(self._rest)

    def _say(self, line: bytes) -> None:
        logger.error("%s: %s", self._name(), line.decode(errors="backslashreplace"))
