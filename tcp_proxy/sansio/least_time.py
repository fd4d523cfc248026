"""least_time: the target on which a session more would wait least, by how long its sessions have waited lately.

Pure. What is compared is latency x (active sessions + 1) / weight; the least wins, among equals it is round robin. So a
target that answers in half the time has twice as many sessions at once. nginx Plus' least_time, with Finagle's average:
a latency is the mean of what was measured, weighed by age (half of it after 7 s), and one of which nothing is heard fades,
so that a target that was slow is tried again. One that nobody knows yet counts as the mean of those that are known.

What a latency is, its owner says (docs/balance.md). Each worker has its own; the active sessions are those of all workers.
"""

import math
from collections.abc import Sequence

from tcp_proxy.sansio.balance import C, Draw, RoundRobin

FADES = 10.0  # seconds in which the weight of a measurement falls to a third (1/e)
LEAST = 0.0001  # seconds: below it nothing is measured, and the sessions alone decide
FORGET_AT = 256  # names that are kept beyond four times as many as there are candidates


class Latencies:
    """By the target's name, in seconds."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}  # the mean, and when it was made

    def __repr__(self) -> str:
        return f"<Latencies of {len(self._known)} targets>"

    def add(self, name: str, seconds: float, now: float) -> None:
        known = self._known.get(name)
        if known is None:
            self._known[name] = seconds, now
            return
        mean, at = known
        old = math.exp((at - now) / FADES) if now > at else 1.0
        share = max(1.0 - old, 0.01)  # of many in a moment each counts a little
        self._known[name] = mean + (seconds - mean) * share, now

    def of(self, names: Sequence[str], now: float) -> list[float]:
        known = self._known
        if len(known) > FORGET_AT + 4 * len(names):
            self._known = known = {name: known[name] for name in names if name in known}
        found = [known.get(name) for name in names]
        faded = [one[0] * math.exp((one[1] - now) / FADES) if one is not None else None for one in found]
        heard = [one for one in faded if one is not None]
        middle = sum(heard) / len(heard) if heard else LEAST
        return [max(LEAST, middle if one is None else one) for one in faded]


class LeastTime:
    """`latencies`: whoever measures adds to them."""

    def __init__(self, offset: int, latencies: Latencies) -> None:
        self._equals = RoundRobin(offset)
        self._latencies = latencies

    def pick(self, eligible: Sequence[C], key: bytes, now: float, draw: Draw) -> C:
        latencies = self._latencies.of([candidate.name for candidate in eligible], now)
        waits = [
            latency * (candidate.active + 1) / candidate.weight
            for latency, candidate in zip(latencies, eligible, strict=True)
        ]
        least = min(waits)
        equals = [candidate for candidate, wait in zip(eligible, waits, strict=True) if wait == least]
        if len(equals) == 1:
            return equals[0]
        return self._equals.pick(eligible if len(equals) == len(eligible) else tuple(equals), key, now, draw)
