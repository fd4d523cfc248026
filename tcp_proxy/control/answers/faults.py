"""Faults on purpose: the operations of the management API that add, list and remove them. Each ends by itself.

Main thread only, and in memory alone: a restart of the supervisor ends them all. What an app has of them is in its KnownApp,
so workers that start later, and reloads, tell of them as well.
"""

import logging
from dataclasses import asdict
from ipaddress import ip_network
from typing import Any

from tcp_proxy.control.context import Context
from tcp_proxy.control.replies import Arguments, Operation, Refused
from tcp_proxy.control.targets.known import KnownApp
from tcp_proxy.runtime.loop import Timer
from tcp_proxy.wire.messages import Faults
from tcp_proxy.wire.views import FaultView

logger = logging.getLogger(__name__)
EFFECTS = ("latency", "jitter", "bandwidth", "reset", "timeout", "slicer", "slow_close")


class FaultOrders:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._numbers = 0
        self._timers: dict[int, tuple[Timer, float]] = {}  # with the loop's time of its end

    def __repr__(self) -> str:
        return f"<FaultOrders, {len(self._timers)} faults>"

    def operations(self) -> dict[str, Operation]:
        return {"faults": self._list, "add_fault": self._add, "remove_fault": self._remove}

    def _add(self, arguments: Arguments) -> Any:
        app = self._context.targets.apps.get(arguments["app"])
        if app is None:
            raise Refused(404, f"there is no app named {arguments['app']!r}")
        if not self._context.config.faults:
            raise Refused(409, 'no faults here: the configuration does not say "faults": true')
        said = {key: value for key, value in arguments.items() if key not in ("app", "seconds") and value is not None}
        if not any(said.get(key) for key in EFFECTS):
            raise Refused(422, f"nothing would be wrong; wanted one of {', '.join(EFFECTS)}")
        try:
            said["networks"] = tuple(str(ip_network(text)) for text in said.get("networks", ()))
        except ValueError as error:
            raise Refused(422, f"networks: {error}") from None
        self._numbers += 1
        number, seconds = self._numbers, arguments["seconds"]
        text = " ".join(_words(said))
        timer = self._context.loop.call_later(seconds, self._end, number)
        self._timers[number] = timer, self._context.loop.now + seconds
        self._set(app, (*app.faults, FaultView(number, text, **said)))
        logger.warning("app %s: fault %d on purpose, for %g s: %s", app.config.name, number, seconds, text)
        self._context.events.publish("fault", {"app": app.config.name, "fault": number, "state": "on", "text": text})
        return self._view(app, app.faults[-1])

    def _list(self, _arguments: Arguments) -> Any:
        return [self._view(app, one) for app in self._context.targets.apps.values() for one in app.faults]

    def _remove(self, arguments: Arguments) -> Any:
        number = arguments["fault"]
        if not self._end(number):
            raise Refused(404, f"there is no fault {number}")
        return {"removed": number}

    def _end(self, number: int) -> bool:
        """Whether there was one."""
        timer, _ = self._timers.pop(number, (None, 0.0))
        if timer is not None:
            timer.cancel()
        for app in self._context.targets.apps.values():
            left = tuple(one for one in app.faults if one.number != number)
            if len(left) < len(app.faults):
                self._set(app, left)
                logger.warning("app %s: fault %d on purpose is over", app.config.name, number)
                self._context.events.publish("fault", {"app": app.config.name, "fault": number, "state": "off", "text": ""})
                return True
        return False

    def _set(self, app: KnownApp, faults: tuple[FaultView, ...]) -> None:
        app.faults = faults
        self._context.worker_pool.send(Faults(app.config.name, faults))

    def _view(self, app: KnownApp, one: FaultView) -> dict[str, Any]:
        _, ends = self._timers.get(one.number, (None, 0.0))
        view = {**asdict(one), "networks": list(one.networks)}
        return {"app": app.config.name, **view, "seconds": round(max(0.0, ends - self._context.loop.now), 3)}


def _words(said: dict[str, Any]) -> list[str]:
    """As the command line takes them, in plain numbers."""
    usual = (("direction", "both"), ("share", 100))
    plain = {key: value for key, value in said.items() if value and (key, value) not in usual}
    words = []
    for key, value in plain.items():
        shown = ",".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else value
        words.append(key if value is True else f"{key}={shown}")
    return words
