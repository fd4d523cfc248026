"""The API of weldr at the root: the JSON of its README, links that work, and what it left undone."""

import json

import pytest

from kit.api import Api, api_config
from kit.dialogue import GET
from kit.ports import free_port
from kit.waiting import wait_until

NAME = "a/b ü"


@pytest.fixture
def one(service):
    return service(greeting=b"one")


@pytest.fixture
def program(proxy, one):
    return proxy(targets=[one], top={"api": api_config()})


@pytest.fixture
def api(program):
    return Api.of(program)


def listed(address, query=""):
    host, _, port = address.rpartition(":")
    delete = {"rel": "delete", "href": f"/servers/{host}/{port}{query}", "method": "DELETE"}
    return {"url": f"http://{address}", "links": [delete]}


def follow(api, links, rel):
    """(method, path) of an advertised link."""
    (link,) = [link for link in links if link["rel"] == rel]
    return link["method"] or "GET", link["href"]


def test_the_index_leads_to_servers_and_stats(api):
    reply = api.get("/")
    assert reply.json["about"] == "Weldr Management API"
    assert reply.text == json.dumps(reply.json, indent=2)
    for rel in ("servers", "stats"):
        api.ask(*follow(api, reply.json["links"], rel), status=200)


def test_servers_come_and_go_by_the_links_they_advertise(program, api, one, service):
    two = service(greeting=b"two")
    first = api.get("/servers").json
    assert first == {"servers": [listed(one.address)], "links": [{"rel": "add", "href": "/servers", "method": "POST"}]}
    add = follow(api, first["links"], "add")
    body = {"url": f"http://{two.address}", "links": [], "colour": "red"}
    both = api.ask(*add, json.dumps(body).encode(), status=201).json
    assert both["servers"] == [listed(one.address), listed(two.address)]
    assert api.ask(*add, {"url": f"http://{two.address}/"}, status=200).json == both, "it is there already"
    wait_until(lambda: program.connect().read_first() == b"two", "the new one serves")
    (server,) = [server for server in both["servers"] if server["url"] == f"http://{one.address}"]
    left = api.ask(*follow(api, server["links"], "delete"), status=200).json
    assert left["servers"] == [listed(two.address)]
    assert "no server" in api.ask(*follow(api, server["links"], "delete"), status=404).detail
    wait_until(lambda: {program.connect().read_first() for _ in range(4)} == {b"two"}, "the old one has no new client")


def test_stats(program, api, one):
    program.connect().send(b"x").expect(b"onex").close()
    program.records(1)
    found = {"client": {"success": 1, "failed": 0}, "server": {"success": 1, "failed": 0}}
    wait_until(lambda: api.get("/stats").json == found, lambda: f"{found}, found {api.get('/stats').json}")
    assert api.get("/stats/detail").json == [
        {"id": one.address, "ip": "127.0.0.1", "port": one.address.rpartition(":")[2], "success": 1, "failed": 0}
    ]


def test_stats_of_requests(http, service):
    """A 400 of ours is no success, and neither it nor a 503 of ours is a server's matter; the servers are the total."""
    answers = {b"GET /%d" % code: b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % code for code in (200, 302, 404, 500)}
    server = service(answer=lambda data: answers[data[:8]])
    program = http(server, top={"api": api_config()})
    api = Api.of(program)
    for code in (200, 302, 404, 500):
        client = program.connect().send(b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % code)
        assert client.read_to_end().startswith(b"HTTP/1.1 %d" % code)
    assert program.connect().send(b"nonsense\r\n\r\n").read_to_end().startswith(b"HTTP/1.1 400")
    found = {"client": {"success": 2, "failed": 3}, "server": {"success": 3, "failed": 1}}
    wait_until(lambda: api.get("/stats").json == found, lambda: f"{found}, found {api.get('/stats').json}")
    (detail,) = api.get("/stats/detail").json
    assert {key: detail[key] for key in ("success", "failed")} == found["server"]
    api.ask("PATCH", f"/api/v1/apps/app/targets/{server.address}", {"admin": "disabled"}, status=200)
    wait_until(lambda: b" 503 " in program.connect().send(GET).read_first(), "nobody is there")
    wait_until(lambda: api.get("/stats").json["client"]["failed"] > 3, "it is counted")
    assert api.get("/stats").json["server"]["failed"] == 1


@pytest.fixture
def several(proxy, service):
    targets = [service().address, {"address": "[::1]:1", "name": "six"}, "unix:/nowhere/x.sock"]
    apps = [
        {"name": name, "ports": [free_port()], "targets": targets, "health": {"type": "tcp", "interval": 3600}}
        for name in ("web", NAME)
    ]
    return Api.of(proxy({"apps": apps}, top={"api": api_config()}))


def test_with_several_apps_one_is_named(several):
    for method, path in (("GET", "/servers"), ("POST", "/servers"), ("GET", "/stats"), ("DELETE", "/servers/127.0.0.1/1")):
        body = {"url": "http://127.0.0.1:1"} if method == "POST" else None
        assert "?app=NAME" in several.ask(method, path, body, status=409).detail
    query = "?app=a%2Fb%20%C3%BC"
    servers = several.get(f"/servers{query}").json
    assert len(servers["servers"]) == 2, "a UNIX socket is no server of weldr's"
    add = follow(several, servers["links"], "add")
    assert add[1] == f"/servers{query}"
    added = several.ask(*add, {"url": "http://[::2]:80", "check": {"type": "tcp"}}, status=201).json["servers"]
    assert [server["url"] for server in added][1:] == ["http://[::1]:1", "http://[::2]:80"]
    for server in added[1:]:
        servers = several.ask(*follow(several, server["links"], "delete"), status=200).json["servers"]
    assert len(servers) == 1
    assert len(several.get("/servers?app=web").json["servers"]) == 2
    assert [row["ip"] for row in several.get("/stats/detail?app=web").json] == ["127.0.0.1", "::1"]
    assert "no app" in several.get("/servers?app=nobody", status=404).detail


def test_what_is_refused(several):
    cases = [
        (b"", 400, "no JSON"),
        (b'{"url": 7}', 400, 'wanted {"url"'),
        (b'{"url": "http://\\ud800:1"}', 400, 'wanted {"url"'),
        (b'{"ip": "127.0.0.1"}', 400, 'wanted {"url"'),
        (b'{"url": "http://127.0.0.1:1", "check": {"type": "ping"}}', 409, "no checks of type ping"),
        (b'{"url": "http://127.0.0.1:1", "check": "tcp"}', 400, 'wanted {"url"'),
        *(
            (json.dumps({"url": url}).encode(), 400, "found the URL")
            for url in (
                "", "a/b", "http://", "foo", "https://127.0.0.1:1", "http://127.0.0.1:0", "http://127.0.0.1:70000", "http://[::1",
                "http://a:1/b", "http://a:1?b", "http://u@a:1", "http://a b:1", "http://a:1#b", "unix:/x", "//a:1", "http:///a:1",
                "http://1:", "http://a:\uff11", "http://999.1.1.1:1", "http://a\n:1",
            )
        ),
    ]  # fmt: skip
    for body, status, words in cases:
        assert words in several.ask("POST", "/servers?app=web", body, status=status).detail, body
    assert several.ask("DELETE", "/servers/127.0.0.1/0", status=422).detail
    assert several.ask("DELETE", "/servers/a%2Fb/1?app=web", status=400).detail
    assert "takes GET, POST" in several.ask("DELETE", "/servers", status=405).detail
    assert len(several.get("/servers?app=web").json["servers"]) == 2


def test_a_server_that_is_added_is_active_until_it_has_failed_three_times(proxy, service):
    """One that an app's file names goes down with its first failure."""
    ill, other = (service(answer=lambda _: b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") for _ in range(2))
    check = {"type": "http", "fall": 3, "interval": 0.3, "timeout": 0.2}
    program = proxy(targets=[{"address": other.address, "name": "of the file"}], health=check, top={"api": api_config()})
    program.wait_log("target of the file is down .*first result")
    Api.of(program).ask("POST", "/servers", {"url": f"http://{ill.address}"}, status=201)
    program.wait_log(f"target {ill.address} is down .was up.*fall 3/3")
    assert ill.accepted >= 3


def test_an_app_may_begin_without_servers(proxy, one):
    program = proxy(targets=[], top={"api": api_config()})
    assert program.count_log("app app has no targets: it turns every client away until there is one") == 1
    program.connect().expect_rst()
    Api.of(program).ask("POST", "/servers", {"url": f"http://{one.address}"}, status=201)
    wait_until(lambda: program.connect().read_first() == b"one", "it serves")
