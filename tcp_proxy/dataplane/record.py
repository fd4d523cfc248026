"""From a finished session to the record pipe: batches, and what to do when nobody reads them.

Any thread of a worker may `add` (a deque's append is atomic); only the loop's thread formats and writes. A batch is
written every half second, or as soon as about 64 KiB wait. Records alone may be dropped, when 8 MiB wait; drops are
counted and the count is logged (DESIGN 9.11).
"""

import os
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tcp_proxy.loop import WRITE, Loop
from tcp_proxy.records import SessionRecord, frame
from tcp_proxy.sansio.address import client_text
from tcp_proxy.sansio.reasons import Reason, Side, errno_name

FLUSH_EVERY = 0.5  # seconds
FLUSH_AT = 300  # records, about 64 KiB
MAX_WAITING = 8 << 20  # bytes


class Named(Protocol):
    name: str


class Ended(Protocol):
    """What a record tells of a session, beside how it ended."""

    number: int
    listener: str
    address: Any
    tried: Sequence[tuple[str, str]]
    started: float
    connected_at: float

    @property
    def app(self) -> Named: ...
    @property
    def target(self) -> Named | None: ...


class Recorder:
    """Owns the write end of the record pipe."""

    def __init__(self, loop: Loop, fd: int, incarnation: str, warn: Callable[[str], Any]) -> None:
        self.incarnation = incarnation
        self.wall = time.time() - loop.now  # what turns the loop's time into the wall clock's
        self.dropped = 0
        self._loop = loop
        self._fd = fd
        self._warn = warn
        self._records: deque[SessionRecord] = deque()
        self._out = bytearray()
        self._armed = False
        self._hurried = False
        self._closed = False
        os.set_blocking(fd, False)

    def __repr__(self) -> str:
        return f"<Recorder {len(self._records)} waiting, {len(self._out)} bytes, {self.dropped} dropped>"

    def add(self, record: SessionRecord) -> None:
        """From any thread."""
        self._records.append(record)
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._arm)
        elif len(self._records) >= FLUSH_AT and not self._hurried:
            self._hurried = True
            self._loop.call_soon(self._flush)

    def add_ended(
        self, session: Ended, now: float, moved: tuple[int, int], end: tuple[Side, Reason, int]
    ) -> None:
        """From any thread: bytes up and down; who ended it, why, and the errno (0: none)."""
        side, reason, code = end
        started, connected = session.started, session.connected_at
        self.add((
            f"{self.incarnation}-{session.number}",
            session.app.name,
            session.listener,
            client_text(session.address),
            session.target.name if session.target else "",
            tuple(session.tried),
            connected - started if connected >= 0 else -1.0,
            now - started,
            *moved,
            side.value,
            reason.value,
            errno_name(code),
            now + self.wall,
        ))  # fmt: skip

    def close(self, wait: float) -> None:
        """Write what waits, unless the reader takes nothing for `wait` seconds, and close the pipe. Nobody adds any more."""
        self._closed = True
        self._collect()
        writable = select.poll()
        writable.register(self._fd, select.POLLOUT)
        while self._out and writable.poll(wait * 1000):
            self._write()
        if self._loop.is_watched(self._fd):
            self._loop.unwatch(self._fd)
        os.close(self._fd)

    def _arm(self) -> None:
        self._loop.call_later(FLUSH_EVERY, self._flush_timed)

    def _flush_timed(self) -> None:
        if self._closed:
            return
        self._armed = False
        self.wall = time.time() - self._loop.now
        self._flush()

    def _flush(self) -> None:
        if self._closed:
            return
        self._hurried = False
        self._collect()
        self._write()
        if self._out and not self._loop.is_watched(self._fd):
            self._loop.watch(self._fd, WRITE, self._writable)

    def _collect(self) -> None:
        records = [self._records.popleft() for _ in range(len(self._records))]
        if not records:
            return
        if len(self._out) > MAX_WAITING:
            if not self.dropped:
                self._warn("session records are dropped: the access log does not keep up")
            self.dropped += len(records)
            return
        self._out += frame(records)

    def _writable(self, _events: int) -> None:
        self._write()
        if not self._out:
            self._loop.unwatch(self._fd)

    def _write(self) -> None:
        while self._out:
            try:
                del self._out[: os.write(self._fd, self._out[:65536])]
            except BlockingIOError:
                return
            except OSError as error:  # the supervisor is gone: there is nobody to tell
                self.dropped += 1
                self._warn(f"session records are lost: {error.strerror}")
                self._out.clear()
