"""Slow start: a target that has come (back) rises to its weight, under whatever policy the app has.

Pure, as the policies themselves (sansio.balance): one SlowStart serves one app in one worker, around the balancer that
picks. It gives that one stand-ins with the weights of the moment: a twentieth from `since` on, and a twentieth more with
each twentieth of the time. `since` is a time of the clock that all workers of a machine have in common, so they agree. When
all have risen the balancer sees the candidates themselves, and a pick costs two comparisons more than without.

Always true: who is not rising has STEPS times his weight while somebody is; the stand-ins change at steps and with the set
only, so a balancer may remember by identity (test_stand_ins_are_made_at_steps_and_with_the_set_only).
"""

import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from tcp_proxy.sansio.balance import Balancer, Candidate, Draw

STEPS = 20  # as in HAProxy, whose servers rise by twentieths of `slowstart`, too


class Rising(Candidate, Protocol):
    """A candidate that says since when it is there; 0.0: from the start."""

    @property
    def since(self) -> float: ...


R = TypeVar("R", bound=Rising)


class StandIn:
    """For one target, with the weight that it has now."""

    __slots__ = ("target", "weight")

    def __init__(self, target: Rising, weight: int) -> None:
        self.target = target
        self.weight = weight

    def __repr__(self) -> str:
        return f"<StandIn of {self.name}, weight {self.weight}>"

    @property
    def name(self) -> str:
        return self.target.name

    @property
    def active(self) -> int:
        return self.target.active


class SlowStart:
    """`rise`: seconds, above 0."""

    def __init__(self, balancer: Balancer, rise: float) -> None:
        self._balancer = balancer
        self._rise = rise
        self._eligible: Sequence[Rising] = ()
        self._stand_ins: tuple[StandIn, ...] = ()  # (): nobody rises
        self._until = math.inf  # when somebody's weight is another one

    def pick(self, eligible: Sequence[R], key: bytes, now: float, draw: Draw) -> R:
        if eligible is not self._eligible or now >= self._until:
            self._look(eligible, now)
        if not self._stand_ins:
            return self._balancer.pick(eligible, key, now, draw)
        chosen: R = self._balancer.pick(self._stand_ins, key, now, draw).target  # type: ignore[assignment]
        return chosen

    def _look(self, eligible: Sequence[Rising], now: float) -> None:
        rise, self._eligible, self._until = self._rise, eligible, math.inf
        steps = [step_of(target.since, rise, now) for target in eligible]
        ends = [
            target.since + (step + 1) * rise / STEPS for target, step in zip(eligible, steps, strict=True) if step < STEPS
        ]
        if not ends:
            self._stand_ins = ()
            return
        self._until = min(ends)
        weights = [target.weight * max(1, step) for target, step in zip(eligible, steps, strict=True)]
        self._stand_ins = tuple(map(StandIn, eligible, weights))


def step_of(since: float, rise: float, now: float) -> int:
    """How many twentieths of its time are over: 0 to STEPS."""
    if not since:
        return STEPS
    return min(STEPS, max(0, int((now - since) * STEPS / rise)))
