"""Sends the lines of the log to a syslog server, in a thread of its own: whoever logs never waits for it.

`put`, `flush` and `stop` may be called from any thread. The thread `log-syslog` alone has the connection. While the server
takes nothing, lines wait, and it is tried again every AGAIN seconds.

Always true:
- at most MOST_WAITING bytes wait; then new lines are dropped, and their number is a line in their place
  (test_what_is_dropped_while_it_is_away_is_counted_in_its_place);
- `say` is told once when the server takes nothing, and once when it does again, so that somebody knows who cannot see
  the server.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from tcp_proxy.runtime.log_writer import LAST_WAIT, MOST_WAITING
from tcp_proxy.runtime.syslog import AGAIN, SyslogConnection
from tcp_proxy.sansio.syslog import Receiver

AT_ONCE = 64  # lines


class SyslogWriter:
    """`notice(count)` makes the line that says how many are missing in its place; `say(text)` tells somebody else."""

    def __init__(self, receiver: Receiver, notice: Callable[[int], bytes], say: Callable[[str], Any]) -> None:
        self._notice = notice
        self._say = say
        self._connection = SyslogConnection(receiver)
        # Guards everything below.
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._size = 0  # bytes of the lines
        self._missing = 0  # lines that were dropped behind the last one that waits
        self._is_failing = self._is_over = False
        self._thread = threading.Thread(target=self._serve, name="log-syslog", daemon=True)

    def __repr__(self) -> str:
        return f"<SyslogWriter {self._connection!r}, {self._size} bytes waiting>"

    def start(self) -> None:
        """Raises RuntimeError when the machine has no thread left."""
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Have it sent, or counted."""
        with self._changed:
            if self._size + len(line) > MOST_WAITING:
                self._missing += 1
                return
            if self._missing:
                self._append(self._notice(self._missing))
                self._missing = 0
            self._append(line)
            self._changed.notify_all()

    def flush(self, seconds: float = LAST_WAIT) -> bool:
        """Wait until everything is sent, or the server takes nothing; False when the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting or self._is_failing, seconds)

    def stop(self) -> None:
        """The thread sends what waits, as long as the server takes it, and ends. Nobody waits."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _append(self, line: bytes) -> None:
        self._waiting.append(line)
        self._size += len(line)

    # -- the thread's own

    def _serve(self) -> None:
        while some := self._next():
            sent, error = self._connection.send(some)
            with self._changed:
                for _ in range(sent):
                    self._size -= len(self._waiting.popleft())
                if error is None and self._missing and not self._waiting:
                    self._append(self._notice(self._missing))
                    self._missing = 0
                was_failing, self._is_failing = self._is_failing, error is not None
                self._changed.notify_all()
            if error is not None and not was_failing:
                self._say(f"{error.strerror}; lines wait until it takes them, and what does not fit is counted")
            elif was_failing and error is None:
                self._say("it takes lines again")
        self._connection.close()

    def _next(self) -> list[bytes]:
        """What to send, when it is time for it; nothing at the end."""
        with self._changed:
            if self._is_failing:
                self._changed.wait_for(lambda: self._is_over, AGAIN)
                if self._is_over:
                    return []
            self._changed.wait_for(lambda: self._waiting or self._is_over)
            return [self._waiting[number] for number in range(min(AT_ONCE, len(self._waiting)))]
