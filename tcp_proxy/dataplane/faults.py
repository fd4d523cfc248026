"""Faults on purpose of one app: which sessions meet one, and what it does to them. Loaded with the first fault.

Owned by the loop's thread. Who is met is decided once, from the session's number and address; it is met to its end, or to
the fault's, whatever comes first. Sessions that had begun before are met by none. An app without faults knows nothing
of this (LiveApp.faults is None), and its sessions have plain pumps.
"""

import random
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any
from zlib import crc32

from tcp_proxy.sansio.address import ip_of
from tcp_proxy.wire.views import FaultView

_WHOLE = 1 << 32


class Fault:
    """Effects of a fault (fault_pump)."""

    def __init__(self, view: FaultView) -> None:
        self.view = view
        self.is_over = False
        self.is_stuck = view.timeout
        self.chunk = view.slicer
        self.slow_close = view.slow_close
        self.waiting: set[Any] = set()  # of FaultGate
        self._networks = [ip_network(text) for text in view.networks]
        self._share = view.share / 100 * _WHOLE
        self._resets = view.reset / 100 * _WHOLE

    def __repr__(self) -> str:
        return f"<Fault {self.view.number}{' over' if self.is_over else ''}>"

    def meets(self, number: int, address: tuple[Any, ...]) -> bool:
        if self._networks:
            ip = ip_address(ip_of(address).partition("%")[0])
            if not any(ip in network for network in self._networks):
                return False
        return self._lot(b"share", number) < self._share

    def resets(self, number: int) -> bool:
        return self._lot(b"reset", number) < self._resets

    def _lot(self, what: bytes, number: int) -> int:
        return crc32(b"%b %d %d" % (what, self.view.number, number))

    def delay(self) -> float:
        view = self.view
        return view.latency + view.jitter * (2 * random.random() - 1) if view.latency or view.jitter else 0.0

    def end(self) -> None:
        """Whoever waits because of it goes on."""
        self.is_over = True
        for gate in tuple(self.waiting):
            gate.open()


class Faults:
    def __init__(self) -> None:
        self._known: dict[int, Fault] = {}

    def __repr__(self) -> str:
        return f"<Faults {list(self._known)}>"

    def configure(self, views: Iterable[FaultView]) -> None:
        """There are these from now on."""
        wanted = {view.number: view for view in views}
        over = [self._known.pop(number) for number in self._known.keys() - wanted.keys()]
        for number, view in wanted.items():
            if number not in self._known:
                self._known[number] = Fault(view)
        for fault in over:
            fault.end()

    def find(self, number: int, address: tuple[Any, ...]) -> Fault | None:
        """The first that this session meets."""
        return next((fault for fault in self._known.values() if fault.meets(number, address)), None)


def configured(faults: Faults | None, views: Sequence[FaultView]) -> Faults | None:
    """What an app has of them from now on; None: nothing."""
    found = faults or Faults()
    found.configure(views)
    return found if views else None
