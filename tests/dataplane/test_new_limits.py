"""Limits that come while there are sessions: everybody is counted, wherever the session lives, and no descriptor is left."""

import dataclasses
import os
import types

from tcp_proxy.dataplane.new_limits import NewLimits
from tcp_proxy.wire.counters import ACTIVE, UNPAID
from tcp_proxy.wire.messages import Limits
from tcp_proxy.wire.views import AppView, TargetView
from tests.dataplane.house import House, first_slot


class Member:
    """A session, as far as it is counted."""

    def __init__(self, number, app):
        self.number, self.app = number, app


FLAGS = os.EFD_SEMAPHORE | os.EFD_NONBLOCK


class Rig:
    def __init__(self, house):
        self.house, self.app = house, house.app
        self.mine = house.memory.rows[1:]
        self.relay = types.SimpleNamespace(members=set(), row=house.memory.rows[2])  # as a relay thread

    def configure(self, limited, target_limited=False):
        house = self.house
        target = TargetView("t0", first_slot(0), 1, False, target_limited, "up", (house.endpoint(house.servers[0]),))
        view = AppView("web", self.app.slot, "round_robin", 3, self.app.timeouts, (target,))
        self.app.configure(dataclasses.replace(view, limited=limited))

    def say(self, *limits):
        """Limits for these slots, as the worker takes them in."""
        fds = [os.eventfd(limit, FLAGS) for _, limit in limits]
        new = NewLimits([self.app], Limits(tuple(slot for slot, _ in limits), len(fds), (4,) * len(fds)), fds)
        for thread in (self.house.thread, self.relay):
            new.count_in(thread)
        new.adopt(self.house.thread, self.mine)

    def total(self, place):
        return self.house.memory.total(self.app.slot + place)


def test_the_first_limit_counts_those_who_are_there_in_every_thread():
    with House() as house:
        rig = Rig(house)
        pairs = [house.pair() for _ in range(3)]
        rig.relay.members.add(Member(77, house.app))
        rig.relay.members.add(Member(78, None))
        rig.configure(limited=True)
        rig.say((house.app.slot, 3))
        assert (rig.total(ACTIVE), rig.total(UNPAID)) == (4, 1)
        assert not house.app.places.begin(90, house.row)
        house.app.places.end(77, rig.relay.row)
        assert not house.app.places.begin(90, house.row), "one was too many"
        for client, server, _ in pairs[:1]:
            client.close()
            server.close()
        house.record()
        assert house.app.places.begin(90, house.row)
        house.app.places.end(90, house.row)
        rig.configure(limited=False)
        house.app.places.leave(house.row)


def test_one_that_was_on_its_way_to_the_loop_is_counted_when_it_has_arrived():
    with House() as house:
        rig = Rig(house)
        rig.configure(limited=True)
        fd = os.eventfd(5, FLAGS)
        new = NewLimits([house.app], Limits((house.app.slot,), 1), [fd])
        new.count_in(house.thread)
        house.pair()
        new.adopt(house.thread, rig.mine)
        assert rig.total(ACTIVE) == 1
        house.app.places.leave(house.row)


def test_a_semaphore_that_nobody_wants_any_more_is_closed():
    with House() as house:
        rig = Rig(house)
        rig.say((house.app.slot, 1), (house.app.targets["t0"].slot, 1), (99_999, 1))
        assert house.app.places is None
        assert house.app.targets["t0"].tokens == -1
        rig.configure(limited=True, target_limited=True)
        rig.say((house.app.slot, 1), (house.app.targets["t0"].slot, 2))
        assert min(house.app.places.tokens, house.app.targets["t0"].tokens) >= 0
        rig.configure(limited=False)
        assert house.app.places is None
        assert house.app.targets["t0"].tokens == -1
