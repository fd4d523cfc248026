"""Mode http while its app changes: targets killed, added, removed, limited, down; routes reloaded; groups."""


from kit.api import Api, api_config, path_of
from kit.dialogue import GET, OK, head, whole_status
from kit.programs import nginx, nginx_requests
from kit.waiting import wait_until
from kit.wrk import Wrk
from tests.system.test_reload import Config


def test_targets_come_and_go_by_the_api_under_load(http, servers, tmp_path):
    """weldr's wish #76: not one request fails when a target is killed, others are added, the first is removed."""
    webs = []
    for number in range(3):
        (folder := tmp_path / str(number)).mkdir()
        webs.append(nginx(folder))
        servers.callback(webs[-1].close)
        webs[-1].wait_listening()
    program = http(webs[0].address, webs[1].address, top={"api": api_config()})
    api, targets = Api.of(program), f"{path_of('app')}/targets"

    def serves(web):
        wanted = nginx_requests(web) + 200
        wait_until(lambda: nginx_requests(web) > wanted, f"{web!r} serves")

    with Wrk(program.port, tmp_path), Wrk(program.port, tmp_path, kept=False):
        serves(webs[1])
        webs[1].process.kill()
        webs[1].process.wait()
        api.post(targets, {"address": webs[2].address}, status=201)
        serves(webs[2])
        api.ask("DELETE", path_of("app", webs[1].address), status=204)
        api.ask("DELETE", path_of("app", webs[0].address), status=204)
        serves(webs[2])


def test_routes_that_change_count_for_connections_that_are_there(http, target):
    one, two = target(), target()
    names = [{"name": "t1", "address": one.address}, {"name": "t2", "address": two.address}]
    program = http(*names, routes=[{"path": "/x", "targets": ["t1"]}])
    client = program.connect().send(GET)
    upstream = one.accept()
    head(upstream)
    upstream.send(OK)
    assert whole_status(client) == 200
    file = Config(program)
    file.app["routes"] = [{"path": "/x", "targets": ["t2"]}]
    file.reload()
    client.send(GET)
    upstream = two.accept()
    head(upstream)
    upstream.send(OK)
    assert whole_status(client) == 200


def test_a_limit_counts_requests(http, target):
    server = target()
    program = http({"address": server.address, "max_connections": 1})
    one, other = program.connect(), program.connect()
    for _ in range(2):
        one.send(GET)
        upstream = server.peers[0] if server.peers else server.accept()
        head(upstream)
        other.send(GET)
        assert whole_status(other) == 503
        upstream.send(OK)
        assert whole_status(one) == 200
        other.send(GET)
        head(upstream)
        upstream.send(OK)
        assert whole_status(other) == 200


def test_requests_at_a_target_that_goes_down(http, target):
    """on_down close: who has no answer yet is told, who has a part of it is reset."""
    server = target()
    check = {"type": "tcp", "interval": 0.1, "timeout": 0.1}
    program = http(server, health=check, on_down="close")
    peers = []

    def upstream_of(client):
        client.send(GET)
        while True:  # the probes come too
            peer = server.accept()
            if peer.read_first():
                peers.append(peer)
                return peer

    waiting, reading = program.connect(), program.connect()
    upstream_of(waiting)
    upstream_of(reading).send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    head(reading)
    reading.expect(b"hello")
    server.sock.close()
    assert whole_status(waiting) == 502
    reading.expect_rst()


def test_a_group_has_a_server_for_each_port(http, target, free_port):
    ports = [free_port(), free_port()]
    one, two = target(), target()
    group = {"name": "g", "ports": {str(ports[0]): one.address, str(ports[1]): two.address}}
    program = http(group, ports=ports)
    for port, server in ((ports[0], one), (ports[1], two), (ports[0], one)):
        client = program.connect(port).send(GET)
        upstream = server.peers[0] if server.peers else server.accept()
        head(upstream)
        upstream.send(OK)
        assert whole_status(client) == 200


def test_the_bytes_of_a_session_are_those_of_its_bodies(http, target):
    """Of exchanges that are over, of the one that goes on, and in the record at the end."""
    server = target()
    program = http(server, top={"api": api_config()})
    api = Api.of(program)

    def moved():
        (session,) = api.get("/api/v1/sessions").json["sessions"]
        return session["bytes_up"], session["bytes_down"]

    client = program.connect().send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(OK)
    assert whole_status(client) == 200
    assert moved() == (0, 5)
    client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234567")
    head(upstream)
    upstream.receive(7)
    assert moved() == (7, 5)
    (session,) = api.get("/api/v1/sessions").json["sessions"]
    assert f"Its request is with target {server.address}." in api.get(f"/api/v1/sessions/{session['id']}/why").json["story"]
    client.send(b"890")
    upstream.receive(3)
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel")
    client.expect(b"HTTP/1.1 200 OK\r\n")
    wait_until(lambda: moved() == (10, 8), "a part of the answer is counted")
    upstream.send(b"lo worl")
    wait_until(lambda: moved() == (10, 15), "all of the answer is counted")
    client.close()
    wait_until(lambda: not api.get("/api/v1/sessions").json["sessions"], "the session has ended")
    told = api.get(f"/api/v1/sessions/{session['id']}/why").json
    assert (told["session"]["bytes_up"], told["session"]["bytes_down"]) == (10, 15)
    assert "10 bytes went to the target, 15 bytes came back." in told["story"]


def test_sessions_are_told_and_ended(http, target):
    server = target()
    program = http(server, top={"api": api_config()})
    client = program.connect().send(GET)
    upstream = server.accept()
    head(upstream)
    api = Api.of(program)
    (session,) = api.get("/api/v1/sessions").json["sessions"]
    assert (session["state"], session["target"]) == ("exchanging", server.address)
    api.ask("DELETE", f"/api/v1/sessions/{session['id']}", status=204)
    client.expect_rst()
    assert upstream.read_to_end() == b""
    told = api.get(f"/api/v1/sessions/{session['id']}/why").json
    assert "closed_by_admin" in str(told)
    found = api.get("/api/v1/statistics").json["apps"]["app"]
    assert found["requests"]["statuses"]["none"] == 1
    program.connect().send(b"nonsense\r\n\r\n").read_to_end()
    found = api.get("/api/v1/statistics").json["apps"]["app"]["requests"]
    assert (found["statuses"]["4xx"], found["seconds"]["count"]) == (1, 2)
