"""A route's share of an app; with a Dial, it is in tests/system/test_http.py and tests/dataplane/edge/test_hello.py."""

from dataplane.house import House

from tcp_proxy.dataplane.route_targets import RouteTargets
from tcp_proxy.sansio.reasons import Reason


def test_only_its_own_targets_are_chosen_and_what_it_lacks_is_said():
    with House(targets=3) as house:
        share = RouteTargets(house.app, ("t1", "t2"))
        chosen = [share.choose(b"", 0.0, None) for _ in range(4)]
        assert {target.name for target in chosen} == {"t1", "t2"}
        first = chosen[0]
        others = [share.choose(b"", 0.0, {first}) for _ in range(2)]
        assert first not in others
        for target in (*chosen, *others):
            target.give(house.row)
        assert share.offers(first)
        assert not share.offers(house.app.targets["t0"])
        assert not share.is_alone(first)
        house.app.change_target("t1", "down", ())
        house.app.change_target("t2", "down", ())
        assert share.choose(b"", 0.0, None) is None
        assert share.why_none(0.0) is Reason.NO_TARGET


def test_a_target_of_another_route_that_comes_later_is_not_chosen():
    """A client may take its time between the choice of its route and its dial."""
    with House(targets=2) as house:
        late = house.app.targets.pop("t1")
        share = RouteTargets(house.app, ("t0",))
        house.app._set_targets({**house.app.targets, "t1": late}, ())
        chosen = [share.choose(b"", 0.0, None) for _ in range(4)]
        assert {target.name for target in chosen} == {"t0"}
        for target in chosen:
            target.give(house.row)
