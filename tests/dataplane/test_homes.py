"""Deadlines without timers: met in time, moved without cost, and nothing runs while nothing is due."""

from tcp_proxy.dataplane.homes import GRAIN, NEVER, Home
from tcp_proxy.loop import Loop
from tests.dataplane.house import Clock


class Resident:
    def __init__(self, home, deadline):
        self.home, self.deadline, self.expired, self.asked = home, deadline, 0, 0
        home.members.add(self)
        if deadline < home.next_look:
            home.look_at(deadline)

    def due(self):
        self.asked += 1
        return self.deadline

    def expire(self):
        self.expired += 1
        self.home.members.discard(self)


class Rig:
    def __init__(self):
        self.clock = Clock()
        self.loop = Loop("test", self.clock)
        self.home = Home(self.loop, None, None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loop.close()

    def resident(self, seconds):
        return Resident(self.home, self.clock.now + seconds)

    def pass_time(self, seconds):
        self.clock.now += seconds
        self.loop.run_once(0)


def test_each_deadline_is_met_and_none_too_early():
    with Rig() as rig:
        late, early = rig.resident(30.0), rig.resident(5.0)
        rig.pass_time(4.9)
        assert early.expired == 0
        rig.pass_time(0.11)
        assert (early.expired, late.expired) == (1, 0)
        rig.pass_time(25.0)
        assert late.expired == 1
        assert rig.home.next_look == NEVER


def test_a_deadline_that_moved_is_found_not_to_be_due():
    with Rig() as rig:
        resident = rig.resident(5.0)
        resident.deadline += 100
        rig.pass_time(5.1)
        assert resident.expired == 0
        assert rig.home.next_look == resident.deadline
        rig.pass_time(100)
        assert resident.expired == 1


def test_idle_costs_nothing():
    """2,000 residents with a deadline in an hour are looked at once when the earliest is due, not every second."""
    with Rig() as rig:
        residents = [rig.resident(3600.0) for _ in range(2000)]
        for _ in range(100):
            rig.pass_time(30.0)
        assert sum(resident.asked for resident in residents) == 0


def test_looks_are_a_grain_apart():
    with Rig() as rig:
        residents = [rig.resident(1.0 + n / 1000) for n in range(100)]
        rig.pass_time(1.0)
        looked = residents[-1].asked
        rig.pass_time(0.05)
        assert residents[-1].asked == looked
        rig.pass_time(GRAIN)
        assert all(resident.expired == 1 for resident in residents)


def test_an_expiry_that_sets_a_new_deadline_is_looked_at_again():
    with Rig() as rig:
        resident = rig.resident(1.0)

        def expire():
            resident.expired += 1
            resident.deadline = rig.clock.now + 2.0
            if resident.deadline < rig.home.next_look:
                rig.home.look_at(resident.deadline)

        resident.expire = expire
        rig.pass_time(1.1)
        assert resident.expired == 1
        rig.pass_time(1.0)
        assert resident.expired == 1
        rig.pass_time(1.1)
        assert resident.expired == 2
