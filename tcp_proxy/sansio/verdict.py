"""What a run of probes says of a target: rise and fall, in a row, with the evidence.

Pure: results in, a state out. A verdict begins `up (unproven)`; its first result decides alone, later ones by
`rise` and `fall` (DESIGN 9.9), as do all that follow one recalled from an earlier life of the program. A threshold of 1
is 1 (test_a_threshold_of_one_is_one).

    UP ── `fall` failures in a row ──> what fall_action says: DOWN, DRAINING, or UP all the same
    DOWN, DRAINING ── `rise` successes in a row ──> UP
"""

from collections.abc import Iterable
from enum import StrEnum


class State(StrEnum):
    """Whether a target may have sessions: all, only those that are stuck to it, none."""

    UP = "up"
    DRAINING = "draining"
    DOWN = "down"


_FALLEN = {"down": State.DOWN, "drain": State.DRAINING, "ignore": State.UP}
_BADNESS = {State.UP: 0, State.DRAINING: 1, State.DOWN: 2}


class Verdict:
    """Of one check on one target. `proof` says what decided it, `evidence` what the last agreeing result was."""

    def __init__(self, rise: int = 1, fall: int = 1, fall_action: str = "down") -> None:
        assert rise >= 1
        assert fall >= 1
        self.rise, self.fall = rise, fall
        self._fallen_state = _FALLEN[fall_action]
        self._texts = {True: "", False: ""}  # of the last success, of the last failure
        self.is_proven = False
        self.is_passing = True
        self.opposed = 0  # results in a row that speak against what is thought now
        self.proof = "unproven"

    def __repr__(self) -> str:
        return f"<Verdict {self}>"

    def __str__(self) -> str:
        """HAProxy's way to count: up 2/3 has one failure more to lose than up 1/3, down 1/2 lacks one success."""
        if not self.is_proven:
            return "up (unproven)"
        if self.is_passing:
            text = f"up {self.fall - self.opposed}/{self.fall}"
            return f"{text}: {self._texts[False]}" if self.opposed else text
        word = "up (failing)" if self.state is State.UP else self.state.value
        return f"{word} {self.opposed}/{self.rise}: {self._texts[False]}"

    @property
    def state(self) -> State:
        return State.UP if self.is_passing else self._fallen_state

    @property
    def evidence(self) -> str:
        if not self.is_proven:
            return "not checked yet"
        text = self._texts[self.is_passing]
        return f"{text} ({self.proof})" if self.proof else text

    def recall(self, is_passing: bool, opposed: int, evidence: str) -> None:
        """Go on where an earlier life of the program ended: proven, and so many results in a row against it."""
        self.is_proven, self.is_passing, self.proof = True, is_passing, ""
        self.opposed = min(opposed, (self.fall if is_passing else self.rise) - 1)
        self._texts[is_passing] = evidence

    def change(self, rise: int, fall: int, fall_action: str) -> None:
        """Other thresholds from now on; what is thought stays until a result says otherwise."""
        self.rise, self.fall = rise, fall
        self._fallen_state = _FALLEN[fall_action]

    def feed(self, success: bool, text: str) -> bool:
        """One result; whether what is thought of the target has changed, or was proven for the first time."""
        self._texts[success] = text
        if not self.is_proven:
            self.is_proven, self.is_passing, self.proof = True, success, "first result"
            return True
        if success is self.is_passing:
            self.opposed = 0
            return False
        self.opposed += 1
        name, threshold = ("rise", self.rise) if success else ("fall", self.fall)
        if self.opposed < threshold:
            return False
        self.is_passing, self.opposed = success, 0
        self.proof = f"{name} {threshold}/{threshold}"
        return True


def combine(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The worst of several checks of one target; None of none."""
    return max(verdicts, key=lambda verdict: _BADNESS[verdict.state], default=None)
