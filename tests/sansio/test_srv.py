"""SRV records become targets: priorities, weights, each server once, whatever their order."""

from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.srv import MOST_WEIGHT, Record, targets_of


def test_priorities_are_levels_in_their_order():
    found = targets_of([Record(20, 5, 80, "c"), Record(10, 1, 81, "b"), Record(10, 3, 80, "a"), Record(30, 0, 80, "d")])
    assert found == [
        {"address": "a:80", "weight": 3},
        {"address": "b:81", "weight": 1},
        {"address": "c:80", "weight": 5, "priority": 1},
        {"address": "d:80", "weight": 1, "priority": 2},
    ]


def test_large_weights_keep_their_proportion():
    weights = {"a": 60_000, "b": 30_000, "c": 1, "d": 0}
    found = targets_of(Record(1, weight, 80, host) for host, weight in weights.items())
    assert [one["weight"] for one in found] == [256, 128, 1, 1]


def test_a_server_that_is_there_twice_is_one():
    assert targets_of([Record(2, 5, 80, "a"), Record(1, 7, 80, "a")]) == [{"address": "a:80", "weight": 7}]
    twice = [Record(1, weight, 80, "a") for weight in (1, 39, 5)]
    assert targets_of(twice) == targets_of(twice[::-1]) == [{"address": "a:80", "weight": 39}]
    assert targets_of([Record(1, 5, 80, "")]) == targets_of([]) == []


def test_how_letters_are_written_is_no_matter():
    """A DNS may write a name in other letters each time: it would be another target each time."""
    assert targets_of([Record(1, 1, 80, "DB.Example"), Record(1, 2, 80, "db.eXample")]) == [
        {"address": "db.example:80", "weight": 2}
    ]


RECORDS = st.lists(st.builds(Record, st.integers(0, 3), st.integers(0, 65535), st.integers(1, 3), st.sampled_from("ab")))


@given(RECORDS, st.randoms(use_true_random=False))
def test_their_order_is_no_matter(records, dice):
    found = targets_of(records)
    other = [*records]
    dice.shuffle(other)
    assert targets_of(other) == found
    assert all(1 <= one["weight"] <= MOST_WEIGHT for one in found)
    assert len({one["address"] for one in found}) == len(found)
    assert not found or "priority" not in found[0]
