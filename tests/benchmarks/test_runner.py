"""Who is measured when, and what happens to a value that is not there."""

import pathlib

import pytest

from benchmarks.measures.base import Figure, Measure
from benchmarks.programs import Failed
from benchmarks.proxies import EVERYBODY
from benchmarks.runner import complete, estimate, rotated, rounds_of
from benchmarks.settings import Settings

SETTINGS = Settings(5, 3, (), None, pathlib.Path())
FIGURES = (Figure("a", "a", "", "more"), Figure("b", "b", "", "more"))
MEASURE = Measure("x", "x", FIGURES, lambda *_: {}, most_rounds=2, cost=1.5)


def test_each_round_begins_with_another_one():
    orders = [rotated(EVERYBODY, number) for number in range(len(EVERYBODY) + 1)]
    assert [order[0] for order in orders] == [*EVERYBODY, EVERYBODY[0]]
    assert all(set(order) == set(EVERYBODY) for order in orders)


def test_a_value_that_is_missing_is_a_failure():
    assert complete(MEASURE, {"a": 1.0, "b": 2.0, "more": 3.0})
    with pytest.raises(Failed, match="no value for b"):
        complete(MEASURE, {"a": 1.0})


def test_rounds_and_time():
    assert rounds_of(MEASURE, SETTINGS) == 2
    assert estimate([MEASURE], SETTINGS) == 2 * len(EVERYBODY) * (1.5 * 3 + 0.5)
