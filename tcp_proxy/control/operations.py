"""The operations of the management API that only look: at the program, apps, targets, events, sessions, limits.

Main thread only. Each takes the arguments of a question and returns what JSON can say, or Later. Names that nobody has
are refused with 404.
"""

import os
import resource
from collections.abc import Callable
from functools import partial
from typing import Any

from tcp_proxy import __version__
from tcp_proxy.control import views
from tcp_proxy.control.administration import Arguments, Later, Operation, Refused
from tcp_proxy.control.estate import Estate
from tcp_proxy.control.events import KEPT
from tcp_proxy.control.questions import Questions, SessionFilter
from tcp_proxy.control.targets import KnownApp, KnownTarget
from tcp_proxy.sansio.verdict import State

RECORDS_KEPT = 10_000  # by each worker


class Looking:
    """`state()`: starting, serving or stopping. `started`: Unix time."""

    def __init__(self, estate: Estate, questions: Questions, state: Callable[[], str], started: float) -> None:
        self._estate = estate
        self._questions = questions
        self._state = state
        self._started = started

    def __repr__(self) -> str:
        return f"<Looking at {self._estate!r}>"

    def operations(self) -> dict[str, Operation]:
        estate, questions = self._estate, self._questions
        return {
            "status": self._status,
            "ready": self._ready,
            "apps": lambda _: [views.app(app) for app in estate.targets.apps.values()],
            "app": lambda arguments: views.app(self.app(arguments)),
            "targets": lambda arguments: [views.target(target) for target in self.app(arguments).targets.values()],
            "target": lambda arguments: views.target(self.target(arguments)),
            "health": self._health,
            "probes": self._probes,
            "workers": lambda _: [views.worker(worker) for worker in estate.crew],
            "limits": self._limits,
            "config": lambda _: views.config(estate.config),
            "events": lambda arguments: [views.event(event) for event in estate.events.since(arguments["after"])],
            "sessions": self._sessions,
            "session": lambda arguments: self._of_one(questions.session, _the_session, arguments),
            "ended": self._ended,
            "why": lambda arguments: self._of_one(questions.why, lambda _id, found: found, arguments),
            "close_session": lambda arguments: self._of_one(questions.close_session, _was_closed, arguments),
        }

    # -- what is named

    def app(self, arguments: Arguments) -> KnownApp:
        app = self._estate.targets.apps.get(arguments["app"])
        if app is None:
            raise Refused(404, f"there is no app named {arguments['app']!r}")
        return app

    def target(self, arguments: Arguments) -> KnownTarget:
        app = self.app(arguments)
        target = app.targets.get(arguments["target"])
        if target is None:
            raise Refused(404, f"app {app.config.name!r} has no target named {arguments['target']!r}")
        return target

    # -- the operations

    def _status(self, _arguments: Arguments) -> dict[str, Any]:
        targets = list(self._estate.targets)
        return {
            "version": __version__,
            "pid": os.getpid(),
            "state": self._state(),
            "started": self._started,
            "apps": len(self._estate.targets.apps),
            "targets": {state.value: sum(target.state is state for target in targets) for state in State},
            "workers": len(self._estate.crew),
        }

    def _ready(self, _arguments: Arguments) -> dict[str, Any]:
        apps = self._estate.targets.apps.values()
        lacking = sum(not can_serve(app) for app in apps)
        return {"ready": self._state() == "serving" and not lacking, "state": self._state(), "lacking": lacking}

    def _health(self, arguments: Arguments) -> list[dict[str, Any]]:
        target = self.target(arguments)
        name = {"app": target.app, "target": target.config.name}
        return [
            views.event(event)
            for event in self._estate.events.kept
            if event.kind == "target" and name.items() <= event.data.items()
        ]

    def _probes(self, arguments: Arguments) -> Later:
        """The last results of each of its checks, and what they come to."""
        target, later = self.target(arguments), Later()
        self._estate.states.history(target, lambda found: later.answer([views.check_history(one) for one in found]))
        return later

    def _limits(self, _arguments: Arguments) -> dict[str, Any]:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        sums = self._estate.ledger.memory.total
        return {
            "workers": [views.room(worker) for worker in self._estate.crew],
            "targets": [
                {
                    "app": target.app,
                    "target": target.config.name,
                    "max_connections": target.config.max_connections,
                    "sessions": max(0, sums(target.slot)),
                }
                for target in self._estate.targets
                if target.config.max_connections
            ],
            "descriptors": {"open": len(os.listdir("/proc/self/fd")), "limit": soft},
            "events_kept": KEPT,
            "records_kept": RECORDS_KEPT,
        }

    def _sessions(self, arguments: Arguments) -> Later:
        later = Later()
        try:
            self._questions.sessions(SessionFilter(**arguments), later.answer)
        except ValueError as error:
            raise Refused(422, f"after: {error}") from None
        return later

    def _ended(self, arguments: Arguments) -> Later:
        later = Later()
        self._questions.ended(arguments["seen"], later.answer)
        return later

    def _of_one(self, ask: Callable[..., Any], view: Callable[[str, Any], Any], arguments: Arguments) -> Later:
        later = Later()
        try:
            ask(arguments["id"], partial(_answer, later, arguments["id"], view))
        except ValueError as error:
            raise Refused(404, str(error)) from None
        return later


def _answer(later: Later, session: str, view: Callable[[str, Any], Any], found: Any) -> None:
    try:
        later.answer(view(session, found))
    except Refused as refused:
        later.refuse(refused)


def _the_session(session: str, found: dict[str, Any]) -> Any:
    if found["session"] is None:
        raise _nobody(session, found["silent"])
    return found["session"]


def _was_closed(session: str, found: dict[str, Any]) -> Any:
    if not found["closed"]:
        raise _nobody(session, found["silent"])
    return found


def _nobody(session: str, silent: list[int]) -> Refused:
    if silent:
        return Refused(503, f"the worker of session {session} did not answer in time; ask again")
    return Refused(404, f"no session {session} goes on; /api/v1/sessions/{session}/why may know how it ended")


def can_serve(app: KnownApp) -> bool:
    """Whether new clients get a target now."""
    return bool(app.primary_name) if app.config.has_primary else any(map(is_eligible, app.targets.values()))


def is_eligible(target: KnownTarget) -> bool:
    """Whether it gets new sessions."""
    return target.state is State.UP and target.config.weight > 0
