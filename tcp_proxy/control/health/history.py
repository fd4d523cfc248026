"""The last results of one check on one target, for people who ask why it is up or down.

Owned by the app's health thread; what leaves it are CheckHistory values.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.probe import Result
from tcp_proxy.sansio.frozen_dataclass import dataclass

KEPT = 20


@dataclass(frozen=True, slots=True)
class Probed:
    """One round. `success` None: an error of this machine, no verdict on the target."""

    at: float  # Unix time of its end
    seconds: float
    success: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class CheckHistory:
    """`verdict`: what all its results come to, with their count. `port`: the listening port, of one server of a group."""

    check: Check
    port: int | None
    verdict: str
    probes: tuple[Probed, ...]


class History:
    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._probes: deque[Probed] = deque(maxlen=KEPT)

    def __repr__(self) -> str:
        return f"<History of {len(self._probes)} rounds>"

    def __iter__(self) -> Iterator[Probed]:
        return iter(self._probes)

    def add(self, seconds: float, result: Result) -> None:
        self._probes.append(Probed(self._wall(), seconds, result.success, result.text))
