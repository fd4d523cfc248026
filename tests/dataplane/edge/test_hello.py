"""Routes by the ClientHello: the target gets it untouched, cut anywhere; names that are passed through beside names that are
ended here; what happens to those that no route is for."""

import itertools
import pathlib
import socket
import struct

import pytest
from dataplane.edge.gate import Gate
from dataplane.house import House
from dataplane.tls import TlsPeer, certificate, client_context, contexts
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.config.tls_model import SniRoute, Tls
from tcp_proxy.dataplane.edge.hello import Routing
from tcp_proxy.dataplane.edge.policy import Edge
from tcp_proxy.dataplane.edge.tls import Handshakes, TlsClients

FOLDER = pathlib.Path(__file__).parents[2] / "sansio" / "client_hellos"
RECORDED = {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("*.bin"))}  # all ask for www.example.org
ALERT = b"\x15\3\3\0\2\2\x70"


def route(*names, targets=("t0",), alpn=(), passthrough=True):
    return SniRoute(names, alpn, targets, passthrough)


class SniGate(Gate):
    """With the routes; the second of two targets is `t1`."""

    def __init__(self, *routes, tls=None):
        super().__init__(house=House(targets=2))
        clients = TlsClients("web", tls, Handshakes(self.house.loop)) if tls else None
        self.house.app.edge = Edge(None, clients, Routing(self.house.app, routes, clients))

    def arrives(self, number, size):
        """So many bytes at this target, in a new session."""
        server = self.house.servers[number]
        server.settimeout(5)
        self.house.turn(3)
        sock = self.house.stack.enter_context(server.accept()[0])
        return self.house.receive(sock, size)[:size]

    def read(self, client):
        client.settimeout(5)
        self.house.turn(3)
        return client.recv(100)


@pytest.mark.parametrize("client", RECORDED)
def test_the_target_gets_what_the_client_has_sent(client):
    data = RECORDED[client] + b"and what comes behind"
    with SniGate(route("other.example"), route("www.example.org", targets=("t1",))) as gate:
        gate.connect(data)
        assert gate.arrives(1, len(data)) == data


@pytest.mark.parametrize("client", RECORDED)
def test_its_record_has_the_name_that_it_asks_for(client):
    data = RECORDED[client]
    with SniGate(route("www.example.org", targets=("t1",))) as gate:
        asking = gate.connect(data)
        assert gate.arrives(1, len(data)) == data
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        asking.close()  # with a reset, so that the session ends at once
        assert gate.house.record()["notes"] == "sni=www.example.org"


@pytest.mark.parametrize("client", ["chromium", "go"])
def test_a_first_segment_is_not_enough_and_then_it_is(client):
    data = RECORDED[client]
    with SniGate(route("*.example.org", targets=("t1",))) as gate:
        peer = gate.connect(data[:1460])
        assert gate.member.state.name == "HELLO"
        gate.say(peer, data[1460:])
        assert gate.arrives(1, len(data)) == data


@given(client=st.sampled_from(sorted(RECORDED)), cuts=st.lists(st.integers(1, 2000), max_size=6))
@settings(deadline=None, max_examples=40)
def test_cut_anywhere(client, cuts):
    data = RECORDED[client]
    ends = [*sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    with SniGate(route("www.example.org", targets=("t1",))) as gate:
        peer = gate.connect(data[: ends[0]])
        for start, end in itertools.pairwise(ends):
            gate.say(peer, data[start:end])
        assert gate.arrives(1, len(data)) == data


def test_a_protocol_chooses():
    with SniGate(route("www.example.org"), route("www.example.org", targets=("t1",), alpn=("h2",))) as gate:
        gate.connect(RECORDED["curl"])
        assert gate.arrives(1, 10) == RECORDED["curl"][:10]
        gate.connect(RECORDED["python"])
        assert gate.arrives(0, 10) == RECORDED["python"][:10]


def test_a_name_without_a_route_gets_an_alert():
    with SniGate(route("other.example")) as gate:
        client = gate.connect(RECORDED["curl"])
        assert gate.read(client) == ALERT
        assert client.recv(1) == b""
        record = gate.house.record()
        assert (record["reason"], record["error"]) == ("tls_handshake", "no route is for the name www.example.org")
        assert not gate.has_session


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", b"\x16\2"])
def test_without_tls_it_is_the_route_for_all_others_or_refused(said):
    with SniGate(route("www.example.org"), route(targets=("t1",))) as gate:
        gate.connect(said)
        assert gate.arrives(1, len(said)) == said
    with SniGate(route("www.example.org")) as gate:
        client = gate.connect(said)
        with pytest.raises(ConnectionResetError):
            gate.read(client)
        record = gate.house.record()
        assert (record["reason"], record["error"]) == ("protocol_error", "it speaks no TLS, and no route is for that")


def test_who_says_nothing_is_a_client_of_the_route_for_all_others():
    """A server that speaks first is spoken to without a byte."""
    with SniGate(route("www.example.org"), route(targets=("t1",))) as gate:
        client = gate.connect()
        gate.house.pass_time(gate.house.app.timeouts.first_bytes + 0.1)
        server = gate.house.servers[1]
        server.settimeout(5)
        with server.accept()[0] as sock:
            sock.sendall(b"220 ready")
            assert gate.house.receive(client, 9) == b"220 ready"


@pytest.mark.parametrize(
    ("said", "ends", "error"),
    [
        (RECORDED["curl"][:100], False, "its ClientHello was not whole within 3 s"),
        (RECORDED["curl"][:100], True, "it ended in its ClientHello"),
        (b"\x16\3\1\0\5\2\0\0\1\0", False, "a handshake that begins with message type 2"),
    ],
    ids=["slow", "ended", "wrong"],
)
def test_half_a_hello_is_refused(said, ends, error):
    with SniGate(route(targets=("t1",))) as gate:
        client = gate.connect(said)
        if ends:
            client.shutdown(socket.SHUT_WR)
        gate.house.pass_time(5.1)
        record = gate.house.record()
        assert (record["reason"], record["error"]) == ("tls_handshake", error)
        assert not gate.has_session


def test_names_that_are_passed_through_and_names_that_are_ended_here_on_one_port():
    tls = Tls((certificate("here.example"),))
    with SniGate(route("there.example", targets=("t1",)), route("here.example", passthrough=False), tls=tls) as gate:
        peer = TlsPeer(gate.connect(), client_context(), False, "here.example")
        gate.clients.append(peer)
        gate.house.until(peer.handshake)
        peer.sendall(b"hello")
        assert gate.arrives(0, 5) == b"hello"

        client = gate.connect()
        peer = TlsPeer(client, client_context(), False, "there.example")
        gate.clients.append(peer)
        peer.handshake()
        assert gate.arrives(1, 3) == b"\x16\3\1"


def test_a_whole_connection_passes_through():
    with SniGate(route("localhost", targets=("t1",))) as gate:
        peer = TlsPeer(gate.connect(), client_context(), False, "localhost")
        gate.clients.append(peer)
        peer.handshake()
        gate.house.turn(3)
        server = gate.house.servers[1]
        server.settimeout(5)
        far = TlsPeer(server.accept()[0], contexts()[0], True)
        gate.house.stack.callback(far.close)
        gate.house.until(lambda: bool(far.handshake() & peer.handshake()))
        peer.sendall(b"question")
        assert gate.house.receive(far, 8) == b"question"
