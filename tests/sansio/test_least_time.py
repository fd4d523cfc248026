"""least_time: what is compared, what of a target that nobody knows, and how what was measured grows old."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.least_time import FADES, FORGET_AT, LEAST, Latencies, LeastTime
from tests.sansio.test_balance import no_dice, pool


def balancer(**seconds):
    latencies = Latencies()
    for name, each in seconds.items():
        latencies.add(name, each, 0.0)
    return LeastTime(0, latencies)


def pick(one, eligible, now=0.0):
    return one.pick(eligible, b"", now, no_dice).name


def test_the_least_product_of_latency_and_sessions_wins():
    eligible, one = pool(1, 1), balancer(a=0.010, b=0.030)
    assert pick(one, eligible) == "a"
    eligible[0].sessions = 3  # 10 ms x 4 against 30 ms x 1
    assert pick(one, eligible) == "b"
    eligible[1].sessions = 1
    assert pick(one, eligible) == "a"


def test_a_target_that_is_three_times_as_fast_has_three_times_as_many_sessions_at_once():
    eligible, one = pool(1, 1), balancer(a=0.010, b=0.030)
    for _ in range(40):
        one.pick(eligible, b"", 0.0, no_dice).sessions += 1
    assert abs(eligible[0].sessions - 30) <= 1


def test_weights_count():
    eligible, one = pool(1, 3), balancer(a=0.010, b=0.010)
    for _ in range(40):
        one.pick(eligible, b"", 0.0, no_dice).sessions += 1
    assert [target.sessions for target in eligible] == [10, 30]


def test_among_equals_it_is_round_robin():
    eligible, one = pool(1, 1, 1), balancer()
    assert Counter(pick(one, eligible) for _ in range(9)) == {"a": 3, "b": 3, "c": 3}


def test_one_that_nobody_knows_counts_as_the_mean_of_those_that_are_known():
    latencies = Latencies()
    latencies.add("a", 0.2, 0.0)
    latencies.add("b", 0.4, 0.0)
    assert latencies.of(["a", "b", "new"], 0.0) == [0.2, 0.4, (0.2 + 0.4) / 2]
    assert Latencies().of(["x", "y"], 0.0) == [LEAST, LEAST]


def test_one_that_was_slow_is_tried_again():
    latencies = Latencies()
    latencies.add("a", 0.010, 0.0)
    latencies.add("b", 5.0, 0.0)
    one, eligible, now = LeastTime(0, latencies), pool(1, 1), 0.0
    while pick(one, eligible, now) == "a":
        latencies.add("a", 0.010, now)
        now += 1.0
    assert 5.0 * math.exp(-now / FADES) < 0.011, "when what was measured has faded to the other's"


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1000)), min_size=1, max_size=30), st.floats(0, 1e6))
def test_a_mean_is_never_outside_of_what_was_measured(samples, later):
    latencies, now = Latencies(), 0.0
    for seconds, passed in samples:
        now += passed
        latencies.add("a", seconds, now)
    (found,) = latencies.of(["a"], now)
    assert min(one for one, _ in samples) * (1 - 1e-9) <= found <= max(LEAST, *(one for one, _ in samples)) * (1 + 1e-9)
    (faded,) = latencies.of(["a"], now + later)
    assert LEAST <= faded <= max(LEAST, found)


def test_targets_that_left_for_good_are_forgotten():
    latencies = Latencies()
    for number in range(FORGET_AT + 9):
        latencies.add(f"old {number}", 1.0, 0.0)
    latencies.add("a", 1.0, 0.0)
    latencies.of(["a"], 0.0)
    assert repr(latencies) == "<Latencies of 1 targets>"
