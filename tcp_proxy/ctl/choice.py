"""What of a frame `top` shows, and in which order; and the keys that change it. Pure.

    (plain) ── / ──> TYPING ── Enter ──> (plain)      s: the next order   r: the other way round   q: leave
                        └── Esc ──> no filter         Esc, plain: no filter
"""

from collections.abc import Callable
from typing import Any

from tcp_proxy.ctl.terminal import BACKSPACE, ESCAPE

View = dict[str, Any]

SORTS = ("file", "name", "now", "rate", "traffic", "failures", "latency")
KEYS = "q leaves, s sorts, r turns round, / filters"


def _rate(one: View) -> float:
    return one["requests"]["per_second"] if "requests" in one else one["sessions_per_second"]  # type: ignore[no-any-return]


def _failures(one: View) -> float:
    requests = one.get("requests")
    failed: float = one["connect_failures_per_second"]
    return failed + (requests["failures_per_second"] + requests["statuses_per_second"]["5xx"] if requests else 0.0)


ORDERS: dict[str, Callable[[View], float]] = {  # the largest first
    "now": lambda one: one["sessions"]["current"],
    "rate": _rate,
    "traffic": lambda one: one["bytes_up_per_second"] + one["bytes_down_per_second"],
    "failures": _failures,
    "latency": lambda one: (one["requests"]["seconds"]["p99"] or 0.0) if "requests" in one else 0.0,
}


class Choice:
    def __init__(self, sort: str = SORTS[0], wanted: str = "") -> None:
        self.sort = sort
        self.wanted = wanted
        self.is_turned = False
        self._typing = False

    def __repr__(self) -> str:
        return f"<Choice {self.text()}>"

    def press(self, key: str) -> bool:
        """Whether it goes on."""
        if self._typing:
            self._type(key)
        elif key == "q":
            return False
        elif key == "s":
            self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
        elif key == "r":
            self.is_turned = not self.is_turned
        elif key == "/":
            self._typing, self.wanted = True, ""
        elif key == ESCAPE:
            self.wanted = ""
        return True

    def _type(self, key: str) -> None:
        if key in ("\n", "\r", ESCAPE):
            self._typing = False
            self.wanted = "" if key == ESCAPE else self.wanted
        elif key in BACKSPACE:
            self.wanted = self.wanted[:-1]
        elif key.isprintable():
            self.wanted += key

    def text(self) -> str:
        """A line for the end of the picture."""
        order = f"sorted by {self.sort}{', turned round' if self.is_turned else ''}"
        wanted = f"; filter: {self.wanted}{'_' if self._typing else ''}" if self.wanted or self._typing else ""
        return f"{order}{wanted}   ({KEYS})"

    def of(self, frame: View) -> View:
        """The apps that are wanted, with all their targets where the app is meant, else with those that are."""
        apps: dict[str, View] = {}
        for name, app in frame["apps"].items():
            targets = app["targets"]
            if not self._is_meant(name):
                targets = {target: one for target, one in targets.items() if self._is_meant(target)}
                if not targets:
                    continue
            apps[name] = {**app, "targets": self._sorted(targets)}
        return {**frame, "apps": self._sorted(apps)}

    def _is_meant(self, name: str) -> bool:
        return self.wanted.lower() in name.lower()

    def _sorted(self, found: dict[str, View]) -> dict[str, View]:
        items = list(found.items())
        if self.sort == "name":
            items.sort(key=lambda item: item[0])
        elif self.sort in ORDERS:
            order = ORDERS[self.sort]
            items.sort(key=lambda item: -order(item[1]))
        return dict(reversed(items) if self.is_turned else items)
