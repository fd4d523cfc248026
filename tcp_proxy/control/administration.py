"""What the management API may ask of the supervisor: operations by name, each a method that answers or refuses.

Main thread only. An operation takes the arguments of a question and returns the body of the answer, raises Refused, or
returns Later, for an answer that others have to give first. Whatever else goes wrong in one is a mistake of ours: it is
logged, the question is answered with 500, and the supervisor goes on.
"""

import json
import logging
import os
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from tcp_proxy import __version__
from tcp_proxy.config.model import Config
from tcp_proxy.control import views
from tcp_proxy.control.crew import Crew
from tcp_proxy.control.events import Events
from tcp_proxy.control.targets import KnownApp, KnownTarget, Targets
from tcp_proxy.sansio.verdict import State

logger = logging.getLogger(__name__)

Arguments = Mapping[str, Any]
Reply = Callable[[int, Any], None]


class Refused(Exception):
    """The answer is an error: an HTTP status, a sentence, and the single complaints, if there are several."""

    def __init__(self, status: int, detail: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors or []

    @property
    def body(self) -> dict[str, Any]:
        return {"detail": self.detail, "errors": self.errors}


class Later:
    """An answer that comes when `answer` or `refuse` is called."""

    def __init__(self) -> None:
        self._reply: Reply | None = None
        self._done: tuple[int, Any] | None = None

    def answer(self, body: Any) -> None:
        self._settle(200, body)

    def refuse(self, refused: Refused) -> None:
        self._settle(refused.status, refused.body)

    def to(self, reply: Reply) -> None:
        self._reply = reply
        if self._done is not None:
            reply(*self._done)

    def _settle(self, status: int, body: Any) -> None:
        if self._done is None:
            self._done = status, body
            if self._reply is not None:
                self._reply(status, body)


class Administration:
    def __init__(
        self,
        config: Callable[[], Config],
        targets: Targets,
        crew: Crew,
        events: Events,
        state: Callable[[], str],
        started: float,
    ) -> None:
        """`state`: starting, serving or stopping. `started`: Unix time."""
        self._config = config
        self._targets = targets
        self._crew = crew
        self._events = events
        self._state = state
        self._started = started
        self._operations: dict[str, Callable[[Arguments], Any]] = {
            "status": self._status,
            "ready": self._ready,
            "apps": lambda _: [views.app(app) for app in self._targets.apps.values()],
            "app": lambda arguments: views.app(self._app(arguments)),
            "targets": lambda arguments: [views.target(target) for target in self._app(arguments).targets.values()],
            "target": lambda arguments: views.target(self._target(arguments)),
            "workers": lambda _: [views.worker(worker) for worker in self._crew],
            "config": lambda _: views.config(self._config()),
            "events": lambda arguments: [views.event(event) for event in self._events.since(arguments["after"])],
        }

    def __repr__(self) -> str:
        return f"<Administration of {len(self._operations)} operations>"

    def ask(self, operation: str, arguments: str, reply: Reply) -> None:
        """`reply(status, body)` is called once, now or later."""
        try:
            found = self._operations[operation](json.loads(arguments))
        except Refused as refused:
            reply(refused.status, refused.body)
        except Exception as error:  # noqa: BLE001  a mistake in one operation must not end the supervisor
            logger.error("internal error, please report it: %s", "".join(traceback.format_exception(error)))  # noqa: TRY400
            reply(500, Refused(500, f"the operation {operation} failed; the log has the details").body)
        else:
            if isinstance(found, Later):
                found.to(reply)
            else:
                reply(200, found)

    # -- the operations

    def _status(self, _arguments: Arguments) -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "state": self._state(),
            "started": self._started,
            "apps": len(self._targets.apps),
            "targets": {state.value: sum(target.state is state for target in self._targets) for state in State},
            "workers": len(self._crew),
        }

    def _ready(self, _arguments: Arguments) -> dict[str, Any]:
        lacking = [name for name, app in self._targets.apps.items() if not any(map(is_eligible, app.targets.values()))]
        return {"ready": self._state() == "serving" and not lacking, "state": self._state(), "lacking": len(lacking)}

    # -- what is named

    def _app(self, arguments: Arguments) -> KnownApp:
        app = self._targets.apps.get(arguments["app"])
        if app is None:
            raise Refused(404, f"there is no app named {arguments['app']!r}")
        return app

    def _target(self, arguments: Arguments) -> KnownTarget:
        app = self._app(arguments)
        target = app.targets.get(arguments["target"])
        if target is None:
            raise Refused(404, f"app {app.config.name!r} has no target named {arguments['target']!r}")
        return target


def is_eligible(target: KnownTarget) -> bool:
    """Whether it gets new sessions."""
    return target.state is State.UP and target.config.weight > 0
