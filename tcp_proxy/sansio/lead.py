"""Who decides on the primary of one failover app in a cluster, and until when it may have sessions: values in, values out.

Pure: one machine for each app on each node; time is an argument, by this node's own clock. What it hears comes in the order
in which etcd had it: who holds the lead, what was `written` of the primary, and, behind both, how long this node may
act on it (`renewed`). The owner (control.failover.clustered) carries out each action and says what came of it.

    FOLLOWING ──the lead is ours──> LEADING ──elect──> ANNOUNCING ──written: nobody is primary──> GATHERING
        ^                              ^                   ^  every node has answered that it has let go, or can have no
        │                              │                   │  time left; and our workers have paused      │ Ask
        │ the lead is not ours         │ written           │ elect                                        v
        └── any more, or our time      └──── PUBLISHING <──┼──────────found (check and triggers)────── ELECTING
            is over: Abandon                               └── any but FOLLOWING

A node may send new sessions to a primary while that is what it knows to be written, and until its time is over. Its time is
LEASE from when it sent the last word of its own that came back to it, behind everything that was written before that. So who
announces an election knows that a node that has not answered has no time left LEASE after it was heard last before the
announcement, by his own clock and with MARGIN for clocks that run differently. etcd's lease decides nothing of this.

Who holds the lead is in etcd, too. Whoever has not been heard for as long may lose it to another one; before that his own
time is over, and he has ended what he did.

A node whose operator says that it is unfit gives the lead away, and leaves it for LEASE to those that are fit.

Always true (test_lead, by all orders of messages, deaths and clocks): no two primaries accept new sessions at one time;
every election has an epoch of its own, above all that were written; for each at most one node runs triggers.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from tcp_proxy.sansio.frozen_dataclass import dataclass

MARGIN = 1.05  # of a lease: how much faster than another node's a clock may run
REST = 0.25  # seconds that whoever gave the lead away leaves it to others


class Role(StrEnum):
    FOLLOWING = "following"
    LEADING = "leading"
    ANNOUNCING = "announcing"
    GATHERING = "gathering"
    ELECTING = "electing"
    PUBLISHING = "publishing"


@dataclass(frozen=True, slots=True)
class Written:
    """In etcd. `primary` "": nobody, from this epoch on."""

    epoch: int
    primary: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Have the lead be ours, if nobody else has changed it meanwhile. `claimed` when that is answered."""


@dataclass(frozen=True, slots=True)
class Release:
    """Have the lead be nobody's."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Our workers: nobody is primary. `paused(epoch)` when all obey."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The others: this node has let go of all before this epoch."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Serve:
    """Our workers: this is primary."""

    epoch: int
    primary: str


@dataclass(frozen=True, slots=True)
class Renew:
    """Our workers: they may send sessions until then to what they were told last."""

    epoch: int
    until: float


@dataclass(frozen=True, slots=True)
class Lead:
    """This node decides from now on. "": `elect`, for there is no primary."""

    epoch: int
    primary: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Have it written that nobody is primary from this epoch on, as long as the lead is ours."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Ask:
    """No node sends anybody anywhere: candidates may be asked, and triggers run."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Have it written who is primary, as long as the lead is ours."""

    epoch: int
    primary: str


@dataclass(frozen=True, slots=True)
class Abandon:
    """This node does not decide any more: end check and triggers."""


Action = Claim | Release | Pause | Answer | Serve | Renew | Lead | Announce | Ask | Publish | Abandon
NOTHING = Written(0, "")


class LeadMachine:
    def __init__(self, node: str, lease: float, epoch: int = 0) -> None:
        """`epoch`: of what this node knows from an earlier life."""
        self.role = Role.FOLLOWING
        self.epoch = epoch  # the highest that is known
        self.written = NOTHING
        self.told = NOTHING  # to our workers
        self.until = 0.0  # our time
        self.holder = ""  # of the lead; "": nobody
        self.is_mine = False  # it is ours, of this life and this lease
        self._node, self._lease = node, lease
        self._paused = -1  # the epoch at which our workers have paused
        self._answered = -1
        self._is_claiming = False
        self._rests_until = 0.0
        self._unfit: frozenset[str] = frozenset()
        self._has_stood_back = False  # since somebody else had the lead
        self._heard: dict[str, float] = {}  # of other nodes: when last
        self._there: frozenset[str] = frozenset()  # other nodes, now
        self._answers: Mapping[str, int] = {}  # of nodes: the epoch
        self._waiting: dict[str, float] = {}  # for whom, GATHERING, and until when

    def __repr__(self) -> str:
        return f"<LeadMachine {self._node} {self.role} epoch {self.epoch}, {self.written.primary or 'nobody'}>"

    @property
    def is_leading(self) -> bool:
        return self.role is not Role.FOLLOWING

    @property
    def waits_for(self) -> list[str]:
        """Nodes that have not let go."""
        return sorted(self._waiting) if self.role is Role.GATHERING else []

    def may_act(self, now: float) -> bool:
        """Whether what the lead does may be done: asked again before each check and trigger, by a clock of that moment."""
        return self.is_leading and self.is_mine and now < self.until

    def next_look(self) -> float:
        """When `look` has something to do, if nothing happens before; infinity: never."""
        times = [self.until] if self.is_leading else [self._rests_until] if self._rests_until else []
        if self._waiting and self.role is Role.GATHERING:
            times.append(min(self._waiting.values()))
        return min(times, default=float("inf"))

    def resume(self, told: Written) -> None:
        """Our workers have been told of this primary by a program before us, whose place in all this is ours."""
        self.told, self.epoch = told, max(self.epoch, told.epoch)
        self._paused = self._answered = told.epoch

    # -- what is in etcd

    def held(self, holder: str, now: float, *, is_mine: bool) -> list[Action]:
        """`holder`: the node whose the lead is, "": nobody's."""
        self.holder, self.is_mine = holder, is_mine
        if holder not in ("", self._node):
            self._has_stood_back = False
        if is_mine:
            self._is_claiming = False
        return self.look(now)

    def wrote(self, written: Written, now: float) -> list[Action]:
        self.written = written
        self.epoch = max(self.epoch, written.epoch)
        if self.role is Role.ANNOUNCING and written == Written(self.epoch, ""):
            self.role = Role.GATHERING
            self._waiting = {node: heard + MARGIN * self._lease for node, heard in self._heard.items()}
        elif self.role is Role.PUBLISHING and written.epoch == self.epoch and written.primary:
            self.role = Role.LEADING
        elif self.role is Role.LEADING and not written.primary:  # what we had announced before our time was over for a while
            return [Lead(self.epoch, ""), *self.look(now)]
        return self.look(now)

    def members(self, heard: Mapping[str, float], now: float) -> list[Action]:
        """When each other node was heard last. One that is missing has gone, but may still have time."""
        self._heard = {node: at for node, at in self._heard.items() if now - at < 2 * MARGIN * self._lease}
        self._heard.update(heard)
        self._heard.pop(self._node, None)
        self._there = frozenset(heard) - {self._node}
        return self.look(now)

    def answers(self, answers: Mapping[str, int], now: float) -> list[Action]:
        """At which epoch each node has let go last."""
        self._answers = answers
        return self.look(now)

    def renewed(self, until: float, now: float) -> list[Action]:
        """Everything that was written before our word of LEASE ago has been heard. 0.0: we are cut off."""
        self.until = until
        actions = self.look(now)
        return actions + self._renewal(now)

    # -- what this node does

    def claimed(self) -> None:
        self._is_claiming = False

    def elect(self) -> list[Action]:
        """The leader looks for another primary: `epoch` is that of the election."""
        assert self.is_leading, f"{self!r} does not decide"
        self.epoch += 1
        self.role = Role.ANNOUNCING
        return [self._pause(self.epoch), Announce(self.epoch)]

    def paused(self, epoch: int, now: float) -> list[Action]:
        """Our workers have."""
        if epoch == self.told.epoch and not self.told.primary:
            self._paused = epoch
        return self.look(now)

    def found(self, primary: str) -> list[Action]:
        """Check and triggers are over."""
        if self.role is not Role.ELECTING:
            return []
        self.role = Role.PUBLISHING
        return [Publish(self.epoch, primary)]

    def resign(self, now: float) -> list[Action]:
        """Leave the decision to another node, if there is one. Nothing happens otherwise."""
        if not self.is_leading or not self._there:
            return []
        self._rests_until = now + REST
        self.is_mine, self.holder = False, self._node
        return [*self.look(now), Release()]

    def unfit(self, nodes: Iterable[str], now: float) -> list[Action]:
        """Those of which their operators have said so: they decide only where nobody else does."""
        self._unfit, self._has_stood_back = frozenset(nodes), False
        return self.resign(now) if self.is_leading and self._stands_back else self.look(now)

    def look(self, now: float) -> list[Action]:
        """What follows from all that is known now."""
        actions: list[Action] = []
        if self.is_leading and not self.may_act(now):
            self.role = Role.FOLLOWING
            self._waiting = {}
            actions.append(Abandon())
        if self._rests_until and now >= self._rests_until:
            self._rests_until = 0.0
        if self.role is Role.FOLLOWING:
            actions += self._take_lead(now)
        if self.role in (Role.FOLLOWING, Role.LEADING):
            actions += self._follow()
            actions += self._renewal(now) if any(isinstance(one, Serve) for one in actions) else []
        elif self.role is Role.GATHERING:
            actions += self._gather(now)
        return actions

    # -- small parts

    def _take_lead(self, now: float) -> list[Action]:
        if now >= self.until or self._rests_until:
            return []
        if self.is_mine:
            self.role = Role.LEADING
            return [Lead(self.epoch, self.written.primary)]
        if self._is_claiming or not self._is_free(now):
            return []
        if self._stands_back and not self._has_stood_back:
            self._has_stood_back, self._rests_until = True, now + self._lease
            return []
        self._is_claiming = True
        return [Claim()]

    @property
    def _stands_back(self) -> bool:
        return self._node in self._unfit and not self._there <= self._unfit

    def _is_free(self, now: float) -> bool:
        """Nobody has the lead, or whoever has it has no time left."""
        if self.holder in ("", self._node):
            return True  # ours is of an earlier life or lease
        return now >= self._heard.get(self.holder, 0.0) + MARGIN * self._lease

    def _follow(self) -> list[Action]:
        """Bring our workers to what is written: between two primaries they have none."""
        written = self.written
        if self.told == written and (written.primary or self._answered == written.epoch):
            return []
        if not written.epoch:
            return []
        if self.told.epoch != written.epoch or (self.told.primary and self.told != written):
            return [self._pause(written.epoch)]
        if self._paused != written.epoch:
            return []
        if written.primary:
            self.told = written
            return [Serve(written.epoch, written.primary)]
        self._answered = written.epoch
        return [Answer(written.epoch)]

    def _pause(self, epoch: int) -> Pause:
        self.told, self._paused = Written(epoch, ""), -1
        return Pause(epoch)

    def _renewal(self, now: float) -> list[Action]:
        is_told = bool(self.told.primary) and self.told == self.written and now < self.until
        return [Renew(self.told.epoch, self.until)] if is_told else []

    def _gather(self, now: float) -> list[Action]:
        self._waiting = {
            node: over for node, over in self._waiting.items() if self._answers.get(node, -1) < self.epoch and now < over
        }
        if self._waiting or self._paused != self.epoch:
            return []
        self.role = Role.ELECTING
        return [Ask(self.epoch)]
