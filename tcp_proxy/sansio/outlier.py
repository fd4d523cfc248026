"""Outlier detection: which targets of an app are left out because of what clients met there, why, and for how long.

Pure: what workers have counted in, decisions out; `now` is an argument. One Detector serves one app, in the supervisor, so
whatever the workers found is judged in one place. The rules are Envoy's:

    IN ── as many failures in a row as `consecutive_failures` (or gateway failures), or a success rate too far below that of
     ^    the others ──> OUT for base_ejection_time x times, at most max_ejection_time ──that is over──> IN
     └────────────────────────────────────────────────────────────────────────────────────────────────────┘
    `times` counts ejections, and one less for each `interval` that is spent IN; nobody is taken OUT when more than
    max_ejected per cent would be, or nobody would be left.

In a row means: with no success between them, of whichever worker. A worker says with its failures how many successes there
had been by then, in all workers together: failures with the same number are in one row (test_a_row_is_what_the_model_says).
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import field
from enum import IntEnum
from typing import Protocol

from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.sansio.reasons import Cause
from tcp_proxy.sansio.words import counted


class Settings(Protocol):
    """config.model.Outlier: what each means stands there."""

    @property
    def consecutive_failures(self) -> int: ...
    @property
    def consecutive_gateway_failures(self) -> int: ...
    @property
    def success_rate_stdev_factor(self) -> int: ...
    @property
    def success_rate_minimum_targets(self) -> int: ...
    @property
    def success_rate_request_volume(self) -> int: ...
    @property
    def interval(self) -> float: ...
    @property
    def base_ejection_time(self) -> float: ...
    @property
    def max_ejection_time(self) -> float: ...
    @property
    def max_ejected(self) -> int: ...


class Kind(IntEnum):
    """What is counted in a row for itself."""

    CONNECT = 0  # mode tcp: connects that fail; a connect is a success
    RESET = 1  # mode tcp: resets before a byte; a byte of anybody's session is a success
    FAILURE = 2  # mode http: anything; an answer below 500 that came in time is a success
    GATEWAY = 3  # mode http: 502, 503, 504 and no answer at all; any other answer is a success


WORDS = {
    Kind.CONNECT: ("failed connect", ""), Kind.RESET: ("reset before a byte", "resets before a byte"),
    Kind.FAILURE: ("failure", ""), Kind.GATEWAY: ("gateway failure", ""),
}  # fmt: skip
OVERTAKEN = 1.0  # seconds between what two workers have said of one moment, at most
Members = Mapping[Hashable, bool]  # targets that could serve -> whether they have new clients now


@dataclass(frozen=True, slots=True)
class Row:
    """Failures of one kind in a row: so many, after so many successes of all workers."""

    kind: int
    successes: int
    count: int


@dataclass(frozen=True, slots=True)
class Ejection:
    """`seconds` 0: it would have been, but `evidence` says what stands in the way."""

    target: Hashable
    cause: Cause
    evidence: str
    seconds: float = 0.0
    times: int = 0


@dataclasses.dataclass(slots=True)
class _Known:
    rows: dict[int, tuple[int, int, float]] = field(default_factory=dict)  # kind -> (successes before it, length, latest)
    times: int = 0
    until: float = -math.inf  # above -inf: it is out
    was_in: bool = True  # at the last interval
    is_spared: bool = False  # that has been said

    @property
    def is_out(self) -> bool:
        return self.until > -math.inf


class Detector:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._known: dict[Hashable, _Known] = {}

    def __repr__(self) -> str:
        return f"<Detector of {len(self._known)} targets, {len(self.out())} ejected>"

    def keep(self, targets: Collection[Hashable]) -> None:
        """Others are no targets any more."""
        self._known = {key: known for key, known in self._known.items() if key in targets}

    def out(self) -> dict[Hashable, float]:
        """Who is ejected, and until when."""
        return {key: known.until for key, known in self._known.items() if known.is_out}

    def given(self, target: Hashable) -> tuple[int, float]:
        """For another detector: how many times, and until when (-inf: it is in)."""
        known = self._known.get(target, _Known())
        return known.times, known.until

    def take(self, target: Hashable, times: int, until: float) -> None:
        """As the detector before us had it."""
        known = self._known.setdefault(target, _Known())
        known.times, known.until, known.was_in = times, until, until == -math.inf

    def put_back(self, target: Hashable) -> None:
        """It is in again, with a clean sheet; the next time is longer all the same."""
        known = self._known.get(target)
        if known is not None:
            known.rows.clear()
            known.until, known.was_in = -math.inf, False
        self._spare_nobody()

    def _spare_nobody(self) -> None:
        """What stands in the way is another thing now, and is to be said again."""
        for known in self._known.values():
            known.is_spared = False

    def due(self, now: float) -> list[Hashable]:
        """Whose time is over; they are put back."""
        over = [key for key, known in self._known.items() if known.is_out and known.until <= now]
        for key in over:
            self.put_back(key)
        return over

    def failed(
        self, target: Hashable, row: Row, text: str, members: Callable[[], Members], now: float
    ) -> Ejection | None:
        """A worker has met these failures; the last was `text`. Those of an older row than is known have been overtaken by
        a success; but after OVERTAKEN seconds the number that is known was wrong (a worker died while it was summed up)."""
        known = self._known.setdefault(target, _Known())
        if known.is_out:
            return None
        successes, length, latest = known.rows.get(row.kind, (row.successes, 0, now))
        if row.successes < successes and now - latest < OVERTAKEN:
            return None
        length = length + row.count if row.successes == successes else row.count
        known.rows[row.kind] = row.successes, length, now
        is_gateway = row.kind == Kind.GATEWAY
        settings = self.settings
        threshold = settings.consecutive_gateway_failures if is_gateway else settings.consecutive_failures
        if not threshold or length < threshold:
            return None
        cause = Cause.GATEWAY if is_gateway else Cause.CONSECUTIVE
        evidence = f"{counted(length, *WORDS[Kind(row.kind)])} in a row, the last: {text}"
        return self._eject(target, cause, evidence, members(), now)

    def interval(self, seen: Mapping[Hashable, tuple[int, int]], members: Members, now: float) -> list[Ejection]:
        """Once an interval. `seen`: successes and failures since the last one, of those who were in all the time."""
        for known in self._known.values():
            if known.was_in and not known.is_out and known.times:
                known.times -= 1
            known.was_in = not known.is_out
        found = [self._eject(key, Cause.SUCCESS_RATE, text, members, now) for key, text in self._too_bad(seen)]
        return [ejection for ejection in found if ejection is not None]

    def _too_bad(self, seen: Mapping[Hashable, tuple[int, int]]) -> list[tuple[Hashable, str]]:
        """Whose success rate is too far below the others', worst first."""
        settings, rates = self.settings, {}
        if not settings.success_rate_stdev_factor:
            return []
        for key, (good, bad) in seen.items():
            if good + bad >= max(1, settings.success_rate_request_volume):
                rates[key] = 100 * good / (good + bad)
        if len(rates) < max(1, settings.success_rate_minimum_targets):
            return []
        mean, threshold = success_rate_threshold(list(rates.values()), settings.success_rate_stdev_factor / 1000)
        text = "a success rate of {:.4g} % in {:g} s, where all have {:.4g} % and {:.4g} % would do"
        bad_ones = sorted((rate, number) for number, rate in enumerate(rates.values()) if rate < threshold)
        keys = list(rates)
        return [(keys[number], text.format(rate, settings.interval, mean, threshold)) for rate, number in bad_ones]

    def _eject(self, target: Hashable, cause: Cause, evidence: str, members: Members, now: float) -> Ejection | None:
        known = self._known.setdefault(target, _Known())
        if known.is_out or not members.get(target, False):
            return None
        out, most = sum(key in members for key in self.out()), self.settings.max_ejected
        hindrance = ""
        if 100 * (out + 1) > most * len(members):
            hindrance = f"{out} of {len(members)} are ejected, and max_ejected is {most} %"
        elif sum(members.values()) < 2:
            hindrance = "it is the last one that is up"
        if hindrance:
            is_news, known.is_spared = not known.is_spared, True
            return Ejection(target, cause, f"{evidence}; but {hindrance}") if is_news else None
        settings = self.settings
        known.times += 1
        base = settings.base_ejection_time
        seconds = min(known.times * base, max(base, settings.max_ejection_time))
        known.until = now + seconds
        self._spare_nobody()
        known.rows.clear()
        return Ejection(target, cause, evidence, seconds, known.times)


def success_rate_threshold(rates: Collection[float], factor: float) -> tuple[float, float]:
    """The mean, and `factor` standard deviations below it."""
    mean = sum(rates) / len(rates)
    variance = sum((rate - mean) ** 2 for rate in rates) / len(rates)
    return mean, mean - factor * math.sqrt(variance)
