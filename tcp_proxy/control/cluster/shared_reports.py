"""Targets that say on one node that they are not well are not well on all: their own reports, with their time, in etcd.

Main thread only. Under unhealthy/APP/TARGET is one, for as long as it is to hold: etcd takes it away. A node that hears of
it holds it for no longer than that either, should etcd be gone meanwhile. What is said on a node that is cut off holds there
alone: told later it would begin anew.
"""

import json
import math
from collections.abc import Callable
from typing import Any

from tcp_proxy.control.cluster.shared import SharedState
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.control.targets.self_reports import SelfReports
from tcp_proxy.wire.cluster import DELETE, REPLACE, parts_of, shared_key

UNHEALTHY = "unhealthy"
MOST_SECONDS, MOST_WHY = 86_400.0, 1000


class SharedReports:
    """`is_joined()`: whether this node is; `when_idle(call)`: as soon as the targets are those of one configuration."""

    def __init__(
        self, targets: Targets, reports: SelfReports, shared: SharedState, node: str, is_joined: Callable[[], bool],
        when_idle: Callable[[Callable[[], Any]], Any],
    ) -> None:  # fmt: skip
        self._targets = targets
        self._reports = reports
        self._shared = shared
        self._node = node
        self._is_joined = is_joined
        self._held: dict[str, str] = {}  # by key: the text that counts here
        shared.observe(UNHEALTHY, lambda keys: when_idle(lambda: self._heard(keys)))

    def __repr__(self) -> str:
        return f"<SharedReports of {len(self._held)} targets>"

    def said(self, app: str, target: str, seconds: float, why: str) -> None:
        """Here, where it counts already."""
        key = shared_key(UNHEALTHY, app, target)
        if not self._is_joined():
            return
        if seconds > 0:
            value = {"seconds": seconds, "why": why[:MOST_WHY], "node": self._node}
            self._shared.change(UNHEALTHY, app, target, how=REPLACE, value=value, seconds=math.ceil(seconds))
            self._held[key] = self._shared.get(key)
        else:
            self._held.pop(key, None)
            self._shared.change(UNHEALTHY, app, target, how=DELETE)

    def look(self) -> None:
        """There are other targets: what is held counts for them, too."""
        self._held.clear()
        self._heard(None)

    def _heard(self, keys: list[str] | None) -> None:
        for key in {*self._held, *self._shared.keys(UNHEALTHY)} if keys is None else keys:
            text, parts = self._shared.get(key), parts_of(key)
            target = self._targets.find(parts[1], parts[2]) if len(parts) == 3 else None
            if text == self._held.get(key, "") or target is None:
                continue
            report = read(text)
            if report is not None:
                self._held[key] = text
                self._reports.hear(target, *report)
            elif self._held.pop(key, ""):
                self._reports.hear(target, 0.0, "")


def read(text: str) -> tuple[float, str] | None:
    """For how long, and why; None for what is no report."""
    try:
        said: Any = json.loads(text) if text else None
        seconds, why, node = said["seconds"], said["why"], said["node"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    if type(seconds) not in (int, float) or not 0 < seconds <= MOST_SECONDS:
        return None
    if not all(type(one) is str and len(one) <= MOST_WHY and one.isprintable() for one in (why, node)):
        return None
    return float(seconds), f"{why or 'without a reason'}, said on node {node}"
