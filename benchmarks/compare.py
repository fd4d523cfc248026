"""Two runs side by side: how each ratio has changed, and whether that is more than the rounds differ among themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.measures.base import Figure, Measure
from benchmarks.proxies import PAIRS
from benchmarks.ratios import Spread, is_reached, ratio
from benchmarks.report import shown
from benchmarks.results import Results

ENOUGH = 3  # rounds that make a spread


@dataclass(frozen=True)
class Change:
    measure: str
    figure: Figure
    pair: str
    before: Spread
    after: Spread

    @property
    def factor(self) -> float:
        return self.after.median / self.before.median

    @property
    def verdict(self) -> str:
        """Better or worse only where the two spreads lie apart, and there are enough rounds to speak of a spread."""
        if min(self.before.count, self.after.count) < ENOUGH:
            return "too few rounds to say"
        if self.before.meets(self.after):
            return "within the spread"
        return "better" if is_reached(self.factor, 1.0, self.figure.better) else "worse"


def changes(measures: Sequence[Measure], before: Results, after: Results) -> Iterator[Change]:
    """Of every ratio that both runs have."""
    for measure in measures:
        for figure in measure.figures:
            for subject, peer in PAIRS:
                both = [
                    ratio(run.measures.get(measure.name, []), subject.name, peer.name, figure.key) for run in (before, after)
                ]
                if both[0] and both[0].median and both[1]:
                    yield Change(measure.title, figure, f"{subject.name} / {peer.name}", both[0], both[1])


def print_comparison(console: Console, measures: Sequence[Measure], before: Results, after: Results) -> None:
    then = f"{str(before.about['date'])[:16]} {str(before.about['commit'])[:9]}"
    table = Table(box=box.SIMPLE_HEAD, title=f"ratios then ({then}) and now")
    for name in ("measure", "figure", "pair", "then", "now", "now / then", ""):
        table.add_column(name)
    for change in changes(measures, before, after):
        colour = {"better": "green", "worse": "red"}.get(change.verdict, "dim")
        words = (change.measure, change.figure.title, change.pair, shown(change.before), shown(change.after))
        table.add_row(*words, f"{change.factor:.2f}", f"[{colour}]{change.verdict}[/{colour}]")
    console.print(table)
