"""Listeners that a reload closed and must bind again because it failed: tried until they are bound, or no app has them.

Main thread only. What counts is who has the address now (another app may have taken it over meanwhile), and whether a
later reload has bound it already.
"""

import logging
from collections.abc import Iterable

from tcp_proxy.config.diff import listeners_of
from tcp_proxy.control.changes.worker_updates import WorkerUpdates
from tcp_proxy.control.context import Context
from tcp_proxy.control.listeners.sockets import CannotListen, bind_now
from tcp_proxy.sansio.address import ListenAddress

logger = logging.getLogger(__name__)

QUICK_TRIES, QUICK_WAIT, WAIT = 20, 0.05, 1.0  # seconds


class LostListeners:
    def __init__(self, context: Context, worker_updates: WorkerUpdates) -> None:
        self._context = context
        self._worker_updates = worker_updates
        self._tries: dict[ListenAddress, int] = {}  # so far
        self._is_due = False

    def __repr__(self) -> str:
        return f"<LostListeners {[str(address) for address in self._tries]}>"

    def bring_back(self, addresses: Iterable[ListenAddress]) -> None:
        for address in addresses:
            self._tries[address] = 0
        if not self._is_due:
            self._look()

    def _look(self) -> None:
        context = self._context
        self._is_due = False
        if context.is_stopping:
            return
        owners, there = listeners_of(context.config), {item.address for item in context.listening.values()}
        for address in tuple(self._tries):
            if address in there or address not in owners or self._is_bound(address, owners[address]):
                del self._tries[address]
        if self._tries:
            self._is_due = True
            is_quick = min(self._tries.values()) < QUICK_TRIES
            context.loop.call_later(QUICK_WAIT if is_quick else WAIT, self._look)

    def _is_bound(self, address: ListenAddress, owner: str) -> bool:
        context = self._context
        app = next(app for app in context.config.apps if app.name == owner)
        try:
            new = bind_now(context.next_number(), app, address)
        except CannotListen as error:
            self._tries[address] += 1
            if self._tries[address] == QUICK_TRIES:
                logger.error("%s; tried again until it works", error)  # noqa: TRY400
            return False
        if self._tries[address] >= QUICK_TRIES:
            logger.info("app %s listens again on %s", owner, address)
        context.listening[new.number] = new
        context.keep_listeners()
        for worker in context.worker_pool.introduced:
            if not worker.is_draining:
                context.worker_pool.tell(worker, lambda worker: self._worker_updates.pass_listeners(worker, [new]))
        context.changed()  # an app whose ports wait for a primary opens it if there is one
        return True
