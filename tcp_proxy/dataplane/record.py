"""Finished sessions: the last ones are kept, and all go to the record pipe as lines of the access log, in batches, if there
is one.

Any thread of a worker may `add` (a deque's append is atomic); only the loop's thread formats and writes. A batch is
written every half second, or as soon as 200 records wait. Records alone may be dropped, when 8 MiB wait; drops are
counted and the count is logged (docs/rules.md, R11).
"""

import itertools
import os
import select
import time
from collections import deque
from collections.abc import Callable
from random import getrandbits
from typing import Any

from tcp_proxy.config.log_model import TRACES, AccessLogs
from tcp_proxy.dataplane.tls_told import Told
from tcp_proxy.runtime.loop import WRITE, Loop
from tcp_proxy.sansio.address import client_text, notes_of, peer_text
from tcp_proxy.sansio.reasons import Reason, Side, errno_name
from tcp_proxy.sansio.trace_context import begin
from tcp_proxy.wire.records import REQUEST, Origin, SessionRecord

KEPT = 10_000  # finished sessions, for `why`; the same number of requests in mode http
LINE_MOST, ID_MOST = 400, 200  # bytes that are kept of a request's first line, and of its client's own X-Request-ID
FLUSH_EVERY = 0.5  # seconds
FLUSH_AT = 180  # records: their lines are to fit into the pipe, which takes 64 KiB
MAX_WAITING = 8 << 20  # bytes

# What is kept of a session, as it stands in its fields: number, app, listener, client's sockaddr, target or "", tried,
# started, connected (-1.0: never), ended (the loop's time), bytes up, bytes down, reason, who ended it, errno, what
# was wrong in words, what is told of its TLS, where it began if not here. Atoms only, so that the collector need not follow
# 10,000 of them: reason and side as indices.
Finished = tuple[
    int, str, str, Any, str, tuple[tuple[str, str], ...], float, float, float, int, int, int, int, int, str, Told,
    Origin | None,
]  # fmt: skip

# The same of a request in mode http: session (its number; its id, if it began in another process), number in it, app,
# listener, client's sockaddr, first line (cut), the client's own X-Request-ID (cut), target or "", tried, status, started,
# answered (-1.0: never), ended, bytes up, bytes down, reason, what was wrong in words.
FinishedRequest = tuple[
    int | str, int, str, str, Any, bytes, bytes, str, tuple[tuple[str, str], ...], int, float, float, float, int, int, int,
    str,
]  # fmt: skip

REASON_INDEX = {reason: index for index, reason in enumerate(Reason)}
SIDE_INDEX = {side: index for index, side in enumerate(Side)}
REASONS = tuple(reason.value for reason in Reason)
_SIDES = tuple(side.value for side in Side)


class Recorder:
    """Owns the write end of the record pipe, `fd`; with None there is no pipe. `logs`: which lines go where."""

    def __init__(
        self,
        loop: Loop,
        fd: int | None,
        incarnation: str,
        warn: Callable[[str], Any],
        logs: AccessLogs | None = None,
        before: "Recorder | None" = None,
        keeps_requests: bool = False,
    ) -> None:
        """`before`: the one that this one takes the place of, with what it has kept. `keeps_requests`: of mode http, too."""
        self.incarnation = incarnation
        self.wall = time.time() - loop.now  # what turns the loop's time into the wall clock's
        self.dropped = 0
        self._loop = loop
        self._fd = -1 if fd is None else fd
        self._warn = warn
        self._kept: deque[Finished] = deque(maxlen=KEPT) if before is None else before._kept
        self._records: deque[Any] = deque()  # Finished, records of requests as they are written, and lines
        # From any thread: keep a session that has ended, and send it away if there is a pipe.
        self.add: Callable[[Finished], Any] = self._kept.append if fd is None else self._keep_and_send
        # The same for mode http, where not the session goes to the access log, but each of its requests.
        self.keep: Callable[[Finished], Any] = self._kept.append
        self.requests: deque[FinishedRequest] = deque(maxlen=KEPT) if before is None else before.requests
        is_asked = keeps_requests if before is None else before.keep_request is not None
        self.keep_request: Callable[[FinishedRequest], Any] | None = self.requests.append if is_asked else None
        self.add_request: Callable[[tuple[Any, ...]], Any] | None = None if fd is None else self._send
        self.sample = None if logs is None else logs.sample  # of the traces that begin here; None: there are none
        self.usual: Any = None  # log_lines.UsualLines, where all lines are text and go to one log
        self._out = bytearray()
        self._armed = False
        self._hurried = False
        self._closed = False
        if fd is not None and logs is not None:
            # a worker without an access log does not load it
            from tcp_proxy.wire import log_lines  # noqa: PLC0415

            formats = log_lines.FORMATS
            self._line = formats[logs.format]
            self._usual = self._at = logs.path  # where the last line that was written belongs
            self._own = {name: (path, formats[format]) for name, path, format in logs.apps}
            self._switch = log_lines.switch
            self._sorts = bool(self._own) or self.sample is not None
            if logs.format == "text" and not self._sorts:
                self.usual = log_lines.UsualLines(self._records, FLUSH_AT, self._send_soon)
            os.set_blocking(fd, False)

    def __repr__(self) -> str:
        return f"<Recorder {len(self._records)} waiting, {len(self._out)} bytes, {self.dropped} dropped>"

    def find(self, number: int, id: str = "") -> SessionRecord | None:
        """The record of a session that has ended, if it is still kept: one of ours, or with `id` one that has moved here."""
        self.wall = time.time() - self._loop.now
        for finished in reversed(self._kept.copy()):  # other threads add meanwhile
            origin = finished[-1]
            if finished[0] == number if origin is None else origin.id == id:
                return self._record(finished)
        return None

    def find_requests(self, sessions: tuple[int, str], number: int, own_id: bytes, most: int) -> list[FinishedRequest]:
        """The newest of this number in one of these sessions, or with this X-Request-ID; of 10,000 that takes below a
        millisecond."""
        self.wall = time.time() - self._loop.now
        kept = reversed(self.requests)
        if own_id:
            found = (one for one in kept if one[6] == own_id)
        else:
            found = (one for one in kept if one[1] == number and one[0] in sessions)
        return list(itertools.islice(found, most))

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
        (
            number, app, listener, address, target, tried, started, connected, ended, up, down, reason, side, code, error,
            tls, origin,
        ) = finished  # fmt: skip
        is_usual = type(address) is tuple  # most are: nothing is to be said of them, which costs two calls to find out
        return (
            f"{self.incarnation}-{number}" if origin is None else origin.id,
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
            REASONS[reason],
            errno_name(code),
            ended + self.wall,
            "" if is_usual else peer_text(address),
            error,
            tls,
            "" if is_usual else notes_of(address),
            () if origin is None else (*origin.processes, os.getpid()),
            (),
        )

    def _keep_and_send(self, finished: Finished) -> None:
        self._kept.append(finished)
        self._send(finished)

    def _send(self, record: Any) -> None:
        self._records.append(record)
        self._send_soon()

    def _send_soon(self) -> None:
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
        if self._sorts:
            lines = self._sorted([self._whole(record) for record in records])
        else:
            lines = [record if type(record) is str else self._line(self._whole(record)) for record in records]
        self._out += "".join(lines).encode(errors="backslashreplace")

    def _whole(self, record: Any) -> SessionRecord:
        """A session's is made of what is kept of it."""
        if isinstance(record[0], str):
            return record  # type: ignore[no-any-return]
        return self._record(record) if self.sample is None else self._traced(self._record(record))

    def _sorted(self, records: list[SessionRecord]) -> list[str]:
        """By the logs that they belong to; first what goes on where the last batch has ended."""
        usual = self._usual, self._line
        by_path: dict[str, list[str]] = {self._at: []}
        for record in records:
            path, line = self._own.get(record[2 if record[0] == REQUEST else 1], usual)  # type: ignore[call-overload]
            if path:
                by_path.setdefault(path, []).append(line(record))
        lines: list[str] = []
        for path, some in by_path.items():
            lines += self._at_path(path, some)
        if self.sample is not None:
            from tcp_proxy.wire import trace_lines  # noqa: PLC0415  who traces nothing does not load it

            traced = [trace_lines.line(record) for record in records if trace_lines.is_traced(record)]
            lines += self._at_path(TRACES, traced) if traced else ()
        return lines

    def _at_path(self, path: str, lines: list[str]) -> list[str]:
        """Behind what was written last."""
        if path == self._at:
            return lines
        self._at = path
        return [self._switch(path), *lines]

    def _traced(self, record: SessionRecord) -> SessionRecord:
        """A session is nobody's before: its trace begins, if it is one of those that are sampled, when it is recorded."""
        assert self.sample is not None
        span = begin(self.sample, getrandbits)
        return (*record[:-1], (span.trace, span.span, "")) if span.is_sampled else record

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
