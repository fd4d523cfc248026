"""Bounded loads: nobody above the bound while another is below it, and who is below it keeps its keys."""

from collections import Counter
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.sansio.balance import SourceHash
from tcp_proxy.sansio.bounded_load import BoundedLoad
from tcp_proxy.sansio.hash_table import TABLES
from tcp_proxy.sansio.hashed import TableHash
from tcp_proxy.sansio.slow_start import SlowStart
from tests.sansio.test_balance import no_dice, pool
from tests.sansio.test_hashed import table

POLICIES = ["rendezvous", *TABLES]
KEYS = [b"client %d" % number for number in range(40)]


def make(policy, eligible):
    """What gives balancers of that policy."""
    if policy == "rendezvous":
        return lambda: SourceHash(0)
    found = table(policy, eligible)
    return lambda: TableHash(found)


@pytest.fixture(params=POLICIES)
def policy(request):
    return request.param


def bound(factor, eligible, one):
    """What it may have when one more has come, as the paper says it: the mean by weight, times the factor, rounded up."""
    total, weight = sum(other.sessions for other in eligible) + 1, sum(other.weight for other in eligible)
    return ceil(Fraction(factor * total * one.weight, 100 * weight))


def begin(balancer, eligible, key):
    chosen = balancer.pick(eligible, key, 0.0, no_dice)
    chosen.sessions += 1
    return chosen


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(POLICIES),
    st.integers(100, 400),
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.lists(st.tuples(st.booleans(), st.integers(0, len(KEYS) - 1)), max_size=80),
)
def test_a_model_of_sessions_that_come_and_go(policy, factor, weights, steps):
    eligible = pool(*weights)
    plain, balancer = make(policy, eligible)(), BoundedLoad(factor, make(policy, eligible))
    sessions = []
    for is_end, number in steps:
        if is_end and sessions:
            sessions.pop(number % len(sessions)).sessions -= 1
            continue
        bounds = {one.name: bound(factor, eligible, one) for one in eligible}
        before = {one.name: one.sessions for one in eligible}
        below = tuple(one for one in eligible if before[one.name] < bounds[one.name])
        assert below, "somebody always is"
        sessions.append(begin(balancer, eligible, KEYS[number]))
        chosen, own = sessions[-1], plain.pick(eligible, KEYS[number], 0.0, no_dice)
        assert chosen in below, "nobody goes above the bound while another is below it"
        if own in below:
            assert chosen is own, "a key whose target is below the bound stays with it"
        else:
            assert chosen is make(policy, eligible)().pick(below, KEYS[number], 0.0, no_dice), "the hash's own order"


def test_all_of_one_key_go_on_to_the_next_ones_in_its_order(policy):
    eligible = pool(1, 1, 1)
    balancer = BoundedLoad(150, make(policy, eligible))
    counts = Counter(begin(balancer, eligible, b"one key").name for _ in range(12))
    assert sorted(counts.values()) == [6, 6], "half as many more as the mean, and no more of them"
    (own,) = {make(policy, eligible)().pick(eligible, b"one key", 0.0, no_dice).name}
    others = tuple(one for one in eligible if one.name != own)
    assert set(counts) == {own, make(policy, eligible)().pick(others, b"one key", 0.0, no_dice).name}


def test_a_factor_of_100_shares_out_evenly_by_weight(policy):
    eligible = pool(1, 2, 3)
    balancer = BoundedLoad(100, make(policy, eligible))
    for _ in range(60):
        begin(balancer, eligible, b"one key")
    assert [one.sessions for one in eligible] == [10, 20, 30]


def test_an_idle_target_has_its_keys_whatever_their_number(policy):
    """The first session of all is above every mean; nobody is left with a bound of none."""
    eligible = pool(*[1] * 5)
    plain, balancer = make(policy, eligible)(), BoundedLoad(100, make(policy, eligible))
    for key in KEYS:
        assert balancer.pick(eligible, key, 0.0, no_dice) is plain.pick(eligible, key, 0.0, no_dice)


def test_one_alone_has_all(policy):
    eligible = pool(1)
    balancer = BoundedLoad(100, make(policy, eligible))
    assert all(begin(balancer, eligible, key) is eligible[0] for key in KEYS)


def test_one_that_rises_has_a_bound_that_rises():
    eligible = pool(1, 1)
    for one, since in zip(eligible, (0.0, 100.0), strict=True):
        one.since = since
    balancer = SlowStart(BoundedLoad(100, lambda: SourceHash(0)), 20.0)
    for _ in range(105):
        balancer.pick(eligible, b"one key", 101.0, no_dice).sessions += 1
    assert [one.sessions for one in eligible] == [100, 5], "a twentieth of its weight"


# -- Envoy: test/common/upstream/bounded_load_hlb_test.cc


def loaded(policy, *overloaded):
    """Five hosts, of which some have ten sessions, and what `pick` gives for a key of the first."""
    eligible = pool(*[1] * 5)
    plain = make(policy, eligible)()
    key = next(key for key in KEYS if plain.pick(eligible, key, 0.0, no_dice) is eligible[0])
    for number in overloaded:
        eligible[number].sessions = 10
    return eligible.index(BoundedLoad(100, make(policy, eligible)).pick(eligible, key, 0.0, no_dice))


def test_envoy_no_host_ever_overloaded(policy):
    assert loaded(policy) == 0


def test_envoy_actual_host_overloaded(policy):
    assert loaded(policy, 0) != 0


def test_envoy_multiple_host_overloaded(policy):
    assert loaded(policy, 0, 1, 2) in (3, 4)


def test_envoy_multiple_hash_same_host_overloaded(policy):
    """Keys of one host are not all another one's."""
    eligible = pool(*[1] * 5)
    plain, balancer = make(policy, eligible)(), BoundedLoad(100, make(policy, eligible))
    keys = [key for number in range(200) if plain.pick(eligible, key := b"%d" % number, 0.0, no_dice) is eligible[3]]
    eligible[3].sessions = 10
    assert {balancer.pick(eligible, key, 0.0, no_dice).name for key in keys} == set("abce")


def test_it_says_what_it_is():
    assert repr(BoundedLoad(150, lambda: TableHash(None))).startswith("<BoundedLoad 150 % of")


def test_a_sum_that_is_below_zero_for_a_moment_is_nothing(policy):
    """The counters of a worker that has died are cleared one after the other."""
    eligible = pool(1, 1)
    eligible[0].sessions = -1000
    balancer = BoundedLoad(250, make(policy, eligible))
    assert {balancer.pick(eligible, key, 0.0, no_dice).name for key in KEYS} == {one.name for one in eligible}
