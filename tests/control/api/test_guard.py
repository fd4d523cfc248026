"""Who may come in: by which name, with which token, with how much to say."""

import contextlib
import select
import socket

import pytest

from kit.api import TOKEN, Api, api_config, write_token
from kit.ports import free_port
from kit.proxy import running
from kit.waiting import wait_until
from tcp_proxy.control.api.guard import MOST_BODY, MOST_HELD, MOST_SMALL, Hosts
from tcp_proxy.sansio.address import parse_listen


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guard")
    write_token(folder / "token", f"{TOKEN}\n")
    app = {"name": "web", "ports": [free_port()], "targets": ["127.0.0.1:1"], "health": []}
    api = api_config(token_file=str(folder / "token"), hosts=["proxy.example"])
    with running({"workers": 1, "api": api, "apps": [app], "shutdown_grace": 1}, folder) as program:
        yield program


@pytest.fixture
def api(program):
    return Api.of(program, TOKEN)


# -- names


@pytest.mark.parametrize(
    ("listen", "host", "is_ours"),
    [
        ("127.0.0.1:8687", "127.0.0.1:8687", True),
        ("127.0.0.1:8687", "localhost", True),
        ("127.0.0.1:8687", "LOCALHOST:8687", True),
        ("127.0.0.1:8687", "[::1]:8687", True),
        ("127.0.0.1:8687", "127.9.9.9", True),
        ("127.0.0.1:8687", "Name.Example:1", True),
        ("127.0.0.1:8687", "evil.example", False),
        ("127.0.0.1:8687", "localhost.evil.example", False),
        ("127.0.0.1:8687", "127.0.0.1.evil.example", False),
        ("127.0.0.1:8687", "192.0.2.1", False),
        ("127.0.0.1:8687", "", False),
        ("127.0.0.1:8687", "[", False),
        ("127.0.0.1:8687", "localhost:1@evil.example", False),
        ("127.0.0.1:8687", "localhost@evil.example", False),
        ("127.0.0.1:8687", "[::1]evil.example", False),
        ("127.0.0.1:8687", "[::1].evil.example:80", False),
        ("127.0.0.1:8687", "[127.0.0.1]", False),
        ("127.0.0.1:8687", "[localhost]", False),
        ("127.0.0.1:8687", "::1", False),
        ("127.0.0.1:8687", "localhost:80x", False),
        ("127.0.0.1:8687", "localhost:", True),
        ("127.0.0.1:8687", "localhost\n", False),
        ("127.0.0.1:8687", "localhost/x", False),
        ("192.0.2.1:8687", "192.0.2.1:8687", True),
        ("192.0.2.1:8687", "192.0.2.2:8687", False),
        ("[2001:db8::1]:8687", "[2001:db8::1]:8687", True),
        ("*:8687", "192.0.2.2:8687", True),
        ("*:8687", "evil.example", False),
        ("unix:/run/x.sock", "whatever", True),
    ],
)
def test_hosts(listen, host, is_ours):
    assert Hosts(parse_listen(listen), ["name.example"]).include(host) is is_ours


def test_a_foreign_name_is_refused(api):
    assert "evil.example" in api.get("/api/v1/apps", status=421, headers={"Host": "evil.example"}).detail
    assert api.get("/healthz", status=421, headers={"Host": "evil.example"}).detail
    assert api.get("/api/v1/apps", headers={"Host": "proxy.example:1234"}).json


def test_one_host_header_is_wanted(program):
    with socket.create_connection(("127.0.0.1", Api.of(program).where)) as client:
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")


PAGES = [  # Origin, Sec-Fetch-Site, whether it may change something; HERE is ours, with its port
    ("HERE", "", True),
    ("HERE", "same-origin", True),
    ("", "same-origin", True),
    ("", "none", True),
    ("https://proxy.example", "same-origin", True),  # of a proxy before us that has TLS: the browser has compared
    ("http://evil.example", "", False),
    ("null", "", False),
    ("http://[x", "", False),
    ("http://127.0.0.1:1", "", False),  # another port of this machine
    ("http://127.0.0.1", "", False),
    ("http://localhost:PORT", "", False),  # another name of it: a browser takes that for another origin
    ("https://127.0.0.1:PORT", "", False),
    ("HERE.evil.example", "", False),
    ("HERE", "same-site", False),
    ("HERE", "cross-site", False),
    ("", "same-site", False),
    ("", "cross-site", False),
    ("https://evil.example", "same-origin", False),
]


@pytest.mark.parametrize(("origin", "site", "may"), PAGES)
def test_a_page_of_another_origin_may_change_nothing(api, origin, site, may):
    """Whatever the path: our own API's, weldr's, and what there is not."""
    origin = origin.replace("HERE", f"http://127.0.0.1:{api.where}").replace("PORT", str(api.where))
    headers = {name: value for name, value in (("Origin", origin), ("Sec-Fetch-Site", site)) if value}
    for path in ("/api/v1/nothing", "/servers", "/api/v1/apps/web/targets"):
        reply = api.ask("POST", path, b"{}", headers=headers)
        assert (reply.status != 403) is may, reply
        assert may or "may change nothing" in reply.detail
    api.get("/api/v1/apps", headers=headers)  # which the browser does not show to the page


@pytest.mark.parametrize(
    ("kind", "is_taken"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=application/json", False),
        ("application/jsonx", False),
        ("", False),
    ],
)
def test_what_is_changed_is_said_in_json(api, kind, is_taken):
    """A page of another origin can send anything else without asking."""
    for path in ("/servers", "/api/v1/apps/web/targets"):
        reply = api.ask("POST", path, b"{", headers={"Content-Type": kind})
        assert reply.status == (400 if is_taken else 415), reply
        assert is_taken or "wanted application/json" in reply.detail
    api.ask("POST", "/api/v1/nothing", status=404)


def test_a_body_that_says_nothing_of_itself_is_refused(program):
    head = f"POST /servers HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 2\r\n\r\n{{}}"
    with socket.create_connection(("127.0.0.1", Api.of(program).where), timeout=30) as client:
        client.sendall(head.encode())
        assert client.recv(20).startswith(b"HTTP/1.1 415 ")


@pytest.mark.parametrize("lengths", ["Content-Length: 60\r\n", ""])
def test_two_lengths_in_one_request_are_refused_and_nothing_behind_it_is_read(program, lengths):
    """RFC 9112, 6.1: who stands before us may have believed the other one, and the rest would be a request of its choice."""
    token = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    version = "HTTP/1.1" if lengths else "HTTP/1.0"
    first = f"POST /api/v1/nothing {version}\r\n{token}{lengths}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    hidden = f"POST /api/v1/reload HTTP/1.1\r\n{token}Content-Length: 0\r\n\r\n"
    before = program.count_log("reading the configuration again")
    with socket.create_connection(("127.0.0.1", Api.of(program).where), timeout=30) as client:
        client.sendall((first + hidden).encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert program.count_log("reading the configuration again") == before


# -- the token


@pytest.mark.parametrize("path", ["/api/v1/apps", "/api/v1/nothing", "/servers", "/metrics", "/", "/healthzz"])
def test_without_the_token_nothing_is_said(program, path):
    reply = Api.of(program).get(path, status=401)
    assert "Authorization: Bearer" in reply.detail
    assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, "Bearer ü"]
)
def test_another_token_is_none(program, given):
    Api.of(program).get("/api/v1/apps", status=401, headers={"Authorization": given})


def test_the_token_lets_in(api):
    assert api.get("/api/v1/apps").json
    assert api.get("/api/v1/apps", headers={"Authorization": f"bearer  {TOKEN} "}).json


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/spec/v1/", "/ui/v1/", "/ui/v1/start.js"])
def test_what_needs_no_token(program, path):
    assert Api.of(program).ask("GET", path).status in (200, 503)


def test_the_token_file_is_read_again_and_when_it_is_gone_nobody_gets_in(program, api):
    path = program.folder / "token"
    try:
        path.write_text("another-token-of-sixteen")
        api.get("/api/v1/apps", status=401)
        Api.of(program, "another-token-of-sixteen").get("/api/v1/apps")
        path.write_text("")
        Api.of(program, "another-token-of-sixteen").get("/api/v1/apps", status=401)
        program.wait_log("nobody is let in: token file .* is empty")
        write_token(path)
        api.get("/api/v1/apps")
        path.chmod(0o644)
        api.get("/api/v1/apps", status=401)
        program.wait_log("nobody is let in: .* mode 0644 lets others at it; mend it with: chmod 600")
        path.unlink()
        api.get("/api/v1/apps", status=401)
        program.wait_log("nobody is let in: .* No such file")
    finally:
        write_token(path)
    api.get("/api/v1/apps")


# -- bodies


@pytest.mark.parametrize("path", ["/servers", "/api/v1/apps/web/targets", "/api/v1/nothing"])
def test_what_is_no_configuration_has_a_small_limit(api, path):
    assert f"at most {MOST_SMALL} bytes" in api.ask("POST", path, b" " * (MOST_SMALL + 1), status=413).detail
    assert api.ask("POST", path, b" " * MOST_SMALL).status in (400, 404)


def test_a_body_has_a_limit(program):
    token = f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json"
    head = f"POST /api/v1/plan HTTP/1.1\r\nHost: localhost\r\n{token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (1 << 20, b"x" * (1 << 20))
    with socket.create_connection(("127.0.0.1", Api.of(program).where), timeout=20) as client:
        client.sendall(head.encode())
        try:
            for _ in range(MOST_BODY // (1 << 20) + 1):
                client.sendall(chunk)
            assert client.recv(20).startswith(b"HTTP/1.1 413 ")
        except ConnectionError:
            pass  # it closes as soon as it has heard enough; what it said may be lost on the way


def test_all_bodies_together_have_a_limit(program):
    """Three more of them, nearly whole, than there is room for: so many are refused. When all have gone there is room."""
    where, part = ("127.0.0.1", Api.of(program).where), b"x" * (MOST_BODY - 1)
    token = f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json"
    head = f"POST /api/v1/plan HTTP/1.1\r\nHost: localhost\r\n{token}\r\nContent-Length: {MOST_BODY}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        held = set()
        for _ in range(MOST_HELD // MOST_BODY + 3):
            held.add(client := stack.enter_context(socket.create_connection(where, timeout=20)))
            with contextlib.suppress(ConnectionError):
                client.sendall(head.encode() + part)
        refused = []
        while len(refused) < 3:
            for client in select.select(list(held), [], [], 20)[0]:
                held.discard(client)
                try:
                    refused.append(client.recv(20)[:13])
                except ConnectionError:  # what it said was lost on the way
                    refused.append(b"")
        assert set(refused) <= {b"HTTP/1.1 503 ", b""}
        assert Api.of(program, TOKEN).get("/api/v1/status").json["state"] == "serving"
    wait_until(lambda: Api.of(program, TOKEN).ask("POST", "/api/v1/plan", part).status == 422, "there is room again")


def test_a_body_has_a_deadline(program):
    head = f"POST /api/v1/apps HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 10\r\n\r\nx"
    with socket.create_connection(("127.0.0.1", Api.of(program).where), timeout=30) as client:
        client.sendall(head.encode())
        assert client.recv(20).startswith(b"HTTP/1.1 408 ")


def test_every_answer_has_the_headers_that_browsers_obey(api):
    reply = api.get("/api/v1/apps")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["x-frame-options"] == "DENY"
    assert reply.headers["cache-control"] == "no-store"
    assert "server" not in reply.headers
    assert "default-src 'self'" in api.get("/ui/v1/").headers["content-security-policy"]
