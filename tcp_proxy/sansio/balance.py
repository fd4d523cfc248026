"""Who gets the next session: one class for each policy, in the registry BALANCERS.

Pure: time and dice are arguments. A balancer is given the eligible candidates as a tuple, the very same object while
the set is unchanged, so it may remember by identity what it has worked out for it.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

PERIOD = 4096  # the longest round of a weighted round robin that is remembered


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

    Its picks repeat after sum(weights) / gcd(weights), so the round is kept as it is worked out, pick by pick; from the
    second round on a pick is one look-up. Equal weights need no working out. A new set of candidates goes on where the
    old one stopped, so that targets that come and go do not send every next session to the first; `offset` lets the
    workers start apart.
    """

    def __init__(self, offset: int) -> None:
        self._position = offset
        self._eligible: Sequence[Candidate] = ()
        self._round: Sequence[Candidate] = ()
        self._steps: _SmoothSteps | None = None

    def pick(self, eligible: Sequence[C], key: bytes, now: float, draw: Draw) -> C:  # noqa: ARG002
        if eligible is not self._eligible:
            self._begin(eligible)
        if self._steps is not None:
            return self._steps.next()  # type: ignore[return-value]
        order = self._round
        position = self._position % len(order)
        self._position = position + 1
        return order[position]  # type: ignore[return-value]

    def _begin(self, eligible: Sequence[Candidate]) -> None:
        self._eligible = eligible
        self._round = eligible
        self._steps = None
        if len({candidate.weight for candidate in eligible}) > 1:
            turn = self._position % len(eligible)
            self._position += 1
            self._steps = _SmoothSteps([*eligible[turn:], *eligible[:turn]], self._learned)

    def _learned(self, order: Sequence[Candidate]) -> None:
        self._round, self._steps, self._position = order, None, 0


class _SmoothSteps:
    """The picks of one round, worked out one by one; told to `learned` when the round is complete."""

    def __init__(self, candidates: list[Candidate], learned: Callable[[Sequence[Candidate]], None]) -> None:
        divisor = math.gcd(*(candidate.weight for candidate in candidates))
        self._candidates = candidates
        self._learned = learned
        self._weights = [candidate.weight // divisor for candidate in candidates]
        self._total = sum(self._weights)
        self._current = [0] * len(candidates)
        self._order: list[Candidate] = []

    def next(self) -> Candidate:
        current = [have + weight for have, weight in zip(self._current, self._weights, strict=True)]
        best = current.index(max(current))
        current[best] -= self._total
        self._current = current
        pick = self._candidates[best]
        if self._total <= PERIOD:
            self._order.append(pick)
            if len(self._order) == self._total:
                self._learned(self._order)
        return pick


class LeastConnections:
    """The fewest sessions for its weight; among equals, each in turn."""

    def __init__(self, offset: int) -> None:
        self._turn = offset

    def pick(self, eligible: Sequence[C], key: bytes, now: float, draw: Draw) -> C:  # noqa: ARG002
        loads = [candidate.active / candidate.weight for candidate in eligible]
        least = min(loads)
        equals = [candidate for candidate, load in zip(eligible, loads, strict=True) if load == least]
        self._turn += 1
        return equals[self._turn % len(equals)]


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

    def __init__(self, offset: int) -> None:
        pass

    def pick(self, eligible: Sequence[C], key: bytes, now: float, draw: Draw) -> C:  # noqa: ARG002
        return max(eligible, key=lambda candidate: rendezvous_score(key, candidate.name, candidate.weight))


def rendezvous_score(key: bytes, name: str, weight: int) -> float:
    """Greatest wins; a candidate wins with a chance in proportion to its weight."""
    digest = hashlib.blake2b(key, digest_size=8, key=hashlib.blake2b(name.encode(), digest_size=32).digest()).digest()
    uniform = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
    return -weight / math.log(uniform)


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
}


def make(name: str, offset: int) -> Balancer:
    """The balancer of this name, for the worker of this index. Raises KeyError for an unknown name."""
    return BALANCERS[name](offset)
