"""The http check on real servers: what is asked, which answers count, over TLS and UNIX sockets, and nothing too much."""

import functools
import socket
import ssl
import threading

import pytest

from kit import programs
from kit.waiting import wait_until
from tcp_proxy.config.model import Check
from tcp_proxy.config.tls_model import PemFile, TargetTls
from tcp_proxy.control.health import http
from tcp_proxy.control.health.probe import Secured
from tests.control.health.bench import at, no_descriptors, sockets

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def probe(bench, endpoint, **check):
    """The result of one probe that needs no time to pass."""
    before = sockets()
    result = bench.result_of(http.start, endpoint, Check(type="http", **check))
    wait_until(lambda: sockets() <= before + 1, "the end of the probe's connection")  # the server's may be a moment late
    return result


def test_the_request(bench, service):
    asked = []
    server = service(answer=lambda data: asked.append(data) or OK)
    result = probe(bench, *at(server), path="/up?x=1")
    assert (result.success, result.text) == (True, f"http 127.0.0.1:{server.port}/up?x=1: status 200 OK")
    head, _, body = b"".join(asked).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"GET /up?x=1 HTTP/1.1", f"Host: 127.0.0.1:{server.port}".encode(), b"User-Agent: tcp_proxy", b"Accept: */*",
        b"Connection: close",
    ]  # fmt: skip
    assert body == b""


def test_the_request_with_everything(bench, service):
    asked = []
    server = service(answer=lambda data: asked.append(data) or b"HTTP/1.1 204 No Content\r\n\r\n")
    headers = (("host", "shop.example"), ("X-Probe", "1"))
    assert probe(bench, *at(server), method="POST", body="é{}", headers=headers, status=("2xx",)).success is True
    head, _, body = b"".join(asked).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST / HTTP/1.1"
    assert {b"host: shop.example", b"X-Probe: 1", b"Content-Length: 4"} < set(lines)
    assert sum(line.lower().startswith(b"host:") for line in lines) == 1
    assert body == "é{}".encode()


def test_a_redirect_is_an_answer(bench, service):
    other = service(answer=lambda _: OK)
    redirect = f"HTTP/1.1 302 Found\r\nLocation: http://{other.address}/\r\nContent-Length: 0\r\n\r\n".encode()
    server = service(answer=lambda _: redirect)
    result = probe(bench, *at(server), status=("200",))
    assert (result.success, result.text) == (False, f"http {server.address}/: status 302 Found, wanted 200")
    assert probe(bench, *at(server)).text == f"http {server.address}/: status 302 Found", "well, unless it is said otherwise"
    assert other.accepted == 0


def test_another_port(bench, service, free_port):
    server = service(answer=lambda _: OK)
    endpoint = socket.AF_INET, ("127.0.0.1", free_port())
    assert probe(bench, endpoint, port=server.port).text == f"http {server.address}/: status 200 OK"


def test_ipv6_and_unix(bench, service, tmp_path):
    asked = []
    six = service(host="::1", answer=lambda data: asked.append(data) or OK)
    assert probe(bench, (socket.AF_INET6, ("::1", six.port, 0, 0))).text == f"http [::1]:{six.port}/: status 200 OK"
    service(path=tmp_path / "s", answer=lambda data: asked.append(data) or OK)
    assert probe(bench, (socket.AF_UNIX, str(tmp_path / "s"))).text == f"http unix:{tmp_path}/s/: status 200 OK"
    assert f"\r\nHost: [::1]:{six.port}\r\n".encode() in asked[0]
    assert b"\r\nHost: localhost\r\n" in asked[1]


def test_a_target_is_asked_by_the_name_that_it_is_written_with(bench, service, tls_server):
    asked = []
    server = service(answer=lambda data: asked.append(data) or OK)
    start = functools.partial(http.start, host="shop.example")
    assert bench.result_of(start, at(server)[0], Check(type="http")).text == f"http {server.address}/: status 200 OK"
    assert f"\r\nHost: shop.example:{server.port}\r\n".encode() in asked[0]
    assert bench.result_of(start, at(server)[0], Check(type="http", headers=(("Host", "b"),))).success is True
    assert b"\r\nHost: b\r\n" in asked[1]
    over_tls = tls_server()
    endpoint = socket.AF_INET, over_tls.listener.getsockname()
    assert bench.result_of(start, endpoint, Check(type="http", tls=True)).success is True
    assert over_tls.names == ["shop.example"]


def test_an_answer_without_end_is_read_to_64_kib_and_no_further(bench, target):
    server = target()
    results = []
    http.start(bench.loop, *at(server), Check(type="http"), results.append)
    bench.settle()
    peer = server.accept()
    thread = threading.Thread(target=flood, args=(peer,), name="flood")
    thread.start()
    bench.until(lambda: results, "the result")
    bench.settle()
    thread.join()
    assert results[0].success is False
    assert "65536 bytes came" in results[0].text


def flood(peer):
    """A head that never ends, until the reader goes."""
    try:
        peer.sock.setblocking(True)
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            peer.sock.sendall(b"x" * 65536)
    except OSError:
        peer.close()


def test_a_body_without_end_does_not_matter(bench, target):
    server = target()
    results = []
    http.start(bench.loop, *at(server), Check(type="http"), results.append)
    bench.settle()
    peer = server.accept()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
    bench.until(lambda: results, "the result")
    assert results[0].success is True
    peer.close()


@pytest.mark.parametrize(
    ("sent", "text"),
    [(b"", "timed out, no answer in 2 s"), (b"HTTP/1.1 200", 'timed out, nothing but "HTTP/1.1 200" in 2 s')],
)
def test_silence(bench, target, sent, text):
    server = target()
    results = []
    http.start(bench.loop, *at(server), Check(type="http", timeout=2.0), results.append)
    bench.settle()
    peer = server.accept()
    peer.send(sent)
    bench.turn(1.9)
    bench.settle()
    assert not results
    bench.turn(0.2)
    assert (results[0].success, results[0].text.split(": ")[1]) == (False, text)
    peer.close()


def test_a_reset_is_a_failure(bench, target):
    server = target()
    results = []
    http.start(bench.loop, *at(server), Check(type="http"), results.append)
    bench.settle()
    server.accept().rst()
    bench.until(lambda: results)
    assert results[0].success is False
    assert results[0].text.endswith("(ECONNRESET)")


def test_refused_and_local_errors(bench, service, free_port):
    assert probe(bench, (socket.AF_INET, ("127.0.0.1", free_port()))).text.endswith("connection refused (ECONNREFUSED)")
    server, results = service(), []
    with no_descriptors():
        http.start(bench.loop, *at(server), Check(type="http"), results.append)
        bench.until(lambda: results)
    assert results[0].success is None


def test_cancel_in_the_middle(bench, target):
    server, results = target(), []
    before = sockets()
    started = http.start(bench.loop, *at(server), Check(type="http"), results.append)
    bench.settle()
    peer = server.accept()
    started.cancel()
    bench.turn(60)
    peer.close()
    assert sockets() == before
    assert results == []


# -- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(certificate, key), signed by nobody."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x")
    programs.run("openssl", *new, "-out", files[0], "-keyout", files[1])
    return files


class TlsServer:
    """Answers one request after another with `answer`; `names` is what the clients asked for by SNI."""

    def __init__(self, listener, certificate, answer):
        self.names, self.answer, self.listener = [], answer, listener
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*certificate)
        self.context.sni_callback = lambda _sock, name, _context: self.names.append(name)
        self.thread = threading.Thread(target=self.serve, name="tls-server")
        self.thread.start()

    def serve(self):
        while True:
            sock, _ = self.listener.accept()
            with sock:
                if sock.recv(1, socket.MSG_PEEK) == b"":
                    return
                try:
                    with self.context.wrap_socket(sock, server_side=True) as tls:
                        tls.recv(65536)
                        tls.sendall(self.answer)
                except OSError:
                    pass

    def close(self):
        with socket.socket() as sock:
            sock.connect(self.listener.getsockname())
        self.thread.join()
        self.listener.close()


@pytest.fixture
def tls_server(certificate):
    servers = []

    def start(answer=OK):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        servers.append(TlsServer(listener, certificate, answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_tls(bench, tls_server):
    server = tls_server(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40000 + b"\r\n\r\n")
    endpoint = socket.AF_INET, server.listener.getsockname()
    result = probe(bench, endpoint, tls=True)
    assert (result.success, result.text) == (True, f"https 127.0.0.1:{endpoint[1][1]}/: status 200 OK")
    assert probe(bench, endpoint, tls=True, headers=(("Host", "shop.example:8443"),)).success is True
    assert server.names == [None, "shop.example"]


@pytest.mark.parametrize("host", ["a..b", "[::1]:443"])
def test_over_tls_a_host_that_is_no_name_is_asked_without_one(bench, tls_server, host):
    server = tls_server()
    endpoint = socket.AF_INET, server.listener.getsockname()
    assert probe(bench, endpoint, tls=True, headers=(("Host", host),)).success is True
    assert server.names == [None]


def test_plain_http_to_a_tls_port_and_the_reverse(bench, tls_server, service):
    endpoint = socket.AF_INET, tls_server().listener.getsockname()
    assert probe(bench, endpoint).success is False
    result = probe(bench, *at(service(answer=lambda _: OK)), tls=True)
    assert result.success is False
    assert ": TLS failed: " in result.text


def test_a_handshake_that_hangs(bench, target):
    server, results = target(), []
    http.start(bench.loop, *at(server), Check(type="http", tls=True), results.append)
    bench.settle()
    peer = server.accept()
    bench.turn(2.1)
    assert results[0].text.endswith("timed out, no end of the TLS handshake in 2 s")
    peer.close()


@pytest.mark.parametrize("fin", [False, True], ids=["reset", "end and reset"])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_over_tls_a_target_that_resets_is_a_failure_and_no_bug(bench, target, turns, fin):
    """At whatever step of the connection: nothing is raised, and no descriptor is left."""
    server, results = target(), []
    before = sockets()
    http.start(bench.loop, *at(server), Check(type="http", tls=True), results.append)
    bench.settle(turns)
    peer = server.accept()
    if fin:
        peer.fin()
    peer.rst()
    bench.until(lambda: results)
    bench.settle()
    assert results[0].success is False
    assert sockets() == before
    assert results[0].text.partition(": ")[2] in (
        "connection reset by peer (ECONNRESET)", "broken pipe (EPIPE)", "ended the connection in the TLS handshake",
    )  # fmt: skip


def test_over_tls_an_answer_before_a_reset_is_an_answer(bench, certificate, target):
    """All before the probe's loop has its next turn."""
    server, results = target(), []
    http.start(bench.loop, *at(server), Check(type="http", tls=True), results.append)
    bench.settle()
    peer = server.accept()
    arrived, unsent = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    tls, request = context.wrap_bio(arrived, unsent, server_side=True), b""
    while not request:
        arrived.write(peer.read_first())
        try:
            tls.do_handshake()
            request = tls.read()
        except ssl.SSLWantReadError:
            peer.send(unsent.read())
            bench.settle()
    tls.write(OK)
    peer.send(unsent.read())
    peer.rst()
    bench.until(lambda: results)
    assert (results[0].success, results[0].text.partition(": ")[2]) == (True, "status 200 OK")


# -- TLS of the target's own


def test_a_target_with_tls_is_checked_as_sessions_are(bench, tls_server):
    server = tls_server()
    endpoint = socket.AF_INET, server.listener.getsockname()

    def text(server_name, **how):
        """The certificate is signed by nobody, and is its own authority."""
        secured = Secured(server_name, TargetTls(**how))
        results = []
        http.start(bench.loop, endpoint, Check(type="http"), results.append, secured=secured)
        bench.until(lambda: results)
        return results[0].success, results[0].text.partition(": ")[2]

    own = PemFile("ca", ssl.get_server_certificate(endpoint[1]))
    assert text("x", verify=False) == (True, "status 200 OK")
    assert text("x", ca=own) == (True, "status 200 OK")
    wrong = "TLS failed: certificate verify failed: "
    assert text("y", ca=own) == (False, f"{wrong}Hostname mismatch, certificate is not valid for 'y'.")
    assert text("x") == (False, f"{wrong}self-signed certificate")
    assert text("", verify=False) == (True, "status 200 OK")
    assert server.names == [None, "x", "x", "y", "x", None]
    assert text("x", verify=False, alpn=("h2",)) == (True, "status 200 OK")


# -- a real server


@pytest.mark.slow
def test_nginx(bench, servers, tmp_path):
    server = programs.nginx(tmp_path)
    servers.callback(server.close)
    server.wait_listening()
    endpoint = socket.AF_INET, ("127.0.0.1", server.port)
    assert probe(bench, endpoint, path="/hello").text.endswith("/hello: status 200 OK")
    assert probe(bench, endpoint, path="/nothing").text.endswith("/nothing: status 404 Not Found, wanted 2xx or 3xx")
    assert probe(bench, endpoint, path="/hello", method="HEAD").success is True
