"""The operations of the management API that change something, or ask what a change would be.

Main thread only. They are control.operator's; here its refusals become HTTP's: 404 for what is not there, 409 for what
contradicts what is there, 422 with every single complaint for what is wrong in itself.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from tcp_proxy.config.diff import Change
from tcp_proxy.config.load import ConfigErrors
from tcp_proxy.control import views
from tcp_proxy.control.administration import Arguments, Later, Operation, Refused
from tcp_proxy.control.operator import CannotApply, Operator, Unknown
from tcp_proxy.control.reload import Outcome

MOST_ERRORS = 1000  # in one answer


class Orders:
    """What was said of a target is answered when it is kept (control.durable)."""

    def __init__(self, operator: Operator, kept: Callable[[Any], Later]) -> None:
        self._operator = operator
        self._kept = kept
        self._is_planning = False

    def __repr__(self) -> str:
        return f"<Orders to {self._operator!r}>"

    def operations(self) -> dict[str, Operation]:
        return {
            "set_target": _refusing(self._set_target),
            "add_target": _refusing(self._add_target),
            "remove_target": _refusing(self._remove_target),
            "probe": _refusing(self._probe),
            "unhealthy": _refusing(self._unhealthy),
            "close_sessions": _refusing(self._close_sessions),
            "reload": self._reload,
            "plan": self._plan,
        }

    # -- targets

    def _set_target(self, arguments: Arguments) -> Any:
        app, target = arguments["app"], arguments["target"]
        return self._kept(views.target(self._operator.set_target(app, target, arguments["admin"], arguments["weight"])))

    def _add_target(self, arguments: Arguments) -> Any:
        return self._kept(views.target(self._operator.add_target(arguments["app"], arguments["definition"])))

    def _remove_target(self, arguments: Arguments) -> Later:
        self._operator.remove_target(arguments["app"], arguments["target"])
        return self._kept(None)

    def _probe(self, arguments: Arguments) -> None:
        if not self._operator.probe_now(arguments["app"], arguments["target"]):
            raise Refused(409, f"app {arguments['app']} has no health checks")

    def _unhealthy(self, arguments: Arguments) -> Any:
        told = (arguments[key] for key in ("app", "target", "for", "why"))
        return views.target(self._operator.unhealthy(*told))

    def _close_sessions(self, arguments: Arguments) -> None:
        self._operator.close_sessions(arguments["app"], arguments["target"])

    # -- the configuration

    def _reload(self, _arguments: Arguments) -> Later:
        later = Later()
        self._operator.reload(partial(_reloaded, later))
        return later

    def _plan(self, arguments: Arguments) -> Later:
        """One at a time: reading a big one takes memory, and the interpreter's time."""
        if self._is_planning:
            raise Refused(429, "another configuration is still being read; ask again")
        self._is_planning = True
        later = Later()

        def planned(found: list[Change] | list[str]) -> None:
            self._is_planning = False
            _planned(later, found)

        self._operator.plan(planned, arguments["text"].encode("utf-8", "surrogateescape"))
        return later


def _reloaded(later: Later, outcome: Outcome) -> None:
    if outcome.ok:
        later.answer({"changes": [views.change(change) for change in outcome.changes]})
    else:
        status = 409 if outcome.is_prevented else 422
        later.refuse(_refused(status, "nothing was changed", [{"what": error} for error in outcome.errors]))


def _planned(later: Later, found: list[Change] | list[str]) -> None:
    changes = [views.change(one) for one in found if isinstance(one, Change)]
    errors = [{"what": one} for one in found if isinstance(one, str)]
    if errors:
        later.refuse(_refused(422, "it could not be loaded", errors))
    else:
        later.answer({"changes": changes})


def _refusing(order: Callable[[Arguments], Any]) -> Operation:
    """The order, with the operator's refusals as ours."""

    @wraps(order)
    def operation(arguments: Arguments) -> Any:
        try:
            return order(arguments)
        except Unknown as error:
            raise Refused(404, str(error)) from None
        except CannotApply as error:
            raise Refused(409, str(error)) from None
        except ConfigErrors as errors:
            found = [{"where": error.path.replace("$[0]", "$", 1), "what": error.message} for error in errors.errors]
            raise _refused(422, "it can be no target", found) from None

    return operation


def _refused(status: int, what: str, errors: list[dict[str, str]]) -> Refused:
    """A sentence with the first of them, and all of them, or nearly."""
    first = "; ".join(": ".join(error.values()) for error in errors[:3])
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
    return Refused(status, f"{what}: {first}{more}", list(errors[:MOST_ERRORS]))
