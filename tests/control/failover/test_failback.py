"""When a target that comes before the primary is tried."""

from tcp_proxy.control.failover.failback import Failback


def test_a_target_is_due_when_it_has_been_up_for_long_enough():
    failback = Failback()
    failback.note({"a"}, 100.0)
    failback.note({"a", "b"}, 110.0)
    assert failback.due("a", 30.0, 110.0) == 130.0
    assert failback.due("b", 30.0, 110.0) == 140.0
    failback.failed("a", 120.0)
    assert failback.due("a", 30.0, 120.0) == 150.0


def test_one_that_loses_is_tried_later_each_time_until_it_has_been_down():
    failback = Failback()
    failback.note({"a"}, 0.0)
    failback.lost("a")
    assert failback.due("a", 0.0, 5.0) == 2.0  # a second at the least, twice as long each time
    failback.lost("a")
    assert failback.due("a", 0.0, 5.0) == 4.0
    failback.note(set(), 6.0)
    failback.note({"a"}, 7.0)
    assert failback.due("a", 0.0, 7.0) == 7.0


def test_another_program_goes_on_with_it():
    failback, other = Failback(), Failback()
    failback.note({"a"}, 3.0)
    failback.lost("a")
    other.take(failback.given())
    assert other.due("a", 10.0, 4.0) == failback.due("a", 10.0, 4.0) == 23.0
