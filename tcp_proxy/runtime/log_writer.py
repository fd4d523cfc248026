"""Writes the lines of the log to a descriptor, in a thread of its own: whoever logs never waits for who reads.

`put` and `flush` may be called from any thread. The thread `log` alone writes, and may wait there for ever: for a pipe that
nobody reads, a terminal that is held by Ctrl-S, a disk that hangs. The descriptor is shared with the processes that
gave it to us and with those that read it beside us, and so is its O_NONBLOCK: it is left as it is.

Always true:
- at most MOST_WAITING bytes wait; then new lines are dropped, until half of that is free again;
- what was dropped, or could not be written, is counted, and the count is written in its place, as soon as anything can be
  (test_what_is_dropped_is_counted_in_its_place);
- a chunk is whole lines and at most PIPE_BUF bytes, unless one line is longer: a pipe takes all of it or nothing, so an end
  of the process in between leaves no torn line there.
"""

import io
import os
import select
import threading
from collections import deque
from collections.abc import Callable

MOST_WAITING = 1 << 20  # bytes
NOTICE_ROOM = 256  # bytes that a count takes at most, as a line
LAST_WAIT = 2.0  # seconds that the end of the program waits for what is not written yet


class LogWriter:
    """`notice(count)` makes the line that says how many are missing in its place."""

    def __init__(self, fd: int, notice: Callable[[int], bytes]) -> None:
        """Does not own `fd`."""
        self._fd = fd
        self._notice = notice
        # Guards everything below but _is_torn, which is the thread's.
        self._changed = threading.Condition()
        self._waiting: deque[bytes | int] = deque()  # lines; a number stands for so many that are missing there
        self._size = 0  # bytes of the lines
        self._is_full = self._is_failing = self._is_writing = self._is_over = False
        self._is_torn = False  # the last line that was written lacks its end
        self._thread = threading.Thread(target=self._serve, name="log", daemon=True)

    def __repr__(self) -> str:
        return f"<LogWriter to {self._fd}, {self._size} bytes waiting>"

    def start(self) -> None:
        """Raises RuntimeError when the machine has no thread left."""
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Have it written, or counted."""
        with self._changed:
            self._is_full = self._size + len(line) > (MOST_WAITING // 2 if self._is_full else MOST_WAITING)
            if self._is_full:
                self._miss(1, at_end=True)
            else:
                self._waiting.append(line)
                self._size += len(line)
            self._changed.notify_all()

    def flush(self, seconds: float = LAST_WAIT) -> bool:
        """Wait until everything is written, or hopeless; False when the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._is_due or self._is_writing), seconds)

    def stop(self) -> None:
        """The thread ends, as soon as it does not write. Nobody waits."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    @property
    def _is_due(self) -> bool:
        """Whether there is something to write. A count alone is not offered to what has just refused it: a line is."""
        return bool(self._size or (self._waiting and not self._is_failing))

    def _miss(self, count: int, *, at_end: bool) -> None:
        place = -1 if at_end else 0
        if self._waiting and isinstance(found := self._waiting[place], int):
            self._waiting[place] = found + count
        elif at_end:
            self._waiting.append(count)
        else:
            self._waiting.appendleft(count)

    # -- the thread's own

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                while not (self._is_due or self._is_over):
                    self._changed.wait()
                if self._is_over:
                    return
                taken = self._take()
                self._is_writing = True
            missing = self._put_out(taken)
            with self._changed:
                self._is_failing = missing > 0
                if missing:
                    self._miss(missing, at_end=False)

    def _take(self) -> list[bytes | int]:
        """The next chunk. What has just refused a line is offered a line, whatever its length: else a count that cannot be
        written would be offered again and again."""
        taken: list[bytes | int] = []
        size = 0
        while self._waiting:
            first = self._waiting[0]
            length = NOTICE_ROOM if isinstance(first, int) else len(first)
            if size + length > select.PIPE_BUF and size > (NOTICE_ROOM if self._is_failing else 0):
                break
            if not isinstance(first, int):
                self._size -= length
            size += length
            taken.append(self._waiting.popleft())
        return taken

    def _put_out(self, taken: list[bytes | int]) -> int:
        """Write it; how many lines are missing now."""
        data = b"\n" if self._is_torn else b""
        ends: list[tuple[int, int]] = []  # where each line ends, and how many it stands for
        for one in taken:
            data += self._notice(one) if isinstance(one, int) else one
            ends.append((len(data), one if isinstance(one, int) else 1))
        written, view = 0, memoryview(data)
        try:
            while written < len(data):
                written += self._write_some(view[written:])
        except OSError:
            if written:
                self._is_torn = not data[:written].endswith(b"\n")
            return sum(count for end, count in ends if end > written)
        self._is_torn = False
        return 0

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:  # whoever shares it with us made it non-blocking
            writable = select.poll()
            writable.register(self._fd, select.POLLOUT)
            writable.poll()
            return 0


class LogStream(io.TextIOBase):
    """In the place of sys.stderr: what the interpreter itself says there takes the same way."""

    encoding = "utf-8"

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._writer.put(line.encode(errors="backslashreplace") + b"\n")
        return len(text)
