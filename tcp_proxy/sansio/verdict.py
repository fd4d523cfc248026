"""What a run of probes says of a target: rise and fall, in a row, with the evidence.

Pure: results in, a state out. A verdict begins `up (unproven)`; its first result decides alone, later ones by
`rise` and `fall`. One that begins with what is known already (`restored`) counts by `rise` and `fall` from the start. A
threshold of 1 is 1 (test_a_threshold_of_one_is_one).

    UP ── `fall` failures in a row ──> what fall_action says: DOWN, DRAINING, or UP all the same
    DOWN, DRAINING ── `rise` successes in a row ──> UP
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from tcp_proxy.sansio.frozen_dataclass import dataclass


class State(StrEnum):
    """Whether a target may have sessions: all, only those that are stuck to it, none."""

    UP = "up"
    DRAINING = "draining"
    DOWN = "down"


_FALLEN = {"down": State.DOWN, "drain": State.DRAINING, "ignore": State.UP}
_BADNESS = {State.UP: 0, State.DRAINING: 1, State.DOWN: 2}


@dataclass(frozen=True, slots=True)
class Known:
    """What one check has found out of one server: what a restart, or a check that takes its place, begins with.

    `question` names what the check asks; "" of a verdict whose check is not known, which stands for every check.
    """

    question: str
    is_passing: bool
    opposed: int = 0  # results in a row against that
    evidence: str = ""
    is_proven: bool = True  # False: it has had no result yet


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

    def restore(self, known: Known) -> None:
        """Go on from there: proven, and so many results in a row against it."""
        self.is_proven, self.is_passing, self.proof = True, known.is_passing, ""
        self._count(known.opposed)
        self._texts[known.is_passing] = known.evidence

    def change(self, rise: int, fall: int, fall_action: str) -> None:
        """Other thresholds from now on; what is thought stays until a result says otherwise."""
        self.rise, self.fall = rise, fall
        self._fallen_state = _FALLEN[fall_action]
        self._count(self.opposed)

    def _count(self, opposed: int) -> None:
        """So many results in a row against what is thought; one short of a threshold that has become lower than that."""
        self.opposed = min(opposed, (self.fall if self.is_passing else self.rise) - 1)

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


def restored(questions: Sequence[str], own: Sequence[Known], left: Sequence[Known] = ()) -> list[Known | None]:
    """What each check of a server begins with; None: nothing is known, its first result decides alone.

    `own` is what is known of this server, `left` what was known of servers of the same target that it replaces. A check
    that was made already goes on where it was. If one that is made no more failed, those without an opinion of their own
    begin as failing: what was down stays down until the new check has succeeded. Otherwise a new check begins as passing,
    if anything is known: what was up stays up until it has failed `fall` times.
    """
    rest, made = list(own), {known.question for known in own}
    same: list[Known | None] = []
    for question in questions:
        match = next((known for known in rest if known.question in (question, "")), None)
        if match is not None and match.question:
            rest.remove(match)
        same.append(match or _worst([known for known in left if known.question == question]))
    replaced = [known for known in rest if known.question] + [known for known in left if known.question not in questions]
    failing = next((known for known in replaced if known.is_proven and not known.is_passing), None)
    passing = next((known for known in (*replaced, *own, *left) if known.is_proven and known.is_passing), None)
    is_known = any(known.is_proven for known in (*own, *left))
    found: list[Known | None] = []
    for question, known in zip(questions, same, strict=True):
        if known is not None and known.is_proven:
            found.append(known)
        elif failing is not None:
            found.append(Known("", False, 0, failing.evidence))
        elif is_known and question not in made:
            found.append(Known("", True, 0, passing.evidence if passing else "not checked yet"))
        else:
            found.append(None)
    return found


def _worst(known: Sequence[Known]) -> Known | None:
    """It fails, and lacks the most successes; or it has the fewest failures to lose. Whatever order they come in."""
    return min(known, key=_goodness, default=None)


def _goodness(known: Known) -> tuple[bool, bool, int]:
    return not known.is_proven, known.is_passing, -known.opposed if known.is_passing else known.opposed
