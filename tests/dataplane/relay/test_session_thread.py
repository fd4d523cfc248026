"""Deadlines without timers: met in time, moved without cost, and nothing runs while nothing is due."""

from tcp_proxy.dataplane.relay.session_thread import COUNT_EVERY, GRAIN, NEVER, SLICE, SessionThread
from tcp_proxy.runtime.loop import Loop
from tests.dataplane.house import Clock


class ThreadMember:
    def __init__(self, thread, deadline):
        self.thread, self.deadline, self.expired, self.asked = thread, deadline, 0, 0
        thread.members.add(self)
        if deadline < thread.next_look:
            thread.look_at(deadline)

    def due(self):
        self.asked += 1
        return self.deadline

    def expire(self):
        self.expired += 1
        self.thread.members.discard(self)


class Rig:
    def __init__(self):
        self.clock = Clock()
        self.loop = Loop("test", self.clock)
        self.thread = SessionThread(self.loop, None, None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loop.close()

    def resident(self, seconds):
        return ThreadMember(self.thread, self.clock.now + seconds)

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
        assert rig.thread.next_look == NEVER


def test_a_deadline_that_moved_is_found_not_to_be_due():
    with Rig() as rig:
        resident = rig.resident(5.0)
        resident.deadline += 100
        rig.pass_time(5.1)
        assert resident.expired == 0
        assert rig.thread.next_look == resident.deadline
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
            if resident.deadline < rig.thread.next_look:
                rig.thread.look_at(resident.deadline)

        resident.expire = expire
        rig.pass_time(1.1)
        assert resident.expired == 1
        rig.pass_time(1.0)
        assert resident.expired == 1
        rig.pass_time(1.1)
        assert resident.expired == 2


def test_many_are_looked_at_over_many_rounds():
    """10,000 in one round would keep everybody else waiting for 20 ms."""
    with Rig() as rig:
        residents = [rig.resident(1.0) for _ in range(10 * SLICE)]
        rig.pass_time(1.0)
        for rounds in range(1, 11):
            assert sum(resident.expired for resident in residents) == rounds * SLICE
            rig.pass_time(0.0)
        assert rig.thread.next_look == NEVER


def test_who_has_ended_before_its_turn_is_not_looked_at():
    with Rig() as rig:
        residents = [rig.resident(1.0) for _ in range(2 * SLICE)]
        rig.pass_time(1.0)
        gone = [resident for resident in residents if not resident.expired]
        for resident in gone:
            rig.thread.members.discard(resident)
        rig.pass_time(0.0)
        assert len(gone) == SLICE
        assert sum(resident.asked + resident.expired for resident in gone) == 0


def test_a_deadline_that_comes_up_during_a_long_look_is_met():
    with Rig() as rig:
        residents = [rig.resident(1.0 + n) for n in range(10 * SLICE)]
        rig.pass_time(1.0)
        soon = rig.resident(0.01)
        assert rig.thread.next_look == soon.deadline
        rig.pass_time(0.02)
        for _ in range(30):
            rig.pass_time(0.0)
        assert soon.expired == 1
        assert sum(resident.expired for resident in residents) == 1
        assert rig.thread.next_look == min(resident.deadline for resident in residents if not resident.expired)


class Counted:
    """Says how often it was asked whether it has moved anything."""

    up = down = None

    def __init__(self, thread):
        self.thread, self.asked = thread, 0
        thread.members.add(self)

    @property
    def last(self):
        self.asked += 1
        return 0.0


def test_only_sessions_that_live_long_are_counted_and_only_while_they_live():
    with Rig() as rig:
        long, waits = Counted(rig.thread), Counted(rig.thread)
        rig.thread.count_from_now(long)
        for _ in range(3):
            rig.pass_time(COUNT_EVERY + 0.01)
        assert (long.asked, waits.asked) == (3, 0)
        rig.thread.members.discard(long)
        for _ in range(3):
            rig.pass_time(COUNT_EVERY + 0.01)
        assert long.asked == 3
        assert repr(rig.loop).endswith("0 timers>"), "nothing more is to be done"
