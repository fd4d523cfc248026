"""config, statistics, limits; and what mode http has in every view."""

import json
import re

from kit.api import api_config
from kit.ctl import Ctl
from kit.waiting import wait_until
from tcp_proxy.config.load import load_text


def test_config_is_one_that_can_be_loaded(still):
    done = Ctl.of(still)("config")
    assert load_text(done.text.encode(), "shown").apps[0].name == "app"
    assert done.errors == ""


def test_statistics_a_number_a_line(program, ctl):
    program.connect().send(b"abc").expect(b"abc").close()
    program.records(1)
    lines = dict(line.split(" ", 1) for line in ctl("statistics").text.splitlines())
    assert lines["apps.app.sessions.total"] == "1"
    assert lines["apps.app.session_seconds"].startswith("1, mean ")
    assert "apps.app.sessions.current" not in lines
    one = ctl("statistics", "app", "--all").text.splitlines()
    assert {"sessions.total 1", "sessions.current 0"} <= set(one)
    assert "there is no app named 'nobody'" in ctl("statistics", "nobody", status=1).errors


def test_limits(still):
    ctl = Ctl.of(still)
    lines, found = ctl("limits").text.splitlines(), ctl.json("limits")
    assert lines[1].split() == ["worker", "process", "sessions", "open", "descriptors"]
    assert lines[2].split()[:3] == ["0", str(found["workers"][0]["pid"]), str(found["workers"][0]["capacity"])]


ANSWERS = {b"/": b"HTTP/1.1 200 OK\r\n", b"/no": b"HTTP/1.1 404 Not Found\r\n", b"/bad": b"HTTP/1.1 503 Bad\r\n"}


def asks(client, server, path):
    """One request by a client's connection to the proxy, and its answer."""
    client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
    while b"\r\n\r\n" not in server.heard:
        server.heard += server.upstream.read_first()
    server.heard = b""
    server.upstream.send(ANSWERS[path] + b"Date: x\r\nContent-Length: 2\r\n\r\nok")
    assert client.receive_line().startswith(b"HTTP/1.1 ")
    while client.receive_line() != b"\r\n":
        pass
    client.expect(b"ok")


def test_requests_are_in_status_and_top(http, target):
    server = target(name="t")
    program = http(server, top={"api": api_config()})
    ctl, client = Ctl.of(program), program.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.upstream, server.heard = server.accept(), b""
    with ctl.start("top", "--json", "--interval", "0.05") as process:
        json.loads(process.stdout.readline())
        server.upstream.receive_line()
        while server.upstream.receive_line() != b"\r\n":
            pass
        server.upstream.send(ANSWERS[b"/"] + b"Date: x\r\nContent-Length: 2\r\n\r\nok")
        while client.receive_line() != b"\r\n":
            pass
        client.expect(b"ok")
        for path in (b"/no", b"/bad", b"/bad"):
            asks(client, server, path)
        total = 0.0

        def rates():
            nonlocal total
            requests = json.loads(process.stdout.readline())["apps"]["app"]["targets"][server.address]["requests"]
            total += requests["per_second"]
            return requests["connections"] == 1 and total > 0

        wait_until(rates, "requests a second")
        process.kill()
    text = ctl("status").text
    line = next(line for line in text.splitlines() if line.startswith("  requests: "))
    assert line.startswith("  requests: 0.0/s, 4 in all; 1 2xx, 1 4xx, 2 5xx; answers within ")
    assert line.endswith("; 0 failures of targets; 0 retried; 1 connection to targets")
    head, row = (re.split(r"\s{2,}", line.strip()) for line in text.splitlines()[-2:])
    found = dict(zip(head, row, strict=True))
    assert [found[name] for name in ("requests", "4xx", "5xx", "none", "active", "conns")] == ["4", "1", "2", "0", "0", "1"]
    top = ctl("top", "--count", "1").text.splitlines()
    assert top[1].split()[3:10] == ["state", "req/s", "4xx/s", "5xx/s", "p50", "p99", "conns"]
    client.close()
    server.upstream.close()
    wait_until(lambda: ctl.json("status")["statistics"]["apps"]["app"]["requests"]["connections"] == 0, "it is closed")
