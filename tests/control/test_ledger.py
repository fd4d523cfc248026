"""The counters' memory in the supervisor: seats for workers, more rows when there are more, the dead counted out."""

import os

import pytest

from tcp_proxy.control.ledger import Ledger
from tcp_proxy.control.slots import Slots
from tcp_proxy.counters import (
    ACCEPTED,
    ACTIVE,
    CONNECTS,
    LISTENER_ACCEPTED,
    LISTENER_ENDED,
    LOST,
    ROWS_PER_WORKER,
    SESSIONS,
    Counters,
)


@pytest.fixture
def ledger():
    slots = Slots()
    slots.take("target", "web", "a")
    ledger = Ledger(slots, 1)
    yield ledger
    ledger.close()


def test_seats_are_given_out_and_used_again(ledger):
    assert ledger.rows == 1 + ROWS_PER_WORKER
    assert ledger.seat("one") == 1
    assert ledger.seat("two") == 1 + ROWS_PER_WORKER
    assert ledger.seat("three") == 1 + 2 * ROWS_PER_WORKER
    assert ledger.rows == 1 + 3 * ROWS_PER_WORKER
    ledger.count_out("two")
    assert ledger.seat("four") == 1 + ROWS_PER_WORKER
    assert ledger.rows == 1 + 3 * ROWS_PER_WORKER
    other = Counters(ledger.fd, ledger.rows, ledger.memory.slots)
    ledger.memory.rows[-1][ACCEPTED] = 7
    assert other.total(ACCEPTED) == ledger.accepted == 7
    other.close()


def test_the_dead_are_counted_out(ledger):
    target = ledger.slots.take("target", "web", "a")
    door = ledger.slots.take("listener", "web", "127.0.0.1:80")
    first = ledger.seat("one")
    row, relay, _ = ledger.memory.rows[first : first + ROWS_PER_WORKER]
    row[ACCEPTED], row[SESSIONS] = 5, 3
    row[target + ACTIVE], relay[target + ACTIVE] = 4, -1
    row[target + CONNECTS], row[door + LISTENER_ACCEPTED], relay[door + LISTENER_ENDED] = 5, 5, 2
    held = ledger.count_out("one")
    assert (held[SESSIONS], held[target + ACTIVE]) == (3, 3)
    total = ledger.memory.total
    assert (total(ACCEPTED), total(SESSIONS), total(target + ACTIVE), total(target + LOST)) == (5, 0, 0, 3)
    assert total(door + LISTENER_ACCEPTED) == total(door + LISTENER_ENDED) == 5
    assert ledger.served == 5
    assert ledger.count_out("one") == {}, "it has no seat any more"


def test_sessions_that_died_without_a_target_are_their_apps(ledger):
    """Five sessions at two listeners of one app, three of them with a target; another app has its own."""
    slots = ledger.slots
    app, other, target = slots.take("app", "web"), slots.take("app", "shop"), slots.take("target", "web", "a")
    doors = [slots.take("listener", "web", f"127.0.0.1:{port}") for port in (80, 81)]
    row = ledger.memory.rows[ledger.seat("one")]
    row[target + ACTIVE] = 3
    row[doors[0] + LISTENER_ACCEPTED], row[doors[1] + LISTENER_ACCEPTED], row[doors[1] + LISTENER_ENDED] = 4, 7, 6
    ledger.count_out("one")
    assert [ledger.memory.total(slot + LOST) for slot in (target, app, other)] == [3, 2, 0]


def test_the_memory_is_as_small_as_what_is_used(ledger):
    ledger.seat("one")
    ledger.count_out("one")
    assert os.fstat(ledger.fd).st_blocks * 512 < 1 << 16
