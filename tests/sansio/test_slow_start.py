"""Slow start: who has come rises to his weight in twentieths, under every policy, and then nothing is different any more.

Envoy's cases (round_robin_load_balancer tests, by the names that they have there) and what HAProxy says of `slowstart`.
"""

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.sansio.balance import BALANCERS, make
from tcp_proxy.sansio.slow_start import STEPS, SlowStart, StandIn, step_of

RISE = 100.0


@dataclass(eq=False)
class Fake:
    name: str
    weight: int = 1
    since: float = 0.0
    active: int = 0


def shares(policy, eligible, now, picks, held=False):
    """How many sessions each gets; `held`: they stay."""
    balancer, dice = SlowStart(make(policy, 0), RISE), random.Random(7)
    got = Counter()
    for n in range(picks):
        target = balancer.pick(eligible, b"%d" % n, now, dice.random)
        target.active += held
        got[target.name] += 1
    return got


class Spy:
    """A balancer that keeps what it was given, and picks the last."""

    def __init__(self):
        self.seen = []

    def pick(self, eligible, key, now, draw):
        self.seen.append(eligible)
        return eligible[-1]


# -- the time


@pytest.mark.parametrize(
    ("now", "steps"),
    [(50.0, 0), (99.0, 0), (100.0, 0), (104.9, 0), (105.0, 1), (150.0, 10), (199.9, 19), (200.0, 20), (9e9, 20)],
)
def test_a_step_is_a_twentieth_of_the_time(now, steps):
    """A worker's clock may be read a moment before that of the supervisor who says since when."""
    assert step_of(100.0, RISE, now) == steps


def test_who_was_there_from_the_start_has_risen():
    """HAProxy: "the slowstart never applies when haproxy starts"."""
    assert step_of(0.0, RISE, 1.0) == STEPS


# -- the shares


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_in_turns_the_share_is_exact_at_every_step(step):
    """And is at least a twentieth: HAProxy's smallest, Envoy's SlowStartWithMinWeightPercent."""
    eligible = Fake("a", 3), Fake("b", 2, since=1000.0)
    weights = {"a": 3 * STEPS, "b": 2 * max(1, step)}
    assert shares("round_robin", eligible, 1000.0 + step * RISE / STEPS, sum(weights.values())) == weights


def test_slow_start_no_wait():
    """Envoy: one that is added begins at once, and has the share of the others when its window is over."""
    eligible = Fake("old"), Fake("new", since=1000.0)
    assert shares("round_robin", eligible, 1000.0, 210) == {"old": 200, "new": 10}
    assert shares("round_robin", eligible, 1000.0 + RISE / 2, 210) == {"old": 140, "new": 70}
    assert shares("round_robin", eligible, 1000.0 + RISE, 210) == {"old": 105, "new": 105}


def test_those_who_rise_together_have_equal_shares():
    """Envoy: in a cluster that is new as a whole nothing is seen of it."""
    assert shares("round_robin", (Fake("a", since=1000.0), Fake("b", since=1000.0)), 1001.0, 100) == {"a": 50, "b": 50}


def test_least_connections_fills_it_as_far_as_its_weight_goes():
    eligible = Fake("old"), Fake("new", since=1000.0)
    assert shares("least_connections", eligible, 1000.0, 210, held=True) == {"old": 200, "new": 10}


def test_a_lot_of_two_compares_loads_for_the_weight_of_the_moment():
    eligible = Fake("old", active=0), Fake("new", since=1000.0, active=0)
    assert shares("random_two", eligible, 1000.0, 2100, held=True)["new"] == pytest.approx(100, abs=3)


def test_of_many_a_lot_draws_it_seldom():
    eligible = (*(Fake(f"old {n}") for n in range(9)), Fake("new", since=1000.0))
    begun = shares("random_two", eligible, 1000.0, 4000)["new"]
    assert begun < 4000 / 10 / 4
    assert shares("random_two", eligible, 1000.0 + RISE, 4000)["new"] > 3 * begun


def test_a_hash_moves_each_client_to_it_once_and_none_elsewhere():
    eligible = (*map(Fake, "abc"), Fake("new", since=1000.0))
    balancer, keys = SlowStart(make("source_hash", 0), RISE), [b"%d" % n for n in range(2000)]
    before = {key: make("source_hash", 0).pick(eligible[:3], key, 0.0, random.random) for key in keys}
    moved = set()
    for step in range(STEPS + 1):
        for key in keys:
            target = balancer.pick(eligible, key, 1000.0 + step * RISE / STEPS, random.random)
            if target is eligible[-1]:
                moved.add(key)
            else:
                assert key not in moved
                assert target is before[key]
        weight = max(1, step)
        assert len(moved) == pytest.approx(2000 * weight / (3 * STEPS + weight), abs=60)


# -- what it costs


def test_stand_ins_are_made_at_steps_and_with_the_set_only():
    spy, eligible = Spy(), (Fake("old"), Fake("new", since=1000.0))
    balancer = SlowStart(spy, RISE)
    for n in range(1000):
        balancer.pick(eligible, b"", 1000.0 + n * RISE / 1000, random.random)
    # The first twentieth of its weight lasts for two of the time.
    assert 1 + len({id(seen) for seen in spy.seen}) >= STEPS
    runs = [one for n, one in enumerate(spy.seen) if not n or one is not spy.seen[n - 1]]
    assert [one[1].weight for one in runs] == [1, *range(1, STEPS)]
    assert {type(one) for seen in spy.seen for one in seen} == {StandIn}


def test_when_all_have_risen_the_balancer_sees_them_as_they_are():
    spy, eligible = Spy(), (Fake("old"), Fake("new", since=1000.0))
    balancer = SlowStart(spy, RISE)
    balancer.pick(eligible, b"", 1000.0, random.random)
    assert balancer.pick(eligible, b"", 1000.0 + RISE, random.random) is eligible[-1]
    assert spy.seen[-1] is eligible


def test_who_comes_back_before_he_has_risen_begins_again():
    """Envoy's SlowStartWaitForPassingHC: what counts is when it has passed its check."""
    new = Fake("new", since=1000.0)
    balancer, both, one = SlowStart(make("round_robin", 0), RISE), (Fake("old"), new), (Fake("old"),)
    balancer.pick(both, b"", 1080.0, random.random)
    balancer.pick(one, b"", 1090.0, random.random)
    new.since = 1095.0
    got = Counter(balancer.pick(both, b"", 1095.0, random.random).name for _ in range(210))
    assert got["new"] == pytest.approx(10, abs=1)


# -- anything


comings = st.lists(st.tuples(st.integers(1, 256), st.one_of(st.just(0.0), st.floats(1.0, 2000.0))), min_size=1, max_size=6)


@pytest.mark.parametrize("policy", BALANCERS)
@settings(max_examples=30)
@given(comings, st.lists(st.floats(0.0, 60.0), max_size=30), st.randoms(use_true_random=False))
def test_every_pick_is_one_of_those_who_are_there(policy, coming, waits, dice):
    targets = [Fake(f"t{n}", weight, since) for n, (weight, since) in enumerate(coming)]
    balancer, now = SlowStart(make(policy, 1), RISE), 1000.0
    for wait in waits:
        now += wait
        eligible = tuple(target for target in targets if dice.random() < 0.7) or tuple(targets)
        for _ in range(3):
            assert balancer.pick(eligible, b"k", now, dice.random) in eligible


@settings(max_examples=50)
@given(comings, st.floats(1000.0, 2200.0))
def test_over_a_round_everybody_has_the_share_of_the_model(coming, now):
    """Smooth weighted round robin: nobody is ever a whole session away from what his weight is worth."""
    eligible = tuple(Fake(f"t{n}", weight, since) for n, (weight, since) in enumerate(coming))
    share = {one.name: one.weight * max(1, step_of(one.since, RISE, now)) for one in eligible}
    picks = 500
    got = shares("round_robin", eligible, now, picks)
    for one in eligible:
        assert abs(got[one.name] - picks * share[one.name] / sum(share.values())) < len(eligible)
