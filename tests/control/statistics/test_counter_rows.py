"""The counters' memory in the supervisor: seats for workers, more rows when there are more, the dead counted out."""

import os

import pytest

from tcp_proxy.control.statistics.counter_rows import CounterRows
from tcp_proxy.control.statistics.counter_slots import CounterSlots
from tcp_proxy.wire.counters import (
    ACCEPTED,
    ACCEPTING,
    ACTIVE,
    CONNECTS,
    LISTENER_ACCEPTED,
    LISTENER_ENDED,
    LOST,
    ROOM,
    ROWS_PER_WORKER,
    SESSIONS,
    TARGET_SLOTS,
    Counters,
)


def count_out(counter_rows, worker):
    """In all slices: how many sessions it had, and the gauges of its targets."""
    sessions, held = counter_rows.leave(worker), {}
    for _, some in counter_rows.counting_out(worker):
        held |= some
    return sessions, held


@pytest.fixture
def counter_rows():
    slots = CounterSlots()
    slots.take("target", "web", "a")
    counter_rows = CounterRows(slots, 1)
    yield counter_rows
    counter_rows.close()


def test_rows_are_assigned_and_used_again(counter_rows):
    assert counter_rows.rows == 1 + ROWS_PER_WORKER
    assert counter_rows.assign("one") == 1
    assert counter_rows.assign("two") == 1 + ROWS_PER_WORKER
    assert counter_rows.assign("three") == 1 + 2 * ROWS_PER_WORKER
    assert counter_rows.rows == 1 + 3 * ROWS_PER_WORKER
    count_out(counter_rows, "two")
    assert counter_rows.assign("four") == 1 + ROWS_PER_WORKER
    assert counter_rows.rows == 1 + 3 * ROWS_PER_WORKER
    other = Counters(counter_rows.fd, counter_rows.rows, counter_rows.memory.slots)
    counter_rows.memory.rows[-1][ACCEPTED] = 7
    assert other.total(ACCEPTED) == counter_rows.accepted == 7
    other.close()


def test_reloads_may_replace_everything_before_what_has_left_is_known_to_be_idle():
    """Which takes a second or two, and those who reload do not wait for it."""
    slots, count = CounterSlots(), ROOM // 3 // TARGET_SLOTS
    for number in range(count):
        slots.take("target", "web", str(number))
    rows = CounterRows(slots, 1)
    for generation in range(1, 6):
        slots.require({"target": count})
        for number in range(count):
            slots.take("target", "web", f"{generation} {number}")
        slots.retire_all_but("target", {("web", f"{generation} {number}") for number in range(count)}, generation)
    assert rows.memory.slots >= slots.used
    rows.close()


def test_a_program_that_began_with_nothing_has_room_for_20_000_targets_in_1_000_apps(counter_rows):
    counter_rows.slots.require({"app": 1_000, "listener": 1_000, "target": 20_000})


def test_the_dead_are_counted_out(counter_rows):
    target = counter_rows.slots.take("target", "web", "a")
    door = counter_rows.slots.take("listener", "web", "127.0.0.1:80")
    first = counter_rows.assign("one")
    row, relay, _ = counter_rows.memory.rows[first : first + ROWS_PER_WORKER]
    row[ACCEPTED], row[SESSIONS] = 5, 3
    row[target + ACTIVE], relay[target + ACTIVE] = 4, -1
    row[target + CONNECTS], row[door + LISTENER_ACCEPTED], relay[door + LISTENER_ENDED] = 5, 5, 2
    assert count_out(counter_rows, "one") == (3, {target + ACTIVE: 3})
    total = counter_rows.memory.total
    assert (total(ACCEPTED), total(SESSIONS), total(target + ACTIVE), total(target + LOST)) == (5, 0, 0, 3)
    assert total(door + LISTENER_ACCEPTED) == total(door + LISTENER_ENDED) == 5
    assert counter_rows.served == 5
    assert count_out(counter_rows, "one") == (0, {}), "it has no seat any more"


def test_sessions_that_died_without_a_target_are_their_apps(counter_rows):
    """Five sessions at two listeners of one app, three of them with a target; another app has its own."""
    slots = counter_rows.slots
    app, other, target = slots.take("app", "web"), slots.take("app", "shop"), slots.take("target", "web", "a")
    doors = [slots.take("listener", "web", f"127.0.0.1:{port}") for port in (80, 81)]
    row = counter_rows.memory.rows[counter_rows.assign("one")]
    row[target + ACTIVE] = 3
    row[doors[0] + LISTENER_ACCEPTED], row[doors[1] + LISTENER_ACCEPTED], row[doors[1] + LISTENER_ENDED] = 4, 7, 6
    count_out(counter_rows, "one")
    assert [counter_rows.memory.total(slot + LOST) for slot in (target, app, other)] == [3, 2, 0]


def test_the_memory_is_as_small_as_what_is_used(counter_rows):
    counter_rows.assign("one")
    count_out(counter_rows, "one")
    assert os.fstat(counter_rows.fd).st_blocks * 512 < 1 << 16


def test_they_are_counted_out_in_slices_between_which_every_total_is_right(counter_rows):
    slots = counter_rows.slots
    targets = [slots.take("target", "web", str(number)) for number in range(600)]
    row = counter_rows.memory.rows[counter_rows.assign("one")]
    row[ACCEPTED], row[SESSIONS], row[ACCEPTING] = 600, 600, 1
    for number, target in enumerate(targets):
        row[target + CONNECTS], row[target + ACTIVE] = 1, number
    assert counter_rows.leave("one") == 600
    assert counter_rows.memory.total(ACCEPTING) == 0, "nobody waits for it to accept"
    assert counter_rows.assign("two") == 1 + ROWS_PER_WORKER, "the first rows are not free yet"
    found, slices = {}, 0
    for blocks, held in counter_rows.counting_out("one"):
        slices += 1
        assert counter_rows.served == 600
        found |= {slot: held.get(slot + ACTIVE, 0) for _, slot in blocks}
    assert slices == 3
    assert [found[target] for target in targets] == list(range(600))
    assert counter_rows.memory.rows[0][targets[7] + LOST] == 7
    assert counter_rows.assign("three") == 1
