"""A target is what most of those find who have a finding, and everybody counts alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.verdict import State
from tcp_proxy.sansio.vote import Opinion, checkers, majority

UP, DRAINING, DOWN = (Opinion(state, f"it is {state}") for state in (State.UP, State.DRAINING, State.DOWN))


@pytest.mark.parametrize(
    ("opinions", "state"),
    [
        ((UP,), State.UP),
        ((DOWN,), State.DOWN),
        ((UP, DOWN), State.UP),
        ((UP, UP, DOWN), State.UP),
        ((UP, DOWN, DOWN), State.DOWN),
        ((DRAINING, DOWN), State.DRAINING),
        ((UP, DRAINING, DOWN), State.DRAINING),
        ((UP, UP, DOWN, DOWN), State.UP),
        ((DRAINING, DRAINING, UP), State.DRAINING),
    ],
)
def test_more_than_half_decide(opinions, state):
    assert majority(dict(zip("abcd", opinions, strict=False))).state is state


def test_nobody_knows():
    assert majority({}) is None


def test_it_says_who_and_how_many():
    assert majority({"a": DOWN}).evidence == "it is down"
    assert majority({"b": DOWN, "c": DOWN, "a": UP}).evidence == "it is down (node b; 2 of 3 nodes say down)"


votes = st.dictionaries(st.text(max_size=3), st.sampled_from([UP, DRAINING, DOWN]), min_size=1, max_size=9)


@given(votes, st.randoms())
def test_the_order_does_not_matter(opinions, random):
    items = list(opinions.items())
    random.shuffle(items)
    assert majority(dict(items)) == majority(opinions)


@given(votes.filter(lambda found: len(found) > 1), st.sampled_from([DRAINING, DOWN]))
def test_one_node_takes_a_target_from_nobody(opinions, against):
    everybody = dict.fromkeys(opinions, UP)
    assert majority({**everybody, min(opinions): against}).state is State.UP


@given(st.sets(st.text(max_size=5), min_size=1, max_size=20), st.integers(1, 5), st.text(max_size=5))
def test_so_many_check_and_few_change(nodes, count, app):
    chosen = checkers(app, nodes, count)
    assert chosen <= nodes
    assert len(chosen) == min(count, len(nodes))
    assert checkers(app, nodes, None) == nodes
    left = checkers(app, nodes - {min(chosen)}, count)
    assert chosen - {min(chosen)} <= left
