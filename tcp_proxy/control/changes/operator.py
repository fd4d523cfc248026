"""What an operator may do while the program runs: targets set, added, removed; sessions closed; checks, reloads, plans.

Main thread only; control.answers.administration calls these for the management API. What is said of targets goes into the
overrides and is applied at once (control.changes.reload, which keeps it for a restart too). A refusal is a CannotApply, a
ConfigErrors (an added target is held against the same schema as the file) or an Unknown.
"""

import contextlib
import dataclasses
import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from tcp_proxy.config.load import ConfigErrors, load_target, load_text
from tcp_proxy.config.model import App, Target
from tcp_proxy.control.changes.comparison import Comparison
from tcp_proxy.control.changes.judge import Found, Judge
from tcp_proxy.control.changes.overrides import ADMINS, Overrides, Said, admin_of
from tcp_proxy.control.changes.reload import Outcome, Reload
from tcp_proxy.control.changes.transition import CannotApply
from tcp_proxy.control.context import Context
from tcp_proxy.control.targets.known import KnownTarget
from tcp_proxy.control.tls.trial import require
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.wire.messages import CloseSessions

__all__ = ["ADMINS", "CannotApply", "ConfigErrors", "Operator", "Outcome", "Unknown"]

logger = logging.getLogger(__name__)

MAX_WEIGHT = 256
MOST_TARGETS = 20_000  # in one app, for what is added at run time
MAX_UNHEALTHY = 86400.0  # seconds: who is unwell for longer is disabled


class Unknown(LookupError):
    """There is no such app, or no such target; one line that says which."""


Judged = Target | ConfigErrors | CannotApply | Unknown


class Shared(Protocol):
    """Who tells the other nodes of a cluster (changes.shared_pool)."""

    def said(self, app: str, target: str, *keys: str) -> None: ...
    def reset(self, app: str, target: str) -> None: ...


class Operator:
    def __init__(self, context: Context, overrides: Overrides, reload: Reload) -> None:
        self._context = context
        self._overrides = overrides
        self._reload = reload
        self._judge = Judge(context.loop)
        self.shared: Shared | None = None  # of a node of a cluster
        self.reported: Callable[[str, str, float, str], Any] = _alone

    def __repr__(self) -> str:
        return f"<Operator of {self._overrides!r}>"

    # -- targets

    def set_target(self, app: str, target: str, admin: str | None = None, weight: int | None = None) -> KnownTarget:
        """admin: "ready", "drain" or "disabled"; None leaves it as it is. The same for the weight, 0 to 256."""
        self._find(app, target)
        if admin is not None and admin not in ADMINS:
            raise CannotApply(f"found {admin!r}; wanted one of {', '.join(ADMINS)}")
        if weight is not None and not 0 <= weight <= MAX_WEIGHT:
            raise CannotApply(f"found the weight {weight}; wanted a whole number from 0 to {MAX_WEIGHT}")
        if weight is not None and self._app(app).has_primary:
            raise CannotApply(f'weight has no meaning in app {app}: its "balance" is "failover"')
        keys = ["admin"] * (admin is not None) + ["weight"] * (weight is not None)
        self._change(app, target, lambda: self._overrides.set(app, target, admin, weight), *keys)
        known = self._find(app, target)
        self._say(app, target, f"is {admin_of(known.config)}, weight {known.config.weight}", "set")
        return known

    def add_target(self, app: str, entry: Any, assumed_up: bool = False) -> KnownTarget:
        """`entry` as it would stand in the file: a string or an object. It is checked like one, at once. One that is assumed
        to be up is taken down by `fall` failures, not by its first result."""
        return self.add_judged(app, entry, require(load_target(entry, self._app(app))), assumed_up=assumed_up)

    def judge_target(self, app: str, entry: Any, done: Callable[[Judged], Any]) -> None:
        """The same check, in a thread, for what may be long; what comes of it is for add_judged, in the turn in which `done`
        is called: no other configuration comes in between."""
        known = self._app(app)

        def judged(found: Found) -> None:
            try:
                is_as_it_was = _without_targets(self._app(app)) == _without_targets(known)
            except Unknown as error:
                done(error)
            else:
                if is_as_it_was:
                    done(found if isinstance(found, (Target, ConfigErrors)) else CannotApply(found))
                else:
                    self.judge_target(app, entry, done)

        when_idle = self._context.slices.when_idle
        self._judge.ask(lambda: require(load_target(entry, known)), lambda found: when_idle(partial(judged, found)))

    def add_judged(self, app: str, entry: Any, target: Target, *, assumed_up: bool) -> KnownTarget:
        known = self._app(app)
        if self._context.targets.find(app, target.name) is not None:
            raise CannotApply(f"app {app} has a target named {target.name} already")
        if len(known.targets) >= MOST_TARGETS:
            raise CannotApply(f"app {app} has {len(known.targets)} targets; at run time none is added to {MOST_TARGETS}")
        definition = json.dumps(entry)
        with self._context.states.assumed_up(app, target.name) if assumed_up else contextlib.nullcontext():
            self._change(app, target.name, lambda: self._overrides.add(app, target, definition))
        self._say(app, target.name, "is added", "added")
        return self._find(app, target.name)

    def remove_target(self, app: str, target: str) -> None:
        """Its sessions go on. One of the file comes back when its entry there changes, or at the next start."""
        self._find(app, target)
        self._change(app, target, lambda: self._overrides.remove(app, target))
        self._say(app, target, "is removed", "removed")

    def probe_now(self, app: str, target: str) -> bool:
        """Whether there is a check to be made; at most once a second it is."""
        self._find(app, target)
        return self._context.states.probe_now(app, target)

    def unhealthy(self, app: str, target: str, seconds: float, why: str = "") -> KnownTarget:
        """A target says so of itself: no sessions for so long, whatever the checks find; 0 takes it back."""
        known = self._find(app, target)
        if not 0 <= seconds <= MAX_UNHEALTHY:
            raise CannotApply(f"found {seconds:g}; wanted 0 to {MAX_UNHEALTHY:g} seconds")
        self._context.states.self_reports.hear(known, seconds, why)
        self.reported(app, target, seconds, why)
        text = f"says that it is unhealthy, for {seconds:g} s" if seconds else "says that it is well"
        self._say(app, target, text, "unhealthy")
        return known

    def reset(self, app: str, target: str, done: Callable[[list[Said] | str], Any]) -> None:
        """Of a target, an app or, with "", of all: what was said at run time stands no longer, what the file says is true.
        All of it or nothing; `done` with it, or with what stands in the way."""
        if target and not app:
            raise CannotApply(f"target {target}: wanted its app, too")
        if app:
            self._app(app)
        if target and (app, target) not in self._overrides.said:
            self._find(app, target)
        reset: list[Said] = []

        def revised(known: Overrides) -> Overrides:
            left = known.without(app, target)
            reset[:] = [said for said in known.standing() if (said.app, said.target) not in left.said]
            return left

        def taken(fault: str) -> None:
            if reset and not fault:
                count = len({(said.app, said.target) for said in reset})
                text = f"{'1 target is' if count == 1 else f'{count} targets are'} as the file says again"
                logger.info("%s: %s, by administration", f"app {app}" if app else "all apps", text)
                data = {"app": app, "target": target, "what": "reset", "text": text}
                self._context.events.publish("administration", data)
            if self.shared is not None and not fault:
                self.shared.reset(app, target)
            done(fault or reset)

        self._reload.revise(revised, taken)

    def close_sessions(self, app: str, target: str) -> None:
        """End all sessions of a target: its clients are reset."""
        self._find(app, target)
        self._context.worker_pool.send(CloseSessions(app, target, Reason.CLOSED_BY_ADMIN.value))
        self._say(app, target, "has its sessions closed", "sessions closed")

    # -- the configuration

    def reload(self, done: Callable[[Outcome], Any], text: bytes | None = None) -> None:
        """Of the file, or of a text in its place. `done` when it is over."""
        load = None if text is None else self._context.found.filling(lambda: load_text(text, "the configuration"))
        self._reload.request("reload", load, done)

    def plan(self, done: Callable[[Comparison | list[str]], Any], text: bytes | None = None) -> None:
        """What a reload of the file, or of a text, would change, and what would still stand; or its errors."""
        load = None if text is None else self._context.found.filling(lambda: load_text(text, "the configuration"))
        self._reload.read(load, done)

    @property
    def overrides(self) -> Overrides:
        return self._overrides

    # -- how

    def _change(self, app: str, target: str, say: Callable[[], None], *keys: str) -> None:
        """All or nothing: what cannot be applied was not said."""
        key = app, target
        before, known = self._overrides.said.get(key), self._context.targets.find(app, target)
        say()
        try:
            self._reload.apply(self._app(app), known.config if known is not None else None, target)
        except CannotApply:
            self._overrides.unsay(key, before)
            raise
        if self.shared is not None:
            self.shared.said(app, target, *keys)

    def _say(self, app: str, target: str, text: str, what: str) -> None:
        logger.info("app %s: target %s %s, by administration", app, target, text)
        self._context.events.publish("administration", {"app": app, "target": target, "what": what, "text": text})

    def _app(self, app: str) -> App:
        for known in self._context.config.apps:
            if known.name == app:
                return known
        raise Unknown(f"there is no app {app}")

    def _find(self, app: str, target: str) -> KnownTarget:
        self._app(app)
        known = self._context.targets.find(app, target)
        if known is None:
            raise Unknown(f"app {app} has no target {target}")
        return known


def _without_targets(app: App) -> App:
    """What a target is held against."""
    return dataclasses.replace(app, targets=())


def _alone(_app: str, _target: str, _seconds: float, _why: str) -> None:
    """There is no other node to be told."""
