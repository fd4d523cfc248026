"""Apps with outlier detection: what workers have met at targets is judged, and who is ejected comes back in time.

Main thread only; loaded with the first app that has `outlier`. The decisions are those of a Detector for each app
(sansio.outlier); here are the timers, the counters of all workers that success rates are made of, and what is said.
`changed(target, before)`: its state is another one now.
"""

import logging
from collections.abc import Callable, Hashable
from typing import Any

from tcp_proxy.control.events import Events
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.control.targets.known import KnownApp, KnownTarget
from tcp_proxy.runtime.loop import Loop, Timer
from tcp_proxy.sansio.outlier import Detector, Ejection, Row
from tcp_proxy.sansio.share import AT_ONCE
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire.counters import (
    CONNECT_SLOTS,
    CONNECTS,
    HTTP_STATUS,
    OUTLIER_BOTH,
    OUTLIER_FAILURES,
    TARGET_SLOTS,
    Counters,
)
from tcp_proxy.wire.messages import TargetFailed

logger = logging.getLogger(__name__)
Given = list[dict[str, Any]]  # of targets that have been ejected: for the program that takes over
Counts = dict[int, tuple[int, int]]  # by the id of a target: successes and failures


class Watched:
    """One app. `counted`: successes and failures of each target, by its id, at the last interval."""

    def __init__(self, app: KnownApp, detector: Detector) -> None:
        self.app = app
        self.detector = detector
        self.counted: Counts = {}
        self.timer = Timer(0.0, None, ())  # of the interval
        self.back = Timer(0.0, None, ())  # when the next one is in again

    def __repr__(self) -> str:
        return f"<Watched {self.app.config.name}: {self.detector!r}>"

    def members(self) -> dict[Any, bool]:
        return {id(one): one.state is State.UP for one in self.app.targets.values() if one.could_serve}

    def target(self, key: Any) -> KnownTarget | None:
        return next((one for one in self.app.targets.values() if id(one) == key), None)


class Outliers:
    def __init__(
        self, loop: Loop, targets: Targets, memory: Counters | None, events: Events, changed: Callable[..., Any]
    ) -> None:
        self._loop = loop
        self._targets = targets
        self._memory = memory
        self._events = events
        self._changed = changed
        self._watched: dict[str, Watched] = {}
        self.taken: Given = []  # what the program before us has given; looked at when an app is watched from now on

    def __repr__(self) -> str:
        return f"<Outliers of {len(self._watched)} apps>"

    def look(self, app: KnownApp) -> None:
        """Its configuration, or its targets, may be others."""
        name, settings = app.config.name, app.config.outlier
        watched = self._watched.get(name)
        if watched is not None and (settings is None or watched.app is not app):
            self._forget(self._watched.pop(name))
            watched = None
        if settings is None:
            self.taken = [one for one in self.taken if one["app"] != name]
            return
        if watched is None:
            watched = self._watched[name] = Watched(app, Detector(settings))
            self._take(watched)
            self._count(watched, self._count_from_here)
            self._again(watched)
        elif watched.detector.settings != settings:
            watched.detector.settings = settings
            watched.timer.cancel()
            self._again(watched)
        watched.detector.keep({id(one) for one in app.targets.values()})
        for key in watched.detector.out():
            target = watched.target(key)
            if target is not None and not target.ejected:  # an operator has enabled it, or it is another server now
                watched.detector.put_back(key)
        self._wait(watched)

    def given(self) -> Given:
        """Times are of the machine's monotonic clock, which the next program has, too."""
        found = []
        for name, watched in self._watched.items():
            for target in watched.app.targets.values():
                times, until = watched.detector.given(id(target))
                if times:
                    out = {"until": until, "why": target.ejected} if target.ejected else {"until": None, "why": ""}
                    found.append({"app": name, "target": target.config.name, "times": times, **out})
        return found

    def _take(self, watched: Watched) -> None:
        """Once: what is watched anew by a later reload begins with nobody ejected."""
        name = watched.app.config.name
        ours = [one for one in self.taken if one["app"] == name]
        self.taken = [one for one in self.taken if one["app"] != name]
        for one in ours:
            target = watched.app.targets.get(one["target"])
            if target is None:
                continue
            until = one["until"] if one["until"] is not None and not target.config.disabled else float("-inf")
            watched.detector.take(id(target), one["times"], until)
            if until > self._loop.now:
                self._set(target, one["why"])
            else:
                watched.detector.put_back(id(target))

    def remove(self, name: str) -> None:
        """The app is no more."""
        watched = self._watched.pop(name, None)
        if watched is not None:
            watched.timer.cancel()
            watched.back.cancel()

    def stop(self) -> None:
        for name in tuple(self._watched):
            self.remove(name)

    def failed(self, message: TargetFailed) -> None:
        watched, target = self._watched.get(message.app), self._targets.find(message.app, message.target)
        if watched is None or target is None or target.state is not State.UP:
            return  # it has left, or is out already, or checks have found out
        for row in message.rows:
            self._do(watched, watched.detector.failed(
                id(target), Row(*row), message.error, watched.members, self._loop.now
            ))  # fmt: skip

    def _forget(self, watched: Watched) -> None:
        """Nobody is ejected any more."""
        watched.timer.cancel()
        watched.back.cancel()
        for target in watched.app.targets.values():
            if target.ejected:
                self._set(target, "")

    def _again(self, watched: Watched) -> None:
        watched.timer = self._loop.call_later(watched.detector.settings.interval, self._interval, watched)

    def _interval(self, watched: Watched) -> None:
        self._again(watched)
        if watched.detector.settings.success_rate_stdev_factor:
            self._count(watched, self._judge)
        else:
            self._judge(watched, {})

    def _count_from_here(self, watched: Watched, counted: Counts) -> None:
        watched.counted = counted

    def _judge(self, watched: Watched, now_counted: Counts) -> None:
        before, watched.counted = watched.counted, now_counted
        members = watched.members()
        seen: dict[Hashable, tuple[int, int]] = {
            key: (good - before[key][0], bad - before[key][1])
            for key, (good, bad) in now_counted.items()
            if key in before and members.get(key, False)
        }
        for ejection in watched.detector.interval(seen, members, self._loop.now):
            self._do(watched, ejection)

    def _count(self, watched: Watched, done: Callable[[Watched, Counts], Any]) -> None:
        self._count_some(watched, list(watched.app.targets.values()), {}, done)

    def _count_some(
        self, watched: Watched, left: list[KnownTarget], counted: Counts, done: Callable[[Watched, Counts], Any]
    ) -> None:
        """So many in a turn of the loop. What two targets have counted is compared by their shares: it need not be of the
        same moment."""
        if self._watched.get(watched.app.config.name) is not watched or self._memory is None:
            return
        is_http = watched.app.config.http is not None
        first, size = (HTTP_STATUS + 1, 4) if is_http else (CONNECTS, CONNECT_SLOTS)
        for target in left[:AT_ONCE]:
            words = self._memory.sums(target.slot, TARGET_SLOTS)
            good = sum(words[first : first + size]) - words[OUTLIER_BOTH]
            counted[id(target)] = good, words[OUTLIER_FAILURES]
        if len(left) > AT_ONCE:
            self._loop.call_soon(self._count_some, watched, left[AT_ONCE:], counted, done)
        else:
            done(watched, counted)

    def _do(self, watched: Watched, ejection: Ejection | None) -> None:
        target = watched.target(ejection.target) if ejection is not None else None
        if ejection is None or target is None:
            return
        app, name = watched.app.config.name, target.config.name
        data = {"app": app, "target": name, "cause": ejection.cause.value, "why": ejection.evidence}
        if not ejection.seconds:
            logger.warning("app %s: target %s is not ejected: %s", app, name, ejection.evidence)
            self._events.publish("outlier", {**data, "state": "kept"})
            return
        target.ejections = {**(target.ejections or {})}
        target.ejections[ejection.cause] = target.ejections.get(ejection.cause, 0) + 1
        times = f", the {ejection.times}. time" if ejection.times > 1 else ""
        self._events.publish(
            "outlier", {**data, "state": "ejected", "seconds": ejection.seconds, "times": ejection.times}
        )
        self._set(target, f"ejected for {ejection.seconds:g} s{times}: {ejection.evidence}")
        self._wait(watched)

    def _wait(self, watched: Watched) -> None:
        watched.back.cancel()
        out = watched.detector.out()
        if out:
            watched.back = self._loop.call_later(max(0.0, min(out.values()) - self._loop.now), self._come_back, watched)

    def _come_back(self, watched: Watched) -> None:
        for key in watched.detector.due(self._loop.now):
            target = watched.target(key)
            if target is not None:
                data = {"app": watched.app.config.name, "target": target.config.name, "why": target.ejected}
                self._events.publish("outlier", {**data, "state": "back"})
                self._set(target, "")
        self._wait(watched)

    def _set(self, target: KnownTarget, ejected: str) -> None:
        before, target.ejected = target.state, ejected
        self._changed(target, before)
