"""Apps with a panic threshold: who is used although it is not well, and since when. Loaded with the first such app.

Main thread only. Workers know nothing of it: they are told that a target is up. `look` is called whenever the state of a
target, or the configuration, may be another one; what comes of it is worked out once in a turn of the loop, however many
targets have changed, and told in slices.
"""

import logging
from collections.abc import Callable
from typing import Any

from tcp_proxy.control.events import Events
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.control.targets.known import KnownApp, KnownTarget
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.panic import Member, judge
from tcp_proxy.sansio.share import AT_ONCE
from tcp_proxy.sansio.verdict import State

logger = logging.getLogger(__name__)


class Panics:
    """`tell(target)`: the workers are to know what it is now."""

    def __init__(self, loop: Loop, targets: Targets, events: Events, tell: Callable[[KnownTarget], Any]) -> None:
        self._loop = loop
        self._targets = targets
        self._events = events
        self._tell = tell
        self._due: dict[str, None] = {}  # apps
        self._to_tell: dict[int, KnownTarget] = {}
        self.is_held = False  # what there is of targets is not whole

    def __repr__(self) -> str:
        return f"<Panics, {len(self._due)} apps to be looked at>"

    def look(self, app: str) -> None:
        if not self._due and not self.is_held:
            self._loop.call_soon(self._judge)
        self._due[app] = None

    def release(self) -> None:
        self.is_held = False
        if self._due:
            self._loop.call_soon(self._judge)

    def _judge(self) -> None:
        if self.is_held:
            return
        due, self._due = self._due, {}
        for name in due:
            app = self._targets.apps.get(name)
            if app is not None:
                self._judge_app(app)
        self._go_on()

    def _judge_app(self, app: KnownApp) -> None:
        threshold, usable = app.config.panic, [one for one in app.targets.values() if one.could_serve]
        level = judge([Member(one.config.level, one.state is State.UP) for one in usable], threshold)
        forced = {id(one) for one in usable if one.config.level == level.level} if level.is_panic else set()
        for target in app.targets.values():
            if target.is_forced is not (id(target) in forced):
                target.is_forced = not target.is_forced
                if target.state is not State.UP:
                    self._to_tell[id(target)] = target
        if level.is_panic is not app.is_panicking:
            app.is_panicking = level.is_panic
            is_backup, priority = level.level
            what = "backups" if is_backup else f"targets of priority {priority}" if priority else "targets"
            self._say(app, level.up, level.of, what)

    def _say(self, app: KnownApp, up: int, of: int, what: str) -> None:
        name, threshold = app.config.name, app.config.panic
        if app.is_panicking:
            text = "app %s: panic: %d of %d %s are up, fewer than %g %%: all are used again, whatever their checks say"
            logger.warning(text, name, up, of, what, threshold)
        else:
            logger.warning("app %s: panic is over: %d of %d %s are up", name, up, of, what)
        data = {"app": name, "state": "on" if app.is_panicking else "off", "up": up, "of": of, "threshold": threshold}
        self._events.publish("panic", data)

    def _go_on(self) -> None:
        """Tell some of them; others have their turn in between. One that has left is of nobody's interest."""
        for key in list(self._to_tell)[:AT_ONCE]:
            target = self._to_tell.pop(key)
            if self._targets.find(target.app, target.config.name) is target:
                self._tell(target)
        if self._to_tell:
            self._loop.call_soon(self._go_on)
