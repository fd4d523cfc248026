"""What the person who runs the benchmark may choose, from the command line that `make bench` builds."""

import argparse
import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

GROUPS = {"tls": ("tlsnew", "tlsresumed", "tlskept", "tlsbulk", "tlsidle")}  # words that stand for several measures


@dataclass(frozen=True)
class Settings:
    rounds: int
    seconds: int  # of one measurement
    only: tuple[str, ...]  # names of measures; empty: all
    compare: pathlib.Path | None
    output: pathlib.Path
    haproxy: str = ""  # its path; empty: the one that is installed


def parse(argv: Sequence[str], measures: Sequence[str]) -> Settings:
    """Exits with status 2 for what cannot be meant."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measures the proxy beside HAProxy and nginx.")
    parser.add_argument("--rounds", type=_positive, default=5)
    parser.add_argument("--seconds", type=_positive, default=5)
    words = " ".join([*measures, *GROUPS])
    parser.add_argument("--only", default="", help=f"names of measures, with blanks between: {words}")
    parser.add_argument("--compare", default="", help="a JSON file of an earlier run")
    parser.add_argument("--output", default="build/bench", type=pathlib.Path, help="the folder for the results")
    parser.add_argument("--haproxy", default="", help="the path of the HAProxy to measure, if not the installed one")
    chosen = parser.parse_args(argv)
    only = tuple(name for word in chosen.only.replace(",", " ").split() for name in GROUPS.get(word, (word,)))
    for name in only:
        if name not in measures:
            parser.error(f"there is no measure {name!r}; there are: {' '.join(measures)}")
    compare = pathlib.Path(chosen.compare) if chosen.compare else None
    if compare and not compare.is_file():
        parser.error(f"there is no file {compare} to compare with")
    if chosen.haproxy and not os.access(chosen.haproxy, os.X_OK):
        parser.error(f"there is no program {chosen.haproxy} to measure as HAProxy")
    return Settings(chosen.rounds, chosen.seconds, only, compare, chosen.output, chosen.haproxy)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
