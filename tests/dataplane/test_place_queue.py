"""Who waits for a place gets it in his turn: several workers with one memory and one bell, on clocks that the test turns."""

import itertools
import os
import pathlib
import re
from collections import deque
from contextlib import ExitStack

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tcp_proxy.config.model import SessionLimits
from tcp_proxy.control.targets.semaphores import give_back_tokens, make_semaphores
from tcp_proxy.dataplane.place_queue import AT_ONCE, LOOKS, YIELD, Bell, PlaceQueue
from tcp_proxy.dataplane.places import SessionPlaces
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.wire.counters import (
    ACTIVE,
    APP_SLOTS,
    GAUGES,
    PROCESS_SLOTS,
    QUEUE_FIRST,
    QUEUE_LINES,
    QUEUE_MICROSECONDS,
    QUEUED,
    QUEUED_TOTAL,
    ROWS_PER_WORKER,
    Counters,
)

SLOT = PROCESS_SLOTS
SECONDS = 30.0


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Client:
    """A Waiter for a place of the app."""

    def __init__(self, worker, number):
        self.worker, self.number = worker, number
        self.outcome = None  # "given", or why not
        self.is_gone = False

    def __repr__(self):
        return f"<Client {self.number} {self.outcome}>"

    def has_gone(self):
        if self.is_gone:
            self.leave()
        return self.is_gone

    def leave(self):
        self.outcome = "left"
        self.worker.queue.leave(self)

    def take_place(self):
        return True if self.worker.places.begin(self.number, self.worker.row) else None

    def return_place(self, _place):
        self.worker.places.end(self.number, self.worker.row)

    def place_given(self, _place):
        assert self.outcome is None
        self.outcome = "given"
        self.worker.house.given.append(self)

    def place_denied(self, reason):
        assert self.outcome is None
        self.outcome = reason


class Places:
    """Those of a worker, which are none for a reason that the test says."""

    def __init__(self, places):
        self._places, self.reason = places, Reason.LIMIT

    def __getattr__(self, name):
        return getattr(self._places, name)

    def why_none(self, _now):
        return self.reason


class Worker:
    def __init__(self, house, index):
        self.house, self.row = house, house.memory.rows[1 + index * ROWS_PER_WORKER]
        self.loop = Loop(f"worker-{index}", house.clock)
        self.queue = PlaceQueue(self.loop, Bell(self.loop, house.bell), house.rows, self.row, SLOT)
        self.queue.configure(SessionLimits(queue=house.most, queue_timeout=SECONDS))
        self.places = SessionPlaces(SLOT, house.memory.rows)
        self.places.limited = True
        self.places.adopt(os.dup(house.tokens), [self.row])
        self.places.queue = self.queue
        self.is_stopped = False  # it hangs
        self.is_dead = False

    def come(self):
        """A client, as a worker takes one in."""
        client = Client(self, next(self.house.numbers))
        self.house.clock.now += 0.001
        self.loop.now = self.house.clock.now
        if not self.queue.holds_back(0) and client.take_place():
            client.outcome = "at once"
        elif self.queue.enter(client, self.places):
            self.house.waiting.append(client)
            self.queue.look()
        else:
            client.outcome = "full"
        return client

    def end(self, client):
        self.places.end(client.number, self.row)


    def die(self):
        """With all that it had; its rows stand until the supervisor has counted it out."""
        self.is_stopped = self.is_dead = True
        self.places.lift()
        self.loop.close()


class Workers:
    """`slot`, `tokens` and `semaphore`: the app, as the supervisor knows it."""

    slot, semaphore = SLOT, 0

    def __init__(self, workers=2, limit=1, most=100):
        self.most, self.clock, self.numbers = most, Clock(), itertools.count()
        self.memory, fd = Counters.create(1 + workers * ROWS_PER_WORKER, SLOT + APP_SLOTS)
        os.close(fd)
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        (self.tokens,) = make_semaphores({("web", ""): limit}).values()
        self.given, self.waiting = [], []  # in this order
        self.all = [Worker(self, index) for index in range(workers)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.all:
            if not worker.is_dead:
                worker.die()
        os.close(self.bell)
        os.close(self.tokens)
        del self.all
        self.memory.close()

    def rows(self):
        return self.memory.rows[1::ROWS_PER_WORKER]

    def turn(self, order=None, rounds=4):
        """Each loop a few times, but for those that hang."""
        for _ in range(rounds):
            for worker in order or self.all:
                if not worker.is_stopped:
                    worker.loop.run_once(0)

    def bury(self):
        """What the supervisor does for workers that have died: their tokens come back, and others are in their place."""
        for index, worker in enumerate(self.all):
            if worker.is_dead:
                gauges = self.memory.fold(1 + index * ROWS_PER_WORKER, SLOT, APP_SLOTS, GAUGES["app"])
                give_back_tokens(self, gauges)
                self.all[index] = Worker(self, index)
                os.eventfd_write(self.bell, 1)

    def free_tokens(self):
        count = re.search(r"eventfd-count:\s*(\w+)", pathlib.Path(f"/proc/self/fdinfo/{self.tokens}").read_text())
        return int(count[1], 16)

    def pass_time(self, seconds):
        self.clock.now += seconds
        self.turn()

    def total(self, place):
        return self.memory.total(SLOT + place)


# -- one worker


def test_who_comes_first_is_served_first():
    with Workers(1) as house:
        (worker,) = house.all
        first = worker.come()
        waiting = [worker.come() for _ in range(3)]
        assert [client.outcome for client in waiting] == [None] * 3
        assert house.total(QUEUED) == 3
        for number, client in enumerate([first, *waiting[:2]]):
            worker.end(client)
            house.turn()
            assert [client.outcome for client in waiting] == ["given"] * (number + 1) + [None] * (2 - number)
        assert (house.total(QUEUED), house.total(QUEUED_TOTAL)) == (0, 3)


def test_whoever_comes_while_somebody_waits_waits_too():
    with Workers(1) as house:
        (worker,) = house.all
        first, second = worker.come(), worker.come()
        worker.end(first)  # and before anybody has looked
        third = worker.come()
        assert (second.outcome, third.outcome) == ("given", None)


def test_the_queue_has_its_end():
    with Workers(2, most=2) as house:
        one, other = house.all
        one.come()
        assert [worker.come().outcome for worker in (one, other, one, other)] == [None, None, "full", "full"]
        assert house.total(QUEUED) == 2


def test_time_is_over_for_each_in_his_turn():
    with Workers(1) as house:
        (worker,) = house.all
        worker.come()
        early = worker.come()
        house.pass_time(10)
        late = worker.come()
        house.pass_time(SECONDS - 10 + 0.01)
        assert (early.outcome, late.outcome) == (Reason.QUEUE_TIMEOUT, None)
        house.pass_time(10)
        assert late.outcome is Reason.QUEUE_TIMEOUT
        assert house.total(QUEUE_MICROSECONDS) == pytest.approx(2 * SECONDS * 1e6, rel=0.01)
        assert house.total(QUEUED) == 0


def test_a_new_time_is_that_of_those_who_wait_already():
    with Workers(1) as house:
        (worker,) = house.all
        worker.come()
        client = worker.come()
        worker.queue.configure(SessionLimits(queue=5, queue_timeout=2))
        house.pass_time(2.01)
        assert client.outcome is Reason.QUEUE_TIMEOUT


def test_a_queue_that_is_off_takes_nobody_and_serves_who_is_in():
    with Workers(1) as house:
        (worker,) = house.all
        first, second = worker.come(), worker.come()
        worker.queue.configure(SessionLimits())
        assert worker.come().outcome == "full"
        worker.end(first)
        house.turn()
        assert second.outcome == "given"
        assert len(worker.queue) == 0


def test_who_leaves_is_never_served():
    with Workers(1) as house:
        (worker,) = house.all
        first, *waiting = [worker.come() for _ in range(4)]
        waiting[0].leave()
        waiting[1].is_gone = True  # no event has told of it yet
        worker.end(first)
        house.turn()
        assert [client.outcome for client in waiting] == ["left", "left", "given"]


def test_many_places_at_once_are_given_in_slices():
    with Workers(1, limit=3 * AT_ONCE, most=10_000) as house:
        (worker,) = house.all
        inside = [worker.come() for _ in range(3 * AT_ONCE)]
        waiting = [worker.come() for _ in range(3 * AT_ONCE)]
        for client in inside:
            worker.end(client)
        worker.loop.run_once(0)
        assert len(house.given) <= 2 * AT_ONCE, "the sessions have their turn in between"
        house.turn(rounds=10)
        assert house.given == waiting


def test_many_whose_time_is_over_are_told_in_slices():
    with Workers(1, most=10_000) as house:
        (worker,) = house.all
        worker.come()
        waiting = [worker.come() for _ in range(3 * AT_ONCE)]
        house.clock.now += 2 * SECONDS
        worker.loop.run_once(0)
        assert sum(client.outcome is not None for client in waiting) <= 2 * AT_ONCE
        house.turn(rounds=10)
        assert {client.outcome for client in waiting} == {Reason.QUEUE_TIMEOUT}


def test_one_that_fails_when_it_is_served_holds_up_nobody():
    with Workers(1, limit=2) as house:
        (worker,) = house.all
        faults = []
        worker.loop.on_error = lambda *what: faults.append(what)
        inside = [worker.come() for _ in range(2)]
        bad, good = worker.come(), worker.come()
        bad.place_given = lambda _place: 1 / 0
        for client in inside:
            worker.end(client)
        house.turn()
        assert good.outcome == "given"
        assert len(faults) == 1


def test_one_who_comes_while_somebody_is_served_is_not_forgotten():
    """As in mode http, where who is served may ask for more in the same turn."""
    with Workers(1, limit=1) as house:
        (worker,) = house.all
        first, second = worker.come(), worker.come()
        later = []

        def given(_place):
            worker.end(second)
            later.append(worker.come())

        second.place_given = given
        worker.end(first)
        house.turn()
        assert later[0].outcome in ("given", "at once")


def test_when_nobody_can_have_a_place_any_more_all_are_told():
    with Workers(1) as house:
        (worker,) = house.all
        places = worker.places = Places(worker.places)
        worker.come()
        waiting = [worker.come() for _ in range(3)]
        places.reason = Reason.NO_TARGET
        worker.queue.look()
        assert {client.outcome for client in waiting} == {Reason.NO_TARGET}


def test_ten_thousand_who_wait_cost_nothing_while_nothing_moves():
    """No event, no call, and one timer, of the first whose time is over."""
    with Workers(2, most=20_000) as house:
        one, other = house.all
        one.come()
        for _ in range(5_000):
            one.come()
            other.come()
        house.turn(rounds=3)
        for worker in house.all:
            looked = []
            worker.queue.look = lambda looked=looked: looked.append(1)
            rounds = worker.loop.round
            house.clock.now += 5
            worker.loop.run_once(0)
            assert (worker.loop.round, looked) == (rounds + 1, [])
            assert len([timer for timer in worker.loop._timers if timer.call is not None]) == 1
            assert not worker.loop._again
            assert not worker.loop._calls
            del worker.queue.look


# -- several workers


def test_a_place_that_is_given_back_here_goes_to_who_waits_longest_anywhere():
    with Workers(3, limit=1) as house:
        a, b, c = house.all
        holder = a.come()
        waiting = [b.come(), c.come(), a.come(), b.come()]
        owner = a
        for client in waiting:
            owner.end(holder)
            house.turn()
            assert client.outcome == "given"
            holder, owner = client, client.worker
        assert house.given == waiting


def test_two_places_at_once_go_to_two_workers_by_one_bell():
    """One of them has heard the bell when it was not his turn; the other rings again when it has moved."""
    with Workers(2, limit=2) as house:
        a, b = house.all
        inside = [a.come(), a.come()]
        first, second = a.come(), b.come()
        for client in inside:
            a.end(client)
        b.loop.run_once(0)  # hears it first, and leaves both
        assert second.outcome is None
        house.turn([a, b])
        assert (first.outcome, second.outcome) == ("given", "given")


def test_a_place_that_was_left_to_one_who_leaves_goes_to_the_next():
    with Workers(2, limit=1) as house:
        a, b = house.all
        holder, first, second = a.come(), a.come(), b.come()
        a.end(holder)
        b.loop.run_once(0)
        first.leave()
        house.turn()
        assert second.outcome == "given"


def test_a_worker_that_hangs_holds_the_others_up_once():
    with Workers(2, limit=1) as house:
        a, b = house.all
        holder, stuck = a.come(), b.come()
        waiting = [a.come(), a.come()]
        b.is_stopped = True
        a.end(holder)
        house.turn()
        for _ in range(LOOKS - 1):
            house.pass_time(YIELD + 0.001)
            assert waiting[0].outcome is None
        house.pass_time(YIELD + 0.001)
        assert waiting[0].outcome == "given"
        a.end(waiting[0])
        house.turn()
        assert waiting[1].outcome == "given"
        b.is_stopped = False
        a.end(waiting[1])
        house.turn()
        assert stuck.outcome == "given"


def test_one_who_waits_long_because_nothing_is_free_is_not_taken_for_one_who_hangs():
    with Workers(2, limit=1) as house:
        a, b = house.all
        holder, first, second = a.come(), b.come(), a.come()
        for _ in range(20):
            os.eventfd_write(house.bell, 1)  # of something else
            house.pass_time(YIELD)
        a.end(holder)
        house.turn([a, b])
        assert (first.outcome, second.outcome) == ("given", None)


def test_of_two_who_have_waited_longer_only_the_one_who_hangs_is_passed_over():
    with Workers(3, limit=1) as house:
        a, b, c = house.all
        holder, stuck, next_, last = a.come(), b.come(), c.come(), a.come()
        b.is_stopped = True
        a.end(holder)
        for _ in range(3 * LOOKS):
            house.pass_time(YIELD + 0.001)
        assert (stuck.outcome, next_.outcome, last.outcome) == (None, "given", None)


def test_what_a_worker_that_died_has_shown_is_gone_with_its_rows():
    with Workers(2, limit=1) as house:
        a, b = house.all
        holder, _lost, waits = a.come(), b.come(), a.come()
        b.is_stopped = True
        a.end(holder)
        house.turn()
        assert waits.outcome is None
        for place in (QUEUED, *range(QUEUE_FIRST, QUEUE_FIRST + QUEUE_LINES)):
            b.row[SLOT + place] = 0
        os.eventfd_write(house.bell, 1)
        house.turn()
        assert waits.outcome == "given"


class AQueue(RuleBasedStateMachine):
    """Workers whose loops turn when the machine says so: who comes, leaves and ends in any order. Nobody is overtaken by
    more than there are workers, nobody is served who has left, and when all loops have turned no place is free that
    somebody waits for. Workers die at any moment, with those they serve and those who wait there, and are replaced later."""

    workers = 3
    which = st.integers(0, workers - 1)

    def __init__(self):
        super().__init__()
        self.stack = ExitStack()
        self.house = self.stack.enter_context(Workers(self.workers, limit=2, most=12))
        self.inside = deque()
        self.overtaken = {}

    def teardown(self):
        self.stack.close()

    @rule(index=which)
    def come(self, index):
        if self.house.all[index].is_dead:
            return
        client = self.house.all[index].come()
        if client.outcome == "at once":
            for other in self.waiting():
                self.overtaken[other] = self.overtaken.get(other, 0) + 1
            self.inside.append(client)
        self.look()

    @rule(at=st.integers(0, 20))
    def end(self, at):
        if self.inside:
            self.inside.rotate(at)
            client = self.inside.popleft()
            client.worker.end(client)

    @rule(at=st.integers(0, 20), tells=st.booleans())
    def leave(self, at, tells):
        waiting = self.waiting()
        if waiting:
            client = waiting[at % len(waiting)]
            client.is_gone = True
            if tells:
                client.leave()

    @rule(index=which)
    def turn(self, index):
        if not self.house.all[index].is_dead:
            self.house.all[index].loop.run_once(0)
        self.look()

    @rule(index=which)
    def die(self, index):
        worker = self.house.all[index]
        if not worker.is_dead:
            self.look()
            worker.die()
            self.inside = deque(client for client in self.inside if client.worker is not worker)
            for client in self.waiting():
                if client.worker is worker:
                    client.outcome = "died"

    @rule()
    def bury(self):
        self.house.bury()

    @rule()
    def turn_all(self):
        self.house.bury()
        self.house.turn(rounds=8)
        self.look()
        free = 2 - len(self.inside)
        waiting = [client for client in self.waiting() if not client.is_gone]
        assert not (free and waiting), "a place is free, and somebody waits for it"
        assert self.house.free_tokens() == free

    @rule(seconds=st.floats(0.01, 2 * SECONDS))
    def pass_time(self, seconds):
        self.house.clock.now += seconds
        self.turn_all()

    def waiting(self):
        return [client for client in self.house.waiting if client.outcome is None]

    def look(self):
        """Who was served meanwhile, and whom he has overtaken."""
        for client in self.house.given:
            for other in self.waiting():
                if other.number < client.number and not other.is_gone:
                    self.overtaken[other] = self.overtaken.get(other, 0) + 1
            self.inside.append(client)
        self.house.given.clear()

    @invariant()
    def nobody_is_overtaken_by_more_than_there_are_workers(self):
        assert max(self.overtaken.values(), default=0) <= self.workers

    @invariant()
    def who_has_left_is_not_served(self):
        assert not any(client.is_gone for client in self.house.given)

    @invariant()
    def the_counters_say_so(self):
        house = self.house
        alive = [worker for worker in house.all if not worker.is_dead]
        shown = sum(worker.row[SLOT + QUEUED] for worker in alive)
        assert shown == sum(len(worker.queue) for worker in alive) == len(self.waiting())
        assert house.total(QUEUED) <= 12
        for worker in alive:
            mine = [client for client in self.waiting() if client.worker is worker]
            assert bool(worker.row[SLOT + QUEUE_FIRST]) == bool(mine)

    @invariant()
    def never_more_than_the_limit(self):
        assert len(self.inside) <= 2

    @invariant()
    def what_dies_with_a_worker_comes_back(self):
        if not any(worker.is_dead for worker in self.house.all):
            assert self.house.total(ACTIVE) == len(self.inside) + len(self.house.given)


AQueue.TestCase.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
TestAQueue = AQueue.TestCase
