"""Every policy as its users see it: who gets how much, in what order, and what moves when targets come and go."""

import random
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tcp_proxy.sansio.balance import BALANCERS, PERIOD, make


@dataclass
class Fake:
    """A target; reading `active` is counted, for it costs something."""

    name: str
    weight: int = 1
    sessions: int = 0
    reads: int = 0

    @property
    def active(self):
        self.reads += 1
        return self.sessions


def no_dice():
    raise AssertionError("this policy draws no lots")


def pool(*weights):
    return tuple(Fake("abcdefghijklmnopqrstuvwxyz"[n], weight) for n, weight in enumerate(weights))


def names(balancer, eligible, count):
    return "".join(balancer.pick(eligible, b"", 0.0, no_dice).name for _ in range(count))


weights = st.lists(st.integers(1, 256), min_size=1, max_size=6)
small_weights = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def nginx(eligible, count):
    """ngx_http_upstream_get_peer, word for word."""
    current = [0] * len(eligible)
    for _ in range(count):
        for n, candidate in enumerate(eligible):
            current[n] += candidate.weight
        best = current.index(max(current))
        current[best] -= sum(candidate.weight for candidate in eligible)
        yield eligible[best].name


# -- all of them


@pytest.mark.parametrize("policy", BALANCERS)
@given(weights, st.binary(max_size=20), st.integers(0, 100), st.randoms(use_true_random=False))
def test_every_pick_is_one_of_the_eligible(policy, some, key, offset, dice):
    balancer, eligible = make(policy, offset), pool(*some)
    for _ in range(5):
        assert balancer.pick(eligible, key, 0.0, dice.random) in eligible


@pytest.mark.parametrize("policy", BALANCERS)
def test_one_candidate_gets_everything(policy):
    balancer, eligible = make(policy, 3), pool(7)
    assert {balancer.pick(eligible, b"k", 0.0, random.Random(1).random).name for _ in range(10)} == {"a"}


@pytest.mark.parametrize("policy", ["round_robin", "source_hash"])
def test_only_the_policies_of_load_ask_for_it(policy):
    eligible = pool(3, 2, 1)
    balancer = make(policy, 0)
    for _ in range(20):
        balancer.pick(eligible, b"k", 0.0, no_dice)
    assert [candidate.reads for candidate in eligible] == [0, 0, 0]


def test_an_unknown_policy_is_a_mistake_of_ours():
    with pytest.raises(KeyError):
        make("fastest", 0)


# -- round_robin


def test_equal_weights_take_turns():
    assert names(make("round_robin", 0), pool(1, 1, 1), 9) == "abcabcabc"
    assert names(make("round_robin", 0), pool(10, 10, 10), 9) == "abcabcabc"


def test_weights_5_1_1_are_smooth():
    """nginx's own example; the heavy one is never five times in a row."""
    assert names(make("round_robin", 0), pool(5, 1, 1), 21) == "aabacaa" * 3


def test_weights_10_and_20():
    picks = names(make("round_robin", 0), pool(10, 20), 300)
    assert Counter(picks) == {"a": 100, "b": 200}
    assert picks == "bab" * 100


@given(small_weights)
def test_the_picks_are_nginx_s(some):
    eligible = pool(*some)
    count = 3 * sum(some)
    assert names(make("round_robin", 0), eligible, count) == "".join(nginx(eligible, count))


@given(weights, st.integers(0, 64))
def test_every_round_is_exact(some, offset):
    eligible, balancer = pool(*some), make("round_robin", offset)
    for _ in range(3):
        assert Counter(names(balancer, eligible, sum(some))) == {c.name: c.weight for c in eligible}


@given(small_weights, st.integers(0, 64), st.integers(1, 100))
def test_nobody_is_ever_far_from_its_share(some, offset, count):
    eligible, balancer = pool(*some), make("round_robin", offset)
    picked = Counter(names(balancer, eligible, count))
    for candidate in eligible:
        share = Fraction(count * candidate.weight, sum(some))
        assert abs(picked[candidate.name] - share) < len(some)


def test_a_long_round_is_worked_out_each_time():
    """Weights whose round would be too long to remember still get their exact share."""
    some = [256, 255, 254, 253, 251, 249, 247, 245, 243, 241, 239, 237, 235, 233, 231, 229, 227, 225]
    assert sum(some) > PERIOD
    picked = Counter(names(make("round_robin", 1), pool(*some), sum(some)))
    assert sorted(picked.values(), reverse=True) == some


def test_workers_start_apart():
    eligible = pool(1, 1, 1, 1)
    assert [names(make("round_robin", worker), eligible, 1) for worker in range(6)] == list("abcdab")


@given(small_weights, st.integers(2, 4), st.integers(1, 60))
def test_over_several_workers_counts_differ_by_few(some, workers, count):
    """Each of `workers` is exact, so together equal candidates differ by at most one a worker (docs/rules.md, R10)."""
    eligible = pool(*[1] * len(some))
    picked = Counter()
    for worker in range(workers):
        picked.update(names(make("round_robin", worker), eligible, count))
    counts = [picked[candidate.name] for candidate in eligible]
    assert max(counts) - min(counts) <= workers


def test_the_position_survives_a_change_of_the_set():
    a, b, c, d = pool(1, 1, 1, 1)
    balancer = make("round_robin", 0)
    assert names(balancer, (a, b, c), 4) == "abca"
    assert names(balancer, (a, b, c), 1) == "b", "the same set in a new tuple"
    without_a = names(balancer, (b, c), 4)
    assert without_a == "cbcb"
    with_a = names(balancer, (a, b, c), 6)
    assert Counter(with_a) == {"a": 2, "b": 2, "c": 2}
    with_d = names(balancer, (a, b, c, d), 8)
    assert Counter(with_d) == {"a": 2, "b": 2, "c": 2, "d": 2}


def test_no_one_starves_when_the_set_changes_at_every_pick():
    """A target at its limit makes every session's set a new tuple: the weights must still hold."""
    eligible = pool(5, 1, 1)
    balancer = make("round_robin", 0)
    picks = "".join(names(balancer, tuple([*eligible]), 1) for _ in range(70))
    assert picks == "aabacaa" * 10
    a, b, c = eligible
    sets, balancer = [(a, b), (a, c), (b, c)], make("round_robin", 0)
    picked = Counter(names(balancer, sets[n % 3], 1) for n in range(210))
    assert picked == {"a": 117, "b": 47, "c": 46}, "five sixths of 70 twice; a sixth of 70 and half of 70"


@given(
    st.lists(st.sampled_from([1, 1, 2, 3, 5, 10, 20]), min_size=2, max_size=7),
    st.lists(st.tuples(st.sets(st.integers(0, 6), min_size=1), st.integers(1, 40)), min_size=1, max_size=30),
)
def test_no_burst_when_targets_come_and_go(some, changes):
    """Whatever happened before, nobody gets more than three times as many in a row as its weight ever gives it."""
    everyone = pool(*some)
    balancer = make("round_robin", 0)
    for members, count in changes:
        eligible = tuple(candidate for n, candidate in enumerate(everyone) if n in members)
        if len(eligible) < 2:
            continue
        picks = names(balancer, eligible, count)
        for name, run in groupby(picks):
            weight = next(candidate.weight for candidate in eligible if candidate.name == name)
            others = sum(candidate.weight for candidate in eligible) - weight
            assert len(list(run)) <= 3 * -(-weight // others), (name, picks)


@given(small_weights, st.lists(st.sets(st.integers(0, 5), min_size=1), max_size=12))
def test_after_any_past_a_steady_set_is_exact_again(some, past):
    everyone, balancer = pool(*some), make("round_robin", 0)
    for members in past:
        eligible = tuple(candidate for n, candidate in enumerate(everyone) if n in members)
        if eligible:
            names(balancer, eligible, 3)
    rounds = [Counter(names(balancer, everyone, sum(some))) for _ in range(6)]
    assert rounds[-1] == {candidate.name: candidate.weight for candidate in everyone}, rounds


def test_targets_that_left_for_good_are_forgotten():
    balancer = make("round_robin", 0)
    for n in range(5000):
        balancer.pick((Fake(f"new{n}"), Fake("old")), b"", 0.0, no_dice)
    assert len(balancer._credit) < 1000


# -- least_connections


def test_the_fewest_sessions_win():
    eligible = pool(1, 1, 1)
    for candidate, sessions in zip(eligible, [3, 1, 2], strict=True):
        candidate.sessions = sessions
    assert names(make("least_connections", 0), eligible, 3) == "bbb"


def test_sessions_count_by_weight():
    eligible = pool(10, 20)
    balancer = make("least_connections", 0)
    for _ in range(300):
        balancer.pick(eligible, b"", 0.0, no_dice).sessions += 1
    assert [candidate.sessions for candidate in eligible] == [100, 200]


def test_equals_take_turns_by_weight():
    assert Counter(names(make("least_connections", 0), pool(1, 1, 1), 9)) == {"a": 3, "b": 3, "c": 3}
    assert Counter(names(make("least_connections", 0), pool(10, 20), 300)) == {"a": 100, "b": 200}


def test_equals_among_others_take_turns():
    eligible = pool(1, 1, 1, 1)
    eligible[1].sessions = 5
    assert Counter(names(make("least_connections", 0), eligible, 30)) == {"a": 10, "c": 10, "d": 10}


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 50)), min_size=1, max_size=6))
def test_nobody_with_less_load_is_passed_over(some):
    eligible = pool(*[weight for weight, _ in some])
    for candidate, (_, sessions) in zip(eligible, some, strict=True):
        candidate.sessions = sessions
    got = make("least_connections", 0).pick(eligible, b"", 0.0, no_dice)
    assert all(Fraction(got.sessions, got.weight) <= Fraction(c.sessions, c.weight) for c in eligible)


# -- random_two


def draws(*values):
    values = iter(values)
    return lambda: next(values)


def test_the_less_loaded_of_two_different_ones():
    a, b, c = eligible = pool(1, 1, 1)
    a.sessions, b.sessions, c.sessions = 5, 0, 9
    balancer = make("random_two", 0)
    assert balancer.pick(eligible, b"", 0.0, draws(0.0, 0.99)) is a  # a, then the last of b and c
    assert balancer.pick(eligible, b"", 0.0, draws(0.99, 0.5)) is b
    assert balancer.pick(eligible, b"", 0.0, draws(0.0, 0.0)) is b, "the second lot is never the first one's again"


@given(weights, st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_any_draw_gives_two_different_ones(some, one, two):
    assume(len(some) > 1)
    eligible = pool(*some)
    make("random_two", 0).pick(eligible, b"", 0.0, draws(one, two))
    assert sum(candidate.reads > 0 for candidate in eligible) == 2


def test_load_is_weighed():
    a, b = eligible = pool(10, 20)
    a.sessions, b.sessions = 6, 11
    assert make("random_two", 0).pick(eligible, b"", 0.0, draws(0.0, 0.0)) is b


def test_lots_are_weighed():
    """With equal loads the first lot wins: 10 of 70, 20 of 70, 40 of 70."""
    eligible, dice, balancer = pool(10, 20, 40), random.Random(7), make("random_two", 0)
    picked = Counter(balancer.pick(eligible, b"", 0.0, dice.random).name for _ in range(14_000))
    assert [round(picked[name] / 14_000, 2) for name in "abc"] == pytest.approx([1 / 7, 2 / 7, 4 / 7], abs=0.015)


def test_load_evens_out():
    """The power of two choices: the fullest is close to the mean, though nobody looks at more than two."""
    eligible, dice, balancer = pool(*[1] * 20), random.Random(3), make("random_two", 0)
    for _ in range(20 * 100):
        balancer.pick(eligible, b"", 0.0, dice.random).sessions += 1
    assert max(candidate.sessions for candidate in eligible) <= 104


# -- source_hash

KEYS = [f"10.{n >> 8}.{n & 255}.7".encode() for n in range(4000)]


def owners(eligible, offset=0):
    balancer = make("source_hash", offset)
    return {key: balancer.pick(eligible, key, 0.0, no_dice).name for key in KEYS}


def test_a_key_stays_with_its_target():
    eligible = pool(1, 1, 1)
    assert owners(eligible) == owners(eligible) == owners(pool(1, 1, 1), offset=5) == owners(eligible[::-1])


def test_the_hash_is_the_same_for_ever():
    """Every worker, every restart, every release: these are written down."""
    eligible = tuple(Fake(name) for name in ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"])
    balancer = make("source_hash", 0)
    keys = [b"127.0.0.1", b"10.0.0.1", b"10.0.0.2", b"192.168.1.77", b"2001:db8::1", b""]
    assert [balancer.pick(eligible, key, 0.0, no_dice).name[-1] for key in keys] == list("133131")


@pytest.mark.parametrize("some", [(1, 1, 1), (10, 20), (1, 2, 3, 4), (256, 1)])
def test_shares_follow_the_weights(some):
    picked = Counter(owners(pool(*some)).values())
    for candidate in pool(*some):
        assert picked[candidate.name] / len(KEYS) == pytest.approx(candidate.weight / sum(some), abs=0.03)


@pytest.mark.parametrize("some", [(1, 1, 1, 1), (5, 1, 2, 8)])
def test_a_target_that_goes_moves_only_its_own_keys(some):
    eligible = pool(*some)
    before, after = owners(eligible), owners(eligible[1:])
    assert all(after[key] == before[key] for key in KEYS if before[key] != "a")
    assert len({after[key] for key in KEYS if before[key] == "a"}) == 3, "they spread over all that are left"


@pytest.mark.parametrize("some", [(1, 1, 1, 1), (5, 1, 2, 8)])
def test_a_target_that_comes_takes_its_share_and_no_more(some):
    eligible = pool(*some)
    before, after = owners(eligible[:-1]), owners(eligible)
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {after[key] for key in moved} == {"d"}
    assert len(moved) / len(KEYS) == pytest.approx(some[-1] / sum(some), abs=0.03)


def test_more_weight_only_attracts():
    before, after = owners(pool(1, 1, 1)), owners(pool(2, 1, 1))
    assert {after[key] for key in KEYS if before[key] != after[key]} == {"a"}


@given(st.text(max_size=8), st.text(max_size=8), st.binary(max_size=30))
def test_any_name_and_key_is_hashed(one, other, key):
    """Lone surrogates, NUL and the empty name included: a configuration may hold them."""
    assume(one != other)
    eligible = (Fake(one), Fake(other))
    balancer = make("source_hash", 0)
    assert balancer.pick(eligible, key, 0.0, no_dice) is balancer.pick(eligible[::-1], key, 0.0, no_dice)


def test_a_lone_surrogate_is_a_name():
    assert make("source_hash", 0).pick((Fake("\ud800"),), b"k", 0.0, no_dice).name == "\ud800"
