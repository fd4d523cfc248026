"""The panic threshold: whose level serves, and when all of it is used. Envoy's cases, with backups as its lower priority."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.panic import Level, Member, judge


def level(primaries, backups="", threshold=50):
    """A letter for each: u is up, d is not."""
    members = [Member((False, 0), one == "u") for one in primaries] + [Member((True, 0), one == "u") for one in backups]
    return judge(members, threshold)


@pytest.mark.parametrize(
    ("primaries", "backups", "is_panic", "are_backups"),
    [
        ("uuuu", "", False, False),
        ("uudd", "", False, False),  # exactly the threshold is enough
        ("uddd", "", True, False),
        ("dddd", "", True, False),
        ("uddd", "uu", True, False),  # who serves are the primaries, as long as one is up
        ("dddd", "uu", False, True),  # Envoy: no panic while a lower priority can take all
        ("dddd", "uddd", True, True),
        ("dddd", "dd", True, False),
        ("", "ud", False, True),
        ("", "dd", True, True),
        ("", "", False, False),  # nobody could serve: nobody to use
    ],
)
def test_whose_level_serves_and_whether_it_panics(primaries, backups, is_panic, are_backups):
    found = level(primaries, backups)
    assert (found.is_panic, found.level[0] and bool(backups)) == (is_panic, are_backups)


def test_zero_disables_panic():
    """Envoy: "setting the panic threshold to 0% disables panic mode"."""
    assert level("dddd", threshold=0) == Level(False, (False, 0), 0, 4)


def test_a_hundred_panics_as_soon_as_one_is_down():
    assert level("uuuu", threshold=100).is_panic is False
    assert level("uuud", threshold=100) == Level(True, (False, 0), 3, 4)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12), st.integers(0, 100))
def test_it_is_what_a_reader_of_the_docs_would_say(pairs, threshold):
    primaries = [is_up for is_backup, is_up in pairs if not is_backup]
    backups = [is_up for is_backup, is_up in pairs if is_backup]
    if any(primaries):
        serve = primaries
    elif any(backups):
        serve = backups
    else:
        serve = primaries or backups
    found = judge([Member((is_backup, 0), is_up) for is_backup, is_up in pairs], threshold)
    assert (found.up, found.of) == (sum(serve), len(serve))
    assert found.is_panic == bool(serve and Fraction(sum(serve), len(serve)) < Fraction(threshold, 100))


def test_the_level_that_serves_is_the_first_with_somebody_up_backups_last():
    """Envoy: priorities are tried in order; panic is of the level that has the load."""
    members = [((False, 0), False), ((False, 2), True), ((False, 2), False), ((False, 2), False), ((True, 0), True)]
    found = judge([Member(*one) for one in members], 50)
    assert found == Level(True, (False, 2), 1, 3)
