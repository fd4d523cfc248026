"""Listeners that a reload closed in vain, and that must come back: tried until they do, or nobody wants them any more.

Main thread only. What counts is who has the address now (another app may have taken it over meanwhile), and whether a
later reload has bound it already.
"""

import logging
from collections.abc import Iterable

from tcp_proxy.config.diff import listeners_of
from tcp_proxy.control.briefing import Briefing
from tcp_proxy.control.estate import Estate
from tcp_proxy.control.sockets import CannotListen, bind_now
from tcp_proxy.sansio.address import ListenAddress

logger = logging.getLogger(__name__)

QUICK_TRIES, QUICK_WAIT, WAIT = 20, 0.05, 1.0  # seconds


class LostListeners:
    def __init__(self, estate: Estate, briefing: Briefing) -> None:
        self._estate = estate
        self._briefing = briefing
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
        estate = self._estate
        self._is_due = False
        if estate.is_stopping:
            return
        owners, there = listeners_of(estate.config), {item.address for item in estate.listening.values()}
        for address in tuple(self._tries):
            if address in there or address not in owners or self._is_bound(address, owners[address]):
                del self._tries[address]
        if self._tries:
            self._is_due = True
            is_quick = min(self._tries.values()) < QUICK_TRIES
            estate.loop.call_later(QUICK_WAIT if is_quick else WAIT, self._look)

    def _is_bound(self, address: ListenAddress, owner: str) -> bool:
        estate = self._estate
        app = next(app for app in estate.config.apps if app.name == owner)
        try:
            new = bind_now(estate.next_number(), app, address)
        except CannotListen as error:
            self._tries[address] += 1
            if self._tries[address] == QUICK_TRIES:
                logger.error("%s; tried again until it works", error)  # noqa: TRY400
            return False
        if self._tries[address] >= QUICK_TRIES:
            logger.info("app %s listens again on %s", owner, address)
        estate.listening[new.number] = new
        for worker in estate.crew:
            if not worker.is_draining:
                estate.crew.tell(worker, lambda worker: self._briefing.lend(worker, [new]))
        estate.changed()  # an app whose ports wait for a primary opens it if there is one
        return True
