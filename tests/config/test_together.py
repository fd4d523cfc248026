"""Targets that were said at run time beside a file that has changed since."""

import json

import pytest

from tcp_proxy.config.load import load_text
from tcp_proxy.config.model import Target
from tcp_proxy.config.together import contradiction
from tcp_proxy.control.changes.overrides import Override, Overrides
from tcp_proxy.sansio.address import parse_target_or_host


def app(**given):
    return {"name": "a", "ports": [5001], "targets": ["192.0.2.1:1"], **given}


def beside(*apps, **target):
    """What contradicts the file, when this target was said of its first app."""
    address = parse_target_or_host(target.pop("address")) if "address" in target else parse_target_or_host("192.0.2.2")
    file = load_text(json.dumps({"apps": apps}).encode(), "x")
    said = {("a", "t"): Override(None, added=Target("t", address, **target))}
    return contradiction(Overrides(file, said).apply())


def test_what_goes_together():
    assert beside(app()) == ""
    assert beside(app(balance="failover"), address="192.0.2.2:1") == ""
    assert beside(app(), address="unix:/x") == ""
    assert beside(app(balance="failover"), address="192.0.2.2:1", weight=3) == "", "it means nothing there"
    assert beside(app(), app(name="b", ports=[5002], targets=["127.0.0.1:5001"])) == ""


@pytest.mark.parametrize(
    ("apps", "target", "fault"),
    [
        ([app(balance="failover")], {}, "it is a group"),
        ([app()], {"address": "127.0.0.1:5001"}, "127.0.0.1:5001 leads to the app's own listener"),
        ([app()], {"address": "127.0.0.1"}, "127.0.0.1 leads to the app's own listener"),
        ([app(health={"type": "ping"})], {"address": "unix:/x"}, "it is a UNIX socket"),
        ([app(health={"port": 80})], {"address": "unix:/x"}, "it is a UNIX socket"),
        (
            [app(ports=[5001, 5002])],
            {"ports": ((5001, parse_target_or_host("192.0.2.2:1")),)},
            "it has no server for the port 5002",
        ),
    ],
)
def test_what_does_not(apps, target, fault):
    assert beside(*apps, **target).startswith(f"app a: target t: {fault}")


def test_a_circle_that_a_target_closes():
    other = app(name="b", ports=[5002], targets=["127.0.0.1:5001"])
    assert beside(app(), other, address="127.0.0.1:5002").startswith("apps lead to each other: a -> b -> a")
