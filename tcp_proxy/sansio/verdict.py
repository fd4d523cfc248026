"""What a run of probes says of a target: rise and fall, consecutively, with the evidence.

Pure: results in, a state out. A verdict begins `up (unproven)`; its first result decides alone, later ones by
`rise` and `fall` (DESIGN 9.9). A threshold of 1 is 1.

    UP ── `fall` failures in a row ──> what fall_action says: DOWN, DRAINING, or UP all the same
    DOWN, DRAINING ── `rise` successes in a row ──> UP
"""

from collections.abc import Iterable
from enum import StrEnum

from tcp_proxy.config.model import Check


class State(StrEnum):
    """Whether a target may have sessions: all, only those that are stuck to it, none."""

    UP = "up"
    DRAINING = "draining"
    DOWN = "down"


_FALLEN = {"down": State.DOWN, "drain": State.DRAINING, "ignore": State.UP}
_BADNESS = {State.UP: 0, State.DRAINING: 1, State.DOWN: 2}


class Verdict:
    """Of one check on one target."""

    def __init__(self, check: Check) -> None:
        self.rise, self.fall = check.rise, check.fall
        self._fallen_state = _FALLEN[check.fall_action]
        self.is_proven = False
        self.is_passing = True
        self.opposed = 0  # results in a row that speak against what is thought now
        self.evidence = "not checked yet"

    def __repr__(self) -> str:
        return f"<Verdict {self}>"

    def __str__(self) -> str:
        if not self.is_proven:
            return "up (unproven)"
        wanted = self.fall if self.is_passing else self.rise
        return f"{self.state} {self.opposed}/{wanted} against: {self.evidence}"

    @property
    def state(self) -> State:
        return State.UP if self.is_passing else self._fallen_state

    def feed(self, success: bool, evidence: str) -> bool:
        """One result; whether what is thought of the target has changed, or was proven for the first time."""
        self.evidence = evidence
        if not self.is_proven:
            self.is_proven, self.is_passing, self.opposed = True, success, 0
            return True
        if success is self.is_passing:
            self.opposed = 0
            return False
        self.opposed += 1
        if self.opposed < (self.fall if self.is_passing else self.rise):
            return False
        self.is_passing, self.opposed = success, 0
        return True


def combine(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The worst of several checks of one target; None of none."""
    return max(verdicts, key=lambda verdict: _BADNESS[verdict.state], default=None)
