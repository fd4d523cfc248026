"""All apps that have one primary: their elections, begun, told of what happens, ended.

Main thread only. Owns a Failover for each app whose `balance` is "failover", and the scripts that they run. `look` makes
it so after every change of the configuration; news of targets come as events, news of workers from the supervisor.
"""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from tcp_proxy.control.context import Context
from tcp_proxy.control.events import Event
from tcp_proxy.control.failover.ports import LISTEN_AGAIN
from tcp_proxy.control.failover.primary import Failover
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.control.replies import Arguments, Operation, Refused
from tcp_proxy.control.scripts import Scripts, ScriptSlots
from tcp_proxy.control.store.state import SavedPrimary, State
from tcp_proxy.control.targets.known import Elected, Elections, KnownApp
from tcp_proxy.runtime.loop import Timer
from tcp_proxy.wire.messages import ConnectFailed, Paused, Primary

logger = logging.getLogger(__name__)


class Failovers:
    def __init__(self, context: Context, store: State | None = None) -> None:
        """`store` knows who was primary in an earlier life, and is told."""
        self._context = context
        self._store = store or State()
        self._scripts = Scripts(context.loop, ScriptSlots())
        self._apps: dict[str, Any] = {}  # a Failover, or in a cluster a ClusteredFailover
        self._left: dict[str, Any] = {}  # apps that are none any more, and a script of theirs has not ended yet
        self._due: set[str] = set()  # apps that will be looked at
        self._has_begun = False
        self._given: dict[str, Any] = {}  # of a program that was taken over, by app
        self._again: Timer | None = None  # until a port that cannot be opened is tried once more
        self._elections: Any = None  # shared_elections.SharedElections, in a cluster
        context.changed = self.look
        self._unobserve: Callable[[], None] = context.events.observe(self._happened)

    def __repr__(self) -> str:
        return f"<Failovers of {len(self._apps)} apps>"

    def start(self) -> None:
        """Names have been answered. No worker has been told of a primary yet."""
        if not self._has_begun:
            self._has_begun = True
            self._join()
            self.look(is_start=True)
            if self._elections is not None and self._context.cluster is not None:
                self._elections.look()
                self._elections.heard(self._context.cluster.news)

    def _join(self) -> None:
        """In a cluster an election is held once, for all nodes."""
        node = self._context.cluster
        if node is not None:
            from tcp_proxy.control.failover.shared_elections import SharedElections  # noqa: PLC0415  nobody else pays for it

            send = self._context.worker_pool.send
            self._elections = SharedElections(self._context.loop, node.shared, node.node, node.instance, node.lease, send)
            node.elections = self._elections
            self._elections.heard(node.news)

    def look(self, is_start: bool = False) -> None:
        """The configuration may be another one. While it is one in part, nobody looks: that follows when it is whole."""
        apps = self._context.targets.apps
        if not self._has_begun or any(app.held is not None for app in apps.values()):
            return
        wanted = {name: app for name, app in apps.items() if app.config.has_primary}
        for name in [name for name, failover in self._apps.items() if wanted.get(name) is not failover.app]:
            self._left[name] = self._apps.pop(name)
            self._left[name].stop()
            if self._elections is not None:
                self._elections.remove(name)
        self._left = {name: failover for name, failover in self._left.items() if failover.is_busy}
        for name, app in wanted.items():
            if name in self._apps:
                self._apps[name].look()
                self._save_name(name)
                continue
            if self._go_on(name, app):
                continue
            if self._elections is not None:
                self._share(name, app, is_start=is_start)
                continue
            is_paused = self._context.generation == 0
            saved = self._store.primary(name)
            app.epoch = max(app.epoch, saved.epoch)
            failover = self._apps[name] = Failover(self._context, self._scripts, app)
            if name in self._left:
                failover.follow(self._left.pop(name))
            failover.look()
            # With two that could be, it is the one that has all the writes.
            failover.begin("there is none yet", saved.target if is_start else "", is_paused=is_paused)
        self._open_ports_of_others()

    def _share(self, name: str, app: KnownApp, *, is_start: bool) -> None:
        from tcp_proxy.control.failover.clustered import ClusteredFailover  # noqa: PLC0415  nobody else pays for it

        saved = self._store.primary(name)
        app.epoch = max(app.epoch, saved.epoch)
        first = saved.target if is_start else ""
        made = ClusteredFailover(self._context, self._scripts, app, self._elections, self._elections.lease, first)
        if name in self._left:
            made.follow(self._left.pop(name))
        self._apps[name] = made
        given = self._given.pop(name, None)
        if given and app.primary is not None:
            app.elections = Elections(**given["elections"])
            made.go_on(given)
        else:
            app.primary = None
            self._context.worker_pool.send(Primary(name, app.epoch, "", self._context.loop.now))
        self._elections.add(name, made)
        made.look()

    def _go_on(self, name: str, app: KnownApp) -> bool:
        """With the primary that it had in the program that was taken over, if it had one that is still a target."""
        given = self._given.pop(name, None) if self._elections is None else None
        if not given:
            return False
        app.elections, app.epoch, app.since = Elections(**given["elections"]), given["epoch"], given["since"]
        if given["primary"] not in app.targets:
            return False
        failover = self._apps[name] = Failover(self._context, self._scripts, app)
        failover.go_on(given)
        return True

    @property
    def busy(self) -> str:
        """An app whose election is under way, or whose scripts run; "" for none."""
        return next((name for name, one in (*self._apps.items(), *self._left.items()) if not one.is_settled), "")

    def given(self) -> dict[str, Any]:
        """For a program that takes over: no election is begun by that."""
        return {name: failover.given() for name, failover in self._apps.items()}

    def take(self, given: dict[str, Any]) -> None:
        """Before `start`."""
        self._given = given
        for name, one in given.items():
            app = self._context.targets.apps.get(name)
            if app is not None and app.config.has_primary and one.get("primary") in app.targets:
                # Workers hear of it at once.
                app.primary, app.epoch, app.since = app.targets[one["primary"]], one["epoch"], one["since"]

    def given_of_node(self) -> dict[str, Any]:
        """For a program that goes on as this node of a cluster."""
        given = {name: one.given_of_node() for name, one in self._apps.items()}
        return {name: one for name, one in given.items() if one}

    def go_on_as_node(self, given: dict[str, Any]) -> None:
        """What is so since: whoever has another primary by now, or none, begins as one that knows nothing of it."""
        for name in [name for name, one in self._given.items() if _primary_of(one) != _primary_of(given.get(name, {}))]:
            del self._given[name]
            app = self._context.targets.apps.get(name)
            if app is not None:
                app.primary = None

    def _open_ports_of_others(self) -> None:
        """A listener may have come from an app whose ports were closed to one whose ports never are."""
        if self._again is not None:  # one at a time, however many ports and looks there are
            self._again.cancel()
            self._again = None
        has_failed = False
        for item in self._context.listening.values():
            if item.is_listening or item.app in self._apps:
                continue
            try:
                item.listen()
            except OSError as error:
                logger.error("app %s: %s cannot be opened: %s; tried again", item.app, item.address, error.strerror)  # noqa: TRY400
                has_failed = True
        if has_failed:
            self._again = self._context.loop.call_later(LISTEN_AGAIN, self.look)

    def _save_name(self, app: str) -> None:
        """A reload may have given the primary another name: it is the same server, and the next start begins with it."""
        primary, saved = self._context.targets.apps[app].primary, self._store.primary(app)
        if primary is not None and self._apps[app].is_serving and saved.target != primary.config.name:
            self._store.save_primary(SavedPrimary(app, primary.config.name, saved.epoch))

    def paused(self, worker: Worker, message: Paused) -> None:
        if message.app in self._apps:
            self._apps[message.app].hear(_paused, worker, message.epoch)

    def left(self, worker: Worker) -> None:
        for failover in self._apps.values():
            failover.hear(_left, worker)

    def connect_failed(self, message: ConnectFailed) -> None:
        if message.app in self._apps:
            self._apps[message.app].hear(_connect_failed, message.target)

    def promote(self, app: str, target: str) -> str:
        """Have a target be primary, now. What stands in the way; "" if nothing does."""
        if app not in self._apps:
            return f"app {app!r} has no primary: its balance is not failover"
        refusal: str = self._apps[app].promote(target)
        return refusal

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
        known = self._context.targets.apps.get(app)
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
        if event.kind == "election":
            app = event.data["app"]
            target = event.data["primary"] or self._store.primary(app).target
            self._store.save_primary(SavedPrimary(app, target, event.data["epoch"]))
        elif event.kind == "target" and event.data["app"] in self._apps:
            if event.data["app"] not in self._due:  # of a thousand targets that go down together, one look is enough
                self._due.add(event.data["app"])
                self._context.loop.call_soon(self._look_at, event.data["app"])
        elif event.kind == "reload":
            self._context.loop.call_soon(self.look)

    def _look_at(self, app: str) -> None:
        self._due.discard(app)
        if app in self._apps:
            self._apps[app].hear(_look)


def _primary_of(given: dict[str, Any]) -> tuple[Any, ...]:
    return given.get("epoch"), given.get("primary"), given.get("written")


def _paused(one: Any, worker: Worker, epoch: int) -> None:
    one.paused(worker, epoch)


def _left(one: Any, worker: Worker) -> None:
    one.left(worker)


def _connect_failed(one: Any, target: str) -> None:
    one.connect_failed(target)


def _look(one: Any) -> None:
    one.look()
