"""From the configuration that runs to another one: all of it, or nothing.

Main thread only. `prepare` takes everything that can be refused (ports, files, rights) and touches nothing that serves;
`commit` changes the estate and tells the workers, in one turn of the loop; `roll_back` gives back what was prepared.
A listener that must be closed before a new one can be bound (`first`) is Reload's to close and, if need be, to bring back.
"""

import dataclasses
import logging
import os
import resource
from collections.abc import Iterable

from tcp_proxy import log
from tcp_proxy.config.diff import AT_START, Change, diff, listeners_of, overlapped
from tcp_proxy.config.model import App, Config
from tcp_proxy.control.access_log import AccessLog, open_log
from tcp_proxy.control.briefing import Briefing
from tcp_proxy.control.estate import Estate
from tcp_proxy.control.slots import NoRoom
from tcp_proxy.control.sockets import CannotListen, Listening, bind_now
from tcp_proxy.control.targets import Changed
from tcp_proxy.control.workers import Worker
from tcp_proxy.messages import Unlisten
from tcp_proxy.sansio.address import ListenAddress, hosts_overlap

logger = logging.getLogger(__name__)

SPARE = 32  # descriptors that a worker has left when it was lent what is new; it accepts until 64 are left
LISTEN_DRAIN = 0.05  # seconds that a closing listener still accepts what is on its way (DESIGN 9.5)


class CannotApply(Exception):
    """One line for the user: what stands in the way. Nothing has changed."""


class Transition:
    def __init__(self, estate: Estate, briefing: Briefing, new: Config) -> None:
        self.new = new
        self.changes: list[Change] = diff(estate.config, new)
        self._estate = estate
        self._briefing = briefing
        before, after = listeners_of(estate.config), listeners_of(new)
        gone = before.keys() - after.keys()
        self._added = [address for address in after if address not in before]
        blockers = overlapped(gone, self._added)
        self.first = [item for item in estate.listening.values() if item.address in blockers]
        self._bound: list[Listening] = []
        self._log_fd = -1
        self._new_log: AccessLog | None = None

    def __repr__(self) -> str:
        return f"<Transition of {len(self.changes)} changes, {len(self._bound)} of {len(self._added)} listeners bound>"

    def hosts(self) -> set[str]:
        """The names that its targets have."""
        return {host for app in self.new.apps for target in app.targets for host in target.hosts}

    # -- what may be refused

    def prepare(self) -> None:
        """Raises CannotApply, with everything given back."""
        try:
            self._require_ping()
            self._require_descriptors()
            self._open_log()
            self.bind(address for address in self._added if not self._is_blocked(address))
        except (CannotListen, OSError) as error:
            self.roll_back()
            raise CannotApply(str(error)) from None

    def bind_rest(self) -> None:
        """Those that could not be bound before `first` was closed. Raises CannotListen."""
        bound = {item.address for item in self._bound}
        self.bind(address for address in self._added if address not in bound)

    def bind(self, addresses: Iterable[ListenAddress]) -> None:
        owner = listeners_of(self.new)
        apps = {app.name: app for app in self.new.apps}
        for address in addresses:
            self._bound.append(bind_now(self._estate.next_number(), apps[owner[address]], address))

    def roll_back(self) -> None:
        for item in self._bound:
            item.sock.close()
        self._bound = []
        if self._log_fd >= 0:
            os.close(self._log_fd)
            self._log_fd = -1
        if self._new_log is not None:
            self._new_log.stop()
            self._new_log = None

    def _is_blocked(self, address: ListenAddress) -> bool:
        return any(
            item.address.port == address.port and hosts_overlap(item.address.host, address.host) for item in self.first
        )

    def _require_ping(self) -> None:
        def pings(config: Config) -> bool:
            return any(check.type == "ping" for check in config.checks)

        if pings(self.new) and not pings(self._estate.config):
            from tcp_proxy.control.health.ping import permission_error  # noqa: PLC0415  ping3 is imported on first use

            error = permission_error()
            if error:
                raise OSError(error)

    def _require_descriptors(self) -> None:
        """A worker that cannot take what it is lent would end, and its sessions with it."""
        needed = len(self._added) + len(_limits(self.new) - _limits(self._estate.config))
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        for worker in self._estate.crew if needed else ():
            free = limit - worker.descriptors()
            if not worker.is_draining and needed + SPARE > free:
                raise OSError(
                    f"{needed} more descriptors are needed in each worker, and worker {worker.index} (pid {worker.pid}) has "
                    f"{free} left, {SPARE} of them to spare: raise the limit (ulimit -n), or wait for sessions to end"
                )

    def _open_log(self) -> None:
        path, before = self.new.access_log, self._estate.access_log
        if path is None or (before is not None and path == before.path):
            return
        try:
            if before is None:
                new = AccessLog(path, self.new.log.format)
                new.start()
                self._new_log = new
            else:
                self._log_fd = open_log(path)
        except OSError as error:
            raise OSError(f"access_log {path}: {error.strerror}") from None

    # -- all of it

    def commit(self) -> tuple[str, ...]:
        """The names of apps that are to be removed when their listeners are closed. Raises CannotApply as `prepare` does."""
        estate, new = self._estate, self.new
        old = estate.config
        try:
            self._require_descriptors()
            changed = estate.targets.configure(new.apps, estate.generation + 1, estate.states.answers())
        except (OSError, NoRoom) as error:
            self.roll_back()
            raise CannotApply(str(error)) from None
        estate.generation += 1
        estate.config = dataclasses.replace(new, **{key: getattr(old, key) for key in AT_START})
        estate.sticks.configure(new.apps)
        for names in changed.renamed:
            estate.sticks.rename(*names)
        moved = self._hand_over(listeners_of(new))
        self._keep_alive(old.apps)
        estate.listening.update({item.number: item for item in self._bound})
        if new.log != old.log:
            log.setup(new.log)
        has_other_log = self._switch_log(old)
        estate.crew.size = new.workers or len(os.sched_getaffinity(0))
        bound, self._bound = self._bound, []
        for worker in estate.crew:
            estate.crew.tell(worker, lambda worker: self._tell(worker, changed, moved, bound, has_other_log))
        estate.states.apply(changed)
        estate.changed()
        estate.crew.set_size(estate.crew.size)
        keep = {app.name for app in new.apps}
        return tuple(app.name for app in old.apps if app.name not in keep)

    def _tell(
        self, worker: Worker, changed: Changed, moved: list[Listening], bound: list[Listening], has_other_log: bool
    ) -> None:
        self._briefing.configure(worker, changed)
        self._briefing.hand_over(worker, moved)
        if self._estate.is_serving and not worker.is_draining:
            self._briefing.lend(worker, bound)
        if has_other_log:
            self._briefing.records(worker)

    def _hand_over(self, owner: dict[ListenAddress, str]) -> list[Listening]:
        """Listeners that stay, but belong to another app now."""
        moved = [
            item for item in self._estate.listening.values() if item.address in owner and owner[item.address] != item.app
        ]
        for item in moved:
            retire(self._estate, item)
            item.app = owner[item.address]
        return moved

    def _keep_alive(self, old: tuple[App, ...]) -> None:
        """Of listeners that stay; one that was handed over comes from another app."""
        before = {address: app.timeouts.keepalive for app in old for address in app.listeners}
        after = {app.name: app.timeouts.keepalive for app in self.new.apps}
        for item in self._estate.listening.values():
            if item.app in after and before.get(item.address) != after[item.app]:
                item.set_keepalive(after[item.app])

    def _switch_log(self, old: Config) -> bool:
        """Whether workers must be told."""
        estate, path = self._estate, self.new.access_log
        running, format = estate.access_log, self.new.log.format
        if path is None:
            if running is not None:
                running.stop_soon()  # when the workers have let go of it
            estate.access_log = None
            return running is not None
        if running is None:
            estate.access_log, self._new_log = self._new_log, None
            return True
        if self._log_fd >= 0:
            running.move(self._log_fd, path, format)
            self._log_fd = -1
        elif format != old.log.format:
            running.set_format(format)
        return False


def _limits(config: Config) -> set[tuple[str, str, int]]:
    """Each is a semaphore in every worker."""
    return {
        (app.name, target.name, target.max_connections)
        for app in config.apps
        for target in app.targets
        if target.max_connections
    }


# -- listeners that close


def close_listeners(estate: Estate, items: list[Listening]) -> None:
    """Begin: whoever is connected, or nearly, is still served. `are_closed` will say when that is over."""
    for item in items:
        item.refuse_new()
        estate.closing[item.number] = estate.listening.pop(item.number)
    numbers = {item.number for item in items}
    for worker in estate.crew:
        ours = tuple(numbers & worker.open_listeners)
        if ours and not worker.is_draining:
            worker.send(Unlisten(ours, LISTEN_DRAIN))


def are_closed(estate: Estate, items: list[Listening]) -> bool:
    """Whether no worker that lives has one open; then they are closed here too: the supervisor closes last."""
    numbers = {item.number for item in items}
    if any(numbers & worker.open_listeners for worker in estate.crew):
        return False
    for item in items:
        if estate.closing.pop(item.number, None) is not None:
            item.sock.close()
            retire(estate, item)
    return True


def retire(estate: Estate, item: Listening) -> None:
    """Its counters are free when everybody knows that it is gone and its sessions have ended."""
    estate.ledger.slots.retire("listener", item.app, str(item.address), generation=estate.generation)
