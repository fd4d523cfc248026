"""Who gets the next session: one class for each policy, in the registry BALANCERS.

What needs more than the candidates has a file of its own: tables (hashed.py), latencies (least_time.py).

Pure: time and random numbers are arguments. A balancer is given the eligible candidates as a tuple, the very same object
while the set is unchanged, so it may remember by identity what it has worked out for it. One balancer serves one app in one
worker; only its owner's thread calls it. Only least_connections and random_two ask for `active`.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

PERIOD = 4096  # the longest round of a weighted round robin that is remembered
FORGET_AT = 256  # credits that are kept beyond four times as many as there are candidates


class Candidate(Protocol):
    """`active` is how many sessions it has now, in all workers; asking costs something."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> int: ...
    @property
    def active(self) -> int: ...


C = TypeVar("C", bound=Candidate)
Draw = Callable[[], float]  # gives [0, 1)


class Balancer(Protocol):
    def pick(self, eligible: Sequence[C], key: bytes, now: float, draw: Draw) -> C:
        """One of `eligible`, which is not empty and has weights of at least 1."""
        ...


class RoundRobin:
    """Smooth weighted round robin, nginx's: weights 5, 1, 1 give a a b a c a a, never five a in a row.

    Before each pick everyone's credit grows by its weight; the richest is picked and pays the sum of the weights. The
    picks repeat after sum(weights) / gcd(weights), so the round is written down as it is worked out; from the second
    round on a pick is one look-up. Credits survive a change of the set, by name and measured in sessions: nobody is
    owed a burst, and sets that take turns leave nobody out (test_no_one_starves_when_the_set_changes_at_every_pick).
    `offset` turns are skipped at the start, so that the workers do not march in step.
    """

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._eligible: Sequence[Candidate] = ()
        self._names: list[str] = []
        self._weights: list[int] = []
        self._period = 1
        self._start: list[float] = []  # the credit each came with …
        self._moved: list[int] = []  # … and what it earned and paid since; all 0 when a round is complete
        self._order: list[int] = []  # the picks since `_start`, by index
        self._is_round = False  # `_order` is a whole round
        self._turn = 0
        self._credit: dict[str, float] = {}  # in sessions, of every name that was eligible once

    def pick(self, eligible: Sequence[C], key: bytes, now: float, draw: Draw) -> C:  # noqa: ARG002
        if eligible is not self._eligible:
            self._adopt(eligible)
        if not self._is_round:
            return eligible[self._step()]
        turn = self._turn
        self._turn = turn + 1 if turn + 1 < self._period else 0
        return eligible[self._order[turn]]

    def _step(self) -> int:
        """One pick by the rule itself, the first of equals; its index."""
        moved = self._moved = [have + weight for have, weight in zip(self._moved, self._weights, strict=True)]
        credits = [start + change for start, change in zip(self._start, moved, strict=True)]
        best = credits.index(max(credits))
        moved[best] -= self._period
        if self._period <= PERIOD:
            self._order.append(best)
            if len(self._order) == self._period:
                self._end_round()
        return best

    def _end_round(self) -> None:
        if any(self._moved):  # what they came with was not even enough yet to repeat: once more from here
            self._start = [start + change for start, change in zip(self._start, self._moved, strict=True)]
            self._moved = [0] * len(self._start)
            self._order = []
        else:
            self._is_round, self._turn = True, 0

    def _adopt(self, eligible: Sequence[Candidate]) -> None:
        self._eligible = eligible
        names, weights = [candidate.name for candidate in eligible], [candidate.weight for candidate in eligible]
        divisor = math.gcd(*weights)
        weights = [weight // divisor for weight in weights]
        if names == self._names and weights == self._weights:
            return
        self._settle()
        self._names, self._weights, self._period = names, weights, sum(weights)
        known = [self._credit[name] for name in names if name in self._credit]
        middle = sum(known) / len(known) if known else 0.0  # a newcomer is neither owed nor owing
        self._start = [self._credit.get(name, middle) * self._period for name in names]
        self._moved, self._order, self._is_round = [0] * len(names), [], False
        skipped, self._offset = self._offset % self._period, 0
        for _ in range(skipped):
            self._step()

    def _settle(self) -> None:
        """Note the credits of the set that goes."""
        moved = self._moved
        if self._is_round:
            picked = Counter(self._order[: self._turn])
            moved = [self._turn * weight - picked[i] * self._period for i, weight in enumerate(self._weights)]
        if len(self._credit) > FORGET_AT + 4 * len(self._names):
            self._credit.clear()  # names of targets that left for good
        for name, start, change in zip(self._names, self._start, moved, strict=True):
            self._credit[name] = (start + change) / self._period


class LeastConnections:
    """The fewest sessions for its weight; among equals, round robin by weight."""

    def __init__(self, offset: int) -> None:
        self._equals = RoundRobin(offset)

    def pick(self, eligible: Sequence[C], key: bytes, now: float, draw: Draw) -> C:
        loads = [candidate.active / candidate.weight for candidate in eligible]
        least = min(loads)
        equals = [candidate for candidate, load in zip(eligible, loads, strict=True) if load == least]
        if len(equals) == 1:
            return equals[0]
        return self._equals.pick(eligible if len(equals) == len(eligible) else tuple(equals), key, now, draw)


class RandomTwo:
    """Two different ones by lot, the lot weighted; of these the less loaded for its weight."""

    def __init__(self, offset: int) -> None:
        pass

    def pick(self, eligible: Sequence[C], key: bytes, now: float, draw: Draw) -> C:  # noqa: ARG002
        if len(eligible) == 1:
            return eligible[0]
        one = _weighted(eligible, draw)
        two = _weighted([candidate for candidate in eligible if candidate is not one], draw)
        return one if one.active * two.weight <= two.active * one.weight else two


class SourceHash:
    """Weighted rendezvous hash of the key and each name: a target that goes moves its own keys and no others.

    The same in every worker and after a restart: it depends on nothing but key, names and weights.
    """

    def __init__(self, offset: int) -> None:  # noqa: ARG002
        # Here and not above: it loads a big C library, and a worker that needs no hash starts without it.
        from hashlib import blake2b  # noqa: PLC0415

        self._blake2b = blake2b
        self._eligible: Sequence[Candidate] = ()
        self._seeds: list[tuple[bytes, int]] = []

    def pick(self, eligible: Sequence[C], key: bytes, now: float, draw: Draw) -> C:  # noqa: ARG002
        if eligible is not self._eligible:
            self._eligible = eligible
            names = [candidate.name.encode("utf-8", "surrogatepass") for candidate in eligible]
            self._seeds = [(self._digest(name), candidate.weight) for name, candidate in zip(names, eligible, strict=True)]
        scores = [self._score(seed + key, weight) for seed, weight in self._seeds]
        return eligible[scores.index(max(scores))]

    def _digest(self, data: bytes) -> bytes:
        return self._blake2b(data, digest_size=8).digest()

    def _score(self, data: bytes, weight: int) -> float:
        """Greatest wins; a candidate wins with a chance in proportion to its weight."""
        # 52 bits and a half: above 0 and below 1, exactly, in a float.
        uniform = ((int.from_bytes(self._digest(data), "big") >> 12) + 0.5) * 2.0**-52
        return math.log(uniform) / weight


def _weighted(candidates: Sequence[C], draw: Draw) -> C:
    mark = draw() * sum(candidate.weight for candidate in candidates)
    for candidate in candidates:
        mark -= candidate.weight
        if mark < 0:
            return candidate
    return candidates[-1]


BALANCERS: dict[str, Callable[[int], Balancer]] = {
    "round_robin": RoundRobin,
    "least_connections": LeastConnections,
    "random_two": RandomTwo,
    "source_hash": SourceHash,
    "rendezvous": SourceHash,
    "failover": RoundRobin,  # of one: the primary, or nobody
}
TABLED = ("maglev", "ring_hash")  # policies with a table (sansio.hashed)
KEYED = ("source_hash", "rendezvous", *TABLED)  # a target depends on a key


def make(name: str, offset: int) -> Balancer:
    """The balancer of this name, for the worker of this index. Raises KeyError for an unknown name."""
    return BALANCERS[name](offset)
