"""Whose header is believed, and what becomes of those that have none, may have none, or speak for themselves."""

import socket

import pytest

from tcp_proxy.dataplane.edge.header import QUIET
from tcp_proxy.dataplane.places import SessionPlaces
from tcp_proxy.sansio.proxyproto import AWS, HOPS, HOPS_OURS, LOCAL, NOOP, build
from tcp_proxy.sansio.reasons import Reason, Side
from tests.dataplane.edge.gate import Gate
from tests.dataplane.house import reset
from tests.kit.proxy_headers import CLIENT, PEER, REFUSED, SERVER, VECTORS, padded

V1 = VECTORS["v1-tcp4"][0][0]
ELSEWHERE = ("192.0.2.0/24",)  # where no client of a test comes from


@pytest.mark.parametrize("name", VECTORS)
def test_every_vector_in_its_segments(name):
    parts, wanted = VECTORS[name]
    with Gate() as gate:
        client = gate.connect(parts[0])
        for part in parts[1:]:
            gate.say(client, part)
        if wanted == REFUSED:
            gate.house.pass_time(3.1)  # one vector looks as if more would come
            assert gate.house.record()["reason"] == "protocol_error"
            assert not gate.has_session
            return
        gate.say(client, b"data")
        address = gate.member.address
        assert address[:2] == (client.getsockname() if wanted is PEER else wanted)
        assert gate.house.receive(gate.target(), 4)


@pytest.mark.parametrize(("size", "taken"), [(1000, True), (4096, True), (4097, False)])
def test_a_long_header_is_taken_up_to_a_size(size, taken):
    with Gate() as gate:
        gate.connect(padded(size))
        assert gate.has_session is taken
        if not taken:
            assert "more than 4096" in gate.house.record()["error"]


# -- the sender itself


@pytest.mark.parametrize("end", [socket.socket.close, reset])
@pytest.mark.parametrize("header", [LOCAL, VECTORS["v2-local-unspec-tlv"][0][0]])
def test_a_check_that_goes_is_no_session_and_leaves_no_record(header, end):
    with Gate() as gate:
        end(gate.connect(header))
        gate.house.turn(3)
        assert not gate.members
        assert not gate.house.records.all
        assert gate.server.sessions == 0
        assert not gate.has_session


def test_one_that_leaves_gives_its_place_back():
    with Gate() as gate:
        places = gate.house.app.places = SessionPlaces(gate.house.app.slot, gate.house.memory.rows)
        client = gate.connect(LOCAL)
        assert len(places.holders) == 1
        client.close()
        gate.house.until(lambda: not gate.members)
        assert not places.holders


def test_a_check_that_asks_something_is_a_session_with_its_own_address():
    with Gate() as gate:
        client = gate.connect(LOCAL)
        assert gate.member.state.name == "LOCAL"
        gate.say(client, b"GET / HTTP/1.0\r\n\r\n")
        assert gate.house.receive(gate.target(), 4) == b"GET / HTTP/1.0\r\n\r\n"
        assert gate.member.address == client.getsockname()


def test_one_that_is_silent_for_a_moment_may_wait_for_a_server_that_speaks_first():
    with Gate() as gate:
        client = gate.connect(LOCAL)
        assert not gate.has_session
        gate.house.pass_time(2 * QUIET)
        gate.target().sendall(b"220")
        assert gate.house.receive(client, 3) == b"220"


# -- without a header


@pytest.mark.parametrize("said", [b"hello", b"PROXI", b"P", b"\r\n\r\n"])
def test_one_is_served_as_it_is_where_a_header_is_not_required(said):
    with Gate(required=False) as gate:
        client = gate.connect(said)
        gate.house.pass_time(3.1)
        assert gate.house.receive(gate.target(), len(said)) == said
        assert gate.member.address == client.getsockname()


def test_and_at_once_if_what_it_says_cannot_become_one():
    with Gate(required=False) as gate:
        gate.connect(b"hello")
        assert gate.has_session


@pytest.mark.parametrize("said", [b"", b"PROX"])
def test_or_if_it_ends(said):
    with Gate(required=False) as gate:
        client = gate.connect(said)
        client.shutdown(socket.SHUT_WR)
        gate.house.turn(3)
        assert gate.house.receive(gate.target()) == said


def test_a_wrong_one_is_refused_all_the_same():
    with Gate(required=False) as gate:
        gate.connect(VECTORS["v1-port-65536"][0][0])
        assert gate.house.record()["reason"] == "protocol_error"


# -- others


def test_others_are_refused_at_once():
    with Gate(ELSEWHERE) as gate:
        client = gate.connect(V1)
        with pytest.raises(ConnectionResetError):
            gate.house.receive(client)
        record = gate.house.record()
        assert (record["reason"], record["client"]) == ("protocol_error", "{}:{}".format(*client.getsockname()))
        assert "not one of them" in record["error"]


@pytest.mark.parametrize("cut", [1, 3, 6, 12, None])
@pytest.mark.parametrize("name", ["v1-tcp4", "v2-tcp4", "v2-local-0", "v2-version-3", "v1-two-spaces"])
def test_a_header_of_others_is_never_believed_however_it_is_cut(name, cut):
    header = VECTORS[name][0][0]
    with Gate(ELSEWHERE, others="accept") as gate:
        client = gate.connect(header[:cut])
        if cut is not None and gate.members:
            gate.say(client, header[cut:])
        record = gate.house.record()
        assert record["reason"] == "protocol_error"
        assert "not one of those that may" in record["error"]
        assert not gate.has_session


def test_others_without_one_are_served_as_they_are_if_they_may_come():
    with Gate(ELSEWHERE, others="accept") as gate:
        client = gate.connect(b"hello")
        assert gate.house.receive(gate.target(), 5) == b"hello"
        assert gate.member.address == client.getsockname()


def test_and_do_not_wait_long_for_a_server_that_speaks_first():
    with Gate(ELSEWHERE, others="accept") as gate:
        client = gate.connect()
        gate.house.pass_time(2 * QUIET)
        gate.target().sendall(b"220")
        assert gate.house.receive(client, 3) == b"220"


def test_what_a_cloud_says_is_in_the_record():
    with Gate() as gate:
        gate.connect(build(2, CLIENT, SERVER, [(AWS, b"\1vpce-1"), (NOOP, b"")]) + b"x")
        gate.member.kill(Reason.SHUTDOWN, Side.PROXY)
        assert gate.house.record()["notes"] == "aws_vpce_id=vpce-1"


@pytest.mark.parametrize(("hops", "taken"), [(9, True), (10, False), (255, False)])
def test_one_that_goes_round_in_circles_is_refused(hops, taken):
    with Gate() as gate:
        gate.connect(build(2, CLIENT, SERVER, [(HOPS, HOPS_OURS + bytes((hops,)))]) + b"x")
        assert gate.has_session is taken
        if not taken:
            assert "lead to each other" in gate.house.record()["error"]
