"""What a measure is: a name, its figures, who takes part, and how one value of each figure is found."""

import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks import procfs
from benchmarks.lab import Lab
from benchmarks.procfs import Cpu
from benchmarks.proxies import EVERYBODY, Contender

Sample = dict[str, float]  # a value for each figure, by its key


@dataclass(frozen=True)
class Figure:
    key: str
    title: str
    unit: str
    better: Literal["more", "less"]
    bound: float | None = None  # what project / HAProxy is to reach (docs/performance.md)
    limit: float | None = None  # what the project alone is to keep
    pure: float | None = None  # the bound of the pure build, if it has another one

    def of(self, build: str) -> "Figure":
        """With the bound of that build (tcp_proxy.build)."""
        return self if build == "compiled" or self.pure is None else replace(self, bound=self.pure)


@dataclass(frozen=True)
class Measure:
    name: str
    title: str
    figures: tuple[Figure, ...]
    run: Callable[[Lab, Contender, int], Sample]
    contenders: tuple[Contender, ...] = EVERYBODY
    most_rounds: int = 1000  # what hardly varies, or takes long, is measured less often
    cost: float = 1.0  # how many times SECONDS one sample takes, for the progress bar
    extra: float = 0.5  # and how many seconds beyond

    def of(self, build: str) -> "Measure":
        """With the bounds of that build (tcp_proxy.build)."""
        return replace(self, figures=tuple(figure.of(build) for figure in self.figures))

    def estimate(self, seconds: int) -> float:
        return self.cost * seconds + self.extra


def cpu_figures(unit: str, bound: float | None = None, time: str = "us", pure: float | None = None) -> tuple[Figure, ...]:
    """CPU time for one unit, of the whole process tree."""
    return (
        Figure("cpu", f"CPU per {unit}", time, "less", bound, pure=pure),
        Figure("user", f"CPU per {unit}, user", time, "less"),
        Figure("system", f"CPU per {unit}, system", time, "less"),
    )


def latency_figures(p50: float | None = None, p99: float | None = None) -> tuple[Figure, ...]:
    return (Figure("p50", "p50", "us", "less", p50), Figure("p99", "p99", "us", "less", p99))


class CpuMeter:
    """CPU time of a process tree between its making and `per(units)`."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._before = procfs.cpu(pids)

    def used(self) -> Cpu:
        return procfs.cpu(self._pids) - self._before

    def per(self, units: float, parts: float = 1e6) -> Sample:
        """CPU time for each unit, in microseconds, or other parts of a second."""
        used, scale = self.used(), parts / units
        return {"cpu": used.total * scale, "user": used.user * scale, "system": used.system * scale}


def of_load_programs() -> float:
    """CPU time, in seconds, of all those that have ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
