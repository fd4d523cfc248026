"""The panic threshold: with too few targets up, all are used again, as they are, for the few would only follow the others.

Pure. Envoy's healthy_panic_threshold, for one level at a time (sansio.levels): those that serve are of the first level of
which one is up, or else of the first. Fewer than `threshold` per cent of those that could
serve are up: panic, and all of that level are used.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Member(NamedTuple):
    """A target that could serve: neither disabled nor set to drain, of some weight, with an address."""

    level: tuple[bool, int]  # whether it is a backup, and its priority
    is_up: bool


class Level(NamedTuple):
    """Those that serve. `of` could, `up` are well; in panic all are used."""

    is_panic: bool
    level: tuple[bool, int]
    up: int
    of: int


def judge(members: Iterable[Member], threshold: float) -> Level:
    """`threshold`: per cent; 0: there is no panic."""
    counts: dict[tuple[bool, int], list[int]] = {}
    for level, is_up in members:
        count = counts.setdefault(level, [0, 0])
        count[0] += is_up
        count[1] += 1
    levels = sorted(counts)
    serving = next((level for level in levels if counts[level][0]), levels[0] if levels else (False, 0))
    up, of = counts.get(serving, (0, 0))
    return Level(bool(of) and 100 * up < threshold * of, serving, up, of)
