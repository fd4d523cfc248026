"""Rates, percentiles and the last hour of them: of the program, each app and each target, made of samples
(control.statistics.samples). Values only: a sample and its time come in; nobody is asked here.

Kept in the API's process, for its charts, and gone with it. Its memory is bounded: KEPT points of a series, 4 bytes for
each of COLUMNS, and at most MOST_SERIES of them, which is 26 MB; a target has none before it has counted anything, and those
that come when there is no room have none at all. Those of what has left go with it.
"""

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

EVERY = 10.0  # seconds between two points
HOUR = 3600.0  # seconds
KEPT = 360  # points
MOST_SERIES = 1500
COLUMNS = (
    "sessions", "sessions_per_second", "requests_per_second", "bytes_up_per_second", "bytes_down_per_second",
    "failures_per_second", "errors_per_second", "retries_per_second", "connections", "p50", "p90", "p99",
)  # fmt: skip
COUNTED = ("accepted", "requests", "up", "down", "failures", "errors", "retries")  # of a sample's columns, in our order
SHARES = (0.5, 0.9, 0.99)
NOTHING = float("nan")  # a percentile of nothing

View = dict[str, Any]
Key = tuple[str, ...]  # (), (app,) or (app, target)
Row = list[int]
Rates = list[float]


class Look:
    """One sample, by key. A row of the program is the sum of those of its apps."""

    def __init__(self, sample: View, at: float) -> None:
        self.at = at
        self.bounds: dict[str, list[float]] = sample["buckets"]
        self.modes: dict[str, str] = {name: app["mode"] for name, app in sample["apps"].items()}
        self._columns = {name: place for place, name in enumerate(sample["columns"])}
        self.rows: dict[Key, Row] = {}
        for name, app in sample["apps"].items():
            self.rows[name,] = app["row"]
            for target, row in app["targets"].items():
                self.rows[name, target] = row
        program = [sum(app["row"][place] for app in sample["apps"].values()) for place in range(len(self._columns))]
        program[self._columns["sessions"]], program[self._columns["accepted"]] = sample["sessions"], sample["accepted"]
        self.rows[()] = program
        self.targets = sum(sum(app["states"].values()) for app in sample["apps"].values())

    def __repr__(self) -> str:
        return f"<Look at {self.at} with {len(self.rows)} rows>"

    def rates(self, key: Key, before: "Look") -> Rates:
        """What COLUMNS are, since `before`. What was not there then, or counted more, began at zero."""
        now, was = self.rows[key], before.rows.get(key)
        places, seconds = self._columns, self.at - before.at
        if was is None or any(now[places[name]] < was[places[name]] for name in COUNTED):
            was = [0] * len(now)
        counted = [(now[places[name]] - was[places[name]]) / seconds for name in COUNTED]
        buckets = [new - old for new, old in zip(now[len(places) :], was[len(places) :], strict=True)]
        bounds = self.bounds[self.modes[key[0]]] if key else []
        times = [percentile(bounds, buckets, share) for share in SHARES]
        return [now[places["sessions"]], *counted, now[places["connections"]], *times]


def percentile(bounds: Sequence[float], buckets: Sequence[int], share: float) -> float:
    """Within so many seconds was this share of what is counted in buckets, each up to its bound, the last one without. As if
    those of a bucket were spread evenly; above all bounds it is the last; NaN of nothing."""
    upto = list(accumulate(buckets))
    if not upto or upto[-1] <= 0:
        return NOTHING
    wanted = share * upto[-1]
    place = next(n for n, count in enumerate(upto) if count >= wanted)
    if place >= len(bounds):
        return bounds[-1]
    low, before = (bounds[place - 1], upto[place - 1]) if place else (0.0, 0)
    return low + (bounds[place] - low) * (wanted - before) / buckets[place]


class Series:
    """The points of one key, in a ring that goes by the points' numbers."""

    def __init__(self, first: int) -> None:
        self.first = first  # the number of its first point
        self._values = array("f", bytes(4 * KEPT * len(COLUMNS)))

    def put(self, number: int, rates: Rates) -> None:
        place = number % KEPT * len(COLUMNS)
        self._values[place : place + len(COLUMNS)] = array("f", rates)

    def at(self, number: int) -> Sequence[float]:
        place = number % KEPT * len(COLUMNS)
        return self._values[place : place + len(COLUMNS)]


class History:
    """`number` counts the samples. Not for two threads at once."""

    def __init__(self) -> None:
        self.number = 0
        self.now: Look | None = None
        self._sample: View = {}
        self._before: Look | None = None  # the one before `now`
        self._point: Look | None = None  # the one of which the last point was made
        self._points = 0  # so many there have been
        self._times: deque[float] = deque(maxlen=KEPT)
        self._series: dict[Key, Series] = {}

    def __repr__(self) -> str:
        return f"<History of {len(self._series)} series, {len(self._times)} points>"

    def add(self, sample: View, at: float) -> None:
        """`at`: Unix time. One that is not later than the one before, as after a clock was set back, begins anew."""
        look = Look(sample, at)
        if self.now is not None and at <= self.now.at:
            self._point = self.now = None
            self._times.clear()
            self._series.clear()
        self._before = self.now if self.now is not None else Look(sample, at - EVERY)
        self.now, self._sample = look, sample
        self.number += 1
        if self._point is None:
            self._point = look
        elif at - self._point.at >= EVERY - 0.5:  # a timer is never early by more
            self._keep(look, self._point)
            self._point = look

    def _keep(self, look: Look, before: Look) -> None:
        for key in [key for key in self._series if key not in look.rows]:
            del self._series[key]
        for key in sorted(look.rows, key=len):  # apps before targets
            series = self._series.get(key)
            if series is None:
                if len(self._series) >= MOST_SERIES:
                    continue
                series = self._series[key] = Series(self._points)
            series.put(self._points, look.rates(key, before))
        self._points += 1
        self._times.append(look.at)

    def has_app(self, app: str) -> bool:
        return self.now is not None and app in self.now.modes

    def rates(self, app: str = "") -> View:
        """Of the program and all apps, and of the targets of one app, since the sample before."""
        look, before = self.now, self._before
        assert look is not None
        assert before is not None
        told = {"number": self.number, "at": look.at, "seconds": look.at - before.at, "columns": COLUMNS}
        apps = {}
        for name, sample in self._sample["apps"].items():
            keys = ("mode", "states", "queue", "refused", "statuses", "listeners")
            apps[name] = {**{key: sample[key] for key in keys}, "row": _rounded(look.rates((name,), before))}
        targets = self._sample["apps"].get(app, {"targets": {}})["targets"]
        rows = {target: _rounded(look.rates((app, target), before)) for target in targets}
        return {**told, "program": _rounded(look.rates((), before)), "apps": apps, "targets": rows}

    def points(self, app: str = "", target: str = "", after: float = 0.0) -> View:
        """Those of the last hour, later than `after`."""
        key = (app, target) if target else (app,) if app else ()
        series, last = self._series.get(key), self._times[-1] if self._times else 0.0
        found = [] if series is None else list(self._found(series, max(after, last - HOUR)))
        values = [_rounded(series.at(number)) for number, _ in found] if series is not None else []
        return {
            "every": EVERY,
            "mode": self.now.modes.get(app) if self.now is not None else None,
            "kept": series is not None or len(self._series) < MOST_SERIES,
            "at": [at for _, at in found],
            "series": {name: [row[place] for row in values] for place, name in enumerate(COLUMNS)},
        }

    def _found(self, series: Series, after: float) -> Iterator[tuple[int, float]]:
        for number, at in enumerate(self._times, self._points - len(self._times)):
            if number >= series.first and at > after:
                yield number, at


def _rounded(rates: Sequence[float]) -> list[float | None]:
    """As JSON can say it."""
    return [None if value != value else float(f"{value:.5g}") for value in rates]  # NaN
