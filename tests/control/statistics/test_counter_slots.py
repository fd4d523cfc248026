"""Blocks of counters: one for each owner, none over another, and which of their slots are gauges."""

import os

import pytest

from tcp_proxy.control.statistics.counter_slots import CounterSlots, NoRoom
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import Counters


def test_blocks_do_not_overlap_and_begin_behind_the_process():
    slots = CounterSlots()
    blocks = [(slots.take(kind, "web", str(n)), size) for n in range(3) for kind, size in counters.BLOCKS.items()]
    taken = [slot for first, size in blocks for slot in range(first, first + size)]
    assert len(set(taken)) == len(taken)
    assert (min(taken), max(taken) + 1) == (counters.PROCESS_SLOTS, slots.used)
    assert repr(slots) == f"<CounterSlots {slots.used} in 12 blocks, 0 retired>"


def test_the_same_owner_has_the_same_block():
    slots = CounterSlots()
    first = slots.take("target", "web", "a")
    assert slots.take("target", "shop", "a") != first
    assert slots.take("listener", "web", "a") != first
    assert slots.take("target", "web", "a") == first
    assert dict(slots.blocks("target")) == {("web", "a"): first, ("shop", "a"): first + counters.TARGET_SLOTS}


# -- blocks that are given back


def settle(slots, memory, known):
    for _ in slots.settle(memory, known):
        pass


@pytest.fixture
def memory():
    counters_, fd = Counters.create(3, 1024)
    os.close(fd)
    yield counters_
    counters_.close()


def test_a_retired_block_is_free_when_everybody_knows_and_its_sessions_have_ended(memory):
    slots = CounterSlots()
    app, first = slots.take("app", "web"), slots.take("target", "web", "a")
    memory.rows[1][first + counters.ACTIVE] = 2
    memory.rows[2][first + counters.ACTIVE] = -1  # it ends in another thread than it began
    memory.rows[2][first + counters.BYTES_UP] = 70
    slots.retire("target", "web", "a", generation=5)
    assert slots.take("target", "web", "a") != first, "the same name is another target now"
    assert [key for key, _ in slots.blocks("target")] == [("web", "a")] * 2, "its sessions still count"
    for known in (4, 5, 5, 5):
        settle(slots, memory, known)
        assert len(slots.retired) == 1
    memory.rows[2][first + counters.ACTIVE] = -2
    settle(slots, memory, 5)
    assert len(slots.retired) == 1, "seen idle once: the last words may not be written yet"
    memory.rows[2][first + counters.ENDS] += 1
    settle(slots, memory, 5)
    assert slots.retired == []
    assert (memory.total(app + counters.BYTES_UP), memory.total(app + counters.ENDS)) == (70, 1)
    assert memory.sums(first, counters.TARGET_SLOTS) == [0] * counters.TARGET_SLOTS
    assert slots.take("target", "web", "b") == first


def test_a_target_s_block_is_not_free_while_a_connection_to_it_is_open(memory):
    """Its number is taken from that block when it is closed, whoever has the block then."""
    slots = CounterSlots()
    slots.take("app", "web")
    first = slots.take("target", "web", "a")
    memory.rows[1][first + counters.HTTP_CONNECTIONS] = 1
    slots.retire("target", "web", "a", generation=1)
    for _ in range(3):
        settle(slots, memory, 1)
    assert slots.retired
    memory.rows[1][first + counters.HTTP_CONNECTIONS] = 0
    settle(slots, memory, 1)
    settle(slots, memory, 1)
    assert slots.retired == []


def test_a_listener_is_idle_when_whoever_came_by_it_has_left(memory):
    slots = CounterSlots()
    app, first = slots.take("app", "web"), slots.take("listener", "web", "127.0.0.1:80")
    memory.rows[1][first + counters.LISTENER_ACCEPTED] = 3
    memory.rows[2][first + counters.LISTENER_ENDED] = 2
    slots.retire("listener", "web", "127.0.0.1:80", generation=1)
    for _ in range(3):
        settle(slots, memory, 1)
    assert slots.retired
    memory.rows[1][first + counters.LISTENER_ENDED] = 1
    settle(slots, memory, 1)
    settle(slots, memory, 1)
    assert slots.retired == []
    assert memory.total(app + counters.APP_ACCEPTED) == 3


def test_a_listener_is_not_idle_while_somebody_s_header_is_waited_for(memory):
    """Who will be counted there when it has come, or is refused."""
    slots = CounterSlots()
    slots.take("app", "web")
    first = slots.take("listener", "web", "127.0.0.1:80")
    memory.rows[1][first + counters.LISTENER_ARRIVING] = 1
    slots.retire("listener", "web", "127.0.0.1:80", generation=1)
    slots.retire("app", "web", generation=1)
    for _ in range(3):
        settle(slots, memory, 1)
    assert len(slots.retired) == 2
    memory.rows[1][first + counters.LISTENER_ARRIVING] = 0
    for _ in range(3):
        settle(slots, memory, 1)
    assert slots.retired == []


def test_an_app_goes_after_all_that_was_its_own(memory):
    slots = CounterSlots()
    slots.take("app", "web")
    target = slots.take("target", "web", "a")
    memory.rows[1][target + counters.CONNECTS] = 4
    memory.rows[1][target + counters.ACTIVE] = 1
    slots.retire("app", "web", generation=1)
    slots.retire("target", "web", "a", generation=1)
    settle(slots, memory, 1)
    settle(slots, memory, 1)
    assert len(slots.retired) == 2
    memory.rows[1][target + counters.ACTIVE] = 0
    settle(slots, memory, 1)
    settle(slots, memory, 1)
    assert slots.retired == []
    assert slots.gone == 4


def test_an_app_that_comes_back_in_time_goes_on_counting(memory):
    slots = CounterSlots()
    app = slots.take("app", "web")
    slots.retire("app", "web", generation=1)
    assert slots.take("app", "web") == app
    assert slots.retired == []


def test_no_room_is_an_error_before_anything_is_taken():
    slots = CounterSlots()
    slots.take("target", "web", "a")
    slots.room = slots.used + counters.TARGET_SLOTS
    slots.require({"target": 1})
    with pytest.raises(NoRoom, match="restart needed"):
        slots.require({"target": 2})
    slots.take("target", "web", "b")
    with pytest.raises(NoRoom):
        slots.take("target", "web", "c")


def test_a_renamed_owner_keeps_its_block():
    slots = CounterSlots()
    first = slots.take("target", "web", "a")
    slots.rename("target", ("web", "a"), ("web", "b"))
    assert slots.take("target", "web", "b") == first


def test_thousands_that_have_left_are_no_memory_and_hold_nobody_up():
    """9,000 targets of a reload that is taken back: the pages are the machine's again, and each is looked at once."""
    slots = CounterSlots()
    memory, fd = Counters.create(2, 1 << 20)
    try:
        slots.take("app", "web")
        for number in range(9000):
            memory.rows[1][slots.take("target", "web", str(number)) + counters.CONNECTS] = 1
        touched = os.fstat(fd).st_blocks
        for number in range(9000):
            slots.retire("target", "web", str(number), generation=1)
        settle(slots, memory, 1)
        settle(slots, memory, 1)
        assert not slots.retired
        assert os.fstat(fd).st_blocks < touched / 100
        assert memory.total(slots.take("app", "web") + counters.CONNECTS) == 9000
        assert memory.total(slots.take("target", "web", "new") + counters.CONNECTS) == 0
    finally:
        memory.close()
        os.close(fd)


def test_a_rule_s_block_is_free_when_everybody_knows_that_it_is_gone(memory):
    """It has no sessions, and nobody has its number after it."""
    slots = CounterSlots()
    app, rule = slots.take("app", "web"), slots.take("rule", "web", "deny", "10.0.0.0/8")
    memory.rows[1][rule] = 7
    slots.retire("rule", "web", "deny", "10.0.0.0/8", generation=5)
    for known in (4, 4, 4):
        settle(slots, memory, known)
    assert slots.take("rule", "web", "deny", "::/0") != rule, "a worker may count there still"
    settle(slots, memory, 5)
    settle(slots, memory, 5)
    assert not slots.retired
    assert slots.take("rule", "web", "deny", "10.0.0.0/8") == rule
    assert memory.total(rule) == 0
    assert memory.sums(app, counters.APP_SLOTS) == [0] * counters.APP_SLOTS
