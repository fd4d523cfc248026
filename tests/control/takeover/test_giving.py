"""What moves until the last moment, paused and going on again, in a program of which only that is there."""

from types import SimpleNamespace

import pytest

from kit.clock import Clock
from tcp_proxy.control.takeover.giving import LOOK, Last
from tcp_proxy.runtime.loop import Loop


class Part:
    """What stands for all that is paused: it has paused at once, or when a test says so."""

    def __init__(self):
        self.done, self.resumed = None, 0

    def pause(self, done):
        self.done = done

    def resume(self):
        self.resumed += 1


class Rig:
    def __init__(self):
        self.clock = Clock()
        self.loop = Loop(clock=self.clock)
        self.sticks, self.store = Part(), Part()
        self.worker = SimpleNamespace(is_waiting=True)
        pool = SimpleNamespace(introduced=[self.worker])
        context = SimpleNamespace(
            loop=self.loop, sticks=self.sticks, access_log=None, cluster=None, worker_pool=pool
        )
        self.told = []
        self.last = Last(SimpleNamespace(context=context, store=self.store), lambda *told: self.told.append(told))
        self.last.begin()

    def have_paused(self):
        self.sticks.done({})
        self.store.done(-1)
        self.turn(0)

    def turn(self, seconds):
        self.clock.turn(seconds)
        self.loop.run_once(0)


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.loop.close()


def test_all_goes_on_once_when_it_is_over_while_a_worker_has_still_to_take_something(rig):
    rig.have_paused()
    rig.last.resume()
    assert rig.sticks.resumed == 1
    for _ in range(3):
        rig.turn(LOOK)
    assert (rig.sticks.resumed, rig.store.resumed, rig.told) == (1, 1, [])


def test_what_has_not_paused_yet_when_it_is_over_goes_on_when_it_has(rig):
    rig.last.resume()
    assert rig.sticks.resumed == 0
    rig.have_paused()
    rig.turn(LOOK)
    assert (rig.sticks.resumed, rig.store.resumed, rig.told) == (1, 1, [])
