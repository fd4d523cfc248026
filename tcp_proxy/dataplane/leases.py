"""Until when the primaries of a worker's apps count, in a cluster: the timers that say so. The loop's thread only.

    none ──Renewed──> RUNNING ──Renewed: later──> RUNNING ──the time is over──> `lapsed(app)`
"""

from collections.abc import Callable
from typing import Any

from tcp_proxy.runtime.loop import Loop, Timer
from tcp_proxy.wire.messages import Renewed


class Leases:
    """`apps` by name; `renewed(app)` where there is a primary again, `lapsed(app)` where there is none any more."""

    def __init__(
        self, loop: Loop, apps: dict[str, Any], renewed: Callable[[Any], Any], lapsed: Callable[[Any], Any]
    ) -> None:
        self._loop = loop
        self._apps = apps
        self._renewed, self._lapsed = renewed, lapsed
        self._timers: dict[str, Timer] = {}

    def __repr__(self) -> str:
        return f"<Leases of {len(self._timers)} apps>"

    def hear(self, message: Renewed, _descriptors: list[int]) -> None:
        for name, epoch in zip(message.apps, message.epochs, strict=True):
            app = self._apps.get(name)
            if app is None or app.primary_queue is None:
                continue
            if app.primary_queue.renew(epoch, message.until, self._loop.now):
                self._renew(app)
            if name not in self._timers:
                self._look_at(name, message.until)

    def _renew(self, app: Any) -> None:
        queue = app.primary_queue
        app.elect(queue.epoch, queue.named, queue.since)  # the queue knows it already
        self._renewed(app)

    def _look_at(self, name: str, when: float) -> None:
        self._timers[name] = self._loop.call_later(max(0.0, when - self._loop.now), self._look, name)

    def _look(self, name: str) -> None:
        """A timer for each renewal would be more of them than there are sessions."""
        del self._timers[name]
        app = self._apps.get(name)
        queue = app.primary_queue if app is not None else None
        if queue is None or app is None or not queue.primary:
            return
        if queue.lapse(self._loop.now):
            app.elect(queue.epoch, queue.named, queue.since)  # the queue knows it already
            self._lapsed(app)
        else:
            self._look_at(name, queue.until)
