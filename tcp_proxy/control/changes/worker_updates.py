"""What workers are told: everything when they start, and then what is different. Main thread only.

A worker that starts is introduced in slices, between which the configuration stays as it is (control.slices): the targets
of big apps first, which it keeps for its Snapshot, then that, then descriptors beside messages, in parts. What else changes
meanwhile waits for the end and follows in its order (control.processes.workers), whether or not the worker knows it already:
each piece of news says what is, not what is different. So it never sees half of a change, and serves nobody before the end.
"""

import os
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from itertools import repeat
from typing import Any

from tcp_proxy.config.log_model import AccessLogs
from tcp_proxy.config.tls_model import TargetTls, distinct
from tcp_proxy.control.context import Context
from tcp_proxy.control.listeners.sockets import Listening
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.control.targets.all_targets import Changed, ChangedApp
from tcp_proxy.control.targets.known import KnownApp, KnownTarget
from tcp_proxy.control.targets.semaphores import Limited
from tcp_proxy.sansio.share import AT_ONCE, Share
from tcp_proxy.wire import messages
from tcp_proxy.wire.later import text_of
from tcp_proxy.wire.messages import (
    AppPart,
    Apps,
    Configure,
    Encoded,
    Grow,
    HandOver,
    Limits,
    Listen,
    Records,
    Snapshot,
    Stick,
    Targets,
    Unlisten,
)
from tcp_proxy.wire.views import AppView


class WorkerUpdates:
    def __init__(self, context: Context, started: float) -> None:
        """`started`: Unix time in milliseconds, or more: it makes names of workers unique over restarts and take-overs."""
        self._context = context
        self._started = f"{int(started):x}"
        self._introductions = 0

    def __repr__(self) -> str:
        return f"<WorkerUpdates of {self._context!r}>"

    def introducing(self, worker: Worker) -> Iterator[None]:
        """Raises OSError when it cannot be handed what it needs. One that is not wanted any more when its turn comes, or
        when the program ends, is told of no more, so that it can end as others do."""
        context = self._context
        if worker not in context.worker_pool:
            return
        worker.begin_introduction()
        limited, apps = yield from self._telling_apps(worker, is_new=True)
        if worker not in context.worker_pool:
            return
        worker.is_unneeded = not self._is_wanted(worker)
        self._snapshot(worker, len(limited) + len(apps))
        self._limits(worker, limited)
        self._tables(worker, apps)
        worker.end_introduction()
        if worker.is_unneeded:
            worker.send(Unlisten((), 0.0))
        elif context.is_serving:
            self.pass_listeners(worker, context.listening.values())

    def adopting(self, worker: Worker, limited: list[Limited], tables: list[KnownApp]) -> Iterator[None]:
        """One that another program has told of its configuration hears of ours, as of a change of everything; its
        introduction has begun. `limited`, `tables`: where it has another semaphore, or table, than there is now."""
        yield from self._telling_apps(worker, is_new=False)
        if worker not in self._context.worker_pool:
            return
        worker.send(Grow(self._context.counter_rows.rows, 1), [self._context.counter_rows.fd])
        self.configure(worker, self._configure((), (), ()), Changed(limited=limited, tables=tables))
        self.records(worker)
        worker.end_introduction()

    def _telling_apps(
        self, worker: Worker, *, is_new: bool
    ) -> Generator[None, None, tuple[list[Limited], list[KnownApp]]]:
        """Who has semaphores, and tables; nobody, when there is no need any more. One that `is_new` makes the targets of
        most apps when somebody asks for one."""
        context, share = self._context, Share()
        limited: list[Limited] = []
        apps: list[KnownApp] = []
        for app in tuple(context.targets.apps.values()):
            targets = list(app.targets.values())
            ways: tuple[TargetTls, ...] = ()
            if len(targets) > AT_ONCE:
                ways = yield from self._tell_targets([worker], app, targets)
            if not self._is_wanted(worker):
                return [], []
            if app.table >= 0:
                apps.append(app)
            candidates: list[Limited] = [app, *targets]
            limited += [one for one in candidates if one.tokens >= 0]
            if is_new and app.needs_no_targets():
                view = app.frame((), later=text_of(app.target_views(targets, repeat(-1))))
            else:
                view = app.view(targets) if len(targets) <= AT_ONCE else app.frame(ways)
            worker.send(Apps((view,)))
            if share.is_used_up(1 + len(targets)):
                yield
        return limited, apps

    def _is_wanted(self, worker: Worker) -> bool:
        context = self._context
        return worker in context.worker_pool and not (worker.is_draining or context.is_stopping)

    def _snapshot(self, worker: Worker, limited: int) -> None:
        """The apps have been told of before."""
        context, counter_rows = self._context, self._context.counter_rows
        rows = counter_rows.rows
        first_row = counter_rows.assign(worker)
        if counter_rows.rows > rows:
            self._tell_rows()
        worker.generation = context.generation
        self._introductions += 1
        worker.incarnation = f"{self._started}.{self._introductions}"
        descriptors = [counter_rows.fd, counter_rows.bell]
        pipe = self._record_pipe()
        descriptors += pipe
        snapshot = Snapshot(
            worker=worker.index,
            workers=context.worker_pool.size,
            incarnation=worker.incarnation,
            rows=counter_rows.rows,
            slots=counter_rows.memory.slots,
            first_row=first_row,
            records=self._logs(),
            log_level=context.config.log.level,
            grace=context.config.shutdown_grace,
            apps=(),
            descriptors=len(descriptors),
            keeps_requests=context.config.api is not None,
            to_come=len(context.listening) + limited + context.sticks.is_wanted,
        )
        try:
            worker.send(snapshot, descriptors)
        finally:
            _close(pipe)
        self._ticket_key(worker, context.targets.apps.values())
        self._stick(worker)

    def _tell_targets(
        self, workers: list[Worker], app: KnownApp, some: list[KnownTarget]
    ) -> Generator[None, None, tuple[TargetTls, ...]]:
        """In slices, each kept by the workers for what comes of the app; the ways to speak TLS that they refer to. Nobody
        waits for the rest when the program ends, or the workers have."""
        context = self._context
        ways: dict[TargetTls, int] = {}
        for begin in range(0, len(some), AT_ONCE):
            if context.is_stopping or not any(worker in context.worker_pool for worker in workers):
                break
            targets = some[begin : begin + AT_ONCE]
            _, which = distinct([target.config.tls for target in targets], ways)
            part = Encoded(Targets(app.config.name, app.target_views(targets, which)))
            for worker in workers:
                worker.send(part)
            yield
        return tuple(ways)

    def pass_listeners(self, worker: Worker, listening: Iterable[Listening]) -> None:
        """Have it accept on these."""
        for part in _parts(list(listening)):
            worker.open_listeners.update(item.number for item in part)
            ids, apps = tuple(item.number for item in part), tuple(item.app for item in part)
            addresses = tuple(str(item.address) for item in part)
            kept = tuple(item.number for item in part if item.is_kept)
            message = Listen(ids, tuple(map(self._slot, part)), apps, addresses, len(part), kept)
            worker.send_in_turn(partial(_with_sockets, message, part))

    def configuration(self, changed: Changed, removed: tuple[str, ...] = ()) -> Encoded:
        """What is different; `removed` apps have no listener any more."""
        views = [(one, one.app.view(one.touched)) for one in changed.apps]
        parts = tuple(part_of(one, view) for one, view in views if not one.is_new)
        return self._configure(parts, tuple(view for one, view in views if one.is_new), removed)

    def telling(self, changed: Changed) -> Generator[None, None, Encoded]:
        """The same in slices: all workers are told of the apps, of the targets of big ones before, and keep that for the
        message."""
        share = Share()
        for one in changed.apps:
            app, touched = one.app, one.touched
            if len(touched) <= AT_ONCE:
                view = app.view(touched)
            else:
                ways = yield from self._tell_targets(self._context.worker_pool.introduced, app, touched)
                view = app.frame(ways)
            staged = Encoded(Apps((view,)) if one.is_new else Apps((), (part_of(one, view),)))
            for worker in self._context.worker_pool.introduced:
                worker.send(staged)
            if share.is_used_up(1 + len(touched)):
                yield
        return self._configure((), (), ())

    def _configure(self, parts: tuple[AppPart, ...], apps: tuple[AppView, ...], removed: tuple[str, ...]) -> Encoded:
        context = self._context
        size, grace = context.worker_pool.size, context.config.shutdown_grace
        return Encoded(Configure(context.generation, size, grace, apps, removed, parts))

    def configure(self, worker: Worker, message: Encoded, changed: Changed) -> None:
        """`message` is what was made of `changed`."""
        self._stick(worker)
        self._ticket_key(worker, [one.app for one in changed.apps])
        worker.send(message)
        self._limits(worker, changed.limited)
        self._tables(worker, changed.tables)

    def hand_over(self, worker: Worker, listening: list[Listening]) -> None:
        """These have another app now."""
        ours = [item for item in listening if item.number in worker.open_listeners]
        if ours:
            ids, apps = tuple(item.number for item in ours), tuple(item.app for item in ours)
            worker.send(HandOver(ids, tuple(self._slot(item) for item in ours), apps))

    def records(self, worker: Worker) -> None:
        """Where the access log's lines go to is different, or their format: a pipe of its own for what comes from now on."""
        pipe = self._record_pipe()
        try:
            worker.send(Records(len(pipe), self._logs()), pipe)
        finally:
            _close(pipe)

    def _stick(self, worker: Worker) -> None:
        """The way to the stick tables, as soon as there are any."""
        sticks = self._context.sticks
        wire = sticks.attach(worker) if sticks.is_wanted else None
        if wire is not None:
            try:
                worker.send(Stick(1), [wire.fileno()])
            finally:
                wire.close()

    def _ticket_key(self, worker: Worker, apps: Iterable[KnownApp]) -> None:
        """Before one of these has clients."""
        if any(app.config.tls is not None for app in apps):
            worker.send(self._context.ticket_keys.message())

    def _record_pipe(self) -> list[int]:
        """The write end, or none; the log has the other one."""
        log = self._context.access_log
        if log is None:
            return []
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        log.attach(read_fd)
        return [write_fd]

    def _logs(self) -> AccessLogs | None:
        log = self._context.access_log
        return log.logs if log is not None else None

    def _tell_rows(self) -> None:
        worker_pool, counter_rows = self._context.worker_pool, self._context.counter_rows
        for worker in worker_pool.introduced:
            worker_pool.tell(worker, lambda worker: worker.send(Grow(counter_rows.rows, 1), [counter_rows.fd]))

    def _limits(self, worker: Worker, limited: list[Limited]) -> None:
        """Of each the semaphore that it has now: if it has another one by then, that comes behind."""
        for part in _parts([(one, one.semaphore) for one in limited]):
            worker.send_in_turn(partial(_semaphores, part))

    def _tables(self, worker: Worker, apps: list[KnownApp]) -> None:
        """The same for tables of clients."""
        number = self._context.counter_rows.number_of(worker)
        for part in _parts([(app, app.table_number) for app in apps]):
            worker.send_in_turn(partial(_tables, number, part))

    def _slot(self, item: Listening) -> int:
        return self._context.counter_rows.slots.take("listener", item.app, str(item.address))


def part_of(one: ChangedApp, view: AppView) -> AppPart:
    left = tuple(target.slot for target in one.left)
    order = tuple(one.app.targets) if one.is_reordered else ()
    return AppPart(view, left, order)


def _with_sockets(message: Listen, part: list[Listening]) -> tuple[Listen, list[int]]:
    """They are open: none is closed here before the worker, which is told of that later, has closed its own."""
    return message, [item.sock.fileno() for item in part]


def _semaphores(part: list[tuple[Limited, int]]) -> tuple[Limits, list[int]] | None:
    some = [target for target, number in part if target.tokens >= 0 and target.semaphore == number]
    if not some:
        return None
    slots, numbers = tuple(target.slot for target in some), tuple(target.semaphore for target in some)
    return Limits(slots, len(some), numbers), [target.tokens for target in some]


def _tables(worker: int, part: list[tuple[KnownApp, int]]) -> tuple[Limits, list[int]] | None:
    some = [app for app, number in part if app.table >= 0 and app.table_number == number]
    if not some:
        return None
    slots, numbers = tuple(app.slot for app in some), tuple(app.table_number for app in some)
    return Limits((), len(some), tables=slots, table_numbers=numbers, worker=worker), [app.table for app in some]


def _close(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def _parts(items: list[Any]) -> list[list[Any]]:
    size = messages.MAX_DESCRIPTORS
    return [items[i : i + size] for i in range(0, len(items), size)]
