"""Whose a request with a sticky cookie is: states, limits, a target that cannot be connected to, and one that has left."""

from dataclasses import replace

from tcp_proxy.config.model import StickyCookie
from tcp_proxy.dataplane.http.cookie import Cookies
from tcp_proxy.dataplane.route_targets import RouteTargets
from tcp_proxy.sansio.http1.sticky_cookie import mark_of
from tests.dataplane.test_apps import HERE, Rig, view_of
from tests.sansio.http1.test_sticky_cookie import request, response


class Site:
    """`chosen(name)`: whom a client gets that brings the mark of this one."""

    def __init__(self, rig):
        self.rig, self.cookies = rig, Cookies(rig.app, StickyCookie("SRV"))

    def targets(self, name="", base=None):
        lines = [b"Cookie: SRV=" + mark_of("web", name)] if name else []
        return self.cookies.targets(base or self.rig.app, request(*lines))

    def chosen(self, name="", base=None, excluded=None):
        target = self.targets(name, base).choose(b"", 0.0, excluded)
        return target.name if target is not None else None

    def told(self, targets, served_by):
        """Whose mark the answer has; "": none."""
        answer = response()
        targets.marked(answer, served_by, False)
        found = [value for name, value in answer.fields.pairs if name == b"Set-Cookie"]
        return next((one for one in "abc" if any(mark_of("web", one) in value for value in found)), "")


def test_who_has_no_mark_goes_in_turns_and_is_told():
    site = Site(Rig({}, {}, {}))
    assert {site.chosen() for _ in range(3)} == {"a", "b", "c"}
    assert site.told(site.targets(), "b") == "b"


def test_who_has_one_stays_and_is_told_nothing():
    site = Site(Rig({}, {}, {}))
    assert {site.chosen("b") for _ in range(5)} == {"b"}
    assert site.told(site.targets("b"), "b") == ""


def test_a_draining_target_still_gets_its_own_and_nobody_else():
    site = Site(Rig({}, {}, {}))
    site.rig.app.change_target("b", "draining", HERE)
    assert site.chosen("b") == "b"
    assert {site.chosen() for _ in range(6)} == {"a", "c"}


def test_only_a_target_that_is_up_counts():
    site = Site(Rig({}, {}, {}))
    site.rig.app.change_target("b", "down", HERE)
    targets = site.targets("b")
    assert targets.choose(b"", 0.0, None).name in "ac"
    assert site.told(targets, "a") == "a"


def test_one_that_left_or_was_never_there_is_nobodys():
    site = Site(Rig({}, {}, {}))
    assert site.chosen("x") in "abc"
    assert site.told(site.targets("x"), "c") == "c"
    site.rig.app.configure(view_of(site.rig, (0, {}), (2, {})))
    assert site.chosen("b") in "ac"
    assert site.chosen("c") == "c"


def test_one_that_cannot_be_connected_to_gives_its_client_away():
    site = Site(Rig({}, {}, {}))
    targets, b = site.targets("b"), site.rig.app.targets["b"]
    assert targets.choose(b"", 0.0, {b}).name in "ac"
    assert site.told(targets, "a") == "a"


def test_one_at_its_limit_is_passed_over_and_keeps_its_client():
    with Rig({}, {"limit": 1}) as rig:
        site = Site(rig)
        assert site.chosen("b") == "b"
        targets = site.targets("b")
        assert targets.choose(b"", 0.0, None).name == "a"
        assert site.told(targets, "a") == ""
        rig.give("b")
        assert targets.choose_waiting(b"", 0.0).name == "b"


def test_a_mark_of_a_target_that_no_request_of_this_route_goes_to_counts_for_nothing():
    site = Site(Rig({}, {}, {}))
    route = RouteTargets(site.rig.app, ["a", "c"])
    assert {site.chosen("b", route) for _ in range(4)} == {"a", "c"}
    assert site.chosen("c", route) == "c"


def test_a_lone_target_that_drains_is_tried_once_more():
    with Rig({}) as rig:
        targets, a = Site(rig).targets("a"), rig.app.targets["a"]
        rig.app.change_target("a", "draining", HERE)
        assert targets.retake(a)
        assert not Site(rig).targets().retake(a)


def test_those_who_wait_are_not_overtaken():
    class Held:
        def holds_back(self, line):
            return line == 1

    with Rig({"limit": 2}) as rig:
        targets = Site(rig).targets("a")
        rig.app.queue = Held()
        assert targets.choose(b"", 0.0, None) is None
        rig.app.change_target("a", "draining", HERE)
        assert targets.choose(b"", 0.0, None).name == "a", "nobody waits for one that drains"
        rig.app.queue = None


def test_a_policy_with_a_key_decides_for_whom_nobody_has():
    site = Site(Rig({}, {}, {}))
    site.rig.app.configure(replace(view_of(site.rig, (0, {}), (1, {}), (2, {})), balance="source_hash"))
    assert len({site.targets().choose(b"k", 0.0, None).name for _ in range(5)}) == 1
