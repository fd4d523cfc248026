"""What a health thread knows of one target: a pair for each of its checks, and the worst of their verdicts.

Owned by the app's health thread (control.health.runner), which has the probes made.
"""

import dataclasses

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.history import CheckHistory, History
from tcp_proxy.control.health.probe import Probe, Result, port_of
from tcp_proxy.loop import Timer
from tcp_proxy.messages import Endpoint
from tcp_proxy.sansio.verdict import Verdict, combine

Endpoints = tuple[Endpoint, ...]
Recalled = tuple[bool, int, str]  # passing, results against that, evidence


class Pair:
    """One check on one target. `probes` are those under way, one for each of `asked` addresses."""

    def __init__(self, subject: "Subject", check: Check) -> None:
        self.subject = subject
        self.check = check
        self.verdict = Verdict(check.rise, check.fall, check.fall_action)
        self.probes: list[Probe] = []
        self.results: list[Result] = []
        self.asked = 0
        self.timer: Timer | None = None
        self.is_due = False  # while probing: probe again as soon as that is over
        self.had_local_error = False
        self.began_at = 0.0
        self.history = History()

    def adopt(self, check: Check) -> None:
        """The same question from now on with these numbers."""
        self.check = check
        self.verdict.change(check.rise, check.fall, check.fall_action)

    def end_probes(self) -> None:
        for probe in self.probes:
            probe.cancel()
        self.probes = []

    def cancel(self) -> None:
        self.end_probes()
        self.is_due = False
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Subject:
    """One target: where it is, and a pair for each check."""

    def __init__(self, name: str, checks: tuple[Check, ...]) -> None:
        self.name = name
        self.endpoints: Endpoints = ()
        self.pairs = [Pair(self, check) for check in checks]
        self.asked_at = float("-inf")

    def set_checks(self, checks: tuple[Check, ...]) -> list[Pair]:
        """Those that are new."""
        old, self.pairs, new = self.pairs, [], []
        for check in checks:
            pair = next((pair for pair in old if _question(pair.check) == _question(check)), None)
            if pair is None:
                pair = Pair(self, check)
                new.append(pair)
            else:
                old.remove(pair)
                pair.adopt(check)
            self.pairs.append(pair)
        for pair in old:
            pair.cancel()
        return new

    @property
    def verdict(self) -> Verdict:
        """The worst of its checks'; unproven without any."""
        return combine(pair.verdict for pair in self.pairs) or Verdict()

    @property
    def is_proven(self) -> bool:
        return all(pair.verdict.is_proven for pair in self.pairs)

    def histories(self) -> list[CheckHistory]:
        port = port_of(self.name)
        return [CheckHistory(pair.check, port, str(pair.verdict), tuple(pair.history)) for pair in self.pairs]

    def recall(self, recalled: Recalled | None) -> None:
        """Which of several checks it was is not known: each has to speak for itself."""
        if recalled is not None:
            for pair in self.pairs:
                pair.verdict.recall(*recalled)

    def cancel(self) -> None:
        for pair in self.pairs:
            pair.cancel()


def _question(check: Check) -> Check:
    """A check without what says only how often it is asked and what follows from how many answers."""
    usual = Check()
    numbers = ("interval", "timeout", "rise", "fall", "fall_action")
    return dataclasses.replace(check, **{key: getattr(usual, key) for key in numbers})
