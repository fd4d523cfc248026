"""Ballots are counted alike on all nodes, this node's own findings count while it is alone, and nothing wrong is counted."""

import json

import pytest

from kit.clock import Clock
from tcp_proxy.config.model import App, Check, Target
from tcp_proxy.control.cluster.shared import SharedState
from tcp_proxy.control.cluster.votes import PUBLISH_AFTER, Votes, names_of, read
from tcp_proxy.control.health.runner import Finding
from tcp_proxy.control.health.subject import question_of
from tcp_proxy.control.statistics.counter_slots import CounterSlots
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.address import Address
from tcp_proxy.sansio.verdict import Known, State
from tcp_proxy.sansio.vote import checkers
from tcp_proxy.wire.cluster import Publish, Shared, SharedValue

CHECK, LOCAL = Check(), Check(type="ping", scope="local")
NAMES = names_of(["s", "t"])


class Rig:
    """A node "a" with an app web, whose targets s and t have the checks."""

    def __init__(self, *checks, count=None):
        self.checks, self.left = checks, []
        self.clock = Clock()
        self.loop = Loop(clock=self.clock)
        self.sent, self.changes, self.revision = [], [], 1
        targets = (Target("s", Address("192.0.2.1", 1)), Target("t", Address("192.0.2.1", 2)))
        self.targets = Targets((App("web", (), targets, health=checks),), CounterSlots())
        self.shared = SharedState(self.sent.append)
        self.votes = Votes(self.loop, self.targets, self.shared, "a", self.changed, lambda call: call(), count, self.leave)
        self.target = self.targets.find("web", "t")

    def leave(self, app, *, is_left):
        self.left.append((app, is_left))

    def changed(self, target, before):
        self.changes.append((target.config.name, before, target.state))

    def find(self, *passing, name="t", proven=True, evidence="refused"):
        """What this node's checks find, in order."""
        known = tuple(
            Known(question_of(check), good, 0, evidence, proven) for check, good in zip(self.checks, passing, strict=True)
        )
        state = State.UP if all(passing) else State.DOWN
        finding = Finding("web", name, state, evidence, True, all(passing), 0, known)
        self.votes.found(self.targets.find("web", name), self.targets.find("web", name).found(finding))
        self.clock.turn(PUBLISH_AFTER)
        self.loop.run_once(0)

    def hear(self, node, **said):
        """A ballot; none: it is gone."""
        self.revision += 1
        text = json.dumps({"names": NAMES, "down": {}, "draining": {}, "unproven": [], **said}) if said else ""
        self.shared.heard(Shared((SharedValue(f"health/web/{node}", text, self.revision),), self.revision))

    @property
    def told(self):
        assert isinstance(self.sent[-1], Publish)
        return json.loads(self.sent[-1].value)


@pytest.fixture
def rig(request):
    made = Rig(*getattr(request, "param", (CHECK,)))
    made.shared.heard(Shared((), 1, begins=True, ends=True))
    yield made
    made.loop.close()


def test_alone_its_own_findings_count(rig):
    rig.hear("b", down={"t": "refused"})
    assert rig.target.health is State.UP
    rig.find(False)
    assert (rig.target.health, rig.target.evidence) == (State.DOWN, "refused")


def test_what_is_told(rig):
    rig.find(False)
    assert rig.told == {"names": NAMES, "down": {"t": "refused"}, "draining": {}, "unproven": ["s"]}
    rig.find(True)
    rig.find(True, name="s")
    assert rig.told == {"names": NAMES, "down": {}, "draining": {}, "unproven": []}
    rig.find(False, evidence="x" * 999 + "\n")
    assert len(rig.told["down"]["t"]) == 200


def test_joined_the_majority_counts(rig):
    rig.votes.join(True)
    rig.find(False)
    rig.hear("a", down={"t": "refused"}, unproven=["s"])
    assert rig.target.health is State.DOWN
    rig.hear("b", unproven=["s"])
    assert rig.target.health is State.UP, "a tie"
    rig.hear("c", down={"t": "timeout"}, unproven=["s"])
    assert (rig.target.health, rig.target.evidence) == (State.DOWN, "refused (node a; 2 of 3 nodes say down)")
    rig.find(True)
    assert rig.target.health is State.DOWN, "what it finds counts when it is in etcd"
    rig.hear("a", unproven=["s"])
    assert rig.target.health is State.UP
    rig.votes.join(False)
    assert (rig.target.health, rig.target.evidence) == (State.UP, "refused"), "its own, as it was found last"
    assert rig.targets.find("web", "s").health is State.UP


def test_changes_are_told_once(rig):
    rig.votes.join(True)
    for node in "abc":
        rig.hear(node, down={"t": "refused"})
    assert rig.changes == [("t", State.UP, State.DOWN)]


def test_those_that_have_no_finding_have_no_vote(rig):
    rig.votes.join(True)
    rig.hear("a", down={"t": "refused"}, unproven=["s"])
    rig.hear("b", unproven=["s", "t"])
    rig.hear("c", names="of other targets")
    assert rig.target.health is State.DOWN
    rig.hear("b")
    rig.hear("a")
    assert rig.target.health is State.DOWN, "what was known, for nobody has a finding"


@pytest.mark.parametrize("rig", [(CHECK, LOCAL)], indirect=True)
def test_a_local_check_counts_here_alone(rig):
    rig.votes.join(True)
    rig.hear("b", unproven=["s"])
    rig.hear("a", unproven=["s"])
    rig.find(True, False)
    assert rig.told["down"] == {}
    assert (rig.target.health, rig.target.evidence) == (State.DOWN, "refused")
    rig.hear("b", unproven=["s"], down={})
    assert rig.target.health is State.DOWN
    rig.find(True, True)
    assert rig.target.health is State.UP
    rig.hear("a", unproven=["s"], down={"t": "x"})
    rig.hear("b", unproven=["s"], down={"t": "x"})
    assert rig.target.health is State.DOWN


@pytest.mark.parametrize("rig", [(LOCAL,)], indirect=True)
def test_with_local_checks_alone_nothing_is_told(rig):
    rig.votes.join(True)
    rig.hear("b", down={"t": "x"})
    assert rig.target.health is State.UP
    rig.find(False)
    assert rig.sent == []
    assert rig.target.health is State.DOWN


def test_only_some_check_and_the_others_follow():
    nodes = {"a", "b", "c"}
    chosen = checkers("web", nodes, 1)
    rig = Rig(CHECK, count=1)
    rig.shared.heard(Shared((), 1, begins=True, ends=True))
    rig.votes.join(True)
    rig.find(False)
    others = nodes - {"a"} if chosen == {"a"} else nodes
    rig.votes.assign(others | {"a"})
    assert rig.left == ([] if chosen == {"a"} else [("web", True)])
    only = {"a", next(name for name in map(str, range(99)) if checkers("web", {"a", name}, 1) == {name})}
    rig.votes.assign(only)
    assert rig.left[-1] == ("web", True)
    rig.find(False)
    assert rig.sent[-1].value == "", "it has no vote any more"
    rig.hear("b")
    rig.hear("b", unproven=["s"])
    assert rig.target.health is State.UP, "it follows"
    rig.votes.assign(set())
    rig.votes.join(False)
    assert rig.left[-1] == ("web", False), "alone it checks for itself"
    rig.find(False)
    assert rig.target.health is State.DOWN
    rig.loop.close()


WRONG = [
    "", "[]", "1", "{}", '{"names": 1}', "[" * 9999,
    '{"names": "x", "down": [], "draining": {}, "unproven": []}',
    '{"names": "x", "down": {"t": 1}, "draining": {}, "unproven": []}',
    '{"names": "x", "down": {"t": "\\u0007"}, "draining": {}, "unproven": []}',
    '{"names": "x", "down": {}, "draining": {}, "unproven": [1]}',
    json.dumps({"names": "x", "down": {"t": "y" * 201}, "draining": {}, "unproven": []}),
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_ballot(text):
    assert read(text) is None


def test_what_an_unfit_node_finds_does_not_count_where_another_one_finds_something(rig):
    rig.votes.join(True)
    rig.hear("b", down={"t": "refused"})
    rig.hear("c", down={})
    rig.hear("d", down={"t": "refused"})
    assert rig.target.health is State.DOWN
    rig.votes.discount({"b"})
    assert rig.target.health is State.UP
    rig.hear("d", unproven=["t"])
    assert rig.target.health is State.UP
    rig.votes.discount({"b", "c"})
    assert rig.target.health is State.UP, "nobody who is fit has found anything: it stays as it was"
    rig.votes.discount({"b", "c", "d"})
    rig.hear("c", down={"t": "refused"})
    assert rig.target.health is State.DOWN, "all are unfit: then all count"


def test_an_unfit_node_is_none_of_the_checkers():
    rig = Rig(CHECK, count=1)
    (first,) = checkers("web", {"a", "b"}, 1)
    other = ({"a", "b"} - {first}).pop()
    rig.votes.assign({"a", "b"})
    assert rig.left == ([] if first == "a" else [("web", True)])
    rig.left.clear()
    rig.votes.discount({first})
    rig.votes.assign({"a", "b"})
    assert rig.left == [("web", other != "a")]
    rig.loop.close()
