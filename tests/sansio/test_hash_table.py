"""The tables of consistent hashes against what their papers say of spread and disruption, and how long a step is.

Maglev: Eisenbud et al., NSDI 2016, sections 3.4 and 5.3. The ring: Karger et al., STOC 1997, theorem 4.1 and its virtual
nodes; Envoy's names for both.
"""

import math
from collections import Counter
from itertools import islice
from statistics import pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.sansio.hash_table import DIGESTS, POINTS, PROBES, SORTED, TABLES, Maglev, Ring, turns

SIZES = {"maglev": 65537, "ring_hash": 65536}
NUMBERS = [(number * 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> 16 for number in range(20_000)]  # spread evenly


def members_of(count, weight=1, first=0):
    return [(f"10.0.{number >> 8}.{number & 255}:80", weight) for number in range(first, first + count)]


def table(kind, members, size=None):
    *_, found = TABLES[kind](members, size or SIZES[kind])
    return found


def found(one, numbers=NUMBERS):
    """By number, the name of whom it falls to."""
    return [one.members[one.find(number)][0] for number in numbers]


def moved(before, after):
    return sum(one != other for one, other in zip(before, after, strict=True)) / len(before)


# -- Maglev


@pytest.mark.parametrize("count", [1, 2, 7, 100, 655])
def test_maglev_gives_every_target_the_same_number_of_entries(count):
    """3.4: "each backend ... as equal as possible": with equal weights the numbers differ by one at most."""
    counts = Counter(table("maglev", members_of(count)).entries)
    assert len(counts) == count
    assert max(counts.values()) - min(counts.values()) <= 1


def test_maglev_with_a_hundred_entries_for_each_target_differs_by_one_per_cent():
    """3.4: "M larger than 100 x N so as to ensure at most a 1% difference in hash space"."""
    counts = Counter(table("maglev", members_of(600)).entries)
    assert max(counts.values()) / min(counts.values()) <= 1.01


def test_maglev_moves_little_more_than_it_must_when_a_target_goes():
    """5.3, figure 12: with 1,000 backends and 65,537 entries, one failure changes about 2 % of the other entries at
    most; with 655,373 entries far fewer."""
    members = members_of(1000)
    before, after = table("maglev", members).entries, table("maglev", [*members[:500], *members[501:]]).entries
    gone = [before[place] == 500 for place in range(len(before))]
    names = {number: number - (number > 500) for number in range(1000)}
    others = sum(names[one] != other for one, other, is_gone in zip(before, after, gone, strict=True) if not is_gone)
    assert others / len(before) < 0.02


def test_maglev_moves_less_with_a_larger_table():
    def others(size):
        members = members_of(100)
        before, after = (found(table("maglev", some, size)) for some in (members, members[:-1]))
        return sum(one != other and one != members[-1][0] for one, other in zip(before, after, strict=True)) / len(before)

    assert others(65537) < others(1009)


def test_maglev_with_weights_is_in_proportion():
    """Envoy's case: weights 1 and 2 of a table of 17 entries are 6 and 11 (maglev_lb_test, Weighted)."""
    counts = Counter(table("maglev", [("one", 1), ("two", 2)], 17).entries)
    assert (counts[0], counts[1]) == (6, 11)
    counts = Counter(table("maglev", [("a", 1), ("b", 256)]).entries)
    assert counts[0] == 65537 // 257


@given(st.lists(st.integers(1, 256), min_size=1, max_size=8))
def test_a_turn_is_had_by_weight(weights):
    assert Counter(islice(turns(weights), sum(weights))) == dict(enumerate(weights))


# -- the ring


def test_a_share_of_the_ring_is_right_to_one_in_the_root_of_its_points():
    """Karger: with k points for each target the spread falls as 1 / sqrt(k)."""
    counts = Counter(found(table("ring_hash", members_of(64))))
    mean, points = len(NUMBERS) / 64, 65536 / 64
    assert pstdev(counts.values()) / mean < 2 * (1 / math.sqrt(points) + 1 / math.sqrt(mean))


@settings(deadline=None, max_examples=20)
@given(st.integers(6, 8), st.data())
def test_who_leaves_the_ring_moves_its_own_numbers_and_no_others(count, data):
    """Karger's monotonicity; here as long as the same power of two of points fits on the ring."""
    members = members_of(count, weight=data.draw(st.sampled_from([1, 2, 4, 8])))
    gone = data.draw(st.sampled_from(members))
    before = found(table("ring_hash", members, 4096), NUMBERS[:2000])
    after = found(table("ring_hash", [one for one in members if one is not gone], 4096), NUMBERS[:2000])
    assert {one for one, other in zip(before, after, strict=True) if one != other} <= {gone[0]}


def test_points_on_the_ring_are_in_proportion_to_weights():
    ring = table("ring_hash", [("one", 1), ("two", 2), ("eight", 8)], 4096)
    counts = Counter(point & 0xFFFFF for point in ring.points)
    assert (counts[1], counts[2]) == (2 * counts[0], 8 * counts[0])
    assert 2048 < len(ring.points) <= 4096 or len(ring.points) == 11 * counts[0]


def test_a_number_above_the_last_point_is_the_first_ones():
    ring = table("ring_hash", members_of(3), 256)
    assert ring.find((1 << 48) - 1) == ring.points[0] & 0xFFFFF or ring.points[-1] >> 20 == (1 << 44) - 1
    assert list(ring.points) == sorted(ring.points)


def test_many_heavy_targets_on_a_small_ring_have_a_point_each():
    assert len(table("ring_hash", members_of(1000, weight=256), 256).points) == 1000


# -- both


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_the_same_wherever_it_is_made(kind):
    """It knows of names and weights alone: every worker, every start, and the order of the file, for the ring."""
    members = members_of(20)
    assert found(table(kind, members)) == found(table(kind, list(members)))
    assert moved(found(table("ring_hash", members)), found(table("ring_hash", members[::-1]))) == 0


@pytest.mark.parametrize("kind", TABLES)
def test_one_target_has_everything(kind):
    assert set(found(table(kind, members_of(1)))) == {"10.0.0.0:80"}


@pytest.mark.parametrize("kind", TABLES)
def test_a_thousand_targets_are_worked_out_in_steps(kind):
    """No step does more than what half a millisecond has room for: a loop has its turns in between."""
    *steps, last = TABLES[kind](members_of(1000), SIZES[kind])
    assert set(steps) == {None}
    least = 65537 * 2 // PROBES if kind == "maglev" else 32768 // POINTS // DIGESTS + 1024 // SORTED
    assert len(steps) >= least
    assert isinstance(last, Maglev | Ring)
