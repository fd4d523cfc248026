"""Blocks of counters: one for each owner, none over another, and which of their slots are gauges."""

from tcp_proxy import counters
from tcp_proxy.control.slots import Slots


def test_blocks_do_not_overlap_and_begin_behind_the_process():
    slots = Slots()
    blocks = [(slots.take(kind, "web", str(n)), size) for n in range(3) for kind, size in counters.BLOCKS.items()]
    taken = [slot for first, size in blocks for slot in range(first, first + size)]
    assert len(set(taken)) == len(taken)
    assert (min(taken), max(taken) + 1) == (counters.PROCESS_SLOTS, slots.used)
    assert repr(slots) == f"<Slots {slots.used} in 9 blocks>"


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
    assert slots.gauges() == {counters.ACCEPTING, counters.SESSIONS, first + counters.ACTIVE, first + counters.UNPAID}
