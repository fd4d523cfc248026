"""Who is primary: the election of one failover app, as values in and values out.

Pure. The owner (control.failover.primary) carries out each action that a call returns, and says what came of it; time and
random numbers are its own. `candidates` is kept up to date by the owner, in the configured order.

    IDLE ──elect──> PAUSING ──paused──> CONNECTING ──accepted──> CHECKING ──usable──> TRIGGERING ──all have run──> SERVING
                       ^                 ^  │ refused    (if there is a check) │ not
                       │                 │  v                                  v
                       │                 │  the next candidate: CONNECTING; after the last one: WAITING
                       │                 └───────────────── 1, 2, 4 … max_backoff seconds ───┘
                       └── elect: from any state

Always true (test_election): every election has an epoch of its own, and each is higher than the one before; between two
primaries all workers have paused; of the candidates that a round has not tried the first is next, one that has shown up
since it began too, and none is tried twice in it; who is no candidate any more does not win; an answer to a question that is
not asked any more changes nothing; no wait is below LEAST_WAIT, whatever max_backoff is.
"""

from collections.abc import Iterable
from enum import StrEnum

from tcp_proxy.sansio.frozen_dataclass import dataclass

FIRST_WAIT = 1.0  # seconds after the first round without a primary; then twice as long each time
LEAST_WAIT = 0.1
JITTER = 0.1  # of a wait, to either side: two proxies do not fall into step


class Phase(StrEnum):
    IDLE = "idle"
    PAUSING = "pausing"
    CONNECTING = "connecting"
    CHECKING = "checking"
    TRIGGERING = "triggering"
    WAITING = "waiting"
    SERVING = "serving"


@dataclass(frozen=True, slots=True)
class Pause:
    """Nobody is primary. `paused(epoch)` when every worker obeys."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Connect:
    """Does it accept a connection? `answered(step, …)`"""

    step: int
    name: str


@dataclass(frozen=True, slots=True)
class Check:
    """Does it pass the check? `answered(step, …)`"""

    step: int
    name: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """Run the triggers for it, then `triggered(step)`."""

    step: int
    name: str


@dataclass(frozen=True, slots=True)
class Wait:
    """`waited(step)` after so many seconds."""

    step: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Serve:
    """It is primary."""

    epoch: int
    name: str


Action = Pause | Connect | Check | Trigger | Wait | Serve


class Election:
    """`candidate` is the one at hand, the primary while SERVING."""

    def __init__(self, has_check: bool = False, max_backoff: float = 60.0) -> None:
        self.has_check = has_check
        self.max_backoff = max_backoff
        self.candidates: tuple[str, ...] = ()
        self.phase = Phase.IDLE
        self.epoch = 0
        self.candidate = ""
        self._step = 0
        self._tried: set[str] = set()  # in this round
        self._is_woken = False  # some of these are better since
        self._first = ""
        self._wait = FIRST_WAIT

    def __repr__(self) -> str:
        return f"<Election {self.epoch} {self.phase} {self.candidate}>"

    @property
    def primary(self) -> str:
        """"" while nobody is."""
        return self.candidate if self.phase is Phase.SERVING else ""

    def is_at(self, step: int) -> bool:
        """Whether that is still what is asked."""
        return step == self._step

    def elect(self, first: str = "") -> Pause:
        """Begin anew, whatever is under way. `first` is tried before all others, in the first round."""
        self._enter(Phase.PAUSING)
        self.epoch += 1
        self.candidate, self._first, self._wait = "", first, FIRST_WAIT
        return Pause(self.epoch)

    def paused(self, epoch: int, draw: float) -> Action | None:
        if self.phase is not Phase.PAUSING or epoch != self.epoch:
            return None
        return self._new_round(draw)

    def answered(self, step: int, success: bool | None, draw: float) -> Action | None:
        """What came of a Connect or a Check. None: this machine could not find out; it is no verdict on the candidate, so
        the next one does not get its place: the round is over."""
        if step != self._step or self.phase not in (Phase.CONNECTING, Phase.CHECKING):
            return None
        if success is None:
            return self._wait_for_next_round(draw)
        if not success or self.candidate not in self.candidates:  # it may have left while it was asked
            return self._next(draw)
        if self.phase is Phase.CONNECTING and self.has_check:
            return Check(self._enter(Phase.CHECKING), self.candidate)
        return Trigger(self._enter(Phase.TRIGGERING), self.candidate)

    def triggered(self, step: int) -> Serve | None:
        if step != self._step or self.phase is not Phase.TRIGGERING:
            return None
        self._enter(Phase.SERVING)
        return Serve(self.epoch, self.candidate)

    def waited(self, step: int, draw: float) -> Action | None:
        if step != self._step or self.phase is not Phase.WAITING:
            return None
        return self._new_round(draw)

    def wake(self, better: Iterable[str]) -> Wait | None:
        """These are asked again after the least wait: now, or when the round is over in which they were asked before."""
        self._is_woken = self._is_woken or not self._tried.isdisjoint(better)
        if self.phase is not Phase.WAITING:
            return None
        return Wait(self._enter(Phase.WAITING), LEAST_WAIT)

    def resume(self, epoch: int, primary: str) -> None:
        """One that another program has held: this is its primary."""
        self._enter(Phase.SERVING)
        self.epoch, self.candidate = epoch, primary

    def stop(self) -> None:
        """The app is not elected for any more."""
        self._enter(Phase.IDLE)
        self.candidate = ""

    # -- steps

    def _enter(self, phase: Phase) -> int:
        self.phase = phase
        self._step += 1
        return self._step

    def _new_round(self, draw: float) -> Action:
        self._tried.clear()
        self._is_woken = False
        return self._next(draw)

    def _next(self, draw: float) -> Action:
        first, self._first = self._first, ""
        for name in (first, *self.candidates):
            if name in self.candidates and name not in self._tried:
                self._tried.add(name)
                self.candidate = name
                return Connect(self._enter(Phase.CONNECTING), name)
        return self._wait_for_next_round(draw)

    def _wait_for_next_round(self, draw: float) -> Wait:
        """`draw` is from 0 to 1."""
        self.candidate = ""
        if self._is_woken:
            return Wait(self._enter(Phase.WAITING), LEAST_WAIT)
        seconds = min(self._wait, self.max_backoff) * (1 + JITTER * (2 * draw - 1))
        self._wait = max(FIRST_WAIT, min(self._wait * 2, self.max_backoff))
        return Wait(self._enter(Phase.WAITING), max(LEAST_WAIT, seconds))
