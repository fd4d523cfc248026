"""Who may connect: before a session, after the PROXY header, before TLS; counted for the rule that decided."""

import socket

import pytest

from kit.calls import Calls
from tcp_proxy.config.model import AcceptProxy, Access, AccessEntry, Timeouts
from tcp_proxy.config.tls_model import SniRoute
from tcp_proxy.dataplane.edge.access import REMEMBERED, AccessRules
from tcp_proxy.dataplane.edge.hello import Routing
from tcp_proxy.dataplane.edge.policy import Edge, Edges
from tcp_proxy.sansio.networks import parse_network, table_of
from tcp_proxy.sansio.proxyproto import LOCAL
from tcp_proxy.wire.views import AccessView, AppView
from tests.dataplane.edge.gate import Gate

HERE = AcceptProxy(("127.0.0.0/8",))
LOOPBACK, MAPPED = ("127.0.0.7", 5), ("::ffff:127.0.0.7", 5, 0, 0)


def rules_of(first_slot=0, allow=None, deny=()):
    access = Access(None if allow is None else tuple(map(AccessEntry, allow)), tuple(map(AccessEntry, deny)))
    networks = {parse_network(entry): number for number, (_, entry) in enumerate(access.rules[:-1])}
    slots = tuple(range(first_slot, first_slot + len(access.rules)))
    return AccessRules(AccessView(access.rules, slots, table_of(networks, len(access.rules) - 1)))


class Door(Gate):
    """A gate whose app has such rules."""

    def __init__(self, accept_proxy=None, routes=(), **lists):
        super().__init__()
        self.rules = rules_of(self.house.spare_slot, **lists)
        routing = Routing(self.house.app, routes, None) if routes else None
        self.house.app.edge = Edge(accept_proxy, None, routing, self.rules)

    @property
    def counts(self):
        """Clients by the entry that decided, where there are any."""
        names = [entry for _, entry in self.rules.view.rules]
        counts = self.house.row[self.house.spare_slot :][: len(names)]
        return {name: count for name, count in zip(names, counts, strict=True) if count}


def was_reset(client):
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    return True


@pytest.mark.parametrize(
    ("address", "allow", "deny", "number"),
    [
        (LOOPBACK, ["127.0.0.0/8"], [], 0),
        (LOOPBACK, ["192.0.2.0/24"], [], 1),
        (LOOPBACK, None, ["127.0.0.7"], 0),
        (MAPPED, None, ["127.0.0.7"], 0),
        (MAPPED, None, ["::/0"], 1),
        (("2001:db8::1", 5, 0, 0), ["2001:db8::/32"], [], 0),
        (("fe80::1%eth0", 5, 0, 2), ["fe80::/10"], [], 0),
        (("::1", 5, 0, 0), None, ["0.0.0.0/0"], 1),
    ],
)
def test_whose_rule_it_is(address, allow, deny, number):
    assert rules_of(allow=allow, deny=deny).find(address) == number


def test_who_may_is_a_session_at_once_and_counted():
    with Door(deny=["127.0.0.66"]) as door:
        door.connect()
        assert door.has_session
        assert type(door.member).__name__ == "Session"
        assert door.counts == {"none": 1}


def test_who_may_not_is_reset_before_anything_and_recorded():
    with Door(deny=["127.0.0.64/26"]) as door:
        client = door.connect(b"what is never read", source="127.0.0.66")
        assert was_reset(client)
        assert (door.counts, door.refused) == ({"127.0.0.64/26": 1}, {"access_denied": 1})
        assert not door.has_session
        record = door.house.record()
        assert (record["reason"], record["ended_by"], record["target"]) == ("denied", "proxy", "")
        assert record["error"] == "its address is denied by 127.0.0.64/26 in access.deny"
        assert door.said[0].endswith("refused: its address is denied by 127.0.0.64/26 in access.deny")


def test_who_is_in_no_entry_of_allow_may_not():
    with Door(allow=["127.0.0.1"]) as door:
        door.connect()
        assert was_reset(door.connect(source="127.0.0.2"))
        assert door.counts == {"127.0.0.1": 1, "none": 1}
        assert door.house.record()["error"] == "its address is in no entry of access.allow"


# -- with others


def test_the_address_that_a_header_gives_counts_and_not_the_sender_s():
    with Door(HERE, allow=["192.0.2.0/24"]) as door:
        door.connect(b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 80\r\n")
        assert door.has_session
        assert was_reset(door.connect(b"PROXY TCP4 198.51.100.7 192.0.2.8 1111 80\r\nGET / HTTP/1.0\r\n\r\n"))
        assert door.counts == {"192.0.2.0/24": 1, "none": 1}
        record = door.house.record()
        assert (record["client"], record["reason"]) == ("198.51.100.7:1111", "denied")


def test_a_check_of_the_sender_s_that_goes_is_nobody_s_client():
    with Door(HERE, allow=["192.0.2.0/24"]) as door:
        door.connect(LOCAL).close()
        door.house.turn(3)
        assert (door.counts, door.house.records.all) == ({}, [])
        assert was_reset(door.connect(LOCAL + b"GET / HTTP/1.0\r\n\r\n"))  # it speaks, with its own address
        assert door.counts == {"none": 1}


def test_nothing_is_said_of_routes_to_who_may_not_come():
    """A name that no route is for is answered with an alert: not here."""
    with Door(routes=(SniRoute(("a.example",), (), ("t0",), False),), deny=["127.0.0.2"]) as door:
        client = door.connect(b"\x16\x03\x01\x00\x05", source="127.0.0.2")
        assert was_reset(client)
        assert door.refused == {"access_denied": 1}
        door.connect()
        assert (door.member.state.name, door.counts) == ("HELLO", {"127.0.0.2": 1, "none": 1})


# -- other rules


def view_of(rules, **keys):
    return AppView("web", 1, "round_robin", 3, Timeouts(), (), access=rules.view if rules is not None else None, **keys)


def test_rules_that_are_the_same_are_kept():
    with Gate() as gate:
        edges, rules, app = Edges(gate.house.loop), rules_of(7, deny=["10.0.0.0/8"]), gate.house.app
        edges.configure(app, view_of(rules))
        first = app.edge.access
        assert app.edge.only is first
        edges.configure(app, view_of(rules, accept_proxy=HERE))
        assert (app.edge.access, app.edge.only) == (first, None)
        edges.configure(app, view_of(rules_of(7, deny=["10.0.0.0/9"])))
        assert app.edge.access is not first
        edges.configure(app, view_of(None))
        assert app.edge is None


def test_a_client_whose_header_comes_after_a_change_is_for_the_new_rules():
    with Door(HERE, deny=["192.0.2.0/24"]) as door:
        old = door.rules
        client = door.connect(b"PROXY TCP4 192.0.2.7 ")
        door.rules = rules_of(door.house.spare_slot + 4, deny=["198.51.100.0/24"])
        door.house.app.edge = Edge(HERE, None, None, door.rules)
        door.say(client, b"192.0.2.8 1111 80\r\n")
        assert door.has_session
        counted = door.house.row[door.house.spare_slot :][: len(old.view.rules)].tolist()
        assert counted == [0] * len(counted), "what the old rules counted in may be another's"


def test_a_client_of_an_app_that_has_left_counts_nowhere():
    with Door(HERE, deny=["192.0.2.0/24"]) as door:
        client = door.connect(b"PROXY TCP4 192.0.2.7 ")
        door.house.app.leave()
        door.say(client, b"192.0.2.8 1111 80\r\n")
        assert door.counts == {}
        assert door.house.record()["reason"] == "no_target"


def test_ten_thousand_networks_find_as_few_do():
    networks = [f"10.{n >> 8}.{n & 255}.0/24" for n in range(10_000)]
    numbers = {parse_network(one): 0 for one in networks}
    many = AccessRules(AccessView((("deny", "@f"), ("allow", "none")), (0, 1), table_of(numbers, 1)))
    for n in range(0, 10_000, 97):
        assert many.find((f"10.{n >> 8}.{n & 255}.9", 1)) == 0
    assert many.find(("10.99.0.1", 1)) == many.find(("9.255.255.255", 1)) == 1
    assert many.find(("::ffff:10.0.0.1", 1, 0, 0)) == 0


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_every_form_of_an_address_that_the_kernel_gives(family):
    rules = rules_of(deny=["127.0.0.0/8", "::1"])
    with socket.create_server(("", 0), family=family, dualstack_ipv6=family == socket.AF_INET6) as server:
        hosts = ("127.0.0.1", "::1") if family == socket.AF_INET6 else ("127.0.0.1",)
        for number, host in enumerate(hosts):
            with socket.create_connection((host, server.getsockname()[1])):
                inner, address = server.accept()
                inner.close()
            assert rules.find(address) == number


def test_who_is_known_costs_a_look_in_a_table_however_many_networks_there_are():
    rules = rules_of(allow=["127.0.0.0/8"], deny=[f"10.{number >> 8}.{number & 255}.0/24" for number in range(50)])
    row, calls = memoryview(bytearray(8 * 60)).cast("q"), Calls()
    assert rules.admits(("127.0.0.1", 5), row)
    with calls:
        assert rules.admits(("127.0.0.1", 6), row)
    assert calls.most <= 4, "itself, the look, and what ends the counting, which is two"
    assert not rules.admits(("10.0.7.1", 5), row)
    assert not rules.admits(("10.0.7.1", 6), row), "nor the second time"
    assert row[0] == 2


def test_what_is_remembered_of_addresses_has_an_end():
    rules = rules_of(allow=["10.0.0.0/8"])
    row = memoryview(bytearray(8 * 2)).cast("q")
    for number in range(2 * REMEMBERED):
        assert rules.admits((f"10.1.{number >> 8}.{number & 255}", 5), row)
    assert len(rules._known) <= REMEMBERED
    assert row[0] == 2 * REMEMBERED
