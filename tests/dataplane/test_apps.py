"""Who gets the next session: eligibility, backups, limits; the gauge and the token always change together."""

import os
import socket

from tcp_proxy import counters
from tcp_proxy.config.model import Timeouts
from tcp_proxy.counters import PROCESS_SLOTS, TARGET_SLOTS, Counters
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.messages import AppView, TargetView
from tcp_proxy.sansio.reasons import Reason

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
        assert rig.app.why_none() is Reason.NO_TARGET
        rig.app.change_target("a", "up", HERE)
        assert rig.choose() == "a"


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
        assert rig.app.why_none() is Reason.LIMIT
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
