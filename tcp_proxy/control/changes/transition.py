"""From the configuration that runs to another one: all of it, or nothing.

Main thread only. `prepare` takes everything that can be refused (ports, files, rights) and touches nothing that serves;
`committing` changes the context and tells the workers, in slices that are hidden from everybody; `roll_back` gives back
what was prepared.
A listener that must be closed before a new one can be bound (`first`) is Reload's to close and, if need be, to bring back.
"""

import logging
import os
from collections.abc import Generator, Iterator, Sequence

from tcp_proxy.config.diff import Change, applied, listeners_of, overlapped
from tcp_proxy.config.log_model import AccessLogs
from tcp_proxy.config.model import App, Config
from tcp_proxy.control.access_log.destinations import Destination, close_all, open_all
from tcp_proxy.control.access_log.writer import AccessLog
from tcp_proxy.control.changes.comparison import Comparison
from tcp_proxy.control.changes.worker_updates import WorkerUpdates
from tcp_proxy.control.context import Context
from tcp_proxy.control.listeners import descriptors
from tcp_proxy.control.listeners.sockets import CannotListen, Listening, bind_now
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.control.targets.all_targets import Changed
from tcp_proxy.control.targets.known import KnownApp
from tcp_proxy.runtime import log
from tcp_proxy.sansio.address import ListenAddress, hosts_overlap
from tcp_proxy.wire.messages import Encoded, Unlisten

logger = logging.getLogger(__name__)

LISTENERS_AT_ONCE = 50  # that are bound in a slice
LISTEN_DRAIN = 0.05  # seconds that a closing listener still accepts what is on its way (docs/rules.md, R5)


class CannotApply(Exception):
    """One line for the user: what stands in the way. Nothing has changed."""


class Transition:
    def __init__(self, context: Context, worker_updates: WorkerUpdates, comparison: Comparison) -> None:
        self.take(comparison)
        new = self.new
        self._context = context
        self._worker_updates = worker_updates
        before, after = listeners_of(context.config), listeners_of(new)
        gone = before.keys() - after.keys()
        self._added = [address for address in after if address not in before]
        blockers = overlapped(gone, self._added)
        self.first = [item for item in context.listening.values() if item.address in blockers]
        self._bound: list[Listening] = []
        self._opened: dict[str, Destination] = {}  # that the access log has not had before
        self._new_log: AccessLog | None = None

    def __repr__(self) -> str:
        return f"<Transition of {len(self.changes)} changes, {len(self._bound)} of {len(self._added)} listeners bound>"

    def take(self, comparison: Comparison) -> None:
        """It is this that is to run: something was said at run time meanwhile. Listeners are those of the file."""
        self.comparison = comparison
        self.new = comparison.new
        self.changes: list[Change] = comparison.changes

    # -- what may be refused

    def preparing(self) -> Iterator[None]:
        """In slices. Raises CannotApply, with everything given back."""
        try:
            self._require_no_contradiction()
            self._require_rights()
            require_descriptors(self._context, self.new, len(self._added))
            self._open_log()
            yield from self._binding([address for address in self._added if not self._is_blocked(address)])
        except (CannotListen, OSError) as error:
            self.roll_back()
            raise CannotApply(str(error)) from None

    def binding_rest(self) -> Iterator[None]:
        """Those that could not be bound before `first` was closed, in slices. Raises CannotListen."""
        bound = {item.address for item in self._bound}
        yield from self._binding([address for address in self._added if address not in bound])

    def _binding(self, addresses: Sequence[ListenAddress]) -> Iterator[None]:
        owner = listeners_of(self.new)
        apps = {app.name: app for app in self.new.apps}
        for number, address in enumerate(addresses, 1):
            if not number % LISTENERS_AT_ONCE:
                yield
                if self._context.is_stopping:
                    return
            self._bound.append(bind_now(self._context.next_number(), apps[owner[address]], address))

    def roll_back(self) -> None:
        for item in self._bound:
            item.sock.close()
        self._bound = []
        close_all(self._opened)
        self._opened = {}
        if self._new_log is not None:
            self._new_log.stop()
            self._new_log = None

    def _is_blocked(self, address: ListenAddress) -> bool:
        return any(
            item.address.port == address.port and hosts_overlap(item.address.host, address.host) for item in self.first
        )

    def _require_no_contradiction(self) -> None:
        if self.comparison.fault:
            raise OSError(self.comparison.fault)

    def _require_rights(self) -> None:
        if self.new.is_transparent and not self._context.config.is_transparent:
            from tcp_proxy.runtime.source import transparent_fault  # noqa: PLC0415

            if fault := transparent_fault():
                raise OSError(fault)

        def pings(config: Config) -> bool:
            return any(check.type == "ping" for check in config.checks)

        if pings(self.new) and not pings(self._context.config):
            from tcp_proxy.control.health.ping import permission_error  # noqa: PLC0415  ping3 is imported on first use

            error = permission_error()
            if error:
                raise OSError(error)

    def _open_log(self) -> None:
        logs, running = self._logs, self._context.access_log
        if running is not None:
            self._opened = open_all([path for path in logs.paths if path not in running.logs.paths])
        elif logs.paths:
            new = AccessLog(logs)
            new.start()
            self._new_log = new

    @property
    def _logs(self) -> AccessLogs:
        """Whether there is tracing was read at the start."""
        return applied(self._context.config, self.new).access_logs

    # -- all of it

    def committing(self) -> Generator[None, None, tuple[str, ...]]:
        """In slices, between which nobody sees or hears of what is done in part: operations wait (control.slices), findings
        and names too, and what elections of these apps are to hear; no worker is introduced. When the program ends, what is
        done in part stays so. The names of apps that are to be removed when their listeners are closed."""
        context = self._context
        context.slices.is_hidden = True
        context.states.hold()
        for known in self._electing():
            known.held = []
        work = self._committing()
        try:
            while not context.is_stopping:
                try:
                    next(work)
                except StopIteration as over:
                    removed: tuple[str, ...] = over.value
                    return removed
                yield
            return ()
        finally:
            context.slices.is_hidden = False
            context.states.release()

    def _electing(self) -> list[KnownApp]:
        """Apps that are others now; elections go by the names of their targets."""
        apps = self._context.targets.apps
        return [apps[delta.app.name] for delta in self.comparison.deltas if delta.app.name in apps]

    def _committing(self) -> Generator[None, None, tuple[str, ...]]:
        context, new = self._context, self.new
        old = context.config
        try:
            self._require_no_contradiction()
            require_descriptors(self._context, self.new, len(self._added))
            yield
            deltas = self.comparison.deltas
            answers, now = context.states.answers(), context.loop.now
            changed = yield from context.targets.configuring(deltas, context.generation + 1, answers, now)
        except OSError as error:
            self.roll_back()
            for call in [call for known in self._electing() for call in known.take_held()]:
                call()
            raise CannotApply(str(error)) from None
        context.generation += 1
        context.config = applied(old, new)
        context.sticks.configure(new.apps)
        for names in changed.renamed:
            context.sticks.rename(*names)
        moved = self._hand_over(listeners_of(new))
        self._keep_alive(old.apps)
        context.listening.update({item.number: item for item in self._bound})
        context.keep_listeners()  # before workers are told of them
        if new.log != old.log:
            try:
                log.setup(new.log)
            except OSError as error:
                logger.error("the log stays as it was: %s", error)  # noqa: TRY400
        has_other_log = self._switch_log()
        context.worker_pool.size = new.workers or len(os.sched_getaffinity(0))
        bound, self._bound = self._bound, []
        message = yield from self._worker_updates.telling(changed)
        for worker in context.worker_pool.introduced:
            context.worker_pool.tell(worker, lambda one: self._tell(one, message, changed, moved, bound, has_other_log))
        yield from context.states.applying(changed)
        yield
        held = [call for known in self._electing() for call in known.take_held()]
        context.changed()
        context.keep_listeners()  # some may have been opened
        for call in held:
            call()
        context.worker_pool.set_size(context.worker_pool.size)
        keep = {app.name for app in new.apps}
        return tuple(app.name for app in old.apps if app.name not in keep)

    def _tell(
        self, worker: Worker, message: Encoded, changed: Changed, moved: list[Listening], bound: list[Listening],
        has_other_log: bool,
    ) -> None:  # fmt: skip
        if has_other_log:  # before anybody has a session with an app that is new
            self._worker_updates.records(worker)
        self._worker_updates.configure(worker, message, changed)
        self._worker_updates.hand_over(worker, moved)
        if self._context.is_serving and not worker.is_draining:
            self._worker_updates.pass_listeners(worker, bound)

    def _hand_over(self, owner: dict[ListenAddress, str]) -> list[Listening]:
        """Listeners that stay, but belong to another app now."""
        moved = [
            item for item in self._context.listening.values() if item.address in owner and owner[item.address] != item.app
        ]
        for item in moved:
            retire(self._context, item)
            item.app = owner[item.address]
        return moved

    def _keep_alive(self, old: tuple[App, ...]) -> None:
        """Of listeners that stay; one that was handed over comes from another app."""
        before = {address: app.timeouts.keepalive for app in old for address in app.listeners}
        after = {app.name: app.timeouts.keepalive for app in self.new.apps}
        for item in self._context.listening.values():
            if item.app in after and before.get(item.address) != after[item.app]:
                item.set_keepalive(after[item.app])

    def _switch_log(self) -> bool:
        """Whether workers must be told."""
        context, logs = self._context, self._logs
        running = context.access_log
        if not logs.paths:
            if running is not None:
                running.stop_soon()  # when the workers have let go of it
            context.access_log = None
            return running is not None
        if running is None:
            context.access_log, self._new_log = self._new_log, None
            return True
        if logs == running.logs:
            return False
        running.change(logs, self._opened)
        self._opened = {}
        return True


# -- what may stand in the way, raised as OSError


def require_descriptors(context: Context, new: Config, listeners: int = 0) -> None:
    """A worker that cannot take the descriptors it is passed would end, and its sessions with it; one that has no room
    serves nobody. `listeners`: how many are new."""
    added = listeners + len(descriptors.limits_of(new) - descriptors.limits_of(context.config))
    if not added:
        return
    descriptors.require(new)
    limit, spare = descriptors.limit(), descriptors.spare(new)
    for worker in context.worker_pool:
        free = limit - worker.descriptors()
        if not worker.is_draining and added + spare > free:
            raise OSError(
                f"{added} more descriptors are needed in each worker, and worker {worker.index} (pid {worker.pid}) has "
                f"{free} left, {spare} of them to spare: raise the limit (ulimit -n), or wait for sessions to end"
            )


# -- listeners that close


def close_listeners(context: Context, items: list[Listening]) -> None:
    """Begin: whoever is connected, or nearly, is still served. `are_closed` will say when that is over."""
    for item in items:
        context.closing[item.number] = context.listening.pop(item.number)
    context.keep_listeners()
    for item in items:
        item.refuse_new()
    numbers = {item.number for item in items}
    for worker in context.worker_pool:
        ours = tuple(numbers & worker.open_listeners)
        if ours and not worker.is_draining:
            worker.send(Unlisten(ours, LISTEN_DRAIN))


def are_closed(context: Context, items: list[Listening]) -> bool:
    """Whether no worker that lives has one open; then they are closed here too: the supervisor closes last."""
    numbers = {item.number for item in items}
    if any(numbers & worker.open_listeners for worker in context.worker_pool):
        return False
    for item in items:
        if context.closing.pop(item.number, None) is not None:
            item.leave()
            retire(context, item)
    return True


def retire(context: Context, item: Listening) -> None:
    """Its counters are free when everybody knows that it is gone and its sessions have ended."""
    context.counter_rows.slots.retire("listener", item.app, str(item.address), generation=context.generation)
