"""What an operator may do while the program runs: targets set, added, removed; sessions closed; checks, reloads, plans.

Main thread only; control.administration calls these for the management API. What is said of targets goes into the
overrides and is applied at once (control.reload, which keeps it for a restart too). A refusal is a CannotApply, a
ConfigErrors (an added target is held against the same schema as the file) or an Unknown.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

from tcp_proxy.config.diff import Change
from tcp_proxy.config.load import ConfigErrors, load_file, load_target, load_text
from tcp_proxy.config.model import App, Config
from tcp_proxy.control.estate import Estate
from tcp_proxy.control.overrides import ADMINS, Overrides, admin_of
from tcp_proxy.control.reload import Outcome, Reload
from tcp_proxy.control.targets import KnownTarget
from tcp_proxy.control.transition import CannotApply
from tcp_proxy.messages import CloseSessions
from tcp_proxy.sansio.reasons import Reason

__all__ = ["ADMINS", "CannotApply", "ConfigErrors", "Operator", "Outcome", "Unknown"]

logger = logging.getLogger(__name__)

MAX_WEIGHT = 256
MAX_UNHEALTHY = 86400.0  # seconds: who is unwell for longer is disabled


class Unknown(LookupError):
    """There is no such app, or no such target; one line that says which."""


class Operator:
    def __init__(self, estate: Estate, overrides: Overrides, reload: Reload) -> None:
        self._estate = estate
        self._overrides = overrides
        self._reload = reload

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
        self._change(lambda: self._overrides.set(app, target, admin, weight))
        known = self._find(app, target)
        self._say(app, target, f"is {admin_of(known.config)}, weight {known.config.weight}", "set")
        return known

    def add_target(self, app: str, entry: Any) -> KnownTarget:
        """`entry` as it would stand in the file: a string or an object. It is checked like one."""
        known = self._app(app)
        target = load_target(entry, known)
        if any(other.name == target.name for other in known.targets):
            raise CannotApply(f"app {app} has a target named {target.name} already")
        definition = json.dumps(entry)
        self._change(lambda: self._overrides.add(app, target, definition))
        self._say(app, target.name, "is added", "added")
        return self._find(app, target.name)

    def remove_target(self, app: str, target: str) -> None:
        """Its sessions go on. One of the file comes back when its entry there changes, or at the next start."""
        self._find(app, target)
        self._change(lambda: self._overrides.remove(app, target))
        self._say(app, target, "is removed", "removed")

    def probe_now(self, app: str, target: str) -> bool:
        """Whether there is a check to be made; at most once a second it is."""
        self._find(app, target)
        return self._estate.states.probe_now(app, target)

    def unhealthy(self, app: str, target: str, seconds: float, why: str = "") -> KnownTarget:
        """A target says so of itself: no sessions for so long, whatever the checks find; 0 takes it back."""
        known = self._find(app, target)
        if not 0 <= seconds <= MAX_UNHEALTHY:
            raise CannotApply(f"found {seconds:g}; wanted 0 to {MAX_UNHEALTHY:g} seconds")
        self._estate.states.complaints.hear(known, seconds, why)
        text = f"says that it is unhealthy, for {seconds:g} s" if seconds else "says that it is well"
        self._say(app, target, text, "unhealthy")
        return known

    def close_sessions(self, app: str, target: str) -> None:
        """End all sessions of a target: its clients are reset."""
        self._find(app, target)
        self._estate.crew.send(CloseSessions(app, target, Reason.CLOSED_BY_ADMIN.value))
        self._say(app, target, "has its sessions closed", "sessions closed")

    # -- the configuration

    def reload(self, done: Callable[[Outcome], Any], text: bytes | None = None) -> None:
        """Of the file, or of a text in its place. `done` when it is over."""
        load = None if text is None else lambda: load_text(text, "the configuration")
        self._reload.request("reload", load, done)

    def plan(self, done: Callable[[list[Change] | list[str]], Any], text: bytes | None = None, path: str = "") -> None:
        """What a reload of a text, or of another file, would change: its changes, or its errors as text."""

        def read(found: Config | list[str]) -> None:
            done(found if isinstance(found, list) else self._reload.plan(found))

        self._reload.read(lambda: load_file(path) if text is None else load_text(text, "the configuration"), read)

    # -- how

    def _change(self, say: Callable[[], None]) -> None:
        """All or nothing: what cannot be applied was not said."""
        before = dict(self._overrides.said)
        say()
        try:
            self._reload.apply()
        except CannotApply:
            self._overrides.said = before
            raise

    def _say(self, app: str, target: str, text: str, what: str) -> None:
        logger.info("app %s: target %s %s, by administration", app, target, text)
        self._estate.events.publish("administration", {"app": app, "target": target, "what": what, "text": text})

    def _app(self, app: str) -> App:
        for known in self._estate.config.apps:
            if known.name == app:
                return known
        raise Unknown(f"there is no app {app}")

    def _find(self, app: str, target: str) -> KnownTarget:
        self._app(app)
        known = self._estate.targets.find(app, target)
        if known is None:
            raise Unknown(f"app {app} has no target {target}")
        return known
