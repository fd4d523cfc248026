"""The operations of the management API that change something, or ask what a change would be.

Main thread only. They are control.changes.operator's; here its refusals become HTTP's: 404 for what is not there, 409 for
what contradicts what is there, 422 with every single self_report for what is wrong in itself.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from typing import Any

from tcp_proxy.config.diff import Change
from tcp_proxy.config.load import ConfigErrors
from tcp_proxy.config.model import Target
from tcp_proxy.control.answers import views
from tcp_proxy.control.changes.comparison import Comparison
from tcp_proxy.control.changes.operator import CannotApply, Judged, Operator, Unknown
from tcp_proxy.control.changes.overrides import Overrides, Said
from tcp_proxy.control.changes.reload import Outcome
from tcp_proxy.control.long_answer import Long, Parts
from tcp_proxy.control.replies import Arguments, InTurn, Later, Operation, Refused
from tcp_proxy.control.slices import Slices
from tcp_proxy.control.targets.known import KnownTarget

MOST_ERRORS = 1000  # in one answer


class Orders:
    """What was said of a target is answered when it is kept (control.store.durable)."""

    def __init__(self, operator: Operator, kept: Callable[[Any], Later], slices: Slices) -> None:
        self._operator = operator
        self._slices = slices
        self._kept = kept
        self._is_planning = False

    def __repr__(self) -> str:
        return f"<Orders to {self._operator!r}>"

    def operations(self) -> dict[str, Operation]:
        return {
            "set_target": InTurn(_refusing(self._set_target)),
            "add_target": _refusing(self._add_target),
            "remove_target": InTurn(_refusing(self._remove_target)),
            "probe": _refusing(self._probe),
            "unhealthy": _refusing(self._unhealthy),
            "close_sessions": _refusing(self._close_sessions),
            "reset": _refusing(self._reset),
            "reload": self._reload,
            "plan": self._plan,
        }

    # -- targets

    def _set_target(self, arguments: Arguments) -> Any:
        app, target = arguments["app"], arguments["target"]
        return self._kept(self._view(self._operator.set_target(app, target, arguments["admin"], arguments["weight"])))

    def _add_target(self, arguments: Arguments) -> Later:
        """It is judged in a thread: what came may be long."""
        later, app, entry = Later(), arguments["app"], arguments["definition"]
        add = partial(self._operator.add_judged, app, entry, assumed_up=bool(arguments.get("assumed_up")))
        self._operator.judge_target(app, entry, partial(self._judged, later, add))
        return later

    def _judged(self, later: Later, add: Callable[[Target], KnownTarget], found: Judged) -> None:
        try:
            with _refusals():
                if isinstance(found, Exception):
                    raise found
                body = self._view(add(found))
        except Refused as refused:
            later.refuse(refused)
        else:
            self._kept(body).to(lambda _status, body: later.answer(body))

    def _remove_target(self, arguments: Arguments) -> Later:
        self._operator.remove_target(arguments["app"], arguments["target"])
        return self._kept(None)

    def _probe(self, arguments: Arguments) -> None:
        if not self._operator.probe_now(arguments["app"], arguments["target"]):
            raise Refused(409, f"app {arguments['app']} has no health checks")

    def _unhealthy(self, arguments: Arguments) -> Any:
        told = (arguments[key] for key in ("app", "target", "for", "why"))
        return self._view(self._operator.unhealthy(*told))

    def _view(self, known: KnownTarget) -> Any:
        return views.target(known, self._operator.overrides)

    def _reset(self, arguments: Arguments) -> Later:
        later = Later()

        def reset(found: list[Said] | str) -> None:
            if isinstance(found, str):
                later.refuse(Refused(409, found))
            else:
                body = {"reset": [views.said(one) for one in found]}
                self._kept(body).to(lambda _status, body: later.answer(body))

        self._operator.reset(arguments["app"], arguments["target"], reset)
        return later

    def _close_sessions(self, arguments: Arguments) -> None:
        self._operator.close_sessions(arguments["app"], arguments["target"])

    # -- the configuration

    def _reload(self, _arguments: Arguments) -> Later:
        later = Later()
        self._operator.reload(partial(_reloaded, later, self._operator.overrides))
        return later

    def _plan(self, arguments: Arguments) -> Later:
        """Of a text, or of the file. One at a time: reading a big one takes memory, and the interpreter's time."""
        if self._is_planning:
            raise Refused(429, "another configuration is still being read; ask again")
        self._is_planning = True
        later = Later()

        def planned(found: Comparison | list[str]) -> None:
            self._is_planning = False
            _planned(later, found)

        text = arguments["text"]
        self._operator.plan(planned, None if text is None else text.encode("utf-8", "surrogateescape"))
        return later


def _reloaded(later: Later, overrides: Overrides, outcome: Outcome) -> None:
    if outcome.ok:
        later.answer(_changes(outcome.changes, overrides))
    else:
        status, errors = 409 if outcome.is_prevented else 422, [{"what": error} for error in outcome.errors]
        later.refuse(_refused(status, "nothing was changed", errors, len(errors)))


def _planned(later: Later, found: Comparison | list[str]) -> None:
    if isinstance(found, list):
        later.refuse(_refused(422, "it could not be loaded", [{"what": one} for one in found], len(found)))
    else:
        later.answer(_changes(found.changes, found.said))


def _changes(found: Sequence[Change], overrides: Overrides) -> Parts:
    """And what was said at run time, and stands beside the file."""
    return Parts({"changes": Long(map(views.change, found)), "overrides": Long(map(views.said, overrides.standing()))})


def _refusing(order: Callable[[Arguments], Any]) -> Operation:
    """The order, with the operator's refusals as ours."""

    @wraps(order)
    def operation(arguments: Arguments) -> Any:
        with _refusals():
            return order(arguments)

    return operation


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except Unknown as error:
        raise Refused(404, str(error)) from None
    except CannotApply as error:
        raise Refused(409, str(error)) from None
    except ConfigErrors as errors:
        shown = errors.errors[:MOST_ERRORS]
        found = [{"where": error.path.replace("$[0]", "$", 1), "what": error.message} for error in shown]
        raise _refused(422, "it can be no target", found, len(errors.errors)) from None


def _refused(status: int, what: str, errors: list[dict[str, str]], count: int) -> Refused:
    """A sentence with the first of them, and all of them, or nearly."""
    first = "; ".join(": ".join(error.values()) for error in errors[:3])
    more = f"; and {count - 3} more" if count > 3 else ""
    return Refused(status, f"{what}: {first}{more}", list(errors[:MOST_ERRORS]))
