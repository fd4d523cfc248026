"""Blocks of counters: one for each owner, none over another, and which of their slots are gauges."""

import os

import pytest

from tcp_proxy import counters
from tcp_proxy.control.slots import NoRoom, Slots
from tcp_proxy.counters import Counters


def test_blocks_do_not_overlap_and_begin_behind_the_process():
    slots = Slots()
    blocks = [(slots.take(kind, "web", str(n)), size) for n in range(3) for kind, size in counters.BLOCKS.items()]
    taken = [slot for first, size in blocks for slot in range(first, first + size)]
    assert len(set(taken)) == len(taken)
    assert (min(taken), max(taken) + 1) == (counters.PROCESS_SLOTS, slots.used)
    assert repr(slots) == f"<Slots {slots.used} in 9 blocks, 0 retired>"


def test_the_same_owner_has_the_same_block():
    slots = Slots()
    first = slots.take("target", "web", "a")
    assert slots.take("target", "shop", "a") != first
    assert slots.take("listener", "web", "a") != first
    assert slots.take("target", "web", "a") == first
    assert dict(slots.blocks("target")) == {("web", "a"): first, ("shop", "a"): first + counters.TARGET_SLOTS}


def test_the_gauges_are_those_of_the_process_and_of_the_targets():
    slots = Slots()
    first = slots.take("target", "web", "a")
    slots.take("app", "web")
    slots.take("listener", "web", "127.0.0.1:80")
    of_target = {first + counters.ACTIVE, first + counters.SEMAPHORE, first + counters.UNPAID}
    assert slots.gauges() == {counters.ACCEPTING, counters.SESSIONS} | of_target


# -- blocks that are given back


@pytest.fixture
def memory():
    counters_, fd = Counters.create(3, 1024)
    os.close(fd)
    yield counters_
    counters_.close()


def test_a_retired_block_is_free_when_everybody_knows_and_its_sessions_have_ended(memory):
    slots = Slots()
    app, first = slots.take("app", "web"), slots.take("target", "web", "a")
    memory.rows[1][first + counters.ACTIVE] = 2
    memory.rows[2][first + counters.ACTIVE] = -1  # it ends in another thread than it began
    memory.rows[2][first + counters.BYTES_UP] = 70
    slots.retire("target", "web", "a", generation=5)
    assert slots.take("target", "web", "a") != first, "the same name is another target now"
    assert first + counters.ACTIVE in slots.gauges()
    assert [key for key, _ in slots.blocks("target")] == [("web", "a")] * 2, "its sessions still count"
    for known in (4, 5, 5, 5):
        slots.settle(memory, known)
        assert len(slots.retired) == 1
    memory.rows[2][first + counters.ACTIVE] = -2
    slots.settle(memory, 5)
    assert len(slots.retired) == 1, "seen idle once: the last words may not be written yet"
    memory.rows[2][first + counters.ENDS] += 1
    slots.settle(memory, 5)
    assert slots.retired == []
    assert (memory.total(app + counters.BYTES_UP), memory.total(app + counters.ENDS)) == (70, 1)
    assert memory.sums(first, counters.TARGET_SLOTS) == [0] * counters.TARGET_SLOTS
    assert slots.take("target", "web", "b") == first


def test_a_listener_is_idle_when_whoever_came_by_it_has_left(memory):
    slots = Slots()
    app, first = slots.take("app", "web"), slots.take("listener", "web", "127.0.0.1:80")
    memory.rows[1][first + counters.LISTENER_ACCEPTED] = 3
    memory.rows[2][first + counters.LISTENER_ENDED] = 2
    slots.retire("listener", "web", "127.0.0.1:80", generation=1)
    for _ in range(3):
        slots.settle(memory, 1)
    assert slots.retired
    memory.rows[1][first + counters.LISTENER_ENDED] = 1
    slots.settle(memory, 1)
    slots.settle(memory, 1)
    assert slots.retired == []
    assert memory.total(app + counters.APP_ACCEPTED) == 3


def test_an_app_goes_after_all_that_was_its_own(memory):
    slots = Slots()
    slots.take("app", "web")
    target = slots.take("target", "web", "a")
    memory.rows[1][target + counters.CONNECTS] = 4
    memory.rows[1][target + counters.ACTIVE] = 1
    slots.retire("app", "web", generation=1)
    slots.retire("target", "web", "a", generation=1)
    slots.settle(memory, 1)
    slots.settle(memory, 1)
    assert len(slots.retired) == 2
    memory.rows[1][target + counters.ACTIVE] = 0
    slots.settle(memory, 1)
    slots.settle(memory, 1)
    assert slots.retired == []
    assert slots.gone == 4


def test_an_app_that_comes_back_in_time_goes_on_counting(memory):
    slots = Slots()
    app = slots.take("app", "web")
    slots.retire("app", "web", generation=1)
    assert slots.take("app", "web") == app
    assert slots.retired == []


def test_no_room_is_an_error_before_anything_is_taken():
    slots = Slots()
    slots.take("target", "web", "a")
    slots.room = slots.used + counters.TARGET_SLOTS
    slots.require({"target": 1})
    with pytest.raises(NoRoom, match="restart needed"):
        slots.require({"target": 2})
    slots.take("target", "web", "b")
    with pytest.raises(NoRoom):
        slots.take("target", "web", "c")


def test_a_renamed_owner_keeps_its_block():
    slots = Slots()
    first = slots.take("target", "web", "a")
    slots.rename("target", ("web", "a"), ("web", "b"))
    assert slots.take("target", "web", "b") == first
