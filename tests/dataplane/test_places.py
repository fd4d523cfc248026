"""How many sessions an app may have: a model of several workers that begin, end, change the limit and die at any moment."""

import os
import threading

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tcp_proxy.control.targets.semaphores import close_tokens, give_back_tokens, make_semaphores, set_semaphore
from tcp_proxy.dataplane.places import SessionPlaces
from tcp_proxy.wire.counters import (
    ACTIVE,
    APP_SLOTS,
    GAUGES,
    PROCESS_SLOTS,
    ROWS_PER_WORKER,
    SEMAPHORE,
    UNPAID,
    Counters,
)

SLOT = PROCESS_SLOTS
WORKERS = 2
APP = "web", ""
which_worker = st.integers(0, WORKERS - 1)


class Supervisor:
    """What it has of the app."""

    slot, tokens, semaphore = SLOT, -1, 0


class Worker:
    """Rows of its own, as a process has them; it may be behind with what the supervisor says."""

    def __init__(self, memory, index):
        first = 1 + index * ROWS_PER_WORKER
        self.rows = memory.rows[first : first + ROWS_PER_WORKER]
        self.places = SessionPlaces(SLOT, memory.rows)
        self.places.limited = True
        self.semaphore = -1  # the number of the one that it has adopted
        self.sessions = []  # their numbers, oldest first

    def adopt(self, supervisor):
        self.places.adopt(os.dup(supervisor.tokens), self.rows, supervisor.semaphore)
        self.semaphore = supervisor.semaphore

    def begin(self, number):
        taken = self.places.begin(number, self.rows[0])
        if taken:
            self.sessions.append(number)
        return taken

    def end(self, at, row):
        self.places.end(self.sessions.pop(at), self.rows[row])


class AnApp(RuleBasedStateMachine):
    """The model: `free` tokens of the semaphore that is in force, and each worker's share of what is taken."""

    def __init__(self):
        super().__init__()
        self.memory, fd = Counters.create(1 + WORKERS * ROWS_PER_WORKER, SLOT + APP_SLOTS)
        os.close(fd)
        self.supervisor = Supervisor()
        self.numbers = iter(range(10_000))
        self.workers = [Worker(self.memory, index) for index in range(WORKERS)]
        self.unpaid = [0] * WORKERS
        self.settled = [False] * WORKERS  # they have once seen that nobody lacks a token
        self.limit = self.free = 0
        self.new_limit(2)
        for index in range(WORKERS):
            self.adopt(index)

    def teardown(self):
        for worker in self.workers:
            worker.places.lift()
        close_tokens(self.supervisor)
        del self.workers
        self.memory.close()

    def is_behind(self, worker):
        return worker.semaphore != self.supervisor.semaphore

    @rule(limit=st.integers(1, 5))
    def new_limit(self, limit):
        self.adopt_all()  # a reload begins when the last one is known everywhere
        number = self.supervisor.semaphore + 1
        set_semaphore(self.supervisor, APP, make_semaphores({APP: limit}), limit, number)
        self.limit = self.free = limit

    def adopt_all(self):
        for index, worker in enumerate(self.workers):
            if worker.semaphore >= 0 and self.is_behind(worker):
                self.adopt(index)

    @rule(index=which_worker)
    def adopt(self, index):
        worker = self.workers[index]
        if self.is_behind(worker):
            worker.adopt(self.supervisor)
            self.settled[index] = False
            bought = min(self.free, len(worker.sessions))
            self.free -= bought
            self.unpaid[index] = len(worker.sessions) - bought

    @rule(index=which_worker)
    def begin(self, index):
        worker = self.workers[index]
        if self.is_behind(worker):
            return  # what it takes is of a semaphore that nobody else has any more
        owed = sum(
            len(other.sessions) if self.is_behind(other) else self.unpaid[n] for n, other in enumerate(self.workers)
        )
        self.settled[index] |= not owed and self.free > 0
        is_free = self.free > (0 if self.settled[index] else owed)
        assert worker.begin(next(self.numbers)) == is_free, "refused exactly when the app is full"
        self.free -= is_free

    @rule(index=which_worker, at=st.integers(0, 9), row=st.integers(0, ROWS_PER_WORKER - 1))
    def end(self, index, at, row):
        """In the loop's thread or a relay thread."""
        worker = self.workers[index]
        if not worker.sessions:
            return
        worker.end(at % len(worker.sessions), row)
        if self.unpaid[index]:
            self.unpaid[index] -= 1
        elif not self.is_behind(worker):
            self.free += 1

    @rule(index=which_worker)
    def settle(self, index):
        """What has become free pays for those who have no token."""
        if not self.is_behind(self.workers[index]):
            bought = min(self.free, self.unpaid[index])
            self.free -= bought
            self.unpaid[index] -= bought
            assert self.workers[index].places.settle() == (not self.unpaid[index])

    @rule(index=which_worker)
    def nobody_ends(self, index):
        """One that has no place says that it is over."""
        self.workers[index].places.end(10**6, self.workers[index].rows[0])

    @rule(index=which_worker)
    def die(self, index):
        worker = self.workers[index]
        held = {}
        first = 1 + index * ROWS_PER_WORKER
        for row in range(first, first + ROWS_PER_WORKER):
            for slot, value in self.memory.fold(row, SLOT, APP_SLOTS, GAUGES["app"]).items():
                held[slot] = held.get(slot, 0) + value
        give_back_tokens(self.supervisor, held)
        if not self.is_behind(worker):
            self.free += len(worker.sessions) - self.unpaid[index]
        self.unpaid[index] = 0
        worker.places.lift()
        self.workers[index] = Worker(self.memory, index)
        self.adopt(index)

    @invariant()
    def the_counters_say_so(self):
        assert self.memory.total(SLOT + ACTIVE) == sum(len(worker.sessions) for worker in self.workers)
        for index, worker in enumerate(self.workers):
            assert worker.places.unpaid == self.unpaid[index] == sum(row[SLOT + UNPAID] for row in worker.rows)
            assert worker.rows[0][SLOT + SEMAPHORE] == worker.semaphore

    @invariant()
    def never_more_than_the_limit(self):
        if not any(self.unpaid) and not any(map(self.is_behind, self.workers)):
            assert sum(len(worker.sessions) for worker in self.workers) == self.limit - self.free <= self.limit


AnApp.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnApp = AnApp.TestCase


class Held:
    """An app's places with a limit of its own."""

    def __init__(self, limit):
        self.memory, fd = Counters.create(1 + ROWS_PER_WORKER, SLOT + APP_SLOTS)
        os.close(fd)
        self.rows = self.memory.rows[1:]
        self.places = SessionPlaces(SLOT, self.memory.rows)
        self.places.limited = True
        self.places.adopt(make_semaphores({APP: limit})[APP], self.rows)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.places.lift()

    @property
    def active(self):
        return self.memory.total(SLOT + ACTIVE)


class Member:
    def __init__(self, number):
        self.number = number


def test_sessions_that_are_there_already_are_counted_once():
    with Held(9) as held:
        held.places.begin(1, held.rows[0])
        for row in held.rows:
            held.places.count_in([Member(1), Member(2)], row)
        assert held.active == 2
        held.places.end(2, held.rows[1])
        held.places.end(2, held.rows[1])
        assert held.active == 1


def test_what_goes_on_when_the_app_has_left_counts_for_nothing():
    with Held(2) as held:
        held.places.begin(1, held.rows[0])
        held.places.begin(2, held.rows[0])
        held.places.leave(held.rows[0])
        assert held.active == 0
        held.places.end(1, held.rows[2])
        assert held.active == 0
        assert "0 held" in repr(held.places)


def test_a_session_ends_once_though_the_app_leaves_in_that_very_moment():
    """A relay thread counts it out while the loop's thread counts all of them out."""
    for _ in range(20):
        with Held(1000) as held:
            for number in range(500):
                held.places.begin(number, held.rows[0])
            begun = threading.Barrier(2)

            def relay(held=held, begun=begun):
                begun.wait()
                for number in range(500):
                    held.places.end(number, held.rows[1])

            thread = threading.Thread(target=relay, name="relay")
            thread.start()
            begun.wait()
            held.places.leave(held.rows[0])
            thread.join()
            assert held.active == 0


def test_threads_that_end_sessions_at_the_same_time_give_back_what_was_paid():
    """The loop's thread without the lock, while it sees that all have their tokens; a relay thread under it."""
    for _ in range(10):
        with Held(400) as held:
            for number in range(400):
                held.places.begin(number, held.rows[0])
            held.places.adopt(make_semaphores({APP: 300})[APP], held.rows, 1)
            assert held.places.unpaid == 100
            begun = threading.Barrier(2)

            def end(first, row, held=held, begun=begun):
                begun.wait()
                for number in range(first, 400, 2):
                    held.places.end(number, row)

            thread = threading.Thread(target=end, args=(0, held.rows[1]), name="relay")
            thread.start()
            end(1, held.rows[0])
            thread.join()
            assert (held.active, held.places.unpaid) == (0, 0)
            assert sum(held.places.begin(number, held.rows[0]) for number in range(400)) == 300
