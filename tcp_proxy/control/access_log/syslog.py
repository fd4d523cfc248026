"""A syslog server as the place where the lines of the access log go.

Owned by the thread of the log, which alone may wait for it (runtime.syslog). While it is not there, lines are lost, and it
is tried again every AGAIN seconds.
"""

import os
from datetime import UTC, datetime

from tcp_proxy.runtime.syslog import AGAIN, SyslogConnection
from tcp_proxy.sansio import syslog
from tcp_proxy.sansio.syslog import Receiver


class SyslogDestination:
    def __init__(self, receiver: Receiver) -> None:
        self._connection = SyslogConnection(receiver)
        self._fault: OSError | None = None  # of the last attempt
        self._again_at = 0.0

    def __repr__(self) -> str:
        return f"<SyslogDestination {self._connection!r} {self._fault or ''}>"

    def append(self, data: bytes, is_failing: bool, now: float, /) -> tuple[int, OSError | None]:
        lines = data.splitlines()
        if self._fault is not None and is_failing and now < self._again_at:
            return len(lines), self._fault
        when = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        head = syslog.header(self._connection.receiver, self._connection.host, os.getpid(), f"{when}Z")
        sent, self._fault = self._connection.send([syslog.message(head, line) for line in lines])
        if self._fault is not None:
            self._again_at = now + AGAIN
        return len(lines) - sent, self._fault

    def close(self) -> None:
        self._connection.close()
