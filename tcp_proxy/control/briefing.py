"""What workers are told: everything when they start, and then what is different. Main thread only.

A worker that starts gets what is true at that moment, in one turn of the loop; so it never sees half of a change, and
whatever changes later reaches it as a message like everybody else. Descriptors go beside the messages, in parts.
"""

import os
from collections.abc import Iterable
from typing import Any

from tcp_proxy import messages
from tcp_proxy.control.estate import Estate
from tcp_proxy.control.sockets import Listening
from tcp_proxy.control.targets import Changed, KnownTarget
from tcp_proxy.control.workers import Worker
from tcp_proxy.messages import Configure, Grow, HandOver, Limits, Listen, Records, Snapshot, Stick


class Briefing:
    def __init__(self, estate: Estate, started: float) -> None:
        """`started`: Unix time, which makes the names of workers unique over restarts."""
        self._estate = estate
        self._birth = f"{int(started):x}"

    def __repr__(self) -> str:
        return f"<Briefing of {self._estate!r}>"

    def introduce(self, worker: Worker) -> None:
        """Raises OSError when it cannot be handed what it needs."""
        estate = self._estate
        ledger, rows = estate.ledger, estate.ledger.rows
        first_row = ledger.seat(worker)
        if ledger.rows > rows:
            self._tell_rows(besides=worker)
        worker.generation = estate.generation
        worker.incarnation = f"{self._birth}.{estate.crew.spawned}"
        descriptors = [ledger.fd]
        pipe = self._record_pipe()
        descriptors += pipe
        snapshot = Snapshot(
            worker=worker.index,
            workers=estate.crew.size,
            incarnation=worker.incarnation,
            rows=ledger.rows,
            slots=ledger.memory.slots,
            first_row=first_row,
            records=bool(pipe),
            log_level=estate.config.log.level,
            grace=estate.config.shutdown_grace,
            apps=tuple(app.view() for app in estate.targets.apps.values()),
            descriptors=len(descriptors),
        )
        try:
            worker.send(snapshot, descriptors)
        finally:
            _close(pipe)
        self._stick(worker)
        self._limits(worker, (target for target in estate.targets if target.tokens >= 0))
        if estate.is_serving:
            self.lend(worker, estate.listening.values())

    def lend(self, worker: Worker, listening: Iterable[Listening]) -> None:
        """Have it accept on these."""
        for part in _parts(list(listening)):
            worker.open_listeners.update(item.number for item in part)
            ids, apps = tuple(item.number for item in part), tuple(item.app for item in part)
            addresses = tuple(str(item.address) for item in part)
            slots = tuple(self._slot(item) for item in part)
            worker.send(Listen(ids, slots, apps, addresses, len(part)), [item.sock.fileno() for item in part])

    def configure(self, worker: Worker, changed: Changed, removed: tuple[str, ...] = ()) -> None:
        """What is different; `removed` apps have no listener any more."""
        estate = self._estate
        apps = tuple(app.view() for app in changed.apps)
        self._stick(worker)
        worker.send(Configure(estate.generation, estate.crew.size, estate.config.shutdown_grace, apps, removed))
        self._limits(worker, changed.limited)

    def hand_over(self, worker: Worker, listening: list[Listening]) -> None:
        """These have another app now."""
        ours = [item for item in listening if item.number in worker.open_listeners]
        if ours:
            ids, apps = tuple(item.number for item in ours), tuple(item.app for item in ours)
            worker.send(HandOver(ids, tuple(self._slot(item) for item in ours), apps))

    def records(self, worker: Worker) -> None:
        """Where session records go to is different: to another log, or nowhere."""
        pipe = self._record_pipe()
        try:
            worker.send(Records(len(pipe)), pipe)
        finally:
            _close(pipe)

    def _stick(self, worker: Worker) -> None:
        """The way to the stick tables, as soon as there are any."""
        sticks = self._estate.sticks
        wire = sticks.attach(worker) if sticks.is_wanted else None
        if wire is not None:
            try:
                worker.send(Stick(1), [wire.fileno()])
            finally:
                wire.close()

    def _record_pipe(self) -> list[int]:
        """The write end, or none; the log has the other one."""
        log = self._estate.access_log
        if log is None:
            return []
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        log.attach(read_fd)
        return [write_fd]

    def _tell_rows(self, besides: Worker) -> None:
        crew, ledger = self._estate.crew, self._estate.ledger
        for worker in crew:
            if worker is not besides:
                crew.tell(worker, lambda worker: worker.send(Grow(ledger.rows, 1), [ledger.fd]))

    def _limits(self, worker: Worker, limited: Iterable[KnownTarget]) -> None:
        for part in _parts(list(limited)):
            slots, numbers = tuple(target.slot for target in part), tuple(target.semaphore for target in part)
            worker.send(Limits(slots, len(part), numbers), [target.tokens for target in part])

    def _slot(self, item: Listening) -> int:
        return self._estate.ledger.slots.take("listener", item.app, str(item.address))


def _close(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def _parts(items: list[Any]) -> list[list[Any]]:
    size = messages.MAX_DESCRIPTORS
    return [items[i : i + size] for i in range(0, len(items), size)]
