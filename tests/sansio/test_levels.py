"""Levels of targets: which ones are used, and how much, when too few are up. Envoy's priority levels by their documented
cases (Load balancing: Priority levels; Zone aware routing is here a preference)."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.levels import Levels


@dataclass(eq=False)
class One:
    name: str
    priority: int = 0
    zone: str = ""
    backup: bool = False
    weight: int = 1
    is_up: bool = field(default=True)

    @property
    def is_eligible(self):
        return self.is_up and self.weight > 0


def levels(members, zone="", factor=0):
    found = Levels()
    found.sort(members, zone, factor)
    return found


def names(found, mark=0.0):
    return ["".join(one.name for one in pool) for pool in found.order(mark)]


def loads(*levels_of, factor=140):
    """Per cent that begins with each level; `levels_of`: a letter for each target, u is up."""
    members = [One("x", number, is_up=letter == "u") for number, level in enumerate(levels_of) for letter in level]
    found = levels(members, factor=factor)
    first = Counter(found.order((mark + 0.5) / 1000)[0][0].priority for mark in range(1000))
    return [round(first[number] / 10) for number in range(len(levels_of))]


def test_a_level_is_used_when_nobody_above_it_can_be():
    a, b, c, d = One("a"), One("b", 1), One("c", 2), One("d", backup=True)
    assert names(levels([d, c, b, a])) == ["a", "b", "c", "d"]
    a.is_up = b.is_up = False
    assert names(levels([a, b, c, d])) == ["c", "d"]
    assert names(levels([])) == []


def test_backups_come_after_all_levels_by_their_own():
    members = [One("x", 0, backup=True), One("y", 1, backup=True), One("a", 127), One("b", 3)]
    assert names(levels(members)) == ["b", "a", "x", "y"]


@pytest.mark.parametrize(
    ("first", "second", "shares"),
    [  # Envoy's table for two levels, overprovisioning factor 1.4
        ("u" * 100, "u" * 100, [100, 0]),
        ("u" * 72 + "d" * 28, "u" * 100, [100, 0]),
        ("u" * 71 + "d" * 29, "u" * 100, [99, 1]),
        ("u" * 50 + "d" * 50, "u" * 100, [70, 30]),
        ("u" * 25 + "d" * 75, "u" * 100, [35, 65]),
        ("d" * 100, "u" * 100, [0, 100]),
        ("u" * 25 + "d" * 75, "u" * 25 + "d" * 75, [50, 50]),
        ("u" * 50 + "d" * 50, "u" * 20 + "d" * 80, [71, 29]),
    ],
)
def test_envoy_s_table_of_two_levels(first, second, shares):
    found = loads(first, second)
    assert all(abs(one - other) <= 1 for one, other in zip(found, shares, strict=True)), found


@pytest.mark.parametrize(
    ("health", "shares"),
    [  # Envoy's table for three levels
        ((100, 100, 100), [100, 0, 0]),
        ((72, 72, 100), [100, 0, 0]),
        ((71, 71, 100), [99, 1, 0]),
        ((50, 50, 100), [70, 30, 0]),
        ((25, 100, 100), [35, 65, 0]),
        ((25, 25, 100), [35, 35, 30]),
        ((25, 25, 20), [36, 36, 28]),
    ],
)
def test_envoy_s_table_of_three_levels(health, shares):
    found = loads(*("u" * up + "d" * (100 - up) for up in health))
    assert all(abs(one - other) <= 1 for one, other in zip(found, shares, strict=True)), found


def test_without_overprovisioning_everybody_begins_with_the_first():
    assert loads("uddd", "uuuu", factor=0) == [100, 0]
    assert not levels([One("a"), One("b", 1)], factor=140).is_spread


def test_whoever_begins_with_a_lower_level_tries_the_others_too():
    members = [One("a"), One("b", is_up=False), One("c", 1), One("d", 2)]
    found = levels(members, factor=140)
    assert names(found, 0.69) == ["a", "c", "d"]
    assert names(found, 0.71) == ["c", "d", "a"]


def test_our_zone_comes_first_and_the_others_when_it_has_nobody_up():
    near, far, later = One("n", zone="here"), One("f", zone="there"), One("l", 1, zone="here")
    assert names(levels([far, near, later], "here")) == ["n", "f", "l"]
    near.is_up = False
    assert names(levels([far, near, later], "here")) == ["f", "l"]
    assert names(levels([far, One("n")], "")) == ["fn"], "without a zone of ours nobody is nearer"


def test_a_pool_is_the_same_object_while_its_members_are():
    a, b, c = One("a"), One("b"), One("c", 1)
    found = levels([a, b, c])
    before = found.pools
    found.sort([a, b, c])
    assert all(one is other for one, other in zip(found.pools, before, strict=True))
    c.is_up = False
    found.sort([a, b, c])
    assert found.pools[0] is before[0]


ROWS = st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from("xy"), st.booleans(), st.integers(0, 2))


@given(
    st.lists(ROWS, max_size=12), st.sampled_from(["", "x"]), st.sampled_from([0, 100, 140, 1000]),
    st.floats(0, 1, exclude_max=True),
)
def test_who_is_eligible_is_in_one_pool_and_nobody_else_is(rows, zone, factor, mark):
    members = [One(str(n), priority, where, backup, weight, up)
               for n, (priority, backup, where, up, weight) in enumerate(rows)]
    tried = [one for pool in levels(members, zone, factor).order(mark) for one in pool]
    assert sorted(one.name for one in tried) == sorted(one.name for one in members if one.is_eligible)
