"""When a target that comes before the primary is to be tried: how long each has been up, and what came of trying it.

Pure; time is an argument. Always true: a target that is up and cannot be primary all the same is tried later each time.
"""

from typing import Any

LEAST = 1.0  # seconds between two attempts


class Failback:
    """Targets by name."""

    def __init__(self) -> None:
        self._up_since: dict[str, float] = {}
        self._lost: dict[str, int] = {}  # elections for its sake that it has not won

    def __repr__(self) -> str:
        return f"<Failback of {len(self._up_since)} candidates>"

    def note(self, up: set[str], now: float) -> None:
        """These are the candidates now."""
        known = self._up_since.keys()
        for name in (known | self._lost.keys()) - up:
            self._up_since.pop(name, None)
            self._lost.pop(name, None)
        self._up_since.update(dict.fromkeys(up - known, now))

    def failed(self, name: str, now: float) -> None:
        """It could not be primary: its time begins anew."""
        self._up_since[name] = now

    def lost(self, name: str) -> None:
        """An election was begun for its sake, and another one has won."""
        self._lost[name] = self._lost.get(name, 0) + 1

    def due(self, name: str, after: float, now: float) -> float:
        """When it is to be tried."""
        lost = self._lost.get(name, 0)
        wait = max(after, LEAST) * 2.0 ** min(lost, 10) if lost else after
        return self._up_since.get(name, now) + wait

    def given(self) -> dict[str, Any]:
        """For a program that takes over."""
        return {"up_since": self._up_since, "lost": self._lost}

    def take(self, given: dict[str, Any]) -> None:
        self._up_since, self._lost = dict(given.get("up_since", {})), dict(given.get("lost", {}))
