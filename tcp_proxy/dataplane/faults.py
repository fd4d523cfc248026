"""Faults on purpose of one app: which sessions meet which, and what they do to them. Loaded with the first fault.

Owned by the loop's thread. Who is met is decided once, from the session's number and address; it is met to its end, or to
the fault's, whatever comes first. Sessions that had begun before are met by none. An app without faults knows nothing
of this (LiveApp.faults is None), and its sessions have plain pumps.

Of several that a session meets in one direction (Together) each does what it would alone, one after the other: waits add up,
the least bandwidth and the smallest piece count, nothing passes until none is left that lets nothing pass, each resets by a
lot of its own. They do not know each other, so what one does is the same whenever the others come and end.
"""

import random
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any
from zlib import crc32

from tcp_proxy.sansio.address import ip_of
from tcp_proxy.sansio.token_bucket import SECOND, TokenBucket
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
        self.waiting: Any = set()  # of gates, and of those who are Together with it
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

    def of_direction(self, direction: str) -> bool:
        return self.view.direction in ("both", direction)

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


class Together:
    """The effects of several in one direction of a session; it is in `waiting` of each while a gate is in its own."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = faults
        self._gates: set[Any] = set()
        self.waiting: Any = self
        self.chunk = min((fault.chunk for fault in faults if fault.chunk), default=0)

    def __repr__(self) -> str:
        return f"<Together {list(self._faults)}>"

    @property
    def is_over(self) -> bool:
        return all(fault.is_over for fault in self._faults)

    @property
    def is_stuck(self) -> bool:
        return any(fault.is_stuck for fault in self._on())

    @property
    def slow_close(self) -> float:
        return sum(fault.slow_close for fault in self._on())

    def delay(self) -> float:
        return sum(fault.delay() for fault in self._on())

    def _on(self) -> list[Fault]:
        return [fault for fault in self._faults if not fault.is_over]

    # -- as `waiting`

    def add(self, gate: Any) -> None:
        self._gates.add(gate)
        for fault in self._on():
            fault.waiting.add(self)

    def discard(self, gate: Any) -> None:
        self._gates.discard(gate)
        if not self._gates:
            for fault in self._faults:
                fault.waiting.discard(self)

    def __contains__(self, gate: Any) -> bool:
        return gate in self._gates

    def open(self) -> None:
        """One is over: what waits goes on, unless another one lets nothing pass."""
        for gate in () if self.is_stuck else tuple(self._gates):
            gate.open()


def together(faults: Sequence[Fault]) -> Fault | Together:
    """The effects of these."""
    return faults[0] if len(faults) == 1 else Together(faults)


def note_of(faults: Iterable[Fault]) -> str:
    """For the record of a session that meets these."""
    return " ".join(f"fault {fault.view.number}: {fault.view.text}" for fault in faults)


class Bandwidth:
    """What faults leave of it, for one direction of a session."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._buckets = [(fault, TokenBucket(fault.view.bandwidth)) for fault in faults if fault.view.bandwidth]
        self._full_at = [0] * len(self._buckets)
        self.rate = min((fault.view.bandwidth for fault, _ in self._buckets), default=0)  # 0: all

    def __repr__(self) -> str:
        return f"<Bandwidth {self.rate}>"

    def spend(self, count: int, now: float) -> float:
        """So many bytes have passed: for how many seconds nothing more may."""
        wait = 0
        for number, (fault, bucket) in enumerate(self._buckets):
            if not fault.is_over:
                self._full_at[number], due = bucket.spend(self._full_at[number], int(now * SECOND), count)
                wait = max(wait, due)
        return wait / SECOND


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

    def find(self, number: int, address: tuple[Any, ...]) -> list[Fault]:
        """Those that this session meets, in the order in which they were made."""
        return [fault for fault in self._known.values() if fault.meets(number, address)]


def configured(faults: Faults | None, views: Sequence[FaultView]) -> Faults | None:
    """What an app has of them from now on; None: nothing."""
    found = faults or Faults()
    found.configure(views)
    return found if views else None
