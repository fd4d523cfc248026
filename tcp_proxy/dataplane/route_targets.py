"""A route's share of an app: it offers to a Dial what the app offers, among its own targets only.

Owned by the loop's thread; made anew when the app changes. Routes of mode http and those by a ClientHello have one each. A
client, or a request, with a key of its own (`hash`) has a KeyedTargets around it.
"""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.place_queue import PlaceQueue
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.wire.counters import QUEUE_LINES


def begin(dial: Any, target: LiveTarget | None) -> None:
    """A dial of a request: with this one, which is taken, or with any; of a client that
    stays by a header not before it is known whose it is."""
    asks = getattr(dial.app, "asks", None) if target is None else None  # http.stick
    if target is not None:
        dial.begin(target)
    elif asks is None or not asks(dial):
        dial.start()


class KeyedTargets:
    """An app, or a route's share of it, for one client or one request whose key is known: that alone is different."""

    __slots__ = ("_key", "_targets")

    def __init__(self, targets: Any, key: bytes) -> None:
        """`targets`: a LiveApp, or RouteTargets."""
        self._targets = targets
        self._key = key

    def __repr__(self) -> str:
        return f"<KeyedTargets {self._key!r} of {self._targets!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._targets, name)

    def choose(self, _key: bytes, now: float, excluded: set[LiveTarget] | None) -> LiveTarget | None:
        chosen: LiveTarget | None = self._targets.choose(self._key, now, excluded)
        return chosen

    def choose_waiting(self, _key: bytes, now: float) -> LiveTarget | None:
        chosen: LiveTarget | None = self._targets.choose_waiting(self._key, now)
        return chosen


class RouteTargets:
    """`names`: of its targets."""

    primary_queue = None  # what a Dial asks for; only apps with the balance failover have one

    def __init__(self, app: LiveApp, names: Sequence[str]) -> None:
        self._app = app
        self._names = names
        self._look()
        self.name = app.name
        self.queue_line = 2 + crc32("\0".join(names).encode()) % (QUEUE_LINES - 2)  # the same in all workers
        self.row = app.row
        self.retries = app.retries
        self.timeouts = app.timeouts
        self.retake = app.retake
        self.connect_failed = app.connect_failed

    def _look(self) -> None:
        """At the targets that the app has now: a client may have chosen its route before one of another route came."""
        self._seen = targets = self._app.targets
        self._own = [target for name, target in targets.items() if name in self._names]
        self._others = {target for name, target in targets.items() if name not in self._names}

    def __repr__(self) -> str:
        return f"<RouteTargets of {self.name}: {len(self._own)} targets>"

    def choose(self, key: bytes, now: float, excluded: set[LiveTarget] | None) -> LiveTarget | None:
        if self._app.targets is not self._seen:
            self._look()
        queue = self._app.queue
        if queue is not None and not excluded and queue.holds_back(self.queue_line):
            return None
        return self._app.choose(key, now, self._others | excluded if excluded else self._others)

    @property
    def queue(self) -> PlaceQueue | None:
        return self._app.queue

    def choose_waiting(self, key: bytes, now: float) -> LiveTarget | None:
        if self._app.targets is not self._seen:
            self._look()
        return self._app.choose_waiting(key, now, self._others)

    def offers(self, target: LiveTarget) -> bool:
        return target in self._own

    def is_alone(self, target: LiveTarget) -> bool:
        return not any(other.is_eligible for other in self._own if other is not target)

    def why_none(self, now: float) -> Reason:
        if any(target.is_eligible for target in self._own):
            return Reason.LIMIT
        self._app.why_none(now)
        return Reason.NO_TARGET
