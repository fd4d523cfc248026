"""Policies with a table, as clients see them: whose keys move when targets go, come, rise, and when few of many are up."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.sansio.balance import SourceHash
from tcp_proxy.sansio.hash_table import TABLES
from tcp_proxy.sansio.hashed import TableHash
from tcp_proxy.sansio.slow_start import SlowStart
from tests.sansio.test_balance import Fake, no_dice, pool

KEYS = [b"client %d" % number for number in range(4000)]


def table(kind, eligible, size=1021):
    *_, found = TABLES[kind]([(one.name, one.weight) for one in eligible], size)
    return found


def picks(balancer, eligible, keys=KEYS, now=0.0):
    return {key: balancer.pick(eligible, key, now, no_dice).name for key in keys}


@pytest.fixture(params=TABLES)
def kind(request):
    return request.param


def test_a_key_has_always_the_same_target_and_all_have_their_share(kind):
    eligible = pool(1, 1, 2)
    found = picks(TableHash(table(kind, eligible, 65537)), eligible)
    assert found == picks(TableHash(table(kind, eligible, 65537)), eligible)
    counts = Counter(found.values())
    for name, share in (("a", 1000), ("b", 1000), ("c", 2000)):
        assert abs(counts[name] - share) < 150


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(sorted(TABLES)), st.sets(st.integers(0, 7), max_size=7))
def test_the_keys_of_who_is_down_move_and_no_others_and_they_come_back(kind, down):
    eligible = pool(*[1] * 8)
    balancer = TableHash(table(kind, eligible))
    before = picks(balancer, eligible, KEYS[:400])
    up = tuple(one for number, one in enumerate(eligible) if number not in down)
    gone = {one.name for one in eligible} - {one.name for one in up}
    after = picks(balancer, up, KEYS[:400])
    assert {before[key] for key in before if before[key] != after[key]} <= gone
    assert set(after.values()) <= {one.name for one in up}
    assert picks(balancer, eligible, KEYS[:400]) == before


def test_the_keys_of_who_is_down_are_spread_over_all_others(kind):
    eligible = pool(*[1] * 5)
    balancer = TableHash(table(kind, eligible, 65537))
    before = picks(balancer, eligible)
    after = picks(balancer, eligible[1:])
    heirs = Counter(after[key] for key in KEYS if before[key] == "a")
    mine = sum(heirs.values())
    assert all(abs(count - mine / 4) < 0.35 * mine / 4 for count in heirs.values())
    assert len(heirs) == 4


def test_few_of_many_are_found_without_looking_for_ever(kind):
    eligible = tuple(Fake(f"t{number}") for number in range(1000))
    balancer = TableHash(table(kind, eligible, 65537))
    few = eligible[10:12]
    counts = Counter(picks(balancer, few, KEYS[:1000]).values())
    assert set(counts) == {"t10", "t11"}
    assert min(counts.values()) > 400


def test_a_target_that_rises_gets_keys_and_loses_none(kind):
    """Slow start without a new table: its part of the weight is its part of its keys, always the same ones."""

    class Rising(Fake):
        since = 0.0

    eligible = tuple(Rising(name) for name in "abc")
    balancer = SlowStart(TableHash(table(kind, eligible, 65537)), 100.0)
    whole = picks(balancer, eligible, now=1000.0)
    eligible[0].since = 2000.0
    eligible = tuple(list(eligible))  # it has come back: another set
    mine, counts = set(), []
    for now in (2001.0, 2025.0, 2050.0, 2075.0, 2099.0, 2100.0):
        found = picks(balancer, eligible, now=now)
        now_mine = {key for key in KEYS if found[key] == "a"}
        assert mine <= now_mine
        assert all(found[key] == whole[key] for key in KEYS if whole[key] != "a")
        mine = now_mine
        counts.append(len(mine))
    assert counts == sorted(counts)
    assert counts[0] < 0.1 * counts[-1]
    assert 0.4 < counts[2] / counts[-1] < 0.6
    assert found == whole


def test_all_that_rise_alike_share_as_ever(kind):
    class Rising(Fake):
        since = 2000.0

    eligible = tuple(Rising(name) for name in "abc")
    balancer = SlowStart(TableHash(table(kind, eligible)), 100.0)
    assert picks(balancer, eligible, now=2010.0) == picks(balancer, eligible, now=3000.0)


def test_without_a_table_and_for_who_is_not_in_it_the_rendezvous_decides(kind):
    eligible, strange = pool(1, 1, 1), (Fake("x"), Fake("y"))
    assert picks(TableHash(None), eligible) == picks(SourceHash(0), eligible)
    assert picks(TableHash(table(kind, eligible)), strange) == picks(SourceHash(0), strange)
