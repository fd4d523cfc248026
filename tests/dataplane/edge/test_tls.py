"""Handshakes of clients: which certificate, what refuses them, what slow ones cost, and that their bytes are a session's."""

import contextlib
import fcntl
import os
import socket
import ssl
import sys
import termios

import pytest
from dataplane.edge.gate import Gate
from dataplane.house import reset
from dataplane.tls import KeyUpdates, TlsPeer, authority, certificate, client_context, loaded

from kit.proxy_headers import VECTORS
from tcp_proxy.config.model import AcceptProxy, Http, SendProxy
from tcp_proxy.config.tls_model import PemFile, Tls
from tcp_proxy.dataplane.edge.policy import Edge
from tcp_proxy.dataplane.edge.tls import IN_A_TURN, Handshakes, TlsClients
from tcp_proxy.dataplane.relay.tls_socket import WASTED_MOST
from tcp_proxy.dataplane.target_tls import TargetTls
from tcp_proxy.runtime.loop import READ, Loop
from tcp_proxy.sansio.proxyproto import AUTHORITY, read
from tcp_proxy.sansio.reasons import Reason, Side

V1 = VECTORS["v1-tcp4"][0][0]


class TlsGate(Gate):
    """Its app ends TLS. `keys`: more of Tls."""

    def __init__(self, *certificates, accept_proxy=None, timeouts=None, **keys):
        super().__init__(timeouts=timeouts)
        self.handshakes = Handshakes(self.house.loop)
        self.tls = Tls(certificates or (certificate(),), **keys)
        self.clients_of_app = TlsClients("web", self.tls, self.handshakes)
        self.house.app.edge = Edge(accept_proxy, self.clients_of_app)

    def open(self, name="localhost", context=None, keeper=None, header=b""):
        """A client with a TlsSocket of its own, before its handshake."""
        raw = self.connect(header)
        self.clients.remove(raw)
        peer = TlsPeer(raw, context or client_context(), False, name, keeper)
        self.clients.append(peer)
        os.set_blocking(peer.fileno(), False)
        return peer

    def shaken(self, *args, **keys):
        """The same, after it."""
        peer = self.open(*args, **keys)
        self.house.until(peer.handshake)
        self.house.turn(3)
        return peer

    def target(self):
        self.house.turn(3)
        return super().target()

    def fails(self, peer):
        """What the client is told."""
        found = []

        def failed():
            try:
                if peer.handshake():
                    peer.recv(1)  # TLS 1.3: a client is through before the server has looked at its certificate
            except BlockingIOError:
                pass
            except OSError as error:
                found.append(error.strerror)
            return found

        self.house.until(failed)
        return found[0]

    def record(self):
        return self.house.record()


def no_names():
    context = client_context()
    context.check_hostname = False
    return context



def together(gate, peer, *texts):
    """The end of the handshake and what follows it come in one read, which `texts` are said with."""
    peer.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert not shakes(peer)
    gate.house.turn(3)
    assert shakes(peer)
    for text in texts:
        peer.sendall(text)


def shakes(peer):
    try:
        return peer.handshake()
    except BlockingIOError:
        return False


def test_an_end_that_comes_with_the_handshake_is_heard_without_a_fin():
    with TlsGate() as gate:
        peer = gate.open()
        together(gate, peer, b"one")
        peer.say_end()
        peer.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target = gate.target()
        gate.house.turn(3)
        assert target.recv(9) == b"one"
        gate.house.turn(3)
        assert target.recv(9) == b""


def test_nobody_overtakes_who_waits_for_its_turn():
    with TlsGate() as gate:
        first, *others = (gate.open() for _ in range(1 + IN_A_TURN))
        gate.house.turn(3)
        gate.handshakes._left = 0
        assert not shakes(first)
        gate.house.turn(2)
        for peer in others:
            assert not shakes(peer)
        gate.handshakes._turn_over()
        gate.house.turn(1)
        assert [shakes(peer) for peer in (first, *others)] == [True] * IN_A_TURN + [False]
        gate.house.turn(3)
        assert shakes(others[-1])


def test_who_finds_the_turn_used_up_by_those_before_it_keeps_its_place():
    """The first two have sent their ClientHello in two parts, of which each is a step."""
    with TlsGate() as gate:
        peers = [gate.open() for _ in range(2 * IN_A_TURN)]
        gate.house.turn(3)
        gate.handshakes._left = 0
        rests = []
        for number, peer in enumerate(peers):
            hello = hello_of(peer)
            cut = 100 if number < 2 else len(hello)
            peer.raw.send(hello[:cut])
            gate.house.turn(2)
            rests.append(hello[cut:])
        for peer, rest in zip(peers[:2], rests, strict=False):
            peer.raw.send(rest)
        gate.house.turn(2)
        gate.handshakes._turn_over()
        gate.house.turn(1)
        assert [bool(answered(peer)) for peer in peers] == [True] + [False] * 5
        gate.house.turn(1)
        assert [bool(answered(peer)) for peer in peers] == [True, False, True, True, True, False]


def hello_of(peer):
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.inner.do_handshake()
    return peer._unsent.read()


@pytest.mark.parametrize("is_reset", [False, True])
def test_what_comes_while_a_client_waits_for_its_turn_is_heard(is_reset):
    """Others have the turn in which its handshake is to end; the event of what it says then is nobody's."""
    with TlsGate() as gate:
        peer = gate.open()
        together(gate, peer, b"one")
        gate.handshakes._left = 0
        gate.house.turn(2)
        if is_reset:
            gate.clients.remove(peer)
            reset(peer)
        else:
            peer.sendall(b"two")
        gate.house.turn(2)
        gate.handshakes._turn_over()
        gate.house.turn(6)
        if is_reset:
            assert gate.house.record()["reason"] == "client_reset"
        else:
            target = gate.target()
            assert target.recv(9) == b"onetwo"


def test_bytes_of_both_are_relayed_and_both_ends_arrive():
    with TlsGate() as gate:
        peer = gate.shaken()
        peer.sendall(b"question")
        target = gate.target()
        assert gate.house.receive(target, 8) == b"question"
        target.sendall(b"answer")
        assert gate.house.receive(peer, 6) == b"answer"
        peer.shutdown(socket.SHUT_WR)
        assert gate.house.receive(target) == b""
        target.sendall(b"late")
        target.close()
        assert gate.house.receive(peer) == b"late"
        assert peer.is_ended
        record = gate.record()
        assert (record["reason"], record["bytes_up"], record["bytes_down"]) == ("done", 8, 10)


def test_what_comes_with_the_last_message_of_the_handshake_is_the_session_s():
    with TlsGate() as gate:
        peer = gate.open()
        assert not peer.handshake()
        gate.house.turn(3)
        assert peer.handshake()
        peer.sendall(b"x" * 100_000)
        peer.shutdown(socket.SHUT_WR)
        target = gate.target()
        assert len(gate.house.receive(target)) == 100_000


def test_a_server_that_speaks_first():
    with TlsGate() as gate:
        peer = gate.shaken()
        gate.target().sendall(b"220 ready")
        assert gate.house.receive(peer, 9) == b"220 ready"


def test_a_handshake_cut_at_every_byte():
    with TlsGate() as gate:
        near, far = socket.socketpair()
        with near, far:
            peer = TlsPeer(near, client_context(), False, "localhost")
            os.set_blocking(peer.fileno(), False)
            peer.handshake()
            hello = far.recv(1 << 16)
            peer.close()
        for cut in range(1, len(hello), 7):
            client = gate.connect(hello[:cut])
            assert gate.member.state.name == "HANDSHAKE"
            gate.say(client, hello[cut:])
            gate.house.until(lambda client=client: client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
            assert client.recv(1) == b"\x16"
            reset(client)
            gate.house.turn(3)
        assert {record["reason"] for record in gate.house.records.all} == {"client_gone"}


def test_the_header_of_a_proxy_comes_before_the_handshake():
    with TlsGate(accept_proxy=AcceptProxy(("127.0.0.0/8",))) as gate:
        peer = gate.shaken(header=V1)
        peer.sendall(b"hello")
        assert gate.house.receive(gate.target(), 5) == b"hello"
        assert gate.member.address[:2] == ("192.0.2.7", 1111)


@pytest.mark.parametrize("name", ["one.example", "two.example", "any.two.example"])
def test_the_certificate_is_the_one_of_the_name(name):
    with TlsGate(certificate("one.example"), certificate("two.example", "*.two.example")) as gate:
        peer = gate.shaken(name)
        names = [value for _, value in peer.stream.getpeercert()["subjectAltName"]]
        assert name in names or "*.two.example" in names


def test_a_name_that_no_certificate_has():
    with TlsGate(certificate("one.example"), certificate("two.example")) as gate:
        peer = gate.shaken("three.example", context=no_names())
        assert peer.stream.getpeercert()["subjectAltName"] == (("DNS", "one.example"),)


def test_strict_sni_is_an_alert():
    with TlsGate(certificate("one.example"), strict_sni=True) as gate:
        assert "unrecognized name" in gate.fails(gate.open("three.example"))
        record = gate.record()
        assert (record["reason"], record["ended_by"]) == ("tls_handshake", "client")
        assert record["error"].startswith("no TLS: ")


def test_alpn():
    with TlsGate(alpn=("imap", "http/1.1")) as gate:
        context = client_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        assert gate.shaken(context=context).stream.selected_alpn_protocol() == "http/1.1"


def asking(verify):
    return {"client_ca": PemFile("ca.pem", authority().pem), "verify": verify}


def test_a_client_must_have_a_certificate():
    with TlsGate(**asking("required")) as gate:
        assert "certificate required" in gate.fails(gate.open())
        assert gate.record()["error"] == "no TLS: peer did not return a certificate"
        assert not gate.has_session
        context = loaded(client_context(), authority().issue("somebody", client=True))
        peer = gate.shaken(context=context)
        peer.sendall(b"x")
        assert gate.house.receive(gate.target(), 1) == b"x"


def test_a_client_may_have_a_certificate():
    with TlsGate(**asking("optional")) as gate:
        gate.shaken().sendall(b"x")
        assert gate.house.receive(gate.target(), 1) == b"x"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "no TLS: http request"),
        (b"SSH-2.0-OpenSSH\r\n", "no TLS: wrong version number"),
        (b"\x16\3\1\0\5\1\0\0\1\0", "no TLS: "),
    ],
)
def test_no_tls_at_all(said, error):
    with TlsGate() as gate:
        gate.connect(said)
        record = gate.record()
        assert record["reason"] == "tls_handshake"
        assert record["error"].startswith(error)
        assert not gate.has_session


def test_an_old_version():
    with TlsGate(min_version="1.3") as gate:
        context = client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert "protocol version" in gate.fails(gate.open(context=context))
        assert gate.record()["error"] == "no TLS: unsupported protocol"


def test_a_client_that_does_not_trust_us_says_so():
    with TlsGate() as gate:
        peer = gate.open(context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        assert gate.fails(peer).startswith("certificate verify failed")
        record = gate.record()
        assert (record["reason"], record["error"]) == ("tls_handshake", "no TLS: tlsv1 alert unknown ca")


@pytest.mark.parametrize("said", [b"", b"\x16\3\1\2\0\1"])
def test_who_does_not_finish_is_refused_in_time(said):
    with TlsGate(handshake_timeout=5.0) as gate:
        client = gate.connect(said)
        gate.house.pass_time(4.9)
        assert gate.member.state.name == "HANDSHAKE"
        gate.house.pass_time(0.2)
        record = gate.record()
        assert (record["reason"], record["error"]) == ("tls_handshake", "its TLS handshake was not over within 5 s")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_who_ends_or_resets_in_the_middle():
    with TlsGate() as gate:
        client = gate.connect(b"\x16\3\1")
        client.shutdown(socket.SHUT_WR)
        assert gate.house.record()["error"] == "it ended in its TLS handshake"
        reset(gate.connect(b"\x16\3\1"))
        assert gate.house.record(2)["reason"] == "client_gone"


def test_a_thousand_that_never_finish_cost_descriptors_only():
    """And nobody else any time: a turn with nothing new calls none of them."""
    with TlsGate(handshake_timeout=5.0) as gate:
        gate.clients += [gate.connect(b"\x16\3\1\2\0\1") for _ in range(1000)]
        stages = [member._stage for member in gate.members]
        assert len(stages) == 1000
        assert gate.house.loop._again == []
        peer = gate.shaken()
        peer.sendall(b"x")
        target = gate.target()
        assert gate.house.receive(target, 1) == b"x"
        gate.house.pass_time(5.2)
        gate.house.until(lambda: len(gate.members) == 1)
        target.sendall(b"y")
        assert gate.house.receive(peer, 1) == b"y"
        assert [record["reason"] for record in gate.house.records.all] == ["tls_handshake"] * 1000


def test_so_many_handshakes_in_a_turn_and_the_others_in_the_next():
    with TlsGate() as gate:
        peers = [gate.open() for _ in range(3 * IN_A_TURN)]
        for peer in peers:
            peer.handshake()
        gate.house.turn(1)
        assert len([peer for peer in peers if answered(peer)]) == IN_A_TURN
        gate.house.turn(1)
        assert len([peer for peer in peers if answered(peer)]) == 2 * IN_A_TURN
        for peer in peers:
            gate.house.until(peer.handshake)
            peer.sendall(b"x")
            assert gate.house.receive(gate.target(), 1) == b"x"


def answered(peer):
    try:
        return peer.raw.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


def test_one_that_goes_away_while_it_waits_for_its_turn_is_passed_over():
    with TlsGate() as gate:
        peers = [gate.open() for _ in range(3 * IN_A_TURN)]
        for peer in peers:
            peer.handshake()
        gate.house.turn(1)
        for member in tuple(gate.members):
            member.kill(Reason.SHUTDOWN, Side.PROXY)
        gate.house.turn(5)
        assert len(gate.house.records.all) == len(peers)


def test_a_session_is_taken_up_again_with_the_same_key():
    """Workers have the same one; what they have in common beside it is nothing."""
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    keeper = TargetTls(context, ())  # where a client leaves its session
    issued = certificate()
    reused = []
    for key in (b"k" * 32, b"k" * 32, b"l" * 32):
        with TlsGate(issued) as gate:
            gate.handshakes.set_ticket_key(key)
            peer = gate.shaken(context=context, keeper=keeper)
            reused.append(peer.stream.session_reused)
    assert reused == [False, True, False]


def test_a_clean_end_is_passed_on_and_a_truncated_one_is_a_reset():
    with TlsGate() as gate:
        peer = gate.shaken()
        peer.sendall(b"half")
        target = gate.target()
        assert gate.house.receive(target, 4) == b"half"
        peer.raw.shutdown(socket.SHUT_WR)
        record = gate.record()
        assert (record["reason"], record["ended_by"], record["bytes_up"]) == ("tls_truncated", "client", 4)
        target.setblocking(True)
        with pytest.raises(ConnectionResetError):
            target.recv(1)


def test_a_target_that_resets_is_a_reset_and_no_end_for_the_client():
    with TlsGate() as gate:
        peer = gate.shaken()
        target = gate.target()
        target.sendall(b"half")
        assert gate.house.receive(peer, 4) == b"half"
        reset(target)
        assert gate.record()["reason"] == "target_reset"
        found = gate.fails(peer)
        assert "reset" in found
        assert not peer.is_ended


def test_clients_that_wait_for_their_turn_are_not_read():
    """What they send meanwhile stays where it costs nothing; then they have their turn."""
    with TlsGate() as gate:
        peers = [gate.open() for _ in range(3 * IN_A_TURN)]
        for peer in peers:
            peer.handshake()
        gate.house.turn(1)
        held = [member for member in gate.members if member.is_held]
        assert len(held) == 2 * IN_A_TURN
        for peer in peers:
            peer.raw.send(b"no record of TLS")
        for member in held:
            gate.house.until(lambda member=member: in_socket(member.client) == 16)
            member.ready(READ)
            assert member.first == b""
            assert in_socket(member.client) == 16
        gate.house.turn(5)
        assert not gate.members, "they were read when their turn had come, and refused"
        assert {record["error"] for record in gate.house.records.all} == {"no TLS: wrong version number"}


def test_one_that_has_gone_while_it_waited_for_its_turn_is_over_when_it_has_it():
    """Its end comes behind bytes that are read then, and there is no further event of it."""
    with TlsGate() as gate:
        peers = [gate.open() for _ in range(2 * IN_A_TURN)]
        for peer in peers:
            peer.handshake()
        gate.house.turn(1)
        held = [member for member in gate.members if member.is_held]
        assert len(held) == IN_A_TURN
        for peer in peers:
            peer.raw.send(b"\x16\x03\x01")
            peer.raw.shutdown(socket.SHUT_WR)
        for member in held:
            gate.house.until(lambda member=member: in_socket(member.client) == 3)
            gate.house.loop.rewatch(member.client.fileno(), 0)  # what was to be told was told while it was held
        gate.house.until(lambda: not gate.members)
        assert {record["error"] for record in gate.house.records.all} == {"it ended in its TLS handshake"}


def in_socket(sock):
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_record_says_how_tls_was_spoken():
    with TlsGate(verify="optional", client_ca=PemFile("", authority().pem)) as gate:
        context = loaded(client_context(), authority().issue(common_name="client", client=True))
        peer = gate.shaken(context=context)
        peer.sendall(b"x")
        assert gate.house.receive(gate.target(), 1) == b"x"
        session = gate.member
        cipher = peer.stream.cipher()[0]
        session.kill(Reason.SHUTDOWN, Side.PROXY)
        assert gate.record()["tls"] == ("TLSv1.3", cipher, False, "localhost", "CN=client")


def test_a_record_of_a_handshake_that_failed_has_the_name():
    with TlsGate(strict_sni=True) as gate:
        gate.fails(gate.open("elsewhere.example"))
        assert gate.record()["tls"] == ("", "", False, "elsewhere.example", "")


def test_a_target_is_told_the_name_where_it_is_asked_for():
    with TlsGate() as gate:
        gate.house.app.targets["t0"].send_proxy = SendProxy(2, ("authority", "alpn"))
        gate.shaken().sendall(b"x")
        header = read(gate.target().recv(4096))
        assert header.tlvs == ((AUTHORITY, b"localhost"),)


@pytest.mark.parametrize(
    ("keys", "how", "cause"),
    [
        ({"strict_sni": True}, {"name": "elsewhere.example"}, "tls_name"),
        ({"verify": "required"}, {}, "tls_certificate"),
        ({"min_version": "1.3"}, {"version": ssl.TLSVersion.TLSv1_2}, "tls_version"),
        ({}, {"trusts": False}, "tls_alert"),
    ],
)
def test_handshakes_that_fail_are_counted_by_cause(keys, how, cause):
    if "verify" in keys:
        keys = {**keys, "client_ca": PemFile("", authority().pem)}
    with TlsGate(**keys) as gate:
        context = client_context() if how.get("trusts", True) else ssl.create_default_context()
        context.maximum_version = how.get("version", ssl.TLSVersion.TLSv1_3)
        gate.fails(gate.open(how.get("name", "localhost"), context))
        gate.record()
        assert gate.refused == {cause: 1}


def test_and_those_that_never_were():
    with TlsGate() as gate:
        gate.connect(b"SSH-2.0-OpenSSH_9.2\r\n")
        gate.connect().shutdown(socket.SHUT_WR)
        gate.house.until(lambda: len(gate.house.records.all) == 2)
        gate.connect(b"\x16\3\1")
        gate.house.pass_time(6)
        assert gate.refused == {"tls_none": 1, "tls_gone": 1, "tls_late": 1}


@pytest.mark.parametrize("asked", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_http_in_clear_is_answered_in_clear_in_mode_http(asked):
    with TlsGate() as gate:
        gate.house.app.http = Http()
        client = gate.connect(asked)
        answer = gate.house.receive(client)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"\r\n\r\n400 Bad Request: plain HTTP request was sent to a TLS port\n")
        assert b"Connection: close\r\n" in answer
        assert gate.record()["error"].startswith("no TLS: http")
        assert gate.refused == {"tls_none": 1}


def test_and_in_mode_tcp_nothing_is_said():
    with TlsGate() as gate:
        client = gate.connect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert gate.house.receive(client) == b""


def test_a_client_of_key_updates_alone_is_ended():
    with TlsGate() as gate:
        peer = gate.shaken()
        peer.sendall(b"hello")
        target = gate.target()
        assert gate.house.receive(target, 5) == b"hello"
        gate.member.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        updates = KeyUpdates(peer).records(WASTED_MOST // 20)
        peer.raw.send(updates)
        assert gate.record()["reason"] == "protocol_error"
        with pytest.raises(ConnectionResetError):
            target.recv(1)


class Waiting:
    """Stands for a stage that waits for its turn."""

    def __init__(self, resumed):
        self.resume = lambda: resumed.append(self)

    def wait(self):
        """It does."""


def test_those_behind_clients_that_have_gone_have_their_turn():
    """Whoever has gone takes no step, so that the end of his turn calls nobody."""
    loop, resumed = Loop("test"), []
    handshakes = Handshakes(loop)
    stages = [Waiting(resumed) for _ in range(4 * IN_A_TURN)]
    assert [handshakes.has_turn(stage) for stage in stages].count(True) == IN_A_TURN
    for _ in range(10):
        loop.run_once(0)
    loop.close()
    assert resumed == stages[IN_A_TURN:]
