"""Who may send a header, by address."""

import dataclasses

import pytest
from dataplane.house import House
from dataplane.tls import certificate

from tcp_proxy.config.model import AcceptProxy, Timeouts
from tcp_proxy.config.tls_model import Tls
from tcp_proxy.dataplane.edge.header import ClosedStage, DirectStage, HeaderStage
from tcp_proxy.dataplane.edge.policy import REMEMBERED, Edge, Edges
from tcp_proxy.wire.views import AppView


def stage(edge, *address):
    (stage,) = edge.stages(address)
    return type(stage)


@pytest.mark.parametrize(
    ("address", "is_sender"),
    [
        (("192.0.2.7", 1), True),
        (("192.0.3.7", 1), False),
        (("::ffff:192.0.2.7", 1, 0, 0), True),
        (("2001:db8::9", 1, 0, 0), True),
        (("2001:db9::9", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), True),
    ],
)
def test_those_of_the_networks_are_senders(address, is_sender):
    networks = ("192.0.2.0/24", "2001:db8::/32", "fe80::/10")
    assert stage(Edge(AcceptProxy(networks)), *address) is (HeaderStage if is_sender else ClosedStage)
    assert stage(Edge(AcceptProxy(networks, others="accept")), *address) is (HeaderStage if is_sender else DirectStage)


def test_what_is_remembered_is_bounded():
    edge = Edge(AcceptProxy(("10.0.0.0/9",)))
    for number in range(3 * REMEMBERED):
        address = f"10.{number % 200}.{number // 200}.1", 1
        assert stage(edge, *address) is stage(edge, *address) is (HeaderStage if number % 200 < 128 else ClosedStage)
    assert len(edge._known) <= REMEMBERED


def test_an_app_that_asks_for_nothing_has_none():
    with House() as house:
        Edges(house.loop).configure(house.app, AppView("web", 1, "round_robin", 3, Timeouts(), ()))
        assert house.app.edge is None


def test_tls_goes_on_as_it_was_where_it_is_the_same():
    """So that clients take up their sessions after a reload."""
    with House() as house:
        edges = Edges(house.loop)
        first, same, other = Tls((certificate(),)), None, Tls((certificate(),))
        same = dataclasses.replace(first)
        found = []
        for each in (first, same, other, None):
            edges.configure(house.app, AppView("web", 1, "round_robin", 3, Timeouts(), (), tls=each))
            found.append(house.app.edge.clients if house.app.edge is not None else None)
        assert found[0] is found[1] is not None
        assert found[2] is not found[0]
        assert found[3] is None
