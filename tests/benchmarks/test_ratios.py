"""Ratios are made pair by pair, so that what disturbs a whole round disturbs no ratio."""

from benchmarks.ratios import Spread, is_reached, ratio, spread, values

ROUNDS = [
    {"project": {"rate": 90.0}, "peer": {"rate": 100.0}},
    {"project": {"rate": 45.0}, "peer": {"rate": 50.0}},  # a disturbed round
    {"project": {"rate": 110.0}, "peer": {"rate": 100.0}},
]


def test_the_median_of_the_pairs_not_the_ratio_of_medians():
    assert ratio(ROUNDS, "project", "peer", "rate") == Spread(0.9, 0.9, 1.1, 3)


def test_a_pair_with_a_part_missing_is_left_out():
    rounds = [*ROUNDS[:1], {"project": {"rate": 1.0}}, {"project": {"rate": 1.0}, "peer": {}}, {"peer": {"rate": 1.0}}]
    assert ratio(rounds, "project", "peer", "rate") == Spread(0.9, 0.9, 0.9, 1)


def test_nothing_is_divided_by_zero():
    assert ratio([{"project": {"cpu": 3.0}, "peer": {"cpu": 0.0}}], "project", "peer", "cpu") is None


def test_spread():
    assert spread([3.0, 1.0, 8.0]) == Spread(3.0, 1.0, 8.0, 3)
    assert spread([2.0, 1.0]) == Spread(1.5, 1.0, 2.0, 2)
    assert spread([]) is None


def test_values():
    assert values(ROUNDS, "project", "rate") == [90.0, 45.0, 110.0]
    assert values(ROUNDS, "nobody", "rate") == values(ROUNDS, "project", "p50") == []


def test_spreads_that_overlap():
    assert Spread(1.0, 0.9, 1.1).meets(Spread(1.2, 1.1, 1.3))
    assert not Spread(1.0, 0.9, 1.1).meets(Spread(1.3, 1.2, 1.4))


def test_bounds():
    assert is_reached(1.0, 1.0, "more")
    assert is_reached(0.9, 1.0, "less")
    assert not is_reached(0.9, 1.0, "more")
