"""The supervisor's side of a cluster: states, what is said of them, and the end. The agent's process is not started here."""

import json
import logging

import pytest

from kit.clock import Clock
from tcp_proxy.config.model import Api, Cluster
from tcp_proxy.control.cluster import node as module
from tcp_proxy.control.cluster.node import AGENT_WITHIN, HELD_WITHIN, JOIN_WITHIN, READ_WITHIN, ClusterNode
from tcp_proxy.control.etcd.client import ATTEMPT
from tcp_proxy.control.events import Events
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.cluster import ClusterNews, HoldWrites, Member, Publish, ReleaseWrites, TakeLease, WritesHeld


class Process:
    """What stands for the agent's process: it does nothing by itself."""

    starts = 0

    def __init__(self, _loop, order, news, ended, tables):
        self.order, self.news, self.ended, self.tables = order, news, ended, tables
        self.left, self.sent = None, []

    def start(self):
        self.starts += 1

    def send(self, message):
        self.sent.append(message)

    def take(self, message):
        self.sent.append(message)

    def hold(self):
        self.sent.append(HoldWrites())

    def release(self):
        self.sent.append(ReleaseWrites())

    def leave(self, left):
        self.left = left

    def stop(self):
        self.starts = 0


class Sticks:
    """What stands for the stick tables: whether an app is sticky, and whom they tell that the agent is there."""

    is_wanted = True

    def attach_agent(self):
        return "the agent's end"


class Rig:
    def __init__(self):
        self.clock = Clock()
        self.loop = Loop(clock=self.clock)
        self.events = Events()
        self.node = ClusterNode(self.loop, Cluster(("http://e:1",), node="a"), Api(), "info", self.events)
        self.agent = self.node._agent
        self.sticks = Sticks()
        self.known = []
        self.node.start(self.sticks)

    def may_serve(self):
        return self.node.may_serve(lambda: self.known.append(self.clock.now))

    def hear(self, state, *names, text="", read=0):
        members = tuple(Member(name, name, "1", "192.0.2.1", "", 5.0, 0.1, self.clock.now) for name in names)
        self.agent.news(ClusterNews(state, text, "http://e:1", 7, 0.1, members, read=read))

    def turn(self, seconds):
        self.clock.turn(seconds)
        self.loop.run_once(0)

    @property
    def told(self):
        return [(event.data["node"], event.data["state"]) for event in self.events.kept]


@pytest.fixture
def rig(monkeypatch):
    monkeypatch.setattr(module, "AgentProcess", Process)
    made = Rig()
    yield made
    made.loop.close()


def test_a_node_joins_and_others_come_and_go(rig, caplog):
    with caplog.at_level(logging.INFO):
        assert rig.node.is_joining
        rig.hear("connecting", text="so far nothing")
        assert rig.node.is_joining
        assert rig.node.degraded == ""
        rig.hear("joined", "a", "b")
        rig.hear("joined", "a", "b")
        rig.hear("joined", "a", "c")
    assert not rig.node.is_joining
    assert rig.told == [("a", "joined"), ("b", "there"), ("c", "there"), ("b", "gone")]
    assert "joined as node a, 2 nodes" in caplog.text
    counted = {"joined": True, "members": 2, "lag": 0.1, "cut_off": 0, "agent_starts": 1, "different": 0}
    assert rig.node.statistics() == counted


def test_a_node_that_is_cut_off_keeps_what_it_knows(rig, caplog):
    rig.hear("joined", "a", "b")
    rig.turn(2.0)
    rig.hear("alone", "a", text="nobody answers")
    assert rig.node.degraded == "cut off from its cluster: nobody answers"
    assert "node a is cut off, traffic goes on with what is known: nobody answers" in caplog.text
    assert rig.told[-1] == ("a", "alone"), "who is gone from here may be there all the same"
    rig.turn(3.0)
    assert rig.node.view()["since"] == 3.0
    assert rig.node.view()["text"] == "nobody answers"
    rig.hear("joined", "a", "b")
    assert rig.node.degraded == ""
    assert rig.node.statistics()["cut_off"] == 1
    assert rig.told[-1] == ("a", "joined")


def test_a_start_does_not_wait_for_ever(rig):
    rig.hear("connecting", text="nobody answers")
    rig.turn(JOIN_WITHIN - 0.1)
    assert rig.node.is_joining
    rig.turn(0.1)
    assert rig.node.state == "alone"
    assert rig.node.degraded == "cut off from its cluster: nobody answers"
    assert rig.node.statistics()["cut_off"] == 0, "it never was joined"
    rig.hear("joined", "a")
    assert rig.node.state == "joined"


def test_a_start_waits_for_etcd_from_its_agents_first_word_on(rig):
    """An agent that starts slowly is no sign that etcd is gone."""
    rig.turn(AGENT_WITHIN - JOIN_WITHIN - 0.2)
    rig.hear("connecting", text="so far nothing")
    rig.turn(JOIN_WITHIN - 0.1)
    assert rig.node.is_joining
    rig.turn(0.1)
    assert rig.node.state == "alone"


def test_a_start_waits_while_its_agent_reads_but_not_for_ever(rig):
    parts = int(AGENT_WITHIN / (JOIN_WITHIN - 1.0))
    for part in range(parts):
        rig.hear("connecting", text="so far nothing", read=5000 * part)
        rig.turn(JOIN_WITHIN - 1.0)
        assert rig.node.is_joining == (part < parts - 1)


def test_a_start_does_not_wait_for_an_agent_that_has_stopped_reading(rig):
    for at in (0.0, 1.0, 2.0, 3.0):
        rig.hear("connecting", text="so far nothing", read=5000)
        rig.turn(1.0)
        assert rig.node.is_joining, at
    rig.turn(JOIN_WITHIN - 4.0)
    assert rig.node.state == "alone"


def test_a_start_does_not_wait_for_ever_for_its_agent(rig):
    rig.turn(AGENT_WITHIN - 0.1)
    assert rig.node.is_joining
    rig.turn(0.1)
    assert rig.node.state == "alone"


def test_an_agent_that_ends_is_waited_for_as_etcd_is(rig):
    rig.agent.ended()
    rig.turn(JOIN_WITHIN)
    assert rig.node.state == "alone"


def test_it_serves_when_its_tables_are_those_of_the_others(rig):
    assert not rig.may_serve()
    rig.sticks.online(False)
    assert not rig.may_serve()
    rig.sticks.online(True)
    rig.sticks.online(True)
    assert rig.may_serve()
    assert rig.known == [rig.clock.now], "told once"
    rig.sticks.online(False)
    assert rig.may_serve(), "it serves with what it knows"
    assert rig.agent.tables() == "the agent's end"


def test_it_serves_when_it_has_waited_or_nobody_is_sticky(rig):
    rig.sticks.is_wanted = False
    assert rig.may_serve()
    rig.sticks.is_wanted = True
    assert not rig.may_serve()
    rig.turn(AGENT_WITHIN)
    assert rig.may_serve()
    assert rig.known == [rig.clock.now]


def test_an_agent_that_ends(rig):
    rig.hear("joined", "a", "b")
    rig.agent.ended()
    assert rig.node.degraded == "cut off from its cluster: its agent has ended, another one is started"
    assert [one["node"] for one in rig.node.view()["members"]] == ["a", "b"]
    rig.hear("joined", "a", "b")
    assert rig.node.degraded == ""


def test_it_leaves_once_and_nothing_is_said_after_that(rig):
    rig.hear("joined", "a")
    left = []
    rig.node.leave(lambda: left.append(1))
    rig.node.leave(lambda: left.append(2))
    assert not rig.node.has_left
    rig.hear("alone", text="its lease was given back")
    assert rig.node.state == "leaving"
    rig.agent.left()
    assert rig.node.has_left
    assert left == [1]
    rig.turn(JOIN_WITHIN)
    assert rig.node.state == "leaving"


def test_what_members_are_shown_as(rig):
    rig.hear("joined", "a", "b")
    rig.turn(1.5)
    one, two = rig.node.view()["members"]
    assert one == {
        "node": "a", "version": "1", "address": "192.0.2.1", "api": "", "age": 6.5, "lag": 0.1, "heard": 1.5, "self": True,
        "unfit": None, "leads": [], "differs": [],
    }  # fmt: skip
    assert not two["self"]
    rig.node.elections = Leading()
    assert [one["leads"] for one in rig.node.view()["members"]] == [[], ["db", "more"]]


class Leading:
    """What stands for elections: who decides on which apps."""

    def leads(self):
        return {"b": ["db", "more"], "c": ["of a node that is gone"]}


def test_each_life_is_another_instance(rig):
    other = ClusterNode(rig.loop, Cluster(("http://e:1",)), None, "info", rig.events)
    assert other._agent.order.instance != rig.agent.order.instance
    assert other.node, "what the machine is called"


# -- a take-over


NEWS = ClusterNews("joined", "", "http://e:1", 7, 0.1, (Member("a", "a", "1", "192.0.2.1", "", 5.0, 0.1, 0.0),), 9, 500.0)


class Shares:
    """What stands for what is made of shared values."""

    def __init__(self):
        self.calls = []

    def is_applied(self, _then):
        return True

    def vote(self):
        self.calls.append("vote")

    def own(self):
        self.calls.append("own")


def joined(rig):
    rig.agent.news(NEWS)
    return rig.node


def new_node(rig, **config):
    node = ClusterNode(rig.loop, Cluster(("http://e:1",), **{"node": "a", **config}), Api(), "info", rig.events)
    node.shares = Shares()
    return node


def told(node):
    """As another program reads it."""
    found = []
    node.hold(found.append)
    node._agent.held(WritesHeld(9, 41))
    return json.loads(json.dumps([node.given(), *found]))


def test_a_program_that_takes_over_is_the_same_node(rig):
    old = joined(rig)
    old.shared.publish("unfit", "a", value={"why": "x"})
    state, last = told(old)
    new = new_node(rig)
    assert new.wait(state)
    assert (new.instance, new._agent.order.instance, new._agent.order.waits) == (old.instance, old.instance, True)
    new.start(rig.sticks)
    prepared = []
    assert not new.is_prepared(lambda: prepared.append(1))
    assert new.inherits == ""
    new._agent.read()
    assert prepared == [1]
    assert new.inherits == old.instance
    assert new.adopt(last)
    new.own()
    assert new._agent.sent[-1] == TakeLease(9, 500.0, 41)
    assert Publish("unfit/a", '{"why": "x"}') in new._agent.sent
    assert (new.state, new.news.lease) == ("joined", 9)
    assert new.shares.calls == ["vote", "own"]
    assert new.is_joined
    left = []
    old.give()
    old.leave(lambda: left.append(1))
    assert left == [1], "at once, and without a word"
    assert old._agent.left is None


def test_an_old_program_that_is_not_taken_over_from_stays_the_node(rig):
    old = joined(rig)
    told(old)
    old.go_on()
    assert old._agent.sent[-1] == ReleaseWrites()
    old.leave(lambda: None)
    assert old._agent.left is not None, "it says good-bye"


def test_one_that_is_ended_while_another_one_is_about_to_take_over_says_good_bye(rig):
    old = joined(rig)
    told(old)
    old.leave(lambda: None)
    assert old._agent.sent[-1] == ReleaseWrites()
    assert old._agent.left is not None


@pytest.mark.parametrize("config", [{"node": "b"}, {"name": "other"}, {"lease": 5}, {"endpoints": ("http://e:2",)}])
def test_one_that_is_another_node_by_its_file_joins_as_any_other(rig, config):
    state, _ = told(joined(rig))
    endpoints = config.pop("endpoints", ("http://e:1",))
    new = ClusterNode(rig.loop, Cluster(endpoints, **{"node": "a", **config}), Api(), "info", rig.events)
    new.shares = Shares()
    assert not new.wait(state)
    new.start(rig.sticks)
    assert new.is_prepared(lambda: None)
    assert not new.adopt(None)
    new.own()
    assert new._agent.sent == [TakeLease(instance=new.instance)]
    assert new.state == "joining"


def test_an_old_program_that_has_told_nothing_of_it_is_another_node(rig):
    """Of an earlier version, or killed."""
    state, _ = told(joined(rig))
    new = new_node(rig)
    assert new.wait(state)
    new.start(rig.sticks)
    new._agent.read()
    assert not new.adopt(None)
    assert not new.is_joined
    assert not new.shared.is_known
    new.own()
    assert new._agent.sent == [TakeLease(instance=new.instance)]
    assert new.instance != rig.node.instance, "the old one may write yet"
    assert new._agent.order.instance == new.instance, "so does another agent that is started then"


def test_a_take_over_waits_so_long_for_the_new_agent_and_not_longer(rig):
    state, _ = told(joined(rig))
    new, prepared = new_node(rig), []
    new.wait(state)
    new.start(rig.sticks)
    assert not new.is_prepared(lambda: prepared.append(1))
    rig.turn(READ_WITHIN)
    assert prepared == [1]
    assert new.is_prepared(lambda: None)
    assert new.inherits == ""


def test_an_agent_that_does_not_stop_writing_cannot_be_followed(rig):
    old, found = joined(rig), []
    old.hold(found.append)
    rig.turn(HELD_WITHIN - 0.1)
    assert found == []
    rig.turn(0.1)
    assert found == [None]
    assert old._agent.sent[-1] == ReleaseWrites()
    assert not old.is_held


def test_an_agent_may_take_as_long_to_stop_as_a_member_that_does_not_answer_and_the_next_one():
    assert HELD_WITHIN == 2 * ATTEMPT


def test_it_is_not_waited_for_longer_than_the_lease_can_be_without_a_word(rig):
    old, found = joined(rig), []
    old.lease = 2
    old.hold(found.append)
    rig.turn(2 / 3)
    assert found == [None]


def test_one_that_is_ended_while_its_agent_is_asked_to_hold_lets_all_go_on(rig):
    """What was stopped for the take-over is not to stand still for the whole grace."""
    old, found = joined(rig), []
    old.hold(found.append)
    old.leave(lambda: None)
    assert found == [None]
    assert old._agent.sent[-1] == ReleaseWrites()
    assert old._agent.left is not None
    old._agent.held(WritesHeld(9, 41))
    rig.turn(HELD_WITHIN)
    assert (found, old.is_held) == ([None], False), "once"


@pytest.mark.parametrize("was_held", [True, False])
def test_a_second_hold_has_all_of_its_time(rig, was_held):
    old, found = joined(rig), []
    old.hold(lambda _told: None)
    if was_held:
        old._agent.held(WritesHeld(9, 41))
    old.go_on()
    rig.turn(HELD_WITHIN - 0.1)
    old.hold(found.append)
    rig.turn(0.2)
    assert found == []
    old._agent.held(WritesHeld(9, 41))
    assert old.is_held
    assert [one["beat"] for one in found] == [41]
