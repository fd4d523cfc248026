"""What a health thread knows of one target: a pair for each of its checks, and the worst of their verdicts.

Owned by the app's health thread (control.health.runner), which has the probes made.
"""

import dataclasses
import functools
from collections.abc import Sequence

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.history import CheckHistory, History
from tcp_proxy.control.health.probe import Probe, Result, Secured, port_of
from tcp_proxy.runtime.loop import Timer
from tcp_proxy.sansio.verdict import Known, Verdict, combine, restored
from tcp_proxy.wire.views import Endpoint

Endpoints = tuple[Endpoint, ...]
USUAL = Check()
NUMBERS = ("interval", "interval_down", "timeout", "rise", "fall", "fall_action", "scope")  # how often, and what follows


class Pair:
    """One check on one target. `probes` are those under way, one for each of `asked` addresses."""

    def __init__(self, subject: "Subject", check: Check) -> None:
        self.subject = subject
        self.check = check
        self.question = question_of(check)
        self.verdict = Verdict(check.rise, check.fall, check.fall_action)
        self.probes: list[Probe] = []
        self.results: list[Result] = []
        self.asked = 0
        self.timer: Timer | None = None
        self.is_due = False  # while probing: probe again as soon as that is over
        self.had_local_error = False
        self.began_at = 0.0
        self.history = History()

    @property
    def is_hurried(self) -> bool:
        """Whether it is asked at `interval_down`: it fails, or has had no result."""
        return bool(self.subject.endpoints) and not (self.verdict.is_proven and self.verdict.is_passing)

    def adopt(self, check: Check) -> None:
        """The same question from now on with these numbers."""
        self.check = check
        self.verdict.change(check.rise, check.fall, check.fall_action)

    def known(self) -> Known:
        verdict = self.verdict
        return Known(self.question, verdict.is_passing, verdict.opposed, verdict.evidence, verdict.is_proven)

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
    """One target, or one server of a group: where it is, and a pair for each check. It begins with what is known: of
    itself (`own`), or of those that it replaces (`left`)."""

    def __init__(
        self, name: str, checks: tuple[Check, ...], own: Sequence[Known] = (), left: Sequence[Known] = ()
    ) -> None:
        self.name = name
        self.endpoints: Endpoints = ()
        self.host = ""  # as it is written; "": a UNIX socket, or not known
        self.secured: Secured | None = None  # the target's own TLS
        self.pairs = [Pair(self, check) for check in checks]
        self.asked_at = float("-inf")
        _begin(self.pairs, own, left)

    def set_checks(self, checks: tuple[Check, ...]) -> list[Pair]:
        """Those that are new."""
        own = self.known()
        old, self.pairs, new = self.pairs, [], []
        for check in checks:
            pair = next((pair for pair in old if question_of(pair.check) == question_of(check)), None)
            if pair is None:
                pair = Pair(self, check)
                new.append(pair)
            else:
                old.remove(pair)
                pair.adopt(check)
            self.pairs.append(pair)
        for pair in old:
            pair.cancel()
        _begin(self.pairs, own)
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

    def known(self) -> tuple[Known, ...]:
        """What its checks have found out so far."""
        return tuple(pair.known() for pair in self.pairs)

    def cancel(self) -> None:
        for pair in self.pairs:
            pair.cancel()


def _begin(pairs: Sequence[Pair], own: Sequence[Known], left: Sequence[Known] = ()) -> None:
    """Those that have no opinion yet begin with what is known."""
    for pair, known in zip(pairs, restored([pair.question for pair in pairs], own, left), strict=True):
        if known is not None and not pair.verdict.is_proven:
            pair.verdict.restore(known)


@functools.lru_cache(maxsize=1024)
def question_of(check: Check) -> str:
    """What a check asks, as a name that says nothing: without what says only how often it is asked and what follows from
    how many answers. A key that a check does not use does not change it, so it is the same in a later version."""
    plain = {key: repr(value) for key, value in dataclasses.asdict(check).items() if value != getattr(USUAL, key)}
    asked = sorted((key, value) for key, value in plain.items() if key not in NUMBERS)
    import hashlib  # noqa: PLC0415  it loads OpenSSL, which a start need not wait for

    return hashlib.sha256(repr(asked).encode("utf-8", "surrogatepass")).hexdigest()[:16]
