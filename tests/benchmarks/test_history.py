"""The checker finds what no order of moments explains, and nothing else; it is held against a search through all orders."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.history import Move, Seen, fault, moved

TIMES = st.integers(0, 8)


def test_sessions_beside_each_other_may_see_either():
    sessions = [Seen(0, 5, "q"), Seen(1, 4, "p"), Seen(6, 7, "q")]
    assert fault(sessions, "pq") is None


def test_who_comes_later_sees_no_earlier_primary():
    late, early = Seen(2, 3, "p"), Seen(0, 1, "q")
    assert fault([late, early], "pq") == (early, late)


def test_who_was_primary_before_may_be_elected_again():
    sessions = [Seen(0, 1, "p"), Seen(2, 3, "q"), Seen(4, 5, "p")]
    assert fault(sessions, "pqp") is None
    assert fault(sessions, "pq") == tuple(sessions[1:])


def test_nobody_may_be_greeted_by_one_that_was_never_primary():
    one = Seen(0, 1, "s")
    assert fault([one], "pq") == (one, one)


def is_explained(sessions, order):
    """Whether there is an order of all of them that their times allow, in which elections only go forward."""
    for some in itertools.permutations(sessions):
        is_in_time = all(not later.greeted < earlier.asked for earlier, later in itertools.combinations(some, 2))
        rest = iter(enumerate(order))
        at = next(rest)
        try:
            for one in some:
                while at[1] != one.target:
                    at = next(rest)
        except StopIteration:
            continue
        if is_in_time:
            return True
    return False


@given(st.lists(st.tuples(TIMES, TIMES, st.sampled_from("pqr")), max_size=5), st.text("pqr", min_size=1, max_size=6))
def test_it_finds_what_a_search_finds(drawn, order):
    sessions = [Seen(min(one, other), max(one, other), target) for one, other, target in drawn]
    assert (fault(sessions, order) is None) is is_explained(sessions, order)


def test_a_key_has_one_target_but_for_moves_that_are_known():
    before, during, back, after = Seen(0, 1, "p"), Seen(2, 3, "q"), Seen(2.5, 3.5, "p"), Seen(6, 7, "q")
    of_p, of_r = Move(2, 5, frozenset("p")), Move(2, 5, frozenset("r"))
    everything = [before, during, back, after]
    assert moved(everything, [of_p]) is None
    assert moved(everything, [of_r]) == (before, during), "no key of p may move"
    assert moved([before, after], [of_p]) is None
    assert moved([before, after], [Move(8, 9, frozenset("p"))]) == (before, after)
    assert moved([*everything, Seen(8, 9, "p")], [of_p]) == (after, Seen(8, 9, "p")), "it has moved, and is back"
    assert moved([before, before._replace(asked=4)], []) is None
