"""What happens a second, from one look at the statistics to the next. Pure: the clock's time is an argument.

Counters begin anew with the program, and with a target that comes back; one that is less than before began at zero.
"""

from collections import deque
from typing import Any

View = dict[str, Any]
Key = tuple[str, ...]

KEPT = 30  # looks that a sparkline shows


class Rates:
    def __init__(self) -> None:
        self._before: dict[Key, list[float]] = {}
        self._at: float | None = None
        self._history: dict[Key, deque[float]] = {}

    def __repr__(self) -> str:
        return f"<Rates of {len(self._before)}>"

    def look(self, statistics: View, now: float) -> View:
        """The program, each app and each target: sessions now and a second, bytes and failures a second, `history`."""
        seconds = 0.0 if self._at is None else now - self._at
        counts: dict[Key, list[float]] = {}
        frame = {
            "version": statistics["version"],
            "started": statistics["started"],
            "workers_died": statistics["workers_died"],
            "apps": {name: self._app((name,), app, counts, seconds) for name, app in statistics["apps"].items()},
        }
        apps = statistics["apps"].values()
        program = {"sessions": statistics["sessions"], **_sums(apps)}
        frame["program"] = self._one((), program, counts, seconds)
        self._before, self._at = counts, now
        self._history = {key: self._history[key] for key in counts}
        return frame

    def _app(self, key: Key, app: View, counts: dict[Key, list[float]], seconds: float) -> View:
        targets = app["targets"].items()
        return {
            **self._one(key, app, counts, seconds),
            "targets": {
                name: {"state": target["state"], **self._one((*key, name), target, counts, seconds)}
                for name, target in targets
            },
        }

    def _one(self, key: Key, view: View, counts: dict[Key, list[float]], seconds: float) -> View:
        moved, sessions = view["bytes"], view["sessions"]
        now = [sessions["total"], moved["up"], moved["down"], sum(view["connect_failures"].values())]
        counts[key] = now
        history = self._history.setdefault(key, deque(maxlen=KEPT))
        rates = [0.0] * len(now)
        if seconds > 0 and key in self._before:
            before = self._before[key]
            rates = [(new - old if new >= old else new) / seconds for new, old in zip(now, before, strict=True)]
            history.append(rates[0])
        names = ("sessions_per_second", "bytes_up_per_second", "bytes_down_per_second", "connect_failures_per_second")
        return {"sessions": sessions, **dict(zip(names, rates, strict=True)), "history": list(history)}


def _sums(apps: Any) -> View:
    apps = list(apps)
    return {
        "bytes": {way: sum(app["bytes"][way] for app in apps) for way in ("up", "down")},
        "connect_failures": {"all": sum(sum(app["connect_failures"].values()) for app in apps)},
    }
