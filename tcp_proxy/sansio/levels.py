"""Levels of targets: who is used first, and who when too few of these are up. Envoy's priority levels, and zones in each.

Pure. A level has the targets of one `priority`, the lowest number first; backups make the last ones, in the same order.
Within a level those of our own zone come first, if we have one and they are up.

Without `overprovisioning` a level is used when nobody of the levels above it can be. With it, a level whose targets are
down in part gives a part of its load away before that: it takes `overprovisioning` times the share of its targets that are
up, and what is more than all goes no further (Envoy's 140 %: with 72 % up a level takes everything, with half of them up
70 % of it). When all levels together cannot take everything they share it in that proportion.
"""

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar


class Leveled(Protocol):
    @property
    def backup(self) -> bool: ...
    @property
    def priority(self) -> int: ...
    @property
    def zone(self) -> str: ...
    @property
    def weight(self) -> int: ...
    @property
    def is_eligible(self) -> bool: ...


L = TypeVar("L", bound=Leveled)


class Levels(Generic[L]):
    """`pools`: those who may have new sessions, best first. A balancer may remember them by identity: a pool is another
    tuple only when its members are others."""

    def __init__(self) -> None:
        self.pools: tuple[tuple[L, ...], ...] = ()
        self._marks: tuple[tuple[float, int], ...] = ()  # up to which part of all, from which pool on; (): the first

    def __repr__(self) -> str:
        return f"<Levels {[len(pool) for pool in self.pools]}>"

    @property
    def is_spread(self) -> bool:
        """Whether not everybody begins with the first."""
        return bool(self._marks)

    def only(self, member: L | None) -> None:
        """Nobody else."""
        self._become([(member,)] if member is not None else [])
        self._marks = ()

    def sort(self, members: Iterable[L], zone: str = "", overprovisioning: float = 0.0) -> None:
        """`overprovisioning`: per cent; 0: a level is used when those above have nobody."""
        levels: dict[tuple[bool, int], list[L]] = {}
        for member in members:
            if member.weight:
                levels.setdefault((member.backup, member.priority), []).append(member)
        pools: list[tuple[L, ...]] = []
        takes: list[tuple[float, int]] = []
        for _, level in sorted(levels.items()):
            up = [member for member in level if member.is_eligible]
            if up:
                takes.append((min(100.0, overprovisioning * len(up) / len(level)), len(pools)))
                near = [member for member in up if member.zone == zone] if zone else up
                far = [member for member in up if member.zone != zone] if zone else []
                pools += [tuple(some) for some in (near, far) if some]
        self._become(pools)
        self._marks = _marks(takes) if overprovisioning else ()

    def order(self, mark: float) -> Sequence[tuple[L, ...]]:
        """The pools in the order in which they are tried by whom this mark has, of [0, 1)."""
        for end, first in self._marks:
            if mark < end:
                return (*self.pools[first:], *self.pools[:first])
        return self.pools

    def _become(self, pools: Sequence[tuple[L, ...]]) -> None:
        known = {pool: pool for pool in self.pools}
        self.pools = tuple(known.get(pool, pool) for pool in pools)


def _marks(takes: Sequence[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    """Ends of the parts of all that begin with each level; none where all is the first one's."""
    whole = min(100.0, sum(take for take, _ in takes))
    marks, end = [], 0.0
    for take, first in takes:
        end = min(1.0, end + take / whole)
        marks.append((end, first))
        if end >= 1.0:
            break
    return tuple(marks) if len(marks) > 1 else ()
