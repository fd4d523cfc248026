"""Targets that say themselves that they are not well, and for how long: until then they get no sessions.

Main thread only. A later report takes the place of an earlier one; 0 seconds take it back. It holds over reloads, with the
target, and not over a restart of the program.
"""

import logging
from collections.abc import Callable
from typing import Any

from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.control.targets.known import KnownTarget
from tcp_proxy.runtime.loop import Loop, Timer

logger = logging.getLogger(__name__)


class SelfReports:
    """`changed(target, before)`: its state may be another one now."""

    def __init__(self, loop: Loop, targets: Targets, changed: Callable[..., Any]) -> None:
        self._loop = loop
        self._targets = targets
        self._changed = changed
        self._timers: dict[int, Timer] = {}  # by id of the target

    def __repr__(self) -> str:
        return f"<SelfReports of {len(self._timers)} targets>"

    def hear(self, target: KnownTarget, seconds: float, why: str) -> None:
        if timer := self._timers.pop(id(target), None):
            timer.cancel()
        if seconds > 0:
            self._set(target, f"unhealthy by its own report, for {seconds:g} s: {why or 'without a reason'}")
            self._timers[id(target)] = self._loop.call_later(seconds, self._over, target)
        else:
            self._set(target, "")

    def _over(self, target: KnownTarget) -> None:
        self._timers.pop(id(target), None)
        if self._targets.find(target.app, target.config.name) is target:
            logger.info("app %s: target %s: its time of being unhealthy is over", target.app, target.config.name)
            self._set(target, "")

    def _set(self, target: KnownTarget, self_report: str) -> None:
        before, target.self_report = target.state, self_report
        self._changed(target, before)
