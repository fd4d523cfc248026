"""Faults on purpose in the running program: what sessions meet, for how long, who does not, and where it is said."""

import contextlib
import http.client
import socket
import ssl

import pytest

from kit.api import Api, api_config
from kit.certificates import Authority
from kit.ctl import Ctl
from tests.system.test_balance import Named
from tests.system.test_reload import Config


@pytest.fixture
def site(proxy, target):
    """The program with one app before one scripted target."""

    def start(faults=True, **app):
        server = target()
        program = proxy(targets=[server], top={"faults": faults, "api": api_config()}, **app)
        return server, program

    return start


def add(program, status=201, **what):
    return Api.of(program).post("/api/v1/apps/app/faults", what, status=status)


def pair(server, program, **how):
    client = program.connect(**how)
    return client, server.accept()


def seconds(program):
    """Of the session that has ended."""
    return program.record()["seconds"]


def test_none_is_made_unless_the_configuration_allows_it(site):
    _, program = site(faults=False)
    assert "faults" in add(program, status=409, latency=1).detail


def test_what_comes_waits_in_both_directions_and_arrives_whole(site):
    server, program = site()
    add(program, latency=0.2)
    client, inner = pair(server, program)
    client.send(b"hello").fin()
    inner.expect(b"hello")
    inner.expect_fin()
    inner.send(b"answer" * 50_000).fin()
    client.expect(b"answer" * 50_000)
    client.expect_fin()
    record = program.record()
    assert record["notes"] == "fault 1: latency=0.2"
    assert record["seconds"] >= 0.4, "once on the way there, once on the way back"
    assert record["reason"] == "done"


def test_a_direction_a_share_and_a_network_say_who_meets_it(site):
    server, program = site()
    add(program, timeout=True, direction="down", networks=["127.0.0.9"])
    other, inner = pair(server, program)
    inner.send(b"x")
    other.expect(b"x")
    client, inner = pair(server, program, source="127.0.0.9")
    client.send(b"up")
    inner.expect(b"up")
    inner.send(b"down")
    client.expect_silence(0.2)
    Api.of(program).ask("DELETE", "/api/v1/faults/1", status=200)
    client.expect(b"down")


def test_bytes_a_second_are_so_many(site):
    server, program = site()
    add(program, bandwidth=200_000)
    client, inner = pair(server, program)
    inner.send(b"z" * 300_000).fin()
    client.expect(b"z" * 300_000)
    client.expect_fin()
    client.fin()
    assert seconds(program) >= 0.4, "those of a second come at once, the rest in half a second"


def test_sessions_are_reset_after_their_first_bytes(site):
    server, program = site()
    add(program, reset=100)
    client, _ = pair(server, program)
    client.send(b"x")
    client.expect_rst()
    assert program.record()["reason"] == "closed_by_admin"


def test_a_slicer_cuts_and_loses_nothing(site):
    server, program = site()
    add(program, slicer=7)
    client, inner = pair(server, program)
    data = bytes(range(256)) * 40
    client.send(data).fin()
    inner.expect(data)
    inner.expect_fin()


def test_an_end_comes_late(site):
    server, program = site()
    add(program, slow_close=0.3)
    client, inner = pair(server, program)
    client.send(b"x").fin()
    inner.expect(b"x")
    inner.expect_fin()
    inner.fin()
    client.expect_fin()
    assert seconds(program) >= 0.6


def test_it_survives_a_reload_and_what_waits_goes_on_at_its_end(site):
    server, program = site()
    add(program, timeout=True, direction="up")
    file = Config(program)
    file.app["retries"] = 1
    file.reload()
    client, inner = pair(server, program)
    client.send(b"held")
    inner.expect_silence(0.1)
    Api.of(program).ask("DELETE", "/api/v1/faults/1", status=200)
    inner.expect(b"held")
    free, inner = pair(server, program)
    free.send(b"x")
    inner.expect(b"x")


def test_it_ends_by_itself(site):
    server, program = site()
    add(program, timeout=True, seconds=0.1)
    program.wait_log("app app: fault 1 on purpose is over")
    assert Api.of(program).get("/api/v1/faults").json == []
    client, inner = pair(server, program)
    client.send(b"x")
    inner.expect(b"x")


def test_the_command_line_and_the_statistics(site):
    server, program = site()
    ctl = Ctl.of(program)
    assert "fault 1 for 10 min" in ctl("fault", "add", "app", "latency=50ms", "jitter=10ms", "share=100%").text
    client, inner = pair(server, program)
    client.send(b"x")
    inner.expect(b"x")
    assert "latency=0.05 jitter=0.01" in ctl("fault", "list").text
    assert Api.of(program).get("/api/v1/statistics").json["apps"]["app"]["faulted"] == 1
    assert "tcp_proxy_app_faulted_sessions_total" in Api.of(program).get("/metrics").body.decode()
    assert ctl("fault", "remove", "1").text.strip() == "fault 1 is over"
    assert ctl("fault", "list").text.strip() == "no faults on purpose"


def test_several_faults_are_met_at_once_and_end_one_by_one(site):
    """As several toxics of one of Toxiproxy's proxies."""
    server, program = site()
    add(program, latency=0.1)
    add(program, latency=0.2, direction="up")
    add(program, slicer=7)
    client, inner = pair(server, program)
    client.send(b"a question").fin()
    inner.expect(b"a question")
    inner.expect_fin()
    inner.send(b"an answer").fin()
    client.expect(b"an answer")
    client.expect_fin()
    record = program.record()
    assert record["notes"] == "fault 1: latency=0.1 fault 2: latency=0.2 direction=up fault 3: slicer=7"
    assert record["seconds"] >= 0.4, "three tenths on the way there, one on the way back"
    for number in (1, 2):
        Api.of(program).ask("DELETE", f"/api/v1/faults/{number}", status=200)
    assert [each["number"] for each in Api.of(program).get("/api/v1/faults").json] == [3]


@pytest.mark.parametrize(
    ("what", "status"), [({}, 422), ({"networks": ["x"], "latency": 1}, 422), ({"latency": -1}, 422), ({"lag": 1}, 422)]
)
def test_what_is_no_fault_is_refused(site, what, status):
    _, program = site()
    add(program, status=status, **what)


def test_clients_of_mode_http_meet_it_with_tls_too(proxy, servers, tmp_path):
    server = servers.enter_context(Named(b"whole" * 1000))
    root = Authority()
    tls = {"certificates": [root.issue("a.example").write(tmp_path, "a")]}
    program = proxy(mode="http", targets=[server], tls=tls, top={"faults": True, "api": api_config(), "access_log": None})
    program.uncounted = None
    add(program, latency=0.05, slicer=500)
    context = ssl.create_default_context(cadata=root.pem)
    client = http.client.HTTPSConnection("a.example", context=context, timeout=10)
    client.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", program.port), 10), server_hostname="a.example")
    with contextlib.closing(client):
        for _ in range(2):
            client.request("GET", "/")
            assert client.getresponse().read() == b"whole" * 1000
    assert Api.of(program).get("/api/v1/statistics").json["apps"]["app"]["faulted"] == 1
