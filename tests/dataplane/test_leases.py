"""Until when the primaries of a worker's apps count: a timer for each app, however often it is renewed."""

from types import SimpleNamespace

import pytest

from kit.clock import Clock
from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.leases import Leases
from tcp_proxy.dataplane.primary_queue import PrimaryQueue
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.messages import Renewed
from tcp_proxy.wire.views import AppView


class App:
    def __init__(self, clock):
        view = AppView("db", 0, "failover", 3, Timeouts(), (), "a", 3, is_leased=True)
        self.primary_queue = PrimaryQueue(view, clock(), clock)
        self.sorted = 0

    def elect(self, epoch, primary, since):
        self.sorted += 1
        self.primary_queue.set(epoch, primary, since)


@pytest.fixture
def rig():
    clock = Clock()
    loop = Loop(clock=clock)
    apps = {"db": App(clock), "web": SimpleNamespace(primary_queue=None)}
    made = SimpleNamespace(clock=clock, loop=loop, apps=apps, app=apps["db"], told=[])
    made.leases = Leases(loop, apps, lambda _: made.told.append("renewed"), lambda _: made.told.append("lapsed"))
    yield made
    loop.close()


def turn(rig, seconds):
    rig.clock.turn(seconds)
    rig.loop.run_once(0)


def renew(rig, seconds, epoch=3):
    rig.leases.hear(Renewed(("db", "web", "gone"), (epoch, 0, 1), rig.clock() + seconds), [])


def test_a_primary_counts_from_the_first_word_to_the_last_time(rig):
    assert rig.app.primary_queue.primary == ""
    renew(rig, 10.0, epoch=2)
    assert rig.told == []
    renew(rig, 10.0)
    assert (rig.told, rig.app.primary_queue.primary) == (["renewed"], "a")
    for _ in range(5):
        turn(rig, 4.0)
        renew(rig, 10.0)
    assert rig.told == ["renewed"]
    turn(rig, 9.9)
    assert rig.told == ["renewed"]
    turn(rig, 0.2)
    assert (rig.told, rig.app.primary_queue.primary) == (["renewed", "lapsed"], "")
    renew(rig, 10.0)
    assert (rig.told[2:], rig.app.primary_queue.primary) == (["renewed"], "a")
    turn(rig, 10.1)
    assert rig.told[3:] == ["lapsed"]


def test_without_a_primary_nothing_lapses(rig):
    renew(rig, 10.0)
    rig.app.elect(4, "", 1.0)
    turn(rig, 20.0)
    assert rig.told == ["renewed"]
    rig.app.elect(4, "b", 21.0)
    renew(rig, 10.0, epoch=4)
    turn(rig, 10.1)
    assert rig.told == ["renewed", "renewed", "lapsed"]
