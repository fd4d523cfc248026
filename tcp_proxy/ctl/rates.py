"""What happens a second, from one look at the statistics to the next, and what histograms say. Pure: the clock's time is an
argument.

Counters begin anew with the program, and with a target that comes back; one that is less than before began at zero.
"""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

View = dict[str, Any]
Key = tuple[str, ...]

KEPT = 30  # looks that a sparkline shows
RATES = ("sessions_per_second", "bytes_up_per_second", "bytes_down_per_second", "connect_failures_per_second")
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def percentile(bounds: Sequence[float], upto: Sequence[float], count: float, share: float) -> float | None:
    """Within so many seconds was this share of all. Between two bounds as if they were spread evenly; above the last one it
    is that, and None where there was nothing."""
    if count <= 0:
        return None
    wanted = share * count
    for (low, before), (high, until) in pairwise([(0.0, 0.0), *zip(bounds, upto, strict=True)]):
        if until >= wanted:
            return low + (high - low) * (wanted - before) / (until - before) if until > before else high
    return bounds[-1]


def percentiles(histogram: View) -> dict[str, float | None]:
    known = histogram["bounds"], histogram["upto"], histogram["count"]
    return {name: percentile(*known, share) for name, share in SHARES.items()}


class Rates:
    def __init__(self) -> None:
        self._before: dict[Key, list[float]] = {}
        self._requests: dict[Key, View] = {}
        self._at: float | None = None
        self._history: dict[Key, deque[float]] = {}

    def __repr__(self) -> str:
        return f"<Rates of {len(self._before)}>"

    def look(self, statistics: View, now: float) -> View:
        """The program, each app and each target: sessions now and a second, bytes and failures a second, `history`; those in
        mode http have `requests`, too."""
        seconds = 0.0 if self._at is None else now - self._at
        counts: dict[Key, list[float]] = {}
        requests: dict[Key, View] = {}
        frame = {
            "version": statistics["version"],
            "started": statistics["started"],
            "workers_died": statistics["workers_died"],
            "overrides": statistics.get("overrides", []),
            "apps": {name: self._app((name,), app, (counts, requests), seconds) for name, app in statistics["apps"].items()},
        }
        apps = statistics["apps"].values()
        program = {"sessions": statistics["sessions"], **_sums(apps)}
        frame["program"] = self._one((), program, (counts, requests), seconds)
        self._before, self._requests, self._at = counts, requests, now
        self._history = {key: self._history[key] for key in counts}
        return frame

    def _app(self, key: Key, app: View, seen: tuple[dict[Key, list[float]], dict[Key, View]], seconds: float) -> View:
        targets = app["targets"].items()
        return {
            **self._one(key, app, seen, seconds),
            **({"queue": app["queue"]} if "queue" in app else {}),
            "targets": {
                name: {"state": one["state"], **self._one((*key, name), one, seen, seconds)} for name, one in targets
            },
        }

    def _one(self, key: Key, view: View, seen: tuple[dict[Key, list[float]], dict[Key, View]], seconds: float) -> View:
        counts, requests = seen
        moved, sessions = view["bytes"], view["sessions"]
        now = [sessions["total"], moved["up"], moved["down"], sum(view["connect_failures"].values())]
        counts[key] = now
        history = self._history.setdefault(key, deque(maxlen=KEPT))
        rates = [0.0] * len(now)
        if seconds > 0 and key in self._before:
            rates = [_grown(new, old) / seconds for new, old in zip(now, self._before[key], strict=True)]
        found = {"sessions": sessions, **dict(zip(RATES, rates, strict=True))}
        if "requests" in view:
            requests[key] = {**view["requests"], "retries": view["connect_retries"]}
            found["requests"] = _requests(requests[key], self._requests.get(key), seconds)
        if seconds > 0 and key in self._before:
            history.append(found["requests"]["per_second"] if "requests" in found else rates[0])
        return {**found, "history": list(history)}


def _requests(now: View, before: View | None, seconds: float) -> View:
    """What came since the look before; at the first one there are no rates, and the times are those since the start."""
    is_first = before is None or seconds <= 0
    was: View = now if before is None else before
    statuses = {
        name: 0.0 if is_first else _grown(count, was["statuses"][name]) / seconds for name, count in now["statuses"].items()
    }
    times, old = now["seconds"], was["seconds"]
    if not is_first and times["count"] >= old["count"]:
        upto = [new - past for new, past in zip(times["upto"], old["upto"], strict=True)]
        times = {"bounds": times["bounds"], "upto": upto, "count": times["count"] - old["count"]}
    return {
        "per_second": sum(statuses.values()),
        "statuses_per_second": statuses,
        "failures_per_second": 0.0 if is_first else _grown(now["failures"], was["failures"]) / seconds,
        "retries_per_second": 0.0 if is_first else _grown(now["retries"], was["retries"]) / seconds,
        "connections": now["connections"],
        "seconds": percentiles(times),
    }


def _grown(new: float, old: float) -> float:
    return new - old if new >= old else new


def _sums(apps: Any) -> View:
    apps = list(apps)
    return {
        "bytes": {way: sum(app["bytes"][way] for app in apps) for way in ("up", "down")},
        "connect_failures": {"all": sum(sum(app["connect_failures"].values()) for app in apps)},
    }
