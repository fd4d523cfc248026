"""Clients of mode http that stay by a cookie, in the running program; HAProxy is asked for the same where it is there."""

import contextlib
import re

import pytest

from kit.api import Api, api_config
from kit.dialogue import GET, head
from kit.peer import connect
from kit.ports import free_port
from kit.programs import Program, need
from kit.waiting import wait_until
from tests.system.test_balance import Named
from tests.system.test_reload import Config

FAST = {"type": "tcp", "interval": 0.2, "timeout": 0.15}


@pytest.fixture
def shop(http, servers):
    """shop(**cookie): three servers a, b, c behind a sticky cookie."""

    def start(top=(), health=(), **cookie):
        made = {name: servers.enter_context(Named(name.encode())) for name in "abc"}
        targets = [{"name": name, "address": one.address} for name, one in made.items()]
        sticky = {"key": "cookie", "cookie": cookie}
        return made, http(*targets, sticky=sticky, health=list(health), top={"workers": 2, **dict(top)})

    return start


def ask(client, cookie=b"", path=b"/"):
    """Who answered, and the cookie that was set with it."""
    lines = b"Cookie: x=y; %b\r\n" % cookie if cookie else b""
    client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (path, lines))
    answer = head(client)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    found = re.search(rb"Set-Cookie: (SERVERID=[0-9a-f]{16})(.*)\r\n", answer)
    return client.receive(1).decode(), found[1] if found else b""


def test_a_client_stays_over_connections_workers_and_a_restart_of_all(shop):
    servers, program = shop()
    cookies = {}
    while len(cookies) < 3:
        name, cookie = ask(program.connect())
        assert cookies.setdefault(name, cookie) == cookie
    for name, cookie in cookies.items():
        assert {ask(program.connect(), cookie) for _ in range(4)} == {(name, b"")}
    client = program.connect()
    assert [ask(client, cookies[name])[0] for name in "abcabc"] == list("abcabc"), "each request by itself"
    assert not any(one.address.encode() in cookie for one in servers.values() for cookie in cookies.values())


def test_a_client_stays_by_a_header_over_connections_and_workers_with_a_table(http, servers):
    made = {name: servers.enter_context(Named(name.encode())) for name in "abc"}
    targets = [{"name": name, "address": one.address} for name, one in made.items()]
    sticky = {"key": "header", "header": "X-User", "expires": 60}
    program = http(*targets, sticky=sticky, top={"workers": 2, "api": api_config()})
    of = {}
    for number in range(48):
        client = program.connect().send(b"GET / HTTP/1.1\r\nHost: a\r\nX-User: user/%d\r\n\r\n" % (number % 6))
        assert head(client).startswith(b"HTTP/1.1 200")
        of.setdefault(f"user/{number % 6}", set()).add(client.receive(1).decode())
    assert all(len(names) == 1 for names in of.values()), of
    api = Api.of(program)
    entries = {entry["key"]: entry["target"] for entry in api.get("/api/v1/apps/app/sticks").json["entries"]}
    assert entries == {user: name for user, (name,) in of.items()}
    assert api.get("/api/v1/apps/app/sticks/user%2F1").json["target"] == entries["user/1"]
    api.ask("PUT", "/api/v1/apps/app/sticks/user%2F1", {"target": "a"}, status=200)
    wait_until(lambda: asks(program.connect(), b"user/1") == "a", "the worker has heard of it")


def asks(client, user):
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-User: %b\r\n\r\n" % user)
    head(client)
    return client.receive(1).decode()


def test_a_draining_target_keeps_its_own_and_one_that_is_down_gives_them_away(shop):
    servers, program = shop(top={"api": api_config()}, health=[FAST])
    program.wait_log("target c is up")
    client = program.connect()
    cookies = dict(ask(client) for _ in range(12))
    assert set(cookies) == {"a", "b", "c"}
    Api.of(program).ask("PATCH", "/api/v1/apps/app/targets/b", {"admin": "drain"}, status=200)
    wait_until(lambda: "b" not in {ask(program.connect())[0] for _ in range(6)}, "b drains in both workers")
    assert ask(client, cookies["b"]) == ("b", b"")
    servers["b"].close()
    program.wait_log("target b is down")

    def is_given_away():
        name, cookie = ask(program.connect(), cookies["b"])
        return name in "ac" and cookie == cookies[name]

    wait_until(is_given_away, "another has it, and says so")


def test_a_target_that_leaves_by_a_reload_gives_its_clients_away_and_others_stay(shop):
    _, program = shop()
    client = program.connect()
    cookies = dict(ask(client) for _ in range(12))
    file = Config(program)
    del file.app["targets"][1]
    file.reload()
    assert ask(client, cookies["a"]) == ("a", b"")
    name, cookie = ask(client, cookies["b"])
    assert (name in "ac", cookie) == (True, cookies[name])
    file.app["sticky"]["cookie"]["name"] = "OTHER"
    file.reload()
    assert ask(program.connect(), cookies["a"])[1] == b"", "a cookie of another name is set"


def test_the_target_does_not_see_it_and_the_answer_has_its_attributes(http, target):
    server = target()
    program = http({"name": "t", "address": server.address}, sticky={"key": "cookie", "cookie": {"max_age": 60}})
    client = program.connect().send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\nSet-Cookie: own=1\r\n\r\n")
    answer = head(client)
    found = re.search(rb"SERVERID=[0-9a-f]{16}", answer)[0]
    wanted = b"\r\nSet-Cookie: own=1\r\nSet-Cookie: %b; Path=/; Max-Age=60; HttpOnly; SameSite=Lax\r\n" % found
    assert wanted + b"Cache-Control: private\r\n" in answer
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: p=q; %b; own=1\r\n\r\n" % found)
    assert b"\r\nCookie: p=q; own=1\r\n" in head(upstream)
    upstream.send(b"HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n")
    assert b"Set-Cookie" not in head(client)


HAPROXY = """
defaults
    mode http
    timeout connect 2s
    timeout client 5s
    timeout server 5s
listen shop
    bind 127.0.0.1:{port}
    cookie SESSION prefix
    server t {address} cookie {mark}
"""


@pytest.mark.parametrize("whose", ["ours", "haproxy"])
def test_prefix_is_what_haproxy_makes_of_it(http, target, tmp_path, whose):
    """The same bytes of Set-Cookie and Cookie, with the same mark."""
    mark = b"0e1c9a7b23584f6d"
    server = target()
    with contextlib.ExitStack() as stack:
        if whose == "haproxy":
            port = free_port()
            (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(port=port, address=server.address, mark=mark.decode()))
            haproxy = Program([need("haproxy"), "-db", "-f", tmp_path / "haproxy.cfg"], port, tmp_path)
            stack.callback(haproxy.close)
            haproxy.wait_listening()
            client = stack.enter_context(connect(port))
        else:
            name = {"name": "t", "address": server.address}
            client = http(name, sticky={"key": "cookie", "cookie": {"name": "SESSION", "mode": "prefix"}}).connect()
        client.send(GET)
        upstream = server.accept()
        head(upstream)
        upstream.send(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 0\r\nSet-Cookie: SESSION=abc; Path=/\r\n\r\n")
        answer = head(client)
        found = re.search(rb"(?i)set-cookie: SESSION=([0-9a-f]{16})~abc; Path=/\r\n", answer)
        assert found, answer
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b; SESSION=%b~abc; c=d\r\n\r\n" % found[1])
        asked = head(server.accept() if server.has_client(0.05) else upstream)
        assert re.search(rb"(?i)\r\ncookie: a=b; SESSION=abc; c=d\r\n", asked), asked
