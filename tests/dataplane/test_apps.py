"""Who gets the next session: eligibility, backups, limits; the gauge and the token always change together."""

import gc
import os
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.sansio.levels import Levels
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.sansio.share import Share
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import PROCESS_SLOTS, TARGET_SLOTS, Counters
from tcp_proxy.wire.later import text_of
from tcp_proxy.wire.messages import AppPart
from tcp_proxy.wire.views import AppView, TargetView

HERE = ((int(socket.AF_INET), ("127.0.0.1", 9)),)


class Rig:
    """An app with targets a, b, c …, described by keyword arguments of TargetView."""

    def __init__(self, *targets, balance="round_robin", workers=1):
        self.memory, fd = Counters.create(1 + workers, PROCESS_SLOTS + TARGET_SLOTS * len(targets))
        os.close(fd)
        views = tuple(self.view(n, **target) for n, target in enumerate(targets))
        self.failed = []
        view = AppView("web", 0, balance, 3, Timeouts(), views)
        self.apps = [
            LiveApp(view, n, self.memory.rows, self.memory.rows[1 + n], self.note) for n in range(workers)
        ]
        self.app = self.apps[0]
        self.row = self.memory.rows[1]
        self.semaphores = []
        for view, limit in zip(views, [target.get("limit", 0) for target in targets], strict=True):
            if limit:
                fd = os.eventfd(limit, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
                self.semaphores.append(fd)
                for app in self.apps:
                    app.targets[view.name].tokens = fd

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for fd in self.semaphores:
            os.close(fd)
        gc.unfreeze()  # targets that were made later are left out of the search for garbage

    def note(self, *what):
        self.failed.append(what)

    @staticmethod
    def view(n, weight=1, backup=False, limit=0, state="up", endpoints=HERE):
        slot = PROCESS_SLOTS + TARGET_SLOTS * n
        return TargetView("abcdefgh"[n], slot, weight, backup, limit > 0, state, endpoints)

    def choose(self, app=None, excluded=None):
        target = (app or self.app).choose(b"k", 0.0, excluded)
        return target.name if target else None

    def give(self, name, app=None):
        (app or self.app).targets[name].give((app or self.app).row)


def test_only_targets_that_are_up_with_weight_and_address_are_eligible():
    with Rig({}, {"state": "down"}, {"state": "draining"}, {"weight": 0}, {"endpoints": ()}) as rig:
        assert {rig.choose() for _ in range(10)} == {"a"}


def test_a_change_of_state_counts_from_the_next_session_on():
    with Rig({}, {}) as rig:
        rig.app.change_target("a", "down", HERE)
        assert {rig.choose() for _ in range(4)} == {"b"}
        rig.app.change_target("b", "down", HERE)
        assert rig.choose() is None
        assert rig.app.why_none(0.0) is Reason.NO_TARGET
        rig.app.change_target("a", "up", HERE)
        assert rig.choose() == "a"


def test_names_without_an_address_are_asked_for_when_clients_come_at_most_once_a_second():
    with Rig({"endpoints": ()}, {"state": "down"}) as rig:
        for now in (10.0, 10.2, 10.9, 11.0, 11.5):
            assert rig.choose() is None
            assert rig.app.why_none(now) is Reason.NO_TARGET
        assert rig.failed == [("web", "a", "")] * 2


def test_backups_serve_only_while_no_primary_can():
    with Rig({}, {"backup": True}, {"backup": True}) as rig:
        assert {rig.choose() for _ in range(4)} == {"a"}
        rig.app.change_target("a", "down", HERE)
        assert {rig.choose() for _ in range(4)} == {"b", "c"}
        rig.app.change_target("a", "up", HERE)
        assert {rig.choose() for _ in range(4)} == {"a"}


def test_after_the_primaries_a_session_tries_the_backups():
    with Rig({}, {}, {"backup": True}) as rig:
        a, b = rig.app.targets["a"], rig.app.targets["b"]
        assert rig.choose(excluded={a}) == "b"
        assert rig.choose(excluded={a, b}) == "c"
        assert rig.choose(excluded={a, b, rig.app.targets["c"]}) is None


def test_a_limit_is_exact_and_a_full_app_says_limit():
    with Rig({"limit": 2}, {"limit": 1}) as rig:
        assert sorted([rig.choose() for _ in range(3)]) == ["a", "a", "b"]
        assert rig.choose() is None
        assert rig.app.why_none(0.0) is Reason.LIMIT
        rig.give("b")
        assert rig.choose() == "b"


def test_a_limit_holds_for_all_workers_together():
    with Rig({"limit": 3}, workers=2) as rig:
        one, two = rig.apps
        assert [rig.choose(one), rig.choose(two), rig.choose(one)] == ["a"] * 3
        assert rig.choose(two) is None
        rig.give("a", one)
        assert rig.choose(two) == "a"


def test_backups_serve_when_the_primaries_are_full():
    with Rig({"limit": 1}, {"backup": True}) as rig:
        assert [rig.choose() for _ in range(3)] == ["a", "b", "b"]


def test_the_gauge_and_the_token_change_together():
    with Rig({"limit": 1}) as rig:
        target = rig.app.targets["a"]
        assert target.take(rig.row)
        assert not target.take(rig.row)
        assert (target.active, rig.row[target.slot + counters.ACTIVE]) == (1, 1)
        target.give(rig.row)
        assert target.active == 0
        assert target.take(rig.row)


def test_the_least_loaded_is_found_over_all_workers():
    with Rig({}, {}, balance="least_connections", workers=2) as rig:
        for _ in range(5):
            rig.apps[1].targets["a"].take(rig.memory.rows[2])
        assert [rig.choose(rig.apps[0]) for _ in range(5)] == ["b"] * 5


def test_round_robins_of_two_workers_start_apart():
    with Rig({}, {}, workers=2) as rig:
        assert rig.choose(rig.apps[0]) != rig.choose(rig.apps[1])


def test_the_first_address_rotates():
    addresses = tuple((int(socket.AF_INET), (f"127.0.0.{n}", 9)) for n in (1, 2, 3))
    with Rig({"endpoints": addresses}) as rig:
        target = rig.app.targets["a"]
        firsts, rests = zip(*[target.endpoints_to_try() for _ in range(6)], strict=True)
        assert {firsts.count(address) for address in addresses} == {2}
        assert all({first, *rest} == set(addresses) for first, rest in zip(firsts, rests, strict=True))


# -- a new configuration while sessions go on


def semaphore(limit):
    return os.eventfd(limit, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)


def left(fd):
    """How many tokens are left: taken, counted and given back."""
    count = 0
    while True:
        try:
            os.eventfd_read(fd)
        except BlockingIOError:
            break
        count += 1
    if count:
        os.eventfd_write(fd, count)
    return count


def view_of(rig, *targets, balance="round_robin", retries=3):
    return AppView("web", 0, balance, retries, Timeouts(), tuple(rig.view(n, **more) for n, more in targets))


def test_who_keeps_his_slot_keeps_his_sessions_and_who_leaves_takes_no_more():
    with Rig({}, {}) as rig:
        a, b = rig.app.targets["a"], rig.app.targets["b"]
        assert sorted([rig.choose(), rig.choose()]) == ["a", "b"]
        rig.app.configure(view_of(rig, (1, {"weight": 7})))
        assert rig.app.targets == {"b": b}
        assert (b.weight, b.active, a.active) == (7, 1, 1)
        assert not a.is_eligible
        assert not rig.app.retake(a)
        assert {rig.choose() for _ in range(3)} == {"b"}
        a.give(rig.row)
        assert a.active == 0


def test_weights_count_from_the_next_session_on_and_credits_stay():
    with Rig({}, {}) as rig:
        first = rig.choose()
        rig.app.configure(view_of(rig, (0, {}), (1, {})))
        assert rig.choose() != first, "the same turn goes on"
        rig.app.configure(view_of(rig, (0, {"weight": 3}), (1, {})))
        picks = [rig.choose() for _ in range(8)]
        assert (picks.count("a"), picks.count("b")) == (6, 2)


def test_another_policy_is_another_balancer():
    with Rig({}, {}) as rig:
        rig.app.configure(view_of(rig, (0, {}), (1, {}), balance="source_hash", retries=0))
        assert rig.app.needs_key
        assert rig.app.retries == 0
        assert len({rig.choose() for _ in range(6)}) == 1


def test_an_app_that_leaves_has_no_target_for_anybody():
    with Rig({}, {"limit": 1}) as rig:
        rig.semaphores.clear()  # the app closes it
        rig.app.leave()
        assert rig.choose() is None


def test_a_limit_counts_the_sessions_there_are():
    with Rig({}) as rig:
        target = rig.app.targets["a"]
        sessions = [rig.choose() for _ in range(3)]
        rig.app.configure(view_of(rig, (0, {"limit": 5})))
        tokens = semaphore(5)
        target.adopt(os.dup(tokens), [rig.row])
        assert left(tokens) == 2
        assert [rig.choose() for _ in range(3)] == ["a", "a", None]
        for _ in (*sessions, 1, 2):
            rig.give("a")
        assert left(tokens) == 5
        os.close(tokens)
        rig.app.configure(view_of(rig, (0, {})))


def test_a_limit_below_the_sessions_there_are_is_reached_as_they_end():
    with Rig({}) as rig:
        target = rig.app.targets["a"]
        for _ in range(5):
            rig.choose()
        rig.app.configure(view_of(rig, (0, {"limit": 2})))
        tokens = semaphore(2)
        target.adopt(os.dup(tokens), [rig.row])
        assert (left(tokens), rig.row[target.slot + counters.UNPAID]) == (0, 3)
        for active in (4, 3, 2):
            assert rig.choose() is None
            rig.give("a")
            assert target.active == active
        assert (left(tokens), rig.row[target.slot + counters.UNPAID]) == (0, 0)
        rig.give("a")
        assert rig.choose() == "a"
        assert rig.choose() is None
        os.close(tokens)
        rig.app.configure(view_of(rig, (0, {})))


def test_a_limit_goes_up_and_down_and_away_and_comes_back_and_no_token_is_lost():
    with Rig({}) as rig:
        target = rig.app.targets["a"]
        for _ in range(4):
            rig.choose()
        for limit in (2, 9, 3, 0, 4, 0, 6):
            rig.app.configure(view_of(rig, (0, {"limit": limit})))
            if limit:
                tokens = semaphore(limit)
                target.adopt(os.dup(tokens), [rig.row])
                assert left(tokens) == max(0, limit - target.active)
                while rig.choose():
                    pass
                assert target.active == max(limit, 4 if limit < 4 else limit)
                while target.active > 4:
                    rig.give("a")
                os.close(tokens)
            else:
                assert (target.tokens, target.limited) == (-1, False)
                assert rig.choose() == "a"
                rig.give("a")
        while target.active:
            rig.give("a")
        assert left(target.tokens) == 6
        rig.app.configure(view_of(rig, (0, {})))


def test_sessions_of_relay_threads_are_counted_too():
    with Rig({}, workers=2) as rig:
        mine = rig.memory.rows[1:3]
        target = rig.app.targets["a"]
        for _ in range(4):
            rig.choose()
        target.give(mine[1])  # in another thread: its row is -1 now
        rig.app.configure(view_of(rig, (0, {"limit": 2})))
        tokens = semaphore(2)
        target.adopt(tokens, mine)
        assert (left(tokens), target.unpaid) == (0, 1)
        target.give(mine[1])
        target.give(mine[1])
        assert left(tokens) == 1
        assert sum(row[target.slot + counters.UNPAID] for row in mine) == 0
        rig.app.configure(view_of(rig, (0, {})))


# -- targets that are made when somebody asks for one


def later(rig, *targets, **more):
    """An app of the same memory that was told of its targets as a text."""
    views = tuple(rig.view(n, **target) for n, target in enumerate(targets))
    view = AppView("web", 0, more.pop("balance", "round_robin"), 3, Timeouts(), (), **more, later=text_of(views))
    return LiveApp(view, 0, rig.memory.rows, rig.row, rig.note)


THREE = ({}, {"backup": True}, {"weight": 2})


def test_nobody_asks_for_targets_before_the_first_choice():
    with Rig(*THREE) as rig:
        app = later(rig, *THREE, overprovisioning=140, slow_start=5.0)
        app.change_target("a", "up", HERE)
        app.meet(())
        assert not app.holds
        assert not app.is_special
        assert not app.is_over
        assert app.made_targets == {}
        assert rig.choose(app) is not None
        assert list(app.made_targets) == ["a", "b", "c"]
        assert app.targets is app.made_targets


@pytest.mark.parametrize(
    "ask",
    [
        lambda app: app.choose(b"", 0.0, None), lambda app: app.choose_waiting(b"", 0.0), lambda app: app.targets["a"],
        lambda app: app.choose(b"", 0.0, {object()}), lambda app: app.target_at("a", PROCESS_SLOTS),
        lambda app: app.cut(Reason.TARGET_DOWN),
    ],
)  # fmt: skip
def test_whoever_asks_for_one_gets_it(ask):
    with Rig({}) as rig:
        app = later(rig, {})
        ask(app)
        assert list(app.made_targets) == ["a"]


def test_an_app_that_leaves_before_anybody_has_come_has_no_target_in_any_slice():
    """They are not made to leave: who is on the way to one between two slices would find those whose turn is yet to come,
    and such without an address."""
    with Rig(*THREE) as rig:
        app = later(rig, *THREE)
        app.change_target("a", "up", HERE)
        found = [rig.choose(app) for _ in app.leaving(Share(1))]
        assert [*found, rig.choose(app), *app.made_targets] == [None] * (len(found) + 1)
        app.change_target("a", "up", HERE)
        assert rig.choose(app) is None


def test_whom_memory_was_too_short_for_they_are_made_for_the_next(monkeypatch):
    with Rig({}, {}) as rig:
        app = later(rig, {}, {})
        app.change_target("a", "down", HERE)
        with monkeypatch.context() as patch:
            patch.setattr(Levels, "sort", no_memory)
            for _ in range(2):
                with pytest.raises(MemoryError):
                    rig.choose(app)
        assert rig.choose(app) == "b"


def no_memory(*_):
    raise MemoryError


def test_what_was_said_of_them_meanwhile_counts():
    """The last word of each; one that there is not is nobody, as with a change that was broken off."""
    there = ((int(socket.AF_INET), ("127.0.0.7", 9)),)
    with Rig({}, {}, {"state": "down"}) as rig:
        app = later(rig, {}, {}, {"state": "down"})
        said = ("a", "up", there), ("a", "down", ()), ("c", "down", HERE), ("c", "up", there), ("x", "up", HERE)
        for name, state, where in said:
            app.change_target(name, state, where, (), 3.0)
        assert app.made_targets == {}
        assert sorted({rig.choose(app) for _ in range(4)}) == ["b", "c"]
        assert app.targets["c"].endpoints == there
        assert app.targets["c"].since == 3.0
        app.change_target("c", "down", there)
        app.change_target("b", "down", HERE)
        app.change_target("x", "up", HERE)
        assert rig.choose(app) is None


CHANGES = st.one_of(
    st.tuples(st.just("say"), st.sampled_from("abcd"), st.sampled_from(["up", "down", "draining"])),
    st.tuples(st.just("part"), st.sampled_from([0, 2, 3]), st.sampled_from([0, 1, 9])),
    st.tuples(st.just("whole"), st.lists(st.sampled_from([0, 1, 2, 3]), unique=True, min_size=1)),
    st.tuples(st.just("choose")),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(CHANGES, max_size=8), st.sampled_from(["round_robin", "least_connections"]))
def test_an_app_is_the_same_whether_it_was_told_at_once_or_later(changes, balance):
    found = []
    for is_later in (False, True):
        with Rig({}, {}, {"backup": True}, {"state": "down"}, balance=balance) as rig:
            app = later(rig, {}, {}, {"backup": True}, {"state": "down"}, balance=balance) if is_later else rig.app
            seen = []
            for change, *rest in (*changes, ("choose",), ("choose",), ("choose",)):
                if change == "say":
                    app.change_target(rest[0], rest[1], HERE)
                elif change == "part":
                    view = view_of(rig, (rest[0], {"weight": rest[1]}), balance=balance)
                    app.configure(view, part=AppPart(view))
                elif change == "whole":
                    app.configure(view_of(rig, *((n, {}) for n in rest[0]), balance=balance))
                else:
                    seen.append(rig.choose(app))
            found.append((seen, {name: (one.state, one.weight, one.slot) for name, one in app.targets.items()}))
    assert found[0] == found[1]
