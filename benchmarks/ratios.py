"""What the numbers of all rounds come to: medians, spreads, and ratios of pairs that were measured side by side."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Round = dict[str, dict[str, float]]  # contender -> figure -> value


@dataclass(frozen=True)
class Spread:
    """A median with the least and the greatest value."""

    median: float
    low: float
    high: float
    count: int = 1

    def meets(self, other: "Spread") -> bool:
        """Whether the two overlap: then a change between them may be chance."""
        return self.low <= other.high and other.low <= self.high


def spread(values: Sequence[float]) -> Spread | None:
    """None of no values."""
    return Spread(statistics.median(values), min(values), max(values), len(values)) if values else None


def values(rounds: Sequence[Round], contender: str, figure: str) -> list[float]:
    """One for each round that has it."""
    return [found[contender][figure] for found in rounds if figure in found.get(contender, {})]


def ratio(rounds: Sequence[Round], subject: str, peer: str, figure: str) -> Spread | None:
    """Subject / peer, round by round: what disturbs a round disturbs both. None where nothing can be divided by."""
    found = []
    for both in rounds:
        above, below = (both.get(name, {}).get(figure) for name in (subject, peer))
        if above is not None and below:
            found.append(above / below)
    return spread(found)


def is_reached(found: float, bound: float, better: str) -> bool:
    return found >= bound if better == "more" else found <= bound
