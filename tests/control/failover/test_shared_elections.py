"""What nodes say to each other of elections: who is told what of it, in which order, and what of it is believed."""

import json
from types import SimpleNamespace

import pytest

from kit.clock import Clock
from tcp_proxy.control.cluster.shared import SharedState
from tcp_proxy.control.failover.shared_elections import (
    SharedElections,
    read_epoch,
    read_lead,
    read_order,
    read_written,
)
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.lead import LeadMachine
from tcp_proxy.wire.cluster import ChangeShared, ClusterNews, Member, Publish, Shared, SharedValue
from tcp_proxy.wire.messages import Renewed


class Room:
    def __init__(self, rig, name):
        self.rig, self.name = rig, name
        self.machine = LeadMachine("a", 10.0)
        self.held = None  # a list: the targets are others in part
        self.app = SimpleNamespace(targets={}, epoch=3, is_leased=True, when_whole=self.when_whole)
        self.did, self.looks, self.promoted = [], 0, []

    def hear_of(self, tell):
        self.did += tell(self.machine, self.rig.clock())

    def wrote(self, epoch, primary, place):
        self.did.append((epoch, primary, place))

    def look_at_reports(self):
        self.looks += 1

    def when_whole(self, call):
        call() if self.held is None else self.held.append(call)

    def promote(self, target):
        self.promoted.append(target)
        return ""


class Rig:
    def __init__(self):
        self.clock = Clock()
        self.loop = Loop(clock=self.clock)
        self.sent, self.to_workers, self.revision = [], [], 0
        self.shared = SharedState(self.sent.append)
        self.shared.heard(Shared((), 1, begins=True, ends=True))
        self.elections = SharedElections(self.loop, self.shared, "a", "life", 10, self.to_workers.append)
        self.room = Room(self, "db")

    def hear(self, **values):
        """Values by name, with "/" as "__"; None: gone."""
        self.revision += 1
        texts = {key.replace("__", "/"): "" if value is None else json.dumps(value) for key, value in values.items()}
        self.shared.heard(Shared(tuple(SharedValue(*item, self.revision) for item in texts.items()), self.revision))

    def news(self, until=0.0, lease=7, state="joined", nodes=("a", "b")):
        members = tuple(Member(node, node, "", "", "", 0.0, 0.0, self.clock()) for node in nodes)
        self.elections.heard(ClusterNews(state, "", "", self.revision, 0.0, members, lease, until))

    def turn(self):
        self.loop.run_once(0)


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.loop.close()


def test_an_app_is_told_which_nodes_are_unfit(rig):
    rig.hear(unfit__b={"why": ""})
    rig.elections.add("db", rig.room)
    rig.news(rig.clock() + 10)
    rig.hear(lead__db=lead())
    assert rig.room.machine.is_leading, "b is unfit, not this one"
    rig.hear(unfit__a={"why": "disk"})
    assert rig.room.machine.is_leading, "both are"
    rig.hear(unfit__b=None)
    assert not rig.room.machine.is_leading


def lead(node="a", instance="life", lease=7):
    return {"node": node, "instance": instance, "lease": lease}


def test_an_app_is_told_all_that_is_known(rig):
    written = {"epoch": 3, "primary": "p", "place": "192.0.2.1:1", "node": "b"}
    rig.hear(primary__db=written, lead__db=lead("b"), paused__db__b=3)
    rig.news(rig.clock() + 10)
    rig.elections.add("db", rig.room)
    assert (3, "p", "192.0.2.1:1") in rig.room.did
    assert (rig.room.machine.holder, rig.room.machine.is_mine) == ("b", False)


def test_a_lead_is_ours_with_our_life_and_our_lease_alone(rig):
    rig.elections.add("db", rig.room)
    rig.news(rig.clock() + 10)
    for other in (lead("b"), lead(instance="earlier"), lead(lease=6)):
        rig.hear(lead__db=other)
        assert not rig.room.machine.is_mine
    rig.hear(lead__db=lead())
    assert rig.room.machine.is_mine
    rig.news(rig.clock() + 10, lease=8)
    assert not rig.room.machine.is_mine


def test_who_decides_on_which_apps_is_told(rig):
    for name in ("more", "db", "nobodys"):
        rig.elections.add(name, Room(rig, name))
    assert rig.elections.leads() == {}
    rig.hear(lead__db=lead("b"), lead__more=lead("b"))
    assert rig.elections.leads() == {"b": ["db", "more"]}
    rig.hear(lead__db=None, lead__more=lead("a"))
    assert rig.elections.leads() == {"a": ["more"]}


def test_what_is_written_is_guarded_by_the_lead_as_it_is_known(rig):
    rig.elections.add("db", rig.room)
    rig.elections.claim("db", lambda _fault: None)
    rig.hear(lead__db=lead(), primary__db={"epoch": 1, "primary": "", "place": "", "node": "a"})
    rig.elections.write("db", 4, None)
    rig.elections.release("db")
    claim, write, release = [one for one in rig.sent if isinstance(one, ChangeShared)]
    assert (claim.key, claim.guard, claim.guarded, claim.is_leased) == ("lead/db", "lead/db", 0, True)
    assert (write.key, write.guard, write.guarded) == ("primary/db", "lead/db", rig.revision)
    assert json.loads(write.value) == {"epoch": 4, "primary": "", "place": "", "node": "a"}
    assert (release.how, release.guard, release.guarded) == ("delete", "lead/db", rig.revision)


def test_of_an_app_that_is_not_here_this_node_has_let_go(rig):
    rig.elections.add("db", rig.room)
    rig.hear(primary__other={"epoch": 5, "primary": "", "place": "", "node": "b"})
    assert rig.sent == [Publish("paused/other/a", "5")]
    rig.hear(primary__db={"epoch": 5, "primary": "", "place": "", "node": "b"})
    assert len(rig.sent) == 1, "that is for its room to say"


def test_workers_are_renewed_together_and_stopped_when_the_lease_is_lost(rig):
    other = Room(rig, "web")
    rig.elections.add("db", rig.room)
    rig.elections.add("web", other)
    rig.news(10.0)
    rig.elections.renew("db", 3, 10.0)
    rig.elections.renew("web", 4, 10.0)
    rig.turn()
    assert rig.to_workers == [Renewed(("db", "web"), (3, 4), 10.0)]
    rig.news(0.0, state="alone")  # the lease is there, and nothing comes back: its time is over by the clock
    rig.news(0.0, lease=0, state="connecting")  # another agent, which knows of none so far
    rig.turn()
    assert len(rig.to_workers) == 1
    rig.news(0.0, lease=0, state="alone")
    rig.turn()
    assert rig.to_workers[1:] == [Renewed(("db", "web"), (3, 3), 0.0)]


def test_a_node_that_leaves_gives_the_lead_away_and_its_workers_a_second(rig):
    rig.elections.add("db", rig.room)
    rig.news(rig.clock() + 10)
    rig.hear(lead__db=lead())
    assert rig.elections.leave() == 1.0
    rig.turn()
    assert rig.to_workers[-1] == Renewed(("db",), (3,), rig.clock() + 1.0)
    assert [one.how for one in rig.sent if isinstance(one, ChangeShared)][-1] == "delete"
    rig.news(rig.clock() + 12)
    assert rig.room.machine.until == 0.0


def test_an_order_is_obeyed_once_by_who_decides(rig):
    rig.elections.add("db", rig.room)
    rig.room.app.targets = {"q": SimpleNamespace(config=SimpleNamespace(address="192.0.2.1:2"))}
    order = {"target": "other", "place": "192.0.2.1:2", "node": "b"}
    rig.hear(promote__db=order)
    assert rig.room.promoted == []
    rig.news(rig.clock() + 10)
    rig.hear(primary__db={"epoch": 3, "primary": "p", "place": "", "node": "b"}, lead__db=lead())
    rig.elections.look_at_order("db")
    assert rig.room.promoted == ["q"], "it was written while nobody decided"
    rig.elections.look_at_order("db")
    assert rig.room.promoted == ["q"]
    rig.hear(lost__db__b=3)
    assert (rig.room.promoted, rig.room.looks) == (["q"], 1)
    assert rig.elections.is_reported_lost("db", 3)
    assert not rig.elections.is_reported_lost("db", 4)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1.5", "true", '{"epoch": 1}', "[" * 5000])
def test_what_no_node_writes_is_not_believed(text):
    assert read_epoch(text) is None
    assert read_written(text) is None
    assert read_lead(text) == ("", "", 0)
    assert read_order(text) is None


@pytest.mark.parametrize("epoch", [0, -1, 1 << 60, "1", True])
def test_an_epoch_is_a_number_of_an_election(epoch):
    assert read_written(json.dumps({"epoch": epoch, "primary": "p", "place": "x"})) is None
    assert read_written(json.dumps({"epoch": 1, "primary": "p\n", "place": "x"})) is None
    assert read_written(json.dumps({"epoch": 1, "primary": "p", "place": "x"})) == (1, "p", "x")


def test_an_order_that_comes_while_another_program_is_about_to_take_over_is_obeyed_when_it_has_not(rig):
    rig.elections.add("db", rig.room)
    rig.news(rig.clock() + 10)
    rig.hear(lead__db=lead())
    rig.room.held = []
    rig.hear(promote__db={"target": "q", "place": "192.0.2.1:2", "node": "b"})
    assert rig.room.promoted == []
    for call in rig.room.held:
        call()
    assert rig.room.promoted == ["q"]
