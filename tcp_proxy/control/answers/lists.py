"""The operations of the management API that only look: at the program, apps, targets, events, sessions, limits.

Main thread only. Each takes the arguments of a question and returns what JSON can say, or Later. Names that nobody has
are refused with 404.
"""

import os
import resource
from collections.abc import Callable
from functools import partial
from typing import Any

from tcp_proxy import __version__, build
from tcp_proxy.control.answers import tls_views, views
from tcp_proxy.control.answers.sessions import Questions, SessionFilter
from tcp_proxy.control.changes.overrides import Overrides
from tcp_proxy.control.context import Context
from tcp_proxy.control.events import KEPT
from tcp_proxy.control.long_answer import Long, Parts
from tcp_proxy.control.replies import Arguments, InTurn, Later, Operation, Refused
from tcp_proxy.control.targets.known import KnownApp, KnownTarget
from tcp_proxy.control.tls.expiry import held
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire.counters import ACTIVE, DELAYED, LIMITED, LIMITS

RECORDS_KEPT = 10_000  # by each worker


class Lists:
    """`state()`: starting, serving or stopping. `started`: Unix time."""

    def __init__(
        self, context: Context, questions: Questions, state: Callable[[], str], started: float, overrides: Overrides
    ) -> None:
        self._context = context
        self._overrides = overrides
        self._questions = questions
        self._state = state
        self._started = started

    def __repr__(self) -> str:
        return f"<Lists at {self._context!r}>"

    def operations(self) -> dict[str, Operation]:
        context, questions, said = self._context, self._questions, self._overrides
        return {
            "status": self._status,
            "ready": self._ready,
            "apps": InTurn(lambda _: Long(views.app(app, said) for app in list(context.targets.apps.values()))),
            "app": InTurn(lambda arguments: views.app(self.app(arguments), said)),
            "targets": InTurn(lambda arguments: views.targets(self.app(arguments), said)),
            "target": lambda arguments: views.target(self.target(arguments), said),
            "overrides": InTurn(lambda _: Long(map(views.said, said.standing()))),
            "health": self._health,
            "probes": self._probes,
            "workers": lambda _: [views.worker(worker) for worker in context.worker_pool],
            "certificates": lambda _: [tls_views.certificate(one) for one in held(context.config)],
            "discoveries": lambda _: [one.as_dict() for one in context.sources.values()],
            "limits": InTurn(self._limits),
            "config": InTurn(lambda _: views.config(context.config)),
            "events": lambda arguments: [views.event(event) for event in context.events.since(arguments["after"])],
            "sessions": self._sessions,
            "session": lambda arguments: self._of_one(questions.session, _the_session, arguments),
            "ended": self._ended,
            "why": lambda arguments: self._of_one(questions.why, lambda _id, found: found, arguments),
            "requests": self._requests,
            "close_session": lambda arguments: self._of_one(questions.close_session, _was_closed, arguments),
        }

    # -- what is named

    def app(self, arguments: Arguments) -> KnownApp:
        app = self._context.targets.apps.get(arguments["app"])
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
        states = dict.fromkeys((state.value for state in State), 0)
        for target in self._context.targets:
            states[target.state.value] += 1
        return {
            "version": __version__,
            "build": build(),
            "pid": os.getpid(),
            "state": self._state(),
            "started": self._started,
            "apps": len(self._context.targets.apps),
            "targets": states,
            "workers": len(self._context.worker_pool),
            "first_expiry": tls_views.first_expiry(self._context.config),
            "first_list_end": tls_views.first_list_end(self._context.config),
        }

    def _ready(self, _arguments: Arguments) -> dict[str, Any]:
        apps = self._context.targets.apps.values()
        lacking, cluster = sum(not can_serve(app) for app in apps), self._context.cluster
        state = "joining" if self._state() == "serving" and cluster is not None and cluster.is_joining else self._state()
        degraded = cluster.degraded if cluster is not None else ""
        return {"ready": state == "serving" and not lacking, "state": state, "lacking": lacking, "degraded": degraded}

    def _health(self, arguments: Arguments) -> list[dict[str, Any]]:
        target = self.target(arguments)
        name = {"app": target.app, "target": target.config.name}
        return [
            views.event(event)
            for event in self._context.events.kept
            if event.kind == "target" and name.items() <= event.data.items()
        ]

    def _probes(self, arguments: Arguments) -> Later:
        """The last results of each of its checks, and what they come to."""
        target, later = self.target(arguments), Later()
        self._context.states.history(target, lambda found: later.answer([views.check_history(one) for one in found]))
        return later

    def _limits(self, _arguments: Arguments) -> dict[str, Any]:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        sums = self._context.counter_rows.memory.total
        return Parts({
            "workers": [views.room(worker) for worker in self._context.worker_pool],
            "apps": Long(
                {"app": name, "limit": known.config.limits.sessions, "sessions": max(0, sums(known.slot + ACTIVE))}
                for name, known in list(self._context.targets.apps.items())
                if known.config.limits.sessions
            ),
            "rates": Long(
                {"app": name, "limit": limit, "most": getattr(known.config.limits, limit), "refused": sums(slot)}
                for name, known in list(self._context.targets.apps.items())
                for limit, slot in zip(LIMITS, range(known.slot + LIMITED, known.slot + DELAYED), strict=True)
                if getattr(known.config.limits, limit)
            ),
            "targets": Long(
                {
                    "app": target.app,
                    "target": target.config.name,
                    "max_connections": target.config.max_connections,
                    "sessions": max(0, sums(target.slot + ACTIVE)),
                }
                for target in list(self._context.targets)
                if target.config.max_connections
            ),
            "descriptors": {"open": len(os.listdir("/proc/self/fd")), "limit": soft},
            "events_kept": KEPT,
            "records_kept": RECORDS_KEPT,
        })  # fmt: skip

    def _sessions(self, arguments: Arguments) -> Later:
        later = Later()
        try:
            self._questions.sessions(SessionFilter(**arguments), later.answer)
        except ValueError as error:
            raise Refused(422, f"after: {error}") from None
        return later

    def _requests(self, arguments: Arguments) -> Later:
        later = Later()
        self._questions.requests(arguments["id"], later.answer)
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
