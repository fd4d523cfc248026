"""What a worker counts for outlier detection, and tells the supervisor, who decides (sansio.outlier).

The loop's thread only; loaded with the first app that has `outlier`. Nothing is done for a success: how many there have
been is in the counters of all workers anyway, and is looked up when there is a failure. So failures are told with that
number, and in the supervisor those of all workers with the same number are in one row. A row that is as long as the
threshold is told no more but once a second, so that a target that may not be ejected costs no message for each failure.
"""

from collections.abc import Callable
from typing import Any, Protocol

from tcp_proxy.config.model import Outlier
from tcp_proxy.sansio.outlier import Kind
from tcp_proxy.wire.counters import (
    BYTES_DOWN,
    CONNECT_SLOTS,
    CONNECTS,
    HTTP_STATUS,
    OUTLIER_BOTH,
    OUTLIER_FAILURES,
    OUTLIER_SERVER_ERRORS,
    Row,
)

AGAIN = 1.0  # seconds between two words of one row that is long enough
GATEWAY = (502, 503, 504)


class Failing(Protocol):
    """A dataplane.apps.LiveTarget."""

    slot: int
    since: float

    @property
    def name(self) -> str: ...


class _Told:
    """A row of one kind at one target, as far as it was met here. `since`: when the target came back last."""

    __slots__ = ("at", "count", "since", "successes")

    def __init__(self, successes: int, since: float) -> None:
        self.successes = successes
        self.since = since
        self.count = 0
        self.at = 0.0


class OutlierCounts:
    """Of one app. `tell(rows, target, error)`; `rows`: of all threads of all workers, `row`: of this one."""

    def __init__(self, settings: Outlier, is_http: bool, rows: list[Row], row: Row, tell: Callable[..., Any]) -> None:
        self._thresholds = {kind: settings.consecutive_failures for kind in Kind}
        self._thresholds[Kind.GATEWAY] = settings.consecutive_gateway_failures
        self._slower_than = settings.slower_than
        self._is_http = is_http
        self._rows = rows
        self._row = row
        self._tell = tell
        self._told: dict[tuple[int, Kind], _Told] = {}

    def __repr__(self) -> str:
        return f"<OutlierCounts of {len(self._told)} rows>"

    def connect_failed(self, target: Failing, text: str, now: float) -> None:
        """By the target's fault."""
        self._row[target.slot + OUTLIER_FAILURES] += 1
        kinds = (Kind.FAILURE, Kind.GATEWAY) if self._is_http else (Kind.CONNECT,)
        self._failed(target, kinds, f"connect: {text}", now)

    def was_reset(self, target: Failing, text: str, now: float) -> None:
        """Mode tcp: before a byte came from it."""
        self._row[target.slot + OUTLIER_FAILURES] += 1
        self._row[target.slot + OUTLIER_BOTH] += 1
        self._failed(target, (Kind.RESET,), text, now)

    def unanswered(self, target: Failing, text: str, now: float) -> None:
        """Mode http: there was no answer, or none that can be passed on."""
        self._row[target.slot + OUTLIER_FAILURES] += 1
        self._failed(target, (Kind.FAILURE, Kind.GATEWAY), text or "no answer", now)

    def answered(self, target: Failing, status: int, seconds: float, now: float) -> None:
        """Mode http, before the status is counted: so nobody ever sees a success that is taken back. `seconds` from the
        request's whole head to the answer's; 0.0 where it did not go to the target at once."""
        row, slot = self._row, target.slot
        if status < 500:
            if not 0 < self._slower_than < seconds:
                return
            self._failed(target, (Kind.FAILURE,), f"{status} after {seconds:.3g} s", now)
            row[slot + OUTLIER_FAILURES] += 1
            row[slot + OUTLIER_BOTH] += 1
            return
        row[slot + OUTLIER_FAILURES] += 1
        if status in GATEWAY:
            self._failed(target, (Kind.FAILURE, Kind.GATEWAY), f"status {status}", now)
        else:
            row[slot + OUTLIER_SERVER_ERRORS] += 1
            self._failed(target, (Kind.FAILURE,), f"status {status}", now)

    def _failed(self, target: Failing, kinds: tuple[Kind, ...], text: str, now: float) -> None:
        told = tuple(row for row in (self._row_of(target, kind, now) for kind in kinds) if row)
        if told:
            self._tell(told, target.name, text)

    def _row_of(self, target: Failing, kind: Kind, now: float) -> tuple[int, int, int] | None:
        """What is to be told of one failure more; None: nothing."""
        threshold = self._thresholds[kind]
        if not threshold:
            return None
        successes, key = self._successes(target.slot, kind), (target.slot, kind)
        known = self._told.get(key)
        if known is None or known.successes != successes or known.since != target.since:
            known = self._told[key] = _Told(successes, target.since)
        known.count += 1
        if known.count > threshold and now - known.at < AGAIN:
            return None
        known.at = now
        return int(kind), successes, 1

    def _successes(self, slot: int, kind: Kind) -> int:
        """So far, in all workers."""
        if kind is Kind.RESET:
            return self._sum(slot + BYTES_DOWN)
        if kind is Kind.CONNECT:
            return self._sum(slot + CONNECTS, CONNECT_SLOTS)
        answers = self._sum(slot + HTTP_STATUS + 1, 4)
        if kind is Kind.GATEWAY:
            return answers + self._sum(slot + OUTLIER_SERVER_ERRORS)
        return answers - self._sum(slot + OUTLIER_BOTH)

    def _sum(self, first: int, size: int = 1) -> int:
        return sum(sum(row[first : first + size]) for row in self._rows)
