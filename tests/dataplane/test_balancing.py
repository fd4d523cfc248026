"""The policy of an app in a worker: tables are made in slices, while the policy that was serves; what is kept, and what is
new."""

from dataclasses import replace

from tcp_proxy.config.model import Hash, Timeouts
from tcp_proxy.dataplane.balancing import Balancing
from tcp_proxy.sansio.bounded_load import BoundedLoad
from tcp_proxy.sansio.hashed import TableHash
from tcp_proxy.sansio.least_time import LeastTime
from tcp_proxy.sansio.share import Share
from tcp_proxy.sansio.slow_start import SlowStart
from tcp_proxy.wire.counters import PROCESS_SLOTS, TARGET_SLOTS
from tcp_proxy.wire.views import AppView, TargetView
from tests.dataplane.test_apps import HERE, Rig
from tests.dataplane.test_apps import view_of as plain_view_of


def view(balance, **more):
    return AppView("web", 0, balance, 3, Timeouts(), (), **more)


def members(count):
    return [(f"t{number}", 1) for number in range(count)]


def build(balancing, wanted, some):
    """How many slices it takes."""
    slices = sum(1 for _ in balancing.building(wanted, some, Share()))
    balancing.configure(wanted)
    return slices


def test_a_table_is_made_in_many_slices():
    balancing = Balancing(0)
    assert build(balancing, view("maglev"), members(1000)) >= 5
    assert isinstance(balancing.whole, TableHash)
    assert balancing.whole is not balancing.part


def test_the_same_targets_need_no_new_table_and_other_ones_do():
    balancing, wanted = Balancing(0), view("ring_hash")
    assert build(balancing, wanted, members(10))
    whole = balancing.whole
    assert build(balancing, wanted, members(10)) == 0
    assert balancing.whole is whole
    assert build(balancing, wanted, members(11))
    assert balancing.whole is not whole
    whole = balancing.whole
    build(balancing, replace(wanted, hash=Hash(ring_size=300)), members(11))
    assert balancing.whole is not whole


def test_a_factor_is_around_the_policy_and_below_slow_start():
    balancing, wanted = Balancing(0), view("maglev", hash=Hash(balance_factor=150))
    build(balancing, wanted, members(3))
    assert isinstance(balancing.whole, BoundedLoad)
    build(balancing, replace(wanted, slow_start=5.0), members(3))
    assert isinstance(balancing.whole, SlowStart)
    build(balancing, replace(wanted, hash=Hash()), members(3))
    assert isinstance(balancing.whole, TableHash)


def test_targets_without_weight_are_in_no_table():
    balancing, wanted = Balancing(0), view("maglev", hash=Hash(table_size=251))
    build(balancing, wanted, [("a", 1), ("b", 0)])
    assert balancing._table.members == (("a", 1),)
    build(balancing, wanted, [("b", 0)])
    assert balancing._table is None


def test_latencies_outlive_a_change_and_end_with_the_policy():
    balancing = Balancing(0)
    build(balancing, view("least_time"), members(2))
    assert isinstance(balancing.whole, LeastTime)
    latencies = balancing.latencies
    build(balancing, view("least_time", slow_start=5.0), members(2))
    assert balancing.latencies is latencies
    assert isinstance(balancing.whole, SlowStart)
    build(balancing, view("round_robin"), members(2))
    assert balancing.latencies is None


def test_an_app_is_served_as_it_was_while_its_table_is_made():
    with Rig({}, {}) as rig:
        wanted = replace(plain_view_of(rig, (0, {}), (1, {})), balance="maglev")
        steps = rig.app.configuring(wanted, 0.0, None, Share())
        next(steps)
        assert not rig.app.needs_key
        assert {rig.choose(), rig.choose()} == {"a", "b"}
        for _ in steps:
            pass
        assert rig.app.needs_key
        assert len({rig.choose() for _ in range(5)}) == 1


def test_one_that_is_down_costs_no_new_table():
    with Rig({}, {}, {}) as rig:
        rig.app.configure(replace(plain_view_of(rig, (0, {}), (1, {}), (2, {})), balance="maglev"))
        chosen, table = rig.choose(), rig.app._balancing._table
        rig.app.change_target(chosen, "down", HERE)
        other = rig.choose()
        assert other != chosen
        rig.app.change_target(chosen, "up", HERE)
        assert rig.choose() == chosen
        assert rig.app._balancing._table is table


def test_a_full_target_gives_its_clients_to_the_same_other_one():
    """max_connections: the one after a key's own is as good as always the same."""
    with Rig({"limit": 1}, {"limit": 1}, {"limit": 1}) as rig:
        wanted = plain_view_of(rig, (0, {"limit": 1}), (1, {"limit": 1}), (2, {"limit": 1}))
        rig.app.configure(replace(wanted, balance="ring_hash"))
        first = [rig.choose() for _ in range(3)]
        assert sorted(first) == ["a", "b", "c"]
        assert rig.choose() is None
        for name in first:
            rig.give(name)
        assert [rig.choose() for _ in range(3)] == first


def test_levels_and_zones_of_an_app():
    def target(number, priority, zone):
        slot = PROCESS_SLOTS + TARGET_SLOTS * number
        return TargetView("abcd"[number], slot, 1, False, False, "up", HERE, priority=priority, zone=zone)

    with Rig({}, {}, {}, {}) as rig:
        targets = (target(0, 0, "x"), target(1, 0, "y"), target(2, 1, "y"), target(3, 1, "x"))
        rig.app.configure(replace(view("round_robin", zone="y"), targets=targets))
        order = []
        for _ in range(4):
            order.append(rig.choose())
            rig.app.change_target(order[-1], "down", HERE)
        assert order == ["b", "a", "c", "d"]


def test_a_level_that_is_up_in_part_gives_a_part_of_its_load_away():
    def target(number, priority, state="up"):
        slot = PROCESS_SLOTS + TARGET_SLOTS * number
        return TargetView("abcd"[number], slot, 1, False, False, state, HERE, priority=priority)

    with Rig({}, {}, {}, {}) as rig:
        targets = (target(0, 0), target(1, 0, "down"), target(2, 1), target(3, 1))
        rig.app.configure(replace(view("source_hash", overprovisioning=140), targets=targets))
        chosen = [rig.app.choose(b"client %d" % number, 0.0, None).name for number in range(1000)]
        assert 650 < chosen.count("a") < 750  # Envoy: 70 %
        assert [rig.app.choose(b"client %d" % number, 0.0, None).name for number in range(1000)] == chosen
        rig.app.change_target("b", "up", HERE)
        assert {rig.app.choose(b"client %d" % number, 0.0, None).name for number in range(100)} == {"a", "b"}
