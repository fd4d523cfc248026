"""Who gives how many sessions to whom. That they do is seen in tests/system/test_moving.py."""

from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.control.processes.session_moves import shares


@given(st.lists(st.integers(0, 1000), max_size=12))
def test_afterwards_no_two_differ_by_more_than_one_and_nobody_gave_in_vain(counts):
    after, given_away, taken = list(counts), set(), set()
    for giver, taker, size in shares(counts):
        assert size > 0
        after[giver] -= size
        after[taker] += size
        given_away.add(giver)
        taken.add(taker)
    assert sum(after) == sum(counts)
    assert not given_away & taken, "nobody gives and takes"
    assert not after or max(after) - min(after) <= 1
    mean = sum(counts) / max(1, len(counts))
    assert all(counts[place] > mean for place in given_away)
    assert all(counts[place] < mean for place in taken)


def test_who_has_as_many_as_the_others_is_left_alone():
    assert shares([]) == []
    assert shares([7]) == []
    assert shares([3, 3, 4]) == []
    assert shares([10, 0]) == [(0, 1, 5)]
