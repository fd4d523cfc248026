"""Clients whose first bytes decide their target: they arrive whole, cut anywhere, and who says nothing is known by its
address."""

import pytest
from dataplane.edge.gate import Gate
from dataplane.edge.test_hello import RECORDED
from dataplane.house import House
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.config.model import Hash, Timeouts
from tcp_proxy.dataplane.edge.policy import Edge
from tcp_proxy.dataplane.route_targets import KeyedTargets


class KeyGate(Gate):
    """`keys`: what the sessions that begin are known by, in order."""

    def __init__(self, hash_of, targets=4):
        super().__init__(house=House(targets=targets, balance="rendezvous", timeouts=Timeouts(first_bytes=1.0)))
        self.house.app.edge = Edge(None, hashed=hash_of)

    @property
    def key(self):
        (session,) = [member for member in self.members if hasattr(member, "route")]
        return session.route._key if isinstance(session.route, KeyedTargets) else None

    def arrives(self, size):
        """At the one target that is connected to."""
        for server in self.house.servers:
            server.settimeout(0)
            try:
                sock, _ = server.accept()
            except BlockingIOError:
                continue
            return self.house.receive(self.house.stack.enter_context(sock), size)
        raise AssertionError("no target was connected to")


@settings(max_examples=20)
@given(st.binary(min_size=1, max_size=40), st.lists(st.integers(1, 39), max_size=4))
def test_any_cut_of_the_first_message_gives_the_same_key_and_arrives_whole(data, cuts):
    places = sorted({cut for cut in cuts if cut < len(data)})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    with KeyGate(Hash("first_bytes", slice=(2, 6))) as gate:
        client = gate.connect(pieces[0])
        for piece in pieces[1:]:
            gate.say(client, piece)
        if len(data) < 6:
            gate.house.pass_time(0.06)
        assert gate.key == (data[2:6] or None)
        assert gate.arrives(len(data)) == data


def test_one_that_says_nothing_is_known_by_its_address():
    with KeyGate(Hash("first_bytes", slice=(0, 4))) as gate:
        gate.connect()
        gate.house.pass_time(0.9)
        assert gate.member.state.name == "KEY"
        gate.house.pass_time(0.2)
        assert gate.key is None
        assert gate.member.target is not None


def test_one_that_ends_before_the_slice_is_there_has_what_there_is():
    with KeyGate(Hash("first_bytes", slice=(0, 4))) as gate:
        client = gate.connect(b"ab")
        client.shutdown(1)
        gate.house.turn(3)
        assert gate.key == b"ab"
        assert gate.arrives(2) == b"ab"


@pytest.mark.parametrize("client", RECORDED)
def test_the_name_in_a_client_hello_is_the_key_and_the_target_gets_all_of_it(client):
    data = RECORDED[client] + b"and more"
    with KeyGate(Hash("sni")) as gate:
        sock = gate.connect(data[:9])
        assert gate.member.state.name == "KEY"
        gate.say(sock, data[9:])
        assert gate.key == b"www.example.org"
        assert gate.arrives(len(data)) == data


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00"])
def test_one_that_speaks_no_tls_or_begins_it_and_waits_is_known_by_its_address(data):
    with KeyGate(Hash("sni")) as gate:
        gate.connect(data)
        gate.house.pass_time(1.1)
        assert gate.key is None
        assert gate.arrives(len(data)) == data


def test_equal_keys_have_equal_targets_and_different_ones_differ():
    with KeyGate(Hash("first_bytes", slice=(0, 2))) as gate:
        chosen = {}
        for _ in range(2):
            for number in range(12):
                gate.connect(b"%02d" % number)
        for member in gate.members:
            chosen.setdefault(member.route._key, set()).add(member.target.name)
        assert {len(names) for names in chosen.values()} == {1}
        assert len(set.union(*chosen.values())) > 1
