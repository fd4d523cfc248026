"""Limits of rates and by client: a model of two workers that admit, end and die at any moment; keys, tables, threads."""

import os
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tcp_proxy.config.model import SessionLimits
from tcp_proxy.dataplane.client_limits import (
    RATE,
    RATE_PER_CLIENT,
    REMEMBERED,
    SESSIONS_PER_CLIENT,
    ClientLimits,
    Verdict,
    why,
)
from tcp_proxy.sansio.token_bucket import SECOND, TokenBucket
from tcp_proxy.wire import client_table
from tcp_proxy.wire.client_table import ClientTable
from tcp_proxy.wire.counters import (
    APP_SLOTS,
    CLIENTS_FORGOTTEN,
    CLIENTS_UNTRACKED,
    DELAY_MICROSECONDS,
    DELAYED,
    LIMITED,
)

WORKERS = 2
ENTRIES = client_table.LEAST
CLIENTS = [("192.0.2.1", 5), ("192.0.2.2", 5), ("2001:db8::1", 5, 0, 0)]
which_worker, which_client = st.integers(0, WORKERS - 1), st.sampled_from(range(len(CLIENTS)))


class Worker:
    """A loop's thread and one beside it, with a row each."""

    def __init__(self, fd, number, limits, is_http=False):
        self.rows = [memoryview(bytearray(8 * APP_SLOTS)).cast("q") for _ in range(2)]
        self.limits = ClientLimits(ClientTable(fd, number), 1, 0, self.rows[0], limits, is_http)
        self.sessions = {}  # number -> client

    def ask(self, address, number, now):
        """As it is done for each client: what LimitsStage.admits does."""
        return None if self.limits.lets_in(address, number, now) else self.limits.admit(address, number, now)

    def counted(self, slot):
        return sum(row[slot] for row in self.rows)


class Clients(RuleBasedStateMachine):
    """One app; time stands still unless it passes."""

    limits = SessionLimits(sessions_per_client=3, rate=8, burst=6, rate_per_client=2, burst_per_client=4)

    def __init__(self):
        super().__init__()
        self.fd = client_table.create(ENTRIES)
        self.workers = [Worker(self.fd, number, self.limits) for number in range(WORKERS)]
        self.now, self.number = 100 * SECOND, 0
        self.of_app = [TokenBucket(self.limits.rate, self.limits.burst), 0]
        bucket = TokenBucket(self.limits.rate_per_client, self.limits.burst_per_client)
        self.of_clients = {client: [bucket, 0] for client in range(len(CLIENTS))}

    def teardown(self):
        os.close(self.fd)

    def sessions(self, client):
        return sum(list(worker.sessions.values()).count(client) for worker in self.workers)

    def wanted(self, client):
        """The limit that it is above, None: it is let in."""
        if self.sessions(client) >= self.limits.sessions_per_client:
            return SESSIONS_PER_CLIENT
        mine, all_ = self.of_clients[client], self.of_app
        later, wait = mine[0].take(mine[1], self.now)
        if wait > 0:
            return RATE_PER_CLIENT
        later_all, wait = all_[0].take(all_[1], self.now)
        if wait > 0:
            return RATE
        mine[1], all_[1] = later, later_all
        return None

    @rule(index=which_worker, client=which_client)
    def come(self, index, client):
        self.number += 1
        worker, wanted = self.workers[index], self.wanted(client)
        verdict = worker.ask(CLIENTS[client], self.number, self.now / SECOND)
        assert (None if verdict is None else verdict.limit) == wanted
        if verdict is None:
            worker.sessions[self.number] = client

    @rule(index=which_worker, at=st.integers(0, 9), row=st.integers(0, 1))
    def end(self, index, at, row):
        worker = self.workers[index]
        numbers = list(worker.sessions)
        if numbers:
            number = numbers[at % len(numbers)]
            del worker.sessions[number]
            worker.limits.release(number, worker.rows[row])
            worker.limits.release(number, worker.rows[row])

    @rule(eighths=st.integers(1, 16))
    def pass_time(self, eighths):
        self.now += eighths * SECOND // 8

    @rule(index=which_worker)
    def die(self, index):
        client_table.forget_worker(self.fd, index)
        self.workers[index] = Worker(self.fd, index, self.limits)

    @invariant()
    def every_session_is_counted_once(self):
        table = self.workers[0].limits._table
        for client, address in enumerate(CLIENTS):
            key, _, place, _ = self.workers[0].limits._remember(address[0], address)
            entry = table.find(key, place)
            assert (table.sessions(entry) if entry >= 0 else 0) == self.sessions(client)


Clients.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestClients = Clients.TestCase


@pytest.fixture
def make():
    """Call it for a Worker of one table."""
    fd = client_table.create(ENTRIES)
    yield lambda number=0, is_http=False, **limits: Worker(fd, number, SessionLimits(**limits), is_http)
    os.close(fd)


def admitted(worker, address, count, now=100.0, first=1):
    """How many of so many are let in."""
    return [worker.ask((address, 5), first + n, now) for n in range(count)].count(None)


@pytest.mark.parametrize(
    ("limits", "one", "other", "is_same"),
    [
        ({}, "192.0.2.1", "192.0.2.2", False),
        ({}, "192.0.2.1", "::ffff:192.0.2.1", True),
        ({"ipv4_prefix": 24}, "192.0.2.1", "192.0.2.200", True),
        ({"ipv4_prefix": 24}, "192.0.2.1", "192.0.3.1", False),
        ({}, "2001:db8::1", "2001:db8::ffff:2", True),
        ({}, "2001:db8::1", "2001:db8:0:1::1", False),
        ({"ipv6_prefix": 48}, "2001:db8::1", "2001:db8:0:1::1", True),
        ({"ipv6_prefix": 128}, "2001:db8::1", "2001:db8::2", False),
        ({"ipv6_prefix": 128}, "fe80::1%eth0", "fe80::1%eth1", True),
        ({"ipv6_prefix": 96}, "2001:db8::1", "2001:db8::2", True),
        ({"ipv4_prefix": 1}, "1.2.3.4", "::1", False),
    ],
)
def test_what_a_client_is(make, limits, one, other, is_same):
    worker = make(sessions_per_client=1, **limits)
    assert admitted(worker, one, 1) == 1
    assert admitted(worker, other, 1, first=9) == (not is_same)


def test_the_key_of_nobody_is_nobody_s(make):
    worker = make(sessions_per_client=1)
    assert admitted(worker, "::1", 2) == 1


def test_who_waits_for_its_turn_has_it_in_order_and_not_beyond_the_time(make):
    """The turns of both workers' clients are one line."""
    limits = {"rate": 10.0, "burst": 2, "action": "delay", "queue_timeout": 0.35}
    one, other = make(0, **limits), make(1, **limits)
    waits = [worker.limits.admit(CLIENTS[0], 1, 100.0) for worker in (one, other) * 4]
    assert waits[:2] == [None, None]
    assert [verdict.limit for verdict in waits[2:]] == [-1, -1, -1, RATE, RATE, RATE]
    assert [verdict.wait for verdict in waits[2:6]] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert sum(worker.counted(DELAYED) for worker in (one, other)) == 3
    assert sum(worker.counted(DELAY_MICROSECONDS) for worker in (one, other)) == 600_000
    assert sum(worker.counted(LIMITED + RATE) for worker in (one, other)) == 3


def test_who_is_above_one_limit_uses_nothing_of_the_others(make):
    worker = make(sessions_per_client=5, rate=1.0, burst=3, rate_per_client=1.0, burst_per_client=2)
    assert admitted(worker, "192.0.2.1", 9) == 2
    assert admitted(worker, "192.0.2.2", 9, first=20) == 1, "the app's third"
    assert admitted(worker, "192.0.2.3", 9, first=40) == 0
    assert (worker.counted(LIMITED + RATE_PER_CLIENT), worker.counted(LIMITED + RATE)) == (7, 8 + 9)
    assert admitted(worker, "192.0.2.3", 9, 101.0, first=60) == 1, "its own bucket was full still"
    assert len(worker.limits.holders) == 4


def test_the_longer_wait_is_the_wait(make):
    worker = make(rate=2.0, burst=1, rate_per_client=1.0, burst_per_client=1, action="delay", queue_timeout=9)
    assert [worker.limits.admit(CLIENTS[0], n, 100.0) for n in (1, 2)] == [None, Verdict(-1, 1.0)]
    assert worker.limits.admit(CLIENTS[1], 3, 100.0) == Verdict(-1, 1.0), "by the app's, of whom two were before"


def test_requests_take_tokens_and_connections_count_as_sessions_in_mode_http(make):
    worker = make(is_http=True, sessions_per_client=2, rate_per_client=1.0, burst_per_client=3)
    assert admitted(worker, "192.0.2.1", 5) == 2
    asked = [worker.limits.admit_request(("192.0.2.1", 5), 100.0) for _ in range(4)]
    assert asked == [None, None, None, Verdict(RATE_PER_CLIENT, 1.0)]
    assert make(1, is_http=True, rate=1.0).limits.admit(CLIENTS[0], 1, 100.0) is None
    assert make(1, is_http=True, rate=1.0).limits.admit_request(CLIENTS[0], 100.0) is None
    assert make(1, is_http=True, rate=1.0).limits.admit_request(CLIENTS[0], 100.0) == Verdict(RATE, 1.0)


def test_sessions_that_are_there_are_counted_in_once_by_any_thread(make):
    worker, other = make(sessions_per_client=2), make(1, sessions_per_client=2)

    class Member:
        def __init__(self, number):
            self.number, self.address = number, ("192.0.2.1", 5)

    assert admitted(worker, "192.0.2.1", 1) == 1
    for row in worker.rows:
        worker.limits.count_in([Member(1), Member(70), Member(71)], 100.0, row)
    assert admitted(other, "192.0.2.1", 1) == 0, "there are three"
    for number, row in ((70, 1), (71, 0)):
        worker.limits.release(number, worker.rows[row])
    assert admitted(other, "192.0.2.1", 2) == 1


def test_threads_that_end_sessions_at_the_same_time_lose_none(make):
    worker = make(sessions_per_client=10_000)
    assert admitted(worker, "192.0.2.1", 4000) == 4000
    shares = [range(1 + n, 4001, 4) for n in range(4)]

    def end(share, row):
        for number in share:
            worker.limits.release(number, row)

    threads = [threading.Thread(target=end, args=(share, worker.rows[1]), name="ends") for share in shares[1:]]
    for thread in threads:
        thread.start()
    end(shares[0], worker.rows[0])
    for thread in threads:
        thread.join()
    table, (key, _, place, _) = worker.limits._table, worker.limits._remember("192.0.2.1", ("192.0.2.1", 5))
    assert table.sessions(table.find(key, place)) == 0


def test_more_clients_than_it_has_room_for_cost_no_more_memory_and_only_who_has_used_least_is_forgotten(make):
    """A flood of addresses, each once: the one that has used up its rate is known all the same."""
    worker = make(rate_per_client=0.001, burst_per_client=3)
    assert admitted(worker, "192.0.2.1", 9) == 3
    for number in range(REMEMBERED + 5_000):
        address = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 5)
        assert worker.limits.admit(address, 0, 100.0) is None
    assert len(worker.limits._known) <= REMEMBERED
    assert worker.counted(CLIENTS_FORGOTTEN) > REMEMBERED + 5_000 - ENTRIES - 1
    assert admitted(worker, "192.0.2.1", 9) == 0


def test_who_finds_no_room_beside_those_who_have_sessions_is_not_limited_by_client(make):
    worker = make(sessions_per_client=1)
    numbers = range(1, 2 * ENTRIES)
    addresses = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in numbers]
    for number, address in zip(numbers, addresses, strict=True):
        assert admitted(worker, address, 1, first=number) == 1
    lacking = worker.counted(CLIENTS_UNTRACKED)
    assert len(worker.limits.holders) == len(numbers) - lacking <= ENTRIES
    untracked = next(address for n, address in zip(numbers, addresses, strict=True) if n not in worker.limits.holders)
    assert admitted(worker, untracked, 2, first=10**6) == 2
    assert worker.counted(CLIENTS_UNTRACKED) == lacking + 2
    assert admitted(worker, addresses[0], 1, first=10**6 + 9) == 0


def test_a_change_of_the_limits_forgets_nothing(make):
    worker = make(sessions_per_client=1, rate_per_client=1.0, burst_per_client=2)
    assert admitted(worker, "192.0.2.1", 3) == 1
    limits = SessionLimits(sessions_per_client=3, rate_per_client=1.0, burst_per_client=2)
    worker.limits.configure(limits, False)
    assert admitted(worker, "192.0.2.1", 3, first=7) == 1, "one of the two tokens is gone"


def test_reasons_are_said_with_the_limit():
    limits = SessionLimits(sessions_per_client=3, rate=0.5, rate_per_client=20)
    assert why(Verdict(SESSIONS_PER_CLIENT, 0), limits) == (
        "it has as many sessions as limits.sessions_per_client allows (3)"
    )
    assert why(Verdict(RATE, 0), limits) == "the app is above its limits.rate (0.5/s)"
    assert why(Verdict(RATE_PER_CLIENT, 0), limits) == "it is above limits.rate_per_client (20/s)"
