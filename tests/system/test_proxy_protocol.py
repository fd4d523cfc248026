"""Clients whose PROXY header says who they are: their address counts everywhere, in both modes; and headers that we send."""

import json
import signal
import socket
import ssl

import pytest

from kit.api import Api, api_config
from kit.certificates import Authority
from kit.dialogue import GET, OK, OK_PASSED, head
from tcp_proxy.sansio.proxyproto import ALPN, LOCAL, SSL, SSL_CIPHER, SSL_CN, SSL_VERSION, read, read_ssl
from tests.kit.proxy_headers import CLIENT, VECTORS

HERE = {"from": ["127.0.0.0/8"]}
V1 = VECTORS["v1-tcp4"][0][0]
WHO = "192.0.2.7:1111"


def header(ip, port=1111):
    return f"PROXY TCP4 {ip} 192.0.2.8 {port} 80\r\n".encode()


# -- in


def test_sessions_why_and_the_record_name_the_client_and_whom_it_came_by(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], accept_proxy=HERE, top={"api": api_config()})
    client = program.connect().send(V1 + b"hello")
    server = server_side.accept()
    server.expect(b"hello")
    api = Api.of(program)
    for who in (WHO, "192.0.2.7"):
        (session,) = api.get(f"/api/v1/sessions?client={who}").json["sessions"]
        assert (session["client"], session["peer"], session["state"]) == (WHO, client.address, "relaying")
    story = api.get(f"/api/v1/sessions/{session['id']}/why").json["story"]
    assert f"from {WHO} by way of {client.address}, whose PROXY header says so," in story
    client.fin()
    server.expect_fin()
    server.fin()
    record = program.record()
    assert (record["client"], record["peer"], record["error"], record["bytes_up"]) == (WHO, client.address, "", 5)


def test_a_client_that_is_refused_has_a_record_that_says_why(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], accept_proxy=HERE, top={"log": {"level": "debug", "format": "json"}})
    client = program.connect().send(VECTORS["v1-lf-only"][0][0])
    client.expect_rst()
    program.wait_log(f"client {client.address} at listener .* of app app refused: a PROXY line that ends without CR")
    record = program.record()
    assert (record["reason"], record["ended_by"], record["client"]) == ("protocol_error", "client", client.address)
    assert record["error"] == "a PROXY line that ends without CR"
    assert not server_side.has_client()


@pytest.mark.parametrize("how", [{"balance": "source_hash"}, {"sticky": {}}])
def test_the_clients_address_chooses_the_target(proxy, service, how):
    names = [b"s%d" % number for number in range(3)]
    program = proxy(targets=[service(greeting=name, hang_up=True) for name in names], accept_proxy=HERE, **how)
    program.uncounted = None
    found = {}
    for number in range(12):
        ip = f"192.0.2.{number % 6}"
        answer = program.connect().send(header(ip, 1000 + number)).receive(2)
        assert found.setdefault(ip, answer) == answer
    assert len(set(found.values())) > 1, "all of them come from one machine"


def test_a_slice_of_the_first_message_begins_behind_the_header(proxy, service):
    how = {"sticky": {"key": "source_ip+first_bytes", "slice": [0, 4]}, "accept_proxy": HERE}
    program = proxy(targets=[service(greeting=b"s%d" % n) for n in range(2)], top={"api": api_config()}, **how)
    program.uncounted = None
    for cut in (10, len(V1), len(V1) + 2):
        data = V1 + b"abcdef"
        client = program.connect().send(data[:cut])
        client.wait_acknowledged()
        client.send(data[cut:]).receive(2)
    sticks = Api.of(program).get("/api/v1/apps/app/sticks").json
    assert [stick["key"] for stick in sticks["entries"]] == ["192.0.2.7 61626364"]


def test_mode_http_tells_the_target_who_the_client_is(http, target):
    server = target()
    program = http(server, accept_proxy=HERE)
    client = program.connect().send(V1 + GET)
    upstream = server.accept()
    assert b"\r\nX-Forwarded-For: 192.0.2.7\r\n" in head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED)
    client.send(GET)
    assert b"\r\nX-Forwarded-For: 192.0.2.7\r\n" in head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED)


def test_mode_http_trusts_the_client_of_the_header_not_the_one_that_brought_it(http, target):
    server = target()
    program = http(server, accept_proxy=HERE, trusted_proxies=["198.51.100.0/24"])
    asked = b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"
    for ip, wanted in (("198.51.100.7", b"203.0.113.9, 198.51.100.7"), ("192.0.2.7", b"192.0.2.7")):
        client = program.connect().send(header(ip) + asked)
        upstream = server.peers[0] if server.peers else server.accept()
        assert b"\r\nX-Forwarded-For: " + wanted + b"\r\n" in head(upstream)
        upstream.send(OK)
        client.expect(OK_PASSED)


def test_mode_http_reads_a_request_that_is_cut_wherever_the_header_is(http, target):
    server = target()
    program = http(server, accept_proxy=HERE)
    data = V1 + GET
    for cut in range(1, len(data), 3):
        client = program.connect().send(data[:cut])
        client.wait_acknowledged()
        client.send(data[cut:])
        upstream = server.peers[0] if server.peers else server.accept()
        head(upstream)
        upstream.send(OK)
        client.expect(OK_PASSED)
        client.close()


def test_a_reload_changes_whose_headers_are_believed(proxy, service):
    program = proxy(targets=[service(greeting=b"hi")], accept_proxy={"from": ["192.0.2.0/24"]})
    program.uncounted = None
    program.connect().expect_rst()
    for keys, said in (({"accept_proxy": HERE}, V1), ({}, b"no header")):
        change(program, keys)
        program.connect().send(said).expect(b"hi")


def change(program, keys):
    """Reload with these keys of the app, and no others of the PROXY protocol."""
    (path,) = program.folder.glob("config-*.json")
    app = program.config["apps"][0]
    app.pop("accept_proxy", None)
    app.update(keys)
    path.write_text(json.dumps(program.config))
    since = len(program.lines)
    program.signal(signal.SIGHUP)
    program.wait_log("SIGHUP: (done|nothing)", since=since)


def test_a_shutdown_ends_a_client_whose_header_has_not_come(proxy, target):
    program = proxy(targets=[target()], accept_proxy=HERE, timeouts={"first_bytes": 600}, top={"shutdown_grace": 0.2})
    client = program.connect().send(b"PROXY ")
    client.wait_acknowledged()
    program.signal(signal.SIGTERM)
    client.expect_rst()
    assert program.wait() == 0
    (record,) = program.records(1)
    assert (record["reason"], record["client"]) == ("shutdown", client.address)


def test_ten_thousand_bytes_behind_the_header_arrive(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], accept_proxy=HERE)
    data = bytes(range(256)) * 800
    client = program.connect().send(V1)
    client.send(data)
    server = server_side.accept()
    assert server.receive(len(data)) == data
    server.fin()
    client.expect_fin()
    client.fin()
    assert program.record()["client"] == f"{CLIENT[0]}:{CLIENT[1]}"


# -- out


def sent(address, **how):
    return {"address": address, "send_proxy": 1, **how}


def line(client, port):
    """What a target is told of this client."""
    ip, _, own = client.address.rpartition(":")
    return f"PROXY TCP4 {ip} 127.0.0.1 {own} {port}\r\n".encode()


def test_a_target_is_told_of_each_client_who_it_is(proxy, target):
    server_side = target()
    program = proxy(targets=[sent(server_side.address)])
    for first in (b"", b"hello"):
        client = program.connect().send(first)
        server = server_side.accept()
        server.expect(line(client, program.port) + first)
        server.send(b"answer")
        client.expect(b"answer")
    program.uncounted = None  # the header is no byte of the client's, and none of its record's


def test_no_byte_of_a_header_is_counted(proxy, target):
    server_side = target()
    program = proxy(targets=[sent(server_side.address)])
    client = program.connect().send(b"hello")
    server = server_side.accept()
    server.expect(line(client, program.port) + b"hello")
    client.fin()
    server.expect_fin()
    server.fin()
    assert program.record()["bytes_up"] == 5


def test_bulk_behind_a_header_arrives_whole(proxy, target):
    server_side = target()
    program = proxy(targets=[sent(server_side.address)])
    data = bytes(range(256)) * 20_000
    client = program.connect()
    server = server_side.accept()
    server.expect(line(client, program.port))
    server.send(data)
    assert client.receive(len(data)) == data
    client.fin()
    server.expect_fin()
    server.fin()
    client.expect_fin()


def test_a_sticky_client_and_its_slice(proxy, target):
    """The first message is read before the target is chosen; it follows the header."""
    server_side = target()
    sticky = {"key": "source_ip+first_bytes", "slice": [0, 4]}
    program = proxy(targets=[sent(server_side.address)], sticky=sticky)
    client = program.connect().send(b"ab")
    client.wait_acknowledged()
    client.send(b"cdef")
    server_side.accept().expect(line(client, program.port) + b"abcdef")
    program.uncounted = None


def test_mode_http_keeps_a_connection_for_its_own_client_alone(http, target):
    server_side = target()
    program = http(sent(server_side.address))
    one, other = program.connect(), program.connect()
    upstreams = []
    for client in (one, other):
        client.send(GET)
        upstream = server_side.accept()
        upstream.expect(line(client, program.port))
        assert head(upstream).startswith(b"GET /x ")
        upstream.send(OK)
        client.expect(OK_PASSED)
        upstreams.append(upstream)
    for client, upstream in ((one, upstreams[0]), (other, upstreams[1])) * 2:
        client.send(GET)
        assert head(upstream).startswith(b"GET /x "), "the same connection, without another header"
        upstream.send(OK)
        client.expect(OK_PASSED)
    assert not server_side.has_client()
    one.close()
    upstreams[0].expect_fin()


def test_mode_http_balances_the_requests_of_one_client_all_the_same(http, target):
    servers = [target(), target()]
    program = http(*(sent(server.address) for server in servers))
    client = program.connect()
    for number in range(6):
        client.send(GET)
        server = servers[number % 2]
        upstream = server.peers[0] if server.peers else server.accept()
        if number < 2:
            upstream.expect(line(client, program.port))
        head(upstream)
        upstream.send(OK)
        client.expect(OK_PASSED)
    assert [len(server.peers) for server in servers] == [1, 1]


def test_mode_http_asks_again_where_a_kept_connection_was_dead(http, target):
    server_side = target()
    program = http(sent(server_side.address))
    client = program.connect().send(GET)
    first = server_side.accept()
    first.expect(line(client, program.port))
    head(first)
    first.send(OK)
    client.expect(OK_PASSED)
    first.rst()
    client.send(GET)
    second = server_side.accept()
    second.expect(line(client, program.port))
    head(second)
    second.send(OK)
    client.expect(OK_PASSED)


def test_mode_http_an_upgrade_begins_with_the_header_and_is_a_plain_relay(http, target):
    server_side = target()
    program = http(sent(server_side.address))
    asked = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    client = program.connect().send(asked)
    upstream = server_side.accept()
    upstream.expect(line(client, program.port))
    head(upstream)
    upstream.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    head(client)
    client.send(b"ping")
    upstream.expect(b"ping")
    upstream.send(b"pong")
    client.expect(b"pong")


@pytest.mark.parametrize(("version", "health"), [(1, {}), (2, {}), (2, {"send_proxy": 1}), (1, {"send_proxy": 0})])
@pytest.mark.parametrize("kind", ["tcp", "exchange", "http"])
def test_checks_introduce_themselves(proxy, target, version, health, kind):
    server_side = target()
    said = {"tcp": {}, "exchange": {"send": "hi", "expect": "ok"}, "http": {}}[kind]
    check = {"type": kind, "interval": 60, **said, **health}
    program = proxy(targets=[sent(server_side.address, send_proxy=version)], health=[check], ready=False)
    prober = server_side.accept()
    version = health.get("send_proxy", version)
    if version == 2:
        prober.expect(LOCAL)
    elif version == 1:
        (ip, port), (own_ip, own_port) = prober.sock.getpeername(), prober.sock.getsockname()
        prober.expect(f"PROXY TCP4 {ip} {own_ip} {port} {own_port}\r\n".encode())
    if kind == "tcp":
        assert prober.read_to_end() == b""
    elif kind == "exchange":
        prober.expect(b"hi")
        prober.send(b"ok")
    else:
        assert head(prober).startswith(b"GET / HTTP/1.1\r\n")
        prober.send(b"HTTP/1.1 200 OK\r\n\r\n")
    program.wait_log("target .* is up")
    program.wait_ready()


def test_a_reload_says_that_a_target_wants_one_from_now_on(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], health=[])
    program.connect().send(b"one")
    server_side.accept().expect(b"one")
    change(program, {"targets": [sent(server_side.address)]})
    client = program.connect().send(b"two")
    server_side.accept().expect(line(client, program.port) + b"two")
    program.uncounted = None


@pytest.mark.parametrize(
    ("now", "begins"), [({"send_proxy": 1}, b"PROXY TCP4 "), ({"tls": {"verify": False}}, b"\x16\x03\x01")]
)
def test_a_connection_that_is_kept_is_used_no_more_where_its_target_is_spoken_to_in_another_way(http, target, now, begins):
    """A request over it would go in clear, or would not say whose it is."""
    server_side = target()
    program = http(server_side, health=[])
    client = program.connect().send(GET)
    kept = server_side.accept()
    head(kept)
    kept.send(OK)
    client.expect(OK_PASSED)
    change(program, {"targets": [{"address": server_side.address, **now}]})
    client.send(GET)
    server_side.accept().expect(begins)
    kept.expect_fin()


def test_a_proxy_behind_a_proxy_knows_the_first_ones_client(proxy, http, target):
    server_side = target()
    inner = http(server_side, accept_proxy=HERE)
    inner.uncounted = None
    for version in (1, 2):
        outer = proxy(targets=[sent(f"127.0.0.1:{inner.port}", send_proxy=version)], accept_proxy=HERE)
        outer.uncounted = None
        client = outer.connect().send(V1 + GET)
        upstream = server_side.peers[0] if server_side.peers else server_side.accept()
        assert b"\r\nX-Forwarded-For: 192.0.2.7\r\n" in head(upstream)
        upstream.send(OK)
        client.expect(OK_PASSED)


def test_an_election_introduces_itself(failover, target):
    server_side = target()
    failover([sent(server_side.address, send_proxy=2)], ready=False)
    server_side.accept().expect(LOCAL)


# -- with TLS


@pytest.mark.parametrize("has_certificate", [True, False])
def test_a_target_is_told_of_tls_that_is_ended_here(proxy, target, tmp_path, has_certificate):
    """The client's header comes before its handshake; what the target is told of TLS comes behind its address."""
    server_side = target()
    ca = Authority()
    (tmp_path / "ca.pem").write_text(ca.pem)
    own = ca.issue("a.example").write(tmp_path)
    tls = {"certificates": [own], "alpn": ["http/1.1"], "client_ca": str(tmp_path / "ca.pem"), "verify": "optional"}
    told = {"version": 2, "tlvs": ["ssl", "alpn"]}
    program = proxy(targets=[sent(server_side.address, send_proxy=told)], tls=tls, accept_proxy=HERE)
    program.uncounted = None
    context = ssl.create_default_context(cadata=ca.pem)
    context.set_alpn_protocols(["http/1.1"])
    if has_certificate:
        mine = ca.issue(common_name="client.example", client=True).write(tmp_path, "client")
        context.load_cert_chain(mine["chain"], mine["key"])
    with socket.create_connection(("127.0.0.1", program.port), timeout=10) as plain:
        plain.sendall(V1)
        with context.wrap_socket(plain, server_hostname="a.example") as client:
            client.sendall(b"hello")
            server = server_side.accept()
            head16 = server.receive(16)
            header = read(head16 + server.receive(int.from_bytes(head16[14:], "big")))
            server.expect(b"hello")
            assert (header.source, header.destination) == (CLIENT, ("192.0.2.8", 2222))
            known = dict(header.tlvs)
            said = read_ssl(known[SSL])
            assert known[ALPN] == b"http/1.1"
            assert (said.client, bool(said.verify)) == ((7, False) if has_certificate else (1, True))
            names = [SSL_VERSION, SSL_CIPHER, *([SSL_CN] if has_certificate else [])]
            assert [kind for kind, _ in said.tlvs] == names
            assert dict(said.tlvs)[SSL_VERSION] == b"TLSv1.3"
            assert dict(said.tlvs).get(SSL_CN, b"client.example") == b"client.example"


def test_a_health_checks_own_connection_may_speak_tls_too(proxy, service, tmp_path):
    """LOCAL, and then a handshake: a check of HAProxy's over TLS."""
    ca = Authority()
    own = ca.issue("a.example").write(tmp_path)
    program = proxy(targets=[service(greeting=b"hi")], tls={"certificates": [own]}, accept_proxy=HERE)
    program.uncounted = None
    context = ssl.create_default_context(cadata=ca.pem)
    with socket.create_connection(("127.0.0.1", program.port), timeout=10) as plain:
        plain.sendall(LOCAL)
        with context.wrap_socket(plain, server_hostname="a.example") as client:
            assert client.recv(2) == b"hi"
