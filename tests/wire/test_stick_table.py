"""The wire between a worker and the stick tables, on real socket pairs."""

import pytest

from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.stick_table import ASK, CLOSED, Wire, pair


class End:
    def __init__(self, loop, sock):
        self.heard, self.batches, self.ends = [], 0, 0
        self.wire = Wire(loop, sock, self.hear, self.end)

    def hear(self, items):
        self.batches += 1
        self.heard += items

    def end(self):
        self.ends += 1


@pytest.fixture
def ends():
    loop = Loop("test")
    one, two = (End(loop, sock) for sock in pair())
    yield loop, one, two
    one.wire.close()
    two.wire.close()
    loop.run_once(0)
    loop.close()


def turn(loop, until):
    for _ in range(2000):
        if until():
            return
        loop.run_once(0.01)
    raise AssertionError("it did not happen")


def test_items_arrive_as_they_are_in_both_directions(ends):
    loop, one, two = ends
    asked = [(ASK, 1, "app", "192.0.2.7 00ff", "t\u00e9", 0), (CLOSED, "app", "::1")]
    one.wire.send(asked)
    two.wire.send([(1, "t", 9)])
    turn(loop, lambda: two.heard and one.heard)
    assert (two.heard, one.heard) == (asked, [(1, "t", 9)])


def test_a_flood_leaves_the_loop_its_turn(ends):
    """A table of 200,000 keys that is cleared is news for a worker, which has sessions to move meanwhile."""
    loop, one, two = ends
    one.wire.send([(CLOSED, "app", f"{number:0200}") for number in range(4000)])
    most = 0
    while len(two.heard) < 4000:
        before = two.batches
        loop.run_once(0.01)
        most = max(most, two.batches - before)
    assert most <= 4


def test_what_the_socket_does_not_take_waits_in_order(ends):
    loop, one, two = ends
    items = [(CLOSED, "app", f"{number:0200}") for number in range(4000)]
    for first in range(0, len(items), 999):
        one.wire.send(items[first : first + 999])
    assert "0 waiting" not in repr(one.wire)
    turn(loop, lambda: len(two.heard) == len(items))
    assert two.heard == items
    assert two.batches >= 13
    one.wire.send([(CLOSED, "app", "more")])
    turn(loop, lambda: len(two.heard) > len(items))


def test_the_end_of_the_other_end_is_said_once_after_all_it_had_said(ends):
    loop, one, two = ends
    one.wire.send([(CLOSED, "app", "k")])
    one.wire.close()
    turn(loop, lambda: two.ends)
    assert (two.heard, two.ends, one.ends) == ([(CLOSED, "app", "k")], 1, 0)
    two.wire.send([(1, "t", 1)])  # to nobody
    loop.run_once(0)
    assert not two.wire.is_open


def test_keys_of_first_messages_that_are_as_long_as_can_be(ends):
    loop, one, two = ends
    items = [(ASK, number, "a" * 100, f"{number:08192}", "t" * 255, 0) for number in range(100)]
    one.wire.send(items)
    turn(loop, lambda: len(two.heard) == len(items))
    assert two.heard == items
