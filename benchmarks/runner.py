"""Runs the measures: in each round every contender once, one after the other, each round beginning with another one."""

from collections.abc import Callable, Sequence

from benchmarks.lab import Lab
from benchmarks.measures.base import Measure, Sample
from benchmarks.programs import Failed
from benchmarks.proxies import PROJECT, Contender
from benchmarks.ratios import Round
from benchmarks.results import Results
from benchmarks.settings import Settings

Progress = Callable[[str, float], None]  # what is measured now, and how many seconds the last one was estimated at


def rounds_of(measure: Measure, settings: Settings) -> int:
    return min(settings.rounds, measure.most_rounds)


def estimate(measures: Sequence[Measure], settings: Settings) -> float:
    """Seconds of measuring, roughly."""
    return sum(rounds_of(m, settings) * len(m.contenders) * m.estimate(settings.seconds) for m in measures)


def run(measures: Sequence[Measure], settings: Settings, results: Results, progress: Progress) -> None:
    """Fills `results`; what fails is noted there, and the rest goes on."""
    with Lab() as lab:
        _compile(lab)
        for measure in measures:
            try:
                _run_measure(lab, measure, settings, results, progress)
            finally:
                lab.release()
        results.failures.extend(lab.self_reports)


def _compile(lab: Lab) -> None:
    """The first start writes the bytecode that all later ones load."""
    with lab.fresh(PROJECT):
        pass


def _run_measure(lab: Lab, measure: Measure, settings: Settings, results: Results, progress: Progress) -> None:
    rounds = results.measures[measure.name] = []
    for number in range(rounds_of(measure, settings)):
        rounds.append(found := Round())
        for contender in rotated(measure.contenders, number):
            progress(f"{measure.title}: {contender.name}, round {number + 1}", measure.estimate(settings.seconds))
            try:
                found[contender.name] = complete(measure, measure.run(lab, contender, settings.seconds))
            except (Failed, OSError) as error:
                results.failures.append(f"{measure.name}, {contender.name}, round {number + 1}: {error}")


def complete(measure: Measure, sample: Sample) -> Sample:
    missing = [figure.key for figure in measure.figures if figure.key not in sample]
    if missing:
        raise Failed(f"no value for {', '.join(missing)}")
    return sample


def rotated(contenders: Sequence[Contender], number: int) -> list[Contender]:
    first = number % len(contenders)
    return [*contenders[first:], *contenders[:first]]
