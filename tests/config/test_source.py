"""`source` and `transparent`: of an app, of a target, in place of the app's; and what is wrong with them."""

import pytest

from tcp_proxy.config.model import Check
from tcp_proxy.config.target_model import Source


def test_nothing_is_said(app):
    found = app()
    assert found.source is None
    assert found.targets[0].source is None


@pytest.mark.parametrize(
    ("keys", "source"),
    [
        ({"source": "192.0.2.1"}, Source(("192.0.2.1",))),
        ({"source": ["192.0.2.1-192.0.2.3", "eth1", "::1"]}, Source(("192.0.2.1-192.0.2.3", "::1"), "eth1")),
        ({"transparent": True}, Source(transparent=True)),
        ({"source": "eth0", "transparent": False}, Source((), "eth0")),
    ],
)
def test_an_app_and_a_target_say_it_alike(app, keys, source):
    assert app(**keys).source == source
    found = app(source="203.0.113.1", targets=["a:1", {"address": "b:1", **keys}])
    assert [target.source for target in found.targets] == [None, source]


def test_checks_come_from_there_too(app):
    found = app(
        source="192.0.2.1", health=[{"type": "tcp"}, {"type": "ping"}],
        targets=["a:1", {"address": "b:1", "source": "192.0.2.2", "health": {"type": "tcp"}}],
    )  # fmt: skip
    one, other = (target.checks(found.health, found.source) for target in found.targets)
    assert one == (Check(source=Source(("192.0.2.1",))), Check("ping", source=Source(("192.0.2.1",))))
    assert other == (Check(source=Source(("192.0.2.2",))),)
    assert found.targets[1].connect_check(2.0, found.source) == Check(timeout=2.0, send_proxy=0, source=other[0].source)


@pytest.mark.parametrize(
    ("keys", "place", "hint"),
    [
        ({"source": "192.0.2.300"}, "source: ", "the name of an interface"),
        ({"source": ["eth1", "eth2"]}, "source[1]: ", "two interfaces"),
        ({"source": ["eth1", "10.0.0.9-10.0.0.1"]}, "source[1]: ", "the first one first"),
        ({"source": []}, "source: ", "a list of them"),
        ({"transparent": "yes"}, "transparent: ", "true or false"),
    ],
)
def test_what_is_wrong_is_said(app_complaints, keys, place, hint):
    (found,) = app_complaints(keys)
    assert found.startswith(f"$.apps[0].{place}")
    assert hint in found
    (found,) = app_complaints({"targets": [{"address": "a:1", **keys}]})
    assert found.startswith(f"$.apps[0].targets[0].{place}")


@pytest.mark.parametrize(("other", "ours"), [("proxy_bind", "source"), ("usesrc", "transparent")])
def test_what_others_call_it_is_answered(app_complaints, other, ours):
    (found,) = app_complaints({other: "x"})
    assert f'it is "{ours}" here' in found
