"""One failover app of a node that gets and loses the lead, as far as it does not take a cluster (that is
tests/system/test_cluster_failover.py)."""

from types import SimpleNamespace

import pytest

from kit.clock import Clock
from tcp_proxy.config.model import App, Failover, Target
from tcp_proxy.control.events import Events
from tcp_proxy.control.failover.clustered import ORDER_KEPT, ClusteredFailover
from tcp_proxy.control.statistics.counter_slots import CounterSlots
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.address import Address
from tcp_proxy.sansio.lead import LeadMachine
from tcp_proxy.sansio.verdict import State

LEASE = 10.0


class Workers(list):
    """None: so all have paused at once."""

    def send(self, message):
        """Nobody hears it."""


class Said:
    """What the node has said to the others."""

    node = "a"

    def __init__(self):
        self.written, self.orders = [], []

    def write(self, _app, epoch, target):
        self.written.append((epoch, target.config.name if target is not None else ""))

    def order(self, _app, target):
        self.orders.append(target.config.name)

    def nothing(self, *_about):
        """It is no matter here."""

    claim = release = answer = report_lost = look_at_order = renew = nothing

    def is_reported_lost(self, _app, _epoch):
        return False


class Rig:
    """Node a decides: p is primary, in epoch 1. b is there, too."""

    def __init__(self):
        self.clock = Clock()
        self.loop = Loop(clock=self.clock)
        targets = tuple(Target(name, Address("192.0.2.1", port)) for port, name in enumerate("pq", 1))
        app = App("db", (), targets, balance="failover", failover=Failover())
        context = SimpleNamespace(
            loop=self.loop, events=Events(), worker_pool=Workers(), listening={}, is_stopping=False,
            targets=Targets((app,), CounterSlots(), is_clustered=True), states=SimpleNamespace(probe_now=lambda *_: None),
        )  # fmt: skip
        self.said = Said()
        known = context.targets.apps["db"]
        self.failover = ClusteredFailover(context, None, known, self.said, LEASE, clock=self.clock)
        self.tell(LeadMachine.members, {"a": self.clock(), "b": self.clock()})
        self.failover.wrote(1, "p", "192.0.2.1:1")
        self.tell(LeadMachine.held, "a", is_mine=True)
        self.joined()

    def tell(self, what, *about, **more):
        self.failover.hear_of(lambda machine, now: what(machine, *about, now, **more))

    def joined(self):
        self.tell(LeadMachine.renewed, self.clock() + LEASE)

    def cut_off(self):
        self.tell(LeadMachine.renewed, 0.0)

    def give_lead(self, node):
        self.tell(LeadMachine.held, node, is_mine=node == "a")


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.failover.stop()
    made.loop.close()


def looks(caplog):
    return [line for line in caplog.messages if "q is to be promoted" in line]


def test_an_order_outlives_the_lead_of_a_node_that_has_it_again(rig, caplog):
    """What it had announced was not written: p is primary as before, and the order is taken up anew, in a new epoch."""
    caplog.set_level("INFO")
    assert rig.failover.promote("q") == ""
    assert rig.said.written == [(2, "")]
    rig.cut_off()
    assert not rig.failover.machine.is_leading
    rig.clock.turn(1.0)
    assert rig.said.written == [(2, "")]
    rig.joined()
    assert rig.failover.machine.is_leading
    assert rig.said.written == [(2, ""), (3, "")]
    assert rig.said.orders == []
    assert len(looks(caplog)) == 2
    rig.joined()
    assert len(rig.said.written) == 2, "once"


def test_it_is_given_to_the_node_that_decides_then(rig):
    assert rig.failover.promote("q") == ""
    rig.cut_off()
    rig.give_lead("b")
    assert rig.said.orders == []
    rig.joined()
    assert rig.said.orders == ["q"]
    rig.give_lead("a")
    assert rig.said.orders == ["q"]
    assert rig.said.written == [(2, "")]


def test_it_is_dropped_where_nobody_could_decide_for_long(rig, caplog):
    assert rig.failover.promote("q") == ""
    rig.cut_off()
    rig.clock.turn(ORDER_KEPT + 1)
    rig.joined()
    assert rig.said.written == [(2, "")]
    assert rig.said.orders == []
    assert "app db: the order to make q primary is dropped: no node could decide for 31 s" in caplog.text



def test_one_that_has_found_nobody_stands_in_the_way_of_no_take_over(rig):
    """It may be so for hours: targets that are broken are what a newer program, or another file, is for."""
    down(rig)
    assert rig.failover.is_settled
    rig.failover._failover.begin("a test wants it")
    assert not rig.failover.is_settled
    rig.failover.wrote(2, "", "")
    assert not rig.failover.is_settled, "b has not paused"
    rig.tell(LeadMachine.answers, {"b": 2})
    assert rig.failover.view().phase == "waiting"
    assert rig.failover.is_settled
    assert rig.failover.given_of_node() == {}, "there is nothing to go on with"


def down(rig):
    for target in rig.failover.app.targets.values():
        target.health = State.DOWN
