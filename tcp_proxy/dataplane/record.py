"""Finished sessions: the last ones are kept, and all go to the record pipe, in batches, if there is one.

Any thread of a worker may `add` (a deque's append is atomic); only the loop's thread formats and writes. A batch is
written every half second, or as soon as about 64 KiB wait. Records alone may be dropped, when 8 MiB wait; drops are
counted and the count is logged (DESIGN 9.11).
"""

import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tcp_proxy.loop import WRITE, Loop
from tcp_proxy.records import SessionRecord, frame
from tcp_proxy.sansio.address import client_text
from tcp_proxy.sansio.reasons import Reason, Side, errno_name

KEPT = 10_000  # finished sessions, for `why`
FLUSH_EVERY = 0.5  # seconds
FLUSH_AT = 300  # records, about 64 KiB
MAX_WAITING = 8 << 20  # bytes

# What is kept of a session, as it stands in its fields: number, app, listener, client's sockaddr, target or "", tried,
# started, connected (-1.0: never), ended (the loop's time), bytes up, bytes down, reason, who ended it, errno.
# Atoms only, so that the collector need not follow 10,000 of them: reason and side as indices.
Finished = tuple[int, str, str, Any, str, tuple[tuple[str, str], ...], float, float, float, int, int, int, int, int]

REASON_INDEX = {reason: index for index, reason in enumerate(Reason)}
SIDE_INDEX = {side: index for index, side in enumerate(Side)}
_REASONS = tuple(reason.value for reason in Reason)
_SIDES = tuple(side.value for side in Side)


class Recorder:
    """Owns the write end of the record pipe, `fd`; with None there is no pipe."""

    def __init__(
        self, loop: Loop, fd: int | None, incarnation: str, warn: Callable[[str], Any], before: "Recorder | None" = None
    ) -> None:
        """`before`: the one that this one takes the place of, with what it has kept."""
        self.incarnation = incarnation
        self.wall = time.time() - loop.now  # what turns the loop's time into the wall clock's
        self.dropped = 0
        self._loop = loop
        self._fd = -1 if fd is None else fd
        self._warn = warn
        self._kept: deque[Finished] = deque(maxlen=KEPT) if before is None else before._kept
        self._records: deque[Any] = deque()  # Finished, and records of requests as they are written
        # From any thread: keep a session that has ended, and send it away if there is a pipe.
        self.add: Callable[[Finished], Any] = self._kept.append if fd is None else self._keep_and_send
        # The same for mode http, where not the session goes to the access log, but each of its requests.
        self.keep: Callable[[Finished], Any] = self._kept.append
        self.add_request: Callable[[tuple[Any, ...]], Any] | None = None if fd is None else self._send
        self._out = bytearray()
        self._armed = False
        self._hurried = False
        self._closed = False
        if fd is not None:
            os.set_blocking(fd, False)

    def __repr__(self) -> str:
        return f"<Recorder {len(self._records)} waiting, {len(self._out)} bytes, {self.dropped} dropped>"

    def find(self, number: int) -> SessionRecord | None:
        """The record of a session that has ended, if it is still kept."""
        self.wall = time.time() - self._loop.now
        for finished in reversed(self._kept.copy()):  # other threads add meanwhile
            if finished[0] == number:
                return self._record(finished)
        return None

    def since(self, number: int, most: int) -> tuple[list[SessionRecord], int, int]:
        """Those that ended after that one (or all that are kept, if it is not), `most` of them, oldest first; the number of
        the newest, and how many are left out. -1 stands for the newest."""
        self.wall = time.time() - self._loop.now
        kept = self._kept.copy()
        found: list[Finished] = []
        for finished in reversed(kept) if number >= 0 else ():
            if finished[0] == number:
                break
            found.append(finished)
        told = [self._record(finished) for finished in reversed(found[:most])]
        return told, kept[-1][0] if kept else 0, len(found) - len(told)

    def _record(self, finished: Finished) -> SessionRecord:
        number, app, listener, address, target, tried, started, connected, ended, up, down, reason, side, code = finished
        return (
            f"{self.incarnation}-{number}",
            app,
            listener,
            client_text(address),
            target,
            tried,
            connected - started if connected >= 0 else -1.0,
            ended - started,
            up,
            down,
            _SIDES[side],
            _REASONS[reason],
            errno_name(code),
            ended + self.wall,
        )

    def _keep_and_send(self, finished: Finished) -> None:
        self._kept.append(finished)
        self._send(finished)

    def _send(self, record: Any) -> None:
        self._records.append(record)
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._arm)
        elif len(self._records) >= FLUSH_AT and not self._hurried:
            self._hurried = True
            self._loop.call_soon(self._flush)

    def close(self, wait: float) -> None:
        """Write what waits, unless the reader takes nothing for `wait` seconds, and close the pipe. Nobody adds any more. A
        second call does nothing: another log may be ordered in the very turn in which the worker ends."""
        self._closed = True
        if self._fd < 0:
            return
        self._collect()
        writable = select.poll()
        writable.register(self._fd, select.POLLOUT)
        while self._out and writable.poll(wait * 1000):
            self._write()
        if self._loop.is_watched(self._fd):
            self._loop.unwatch(self._fd)
        os.close(self._fd)
        self._fd = -1

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
        self._out += frame([record if isinstance(record[0], str) else self._record(record) for record in records])

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
