"""All apps that have one primary: their elections, begun, told of what happens, ended.

Main thread only. Owns a Failover for each app whose `balance` is "failover", and the scripts that they run. `look` makes
it so after every change of the configuration; news of targets come as events, news of workers from the supervisor.
"""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from tcp_proxy.control.administration import Arguments, Operation, Refused
from tcp_proxy.control.estate import Estate
from tcp_proxy.control.events import Event
from tcp_proxy.control.failover import LISTEN_AGAIN, Elected, Failover
from tcp_proxy.control.scripts import Places, Scripts
from tcp_proxy.control.workers import Worker
from tcp_proxy.messages import ConnectFailed, Paused

logger = logging.getLogger(__name__)


class Failovers:
    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self._scripts = Scripts(estate.loop, Places())
        self._apps: dict[str, Failover] = {}
        self._left: dict[str, Failover] = {}  # apps that are none any more, and a script of theirs has not ended yet
        self._due: set[str] = set()  # apps that will be looked at
        self._has_begun = False
        estate.changed = self.look
        self._unobserve: Callable[[], None] = estate.events.observe(self._happened)

    def __repr__(self) -> str:
        return f"<Failovers of {len(self._apps)} apps>"

    def start(self) -> None:
        """Names have been answered. No worker has been told of a primary yet."""
        if not self._has_begun:
            self._has_begun = True
            self.look()

    def look(self) -> None:
        """The configuration may be another one."""
        if not self._has_begun:
            return
        wanted = {name: app for name, app in self._estate.targets.apps.items() if app.config.has_primary}
        for name in [name for name, failover in self._apps.items() if wanted.get(name) is not failover.app]:
            self._left[name] = self._apps.pop(name)
            self._left[name].stop()
        self._left = {name: failover for name, failover in self._left.items() if failover.is_busy}
        for name, app in wanted.items():
            if name in self._apps:
                self._apps[name].look()
                continue
            failover = self._apps[name] = Failover(self._estate, self._scripts, app)
            if name in self._left:
                failover.follow(self._left.pop(name))
            failover.look()
            failover.begin("there is none yet", is_paused=self._estate.generation == 0)
        self._open_ports_of_others()

    def _open_ports_of_others(self) -> None:
        """A listener may have come from an app whose ports were closed to one whose ports never are."""
        for item in self._estate.listening.values():
            if item.is_listening or item.app in self._apps:
                continue
            try:
                item.listen()
            except OSError as error:
                logger.error("app %s: %s cannot be opened: %s; tried again", item.app, item.address, error.strerror)  # noqa: TRY400
                self._estate.loop.call_later(LISTEN_AGAIN, self.look)

    def paused(self, worker: Worker, message: Paused) -> None:
        if message.app in self._apps:
            self._apps[message.app].paused(worker, message.epoch)

    def left(self, worker: Worker) -> None:
        for failover in self._apps.values():
            failover.left(worker)

    def connect_failed(self, message: ConnectFailed) -> None:
        if message.app in self._apps:
            self._apps[message.app].connect_failed(message.target)

    def promote(self, app: str, target: str) -> str:
        """Have a target be primary, now. What stands in the way; "" if nothing does."""
        if app not in self._apps:
            return f"app {app!r} has no primary: its balance is not failover"
        return self._apps[app].promote(target)

    def views(self) -> list[Elected]:
        return [failover.view() for failover in self._apps.values()]

    def statistics(self) -> dict[str, dict[str, Any]]:
        """By app."""
        return {view.app: dataclasses.asdict(view) for view in self.views()}

    def operations(self) -> dict[str, Operation]:
        """For the management API."""
        return {"promote": self._promote, "election": self._election}

    def _promote(self, arguments: Arguments) -> dict[str, Any]:
        app, target = arguments["app"], arguments["target"]
        known = self._estate.targets.apps.get(app)
        if known is None:
            raise Refused(404, f"there is no app named {app!r}")
        if target not in known.targets:
            raise Refused(404, f"app {app!r} has no target named {target!r}")
        refusal = self.promote(app, target)
        if refusal:
            raise Refused(409, refusal)
        return dataclasses.asdict(self._apps[app].view())

    def _election(self, arguments: Arguments) -> dict[str, Any]:
        if arguments["app"] not in self._apps:
            raise Refused(404, f"there is no app named {arguments['app']!r} that has a primary")
        return dataclasses.asdict(self._apps[arguments["app"]].view())

    def stop(self) -> None:
        self._unobserve()
        for failover in self._apps.values():
            failover.stop()
        self._scripts.close()

    def _happened(self, event: Event) -> None:
        if event.kind == "target" and event.data["app"] in self._apps:
            if event.data["app"] not in self._due:  # of a thousand targets that go down together, one look is enough
                self._due.add(event.data["app"])
                self._estate.loop.call_soon(self._look_at, event.data["app"])
        elif event.kind == "reload":
            self._estate.loop.call_soon(self.look)

    def _look_at(self, app: str) -> None:
        self._due.discard(app)
        if app in self._apps:
            self._apps[app].look()
