"""What the person who runs the benchmark may choose, from the command line that `make bench` builds."""

import argparse
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    rounds: int
    seconds: int  # of one measurement
    only: tuple[str, ...]  # names of measures; empty: all
    compare: pathlib.Path | None
    output: pathlib.Path


def parse(argv: Sequence[str], measures: Sequence[str]) -> Settings:
    """Exits with status 2 for what cannot be meant."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measures the proxy beside HAProxy and nginx.")
    parser.add_argument("--rounds", type=_positive, default=5)
    parser.add_argument("--seconds", type=_positive, default=5)
    parser.add_argument("--only", default="", help=f"names of measures, with blanks between: {' '.join(measures)}")
    parser.add_argument("--compare", default="", help="a JSON file of an earlier run")
    parser.add_argument("--output", default="build/bench", type=pathlib.Path, help="the folder for the results")
    chosen = parser.parse_args(argv)
    only = tuple(chosen.only.replace(",", " ").split())
    for name in only:
        if name not in measures:
            parser.error(f"there is no measure {name!r}; there are: {' '.join(measures)}")
    compare = pathlib.Path(chosen.compare) if chosen.compare else None
    if compare and not compare.is_file():
        parser.error(f"there is no file {compare} to compare with")
    return Settings(chosen.rounds, chosen.seconds, only, compare, chosen.output)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
