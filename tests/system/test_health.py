"""Checks from outside: who is asked, when, what the log says of it, and what it means for sessions old and new."""

import json
import os
from datetime import datetime

import pytest

from kit.clogged import clog
from kit.ports import free_port
from kit.servers import Service
from kit.waiting import Stopwatch, pause, wait_until

FAST = {"interval": 0.2, "timeout": 0.15}


def app(name, *targets, **more):
    return {"name": name, "ports": [free_port()], "targets": [item.address for item in targets], "health": FAST, **more}


def test_the_first_round_comes_at_once(proxy, service):
    echo = service()
    watch = Stopwatch()
    program = proxy(targets=[echo], health={"interval": 60})
    program.wait_log(f"target {echo.address} is up")
    assert watch.seconds < 12
    assert echo.accepted == 1


def test_a_dead_target_is_found_before_any_client_comes(proxy, target):
    port = free_port()
    alive = target()
    program = proxy(targets=[f"127.0.0.1:{port}", alive], health=FAST)
    program.uncounted = None
    program.wait_log(f"target 127.0.0.1:{port} is down .*refused")


def test_a_lone_dead_target_is_no_target(proxy):
    port = free_port()
    program = proxy(targets=[f"127.0.0.1:{port}"], health=FAST)
    program.wait_log("is down")
    wait_until(lambda: reason_of_next(program) == "no_target", "the worker knows")


def reason_of_next(program):
    program.connect().expect_rst()
    return program.records(len(program.clients))[-1]["reason"]


def test_down_and_up_again_with_the_evidence_in_the_log(proxy, service):
    port = free_port()
    one, two = service(greeting=b"1", port=port), service(greeting=b"2")
    program = proxy(targets=[one, two], health=FAST)
    program.wait_log(f"target {one.address} is up")
    one.close()
    program.wait_log(f"target {one.address} is down .was up.*refused")
    told = settled(program, 6)
    assert {program.connect().receive(1) for _ in range(6)} == {b"2"}
    assert all(record["tried"] == [] for record in closed(program, told + 6)[told:])
    service(greeting=b"1", port=port)
    program.wait_log(f"target {one.address} is up .was down")
    program.wait_greeting(b"1")
    assert {program.connect().receive(1) for _ in range(6)} == {b"1", b"2"}


def settled(program, count):
    """Enough clients in a row that nobody is sent to the dead one any more; how many that were."""
    while True:
        before = len(program.clients)
        for _ in range(count):
            program.connect().receive(1)
        if all(record["tried"] == [] for record in closed(program, before + count)[before:]):
            return before + count


def closed(program, count):
    program.close_clients()
    return program.records(count)


def test_rise_and_fall_are_counted_in_a_row(proxy, service):
    port = free_port()
    one = service(port=port)
    program = proxy(targets=[one, service()], health={**FAST, "rise": 3, "fall": 3})
    program.wait_log(f"target {one.address} is up")
    watch = Stopwatch()
    one.close()
    program.wait_log(f"target {one.address} is down")
    assert watch.seconds > 0.35, "three failures take two intervals at least"
    watch = Stopwatch()
    service(port=port)
    program.wait_log(f"target {one.address} is up .was down")
    assert watch.seconds > 0.35


@pytest.mark.parametrize("action", ["down", "drain", "ignore"])
def test_fall_action(proxy, service, action):
    one, two = service(greeting=b"1"), service(greeting=b"2")
    check = {**FAST, "fall_action": action, "port": free_port()}
    program = proxy(targets=[one, two], health=check)
    program.wait_log("refused")
    if action == "ignore":
        assert {program.connect().receive(1) for _ in range(6)} == {b"1", b"2"}
    else:
        word = "down" if action == "down" else "draining"
        program.wait_log(f"{one.address} is {word}")
        program.wait_log(f"{two.address} is {word}")
        program.wait_greeting(b"")
        program.connect().expect_rst()
    service(port=check["port"])
    for back in (one, two):
        program.wait_log(f"{back.address} is up.*rise 1/1")
    wait_until(lambda: {program.connect().read_first() for _ in range(6)} == {b"1", b"2"}, "both are back")


def test_the_check_port_is_asked_instead_of_the_targets_own(proxy, service):
    echo, checked = service(), service()
    program = proxy(targets=[echo], health={**FAST, "port": checked.port})
    wait_until(lambda: checked.accepted >= 3, "three probes")
    assert echo.accepted == 0
    program.connect().send(b"x").expect(b"x")


def test_no_checks_at_all(proxy, service):
    echo = service()
    program = proxy(targets=[echo], health=[])
    pause(0.3)
    assert echo.accepted == 0
    program.connect().send(b"x").expect(b"x")


def test_a_disabled_target_is_not_checked(proxy, service):
    echo, off = service(), service()
    program = proxy(targets=[echo, {"address": off.address, "disabled": True}], health=FAST)
    wait_until(lambda: echo.accepted >= 3, "three probes")
    assert off.accepted == 0
    program.wait_log(f"{off.address} is down: disabled")


@pytest.mark.parametrize("on_down", ["keep", "close"])
def test_sessions_of_a_target_that_goes_down(proxy, service, on_down):
    echo, other = service(), service()
    program = proxy(targets=[echo, other], health=FAST, on_down=on_down)
    clients = [program.connect() for _ in range(6)]
    for client in clients:
        client.send(b"x").expect(b"x")
    mine = {address[1] for address in echo.addresses}
    assert mine
    echo.stop_listening()
    program.wait_log(f"target {echo.address} is down")
    if on_down == "close":
        wait_until(lambda: echo.active == 0, "the end of its sessions")
        records = program.records(3)
        assert {(record["reason"], record["ended_by"]) for record in records} == {("target_down", "proxy")}
        cut = {record["client"] for record in records}
        for client in clients:
            if client.address in cut:
                client.expect_rst()
    kept = [client for client in clients if not client.ended]
    assert len(kept) == (3 if on_down == "close" else 6)
    for client in kept:
        client.send(b"still").expect(b"still").fin().expect_fin()


@pytest.mark.slow
def test_close_on_down_reaches_sessions_on_the_splice_path(proxy, service):
    echo = service()
    program = proxy(targets=[echo], health=FAST, on_down="close")
    client = program.connect()
    block = os.urandom(1 << 20)
    for _ in range(8):
        client.send(block[:200_000]).expect(block[:200_000])
    echo.stop_listening()
    client.expect_rst()
    assert program.record()["reason"] == "target_down"


def test_targets_are_probed_side_by_side(proxy, service, target, servers):
    """One that swallows every connect does not hold up the news of the others."""
    holes = [target(backlog=0) for _ in range(3)]
    for hole in holes:
        servers.enter_context(clog(hole))
    echo = service()
    program = proxy(targets=[*holes, echo], health={"interval": 2, "timeout": 1})
    news = [program.wait_log(f"target {echo.address} is up")]
    news += [program.wait_log(f"target {hole.address} is down .*no answer", seconds=10) for hole in holes]
    up, *downs = [datetime.fromisoformat(json.loads(line)["time"]) for line in news]
    assert up < min(downs)
    assert (max(downs) - min(downs)).total_seconds() < 0.9, "one after the other they would be a second apart each"


def test_one_app_with_a_dead_target_disturbs_no_other_app(proxy, service):
    echo = service()
    dead = {"name": "dead", "ports": [free_port()], "targets": [f"127.0.0.1:{free_port()}"], "health": FAST}
    program = proxy({"apps": [app("alive", echo), dead]})
    program.wait_log("app dead: target .* is down")
    program.connect().send(b"x").expect(b"x")


@pytest.mark.parametrize(
    "health",
    [
        {"type": "exchange", "expect_regex": "^(a+)+$"},  # in Python's way of matching, it ends after the sun
        {"type": "script", "command": "HANGS"},
        {"type": "http", "path": "/"},
    ],
    ids=["regex", "scripts", "silence"],
)
def test_no_app_holds_up_the_checks_of_another(proxy, service, script, health):
    """Forty targets of one app do their worst; of another app, a target that goes down and comes back is noticed."""
    if health.get("command"):
        health = {**health, "command": script("exec sleep 1000")}
    bad = service(greeting=b"a" * 200 + b"!", answer=lambda _data: b"")
    port, other, good = free_port(), free_port(), free_port()
    targets = [{"address": bad.address, "name": f"bad{n}"} for n in range(40)]
    often = {"interval": 0.1, "timeout": 0.1}
    apps = [
        {"name": "bad", "ports": [other], "targets": targets, "health": {**health, "interval": 2, "timeout": 2}},
        {"name": "good", "ports": [port], "targets": [f"127.0.0.1:{good}"], "health": often},
    ]
    program = proxy({"apps": apps}, ready=False)
    for _ in range(3):
        since = len(program.lines)
        with Service(b"good", port=good):
            program.wait_log(f"app good: target 127.0.0.1:{good} is up", since=since)
        since = len(program.lines)
        program.wait_log(f"app good: target 127.0.0.1:{good} is down", since=since)


def test_http_says_that_a_server_that_accepts_is_not_ready(proxy, service):
    status = [b"503 Starting"]
    server = service(answer=lambda _: b"HTTP/1.1 " + status[0] + b"\r\nContent-Length: 0\r\n\r\n")
    program = proxy(targets=[server], health={"type": "http", "path": "/up", "status": "2xx", **FAST})
    program.wait_log(f"target {server.address} is down .*status 503 Starting, wanted 2xx")
    status[0] = b"204 No Content"
    program.wait_log(f"target {server.address} is up .*status 204 No Content")


def test_of_several_checks_the_worst_decides(proxy, service):
    server = service(greeting=b"220 ready\r\n", hang_up=True)
    wrong = {"type": "exchange", "expect": "221", "fall_action": "drain", **FAST}
    program = proxy(targets=[server], health=[{"type": "tcp", **FAST}, wrong])
    program.wait_log(f"target {server.address} is draining .*220 ready")


def test_a_target_with_checks_of_its_own(proxy, service):
    port = free_port()
    dead, unchecked = {"address": f"127.0.0.1:{port}", "health": []}, service(greeting=b"no", hang_up=True)
    strange = {"address": unchecked.address, "health": {"type": "exchange", "expect": "x", **FAST}}
    alive = service()
    program = proxy(targets=[dead, strange, alive], health=FAST)
    program.wait_log(f"target {unchecked.address} is down .*exchange")
    program.wait_log(f"target {alive.address} is up")
    pause(0.3)
    assert f"target 127.0.0.1:{port} is" not in program.log


def test_ping(proxy, service):
    """Where ICMP is allowed; where it is not, that is an error at start that says what to do."""
    echo = service()
    program = proxy(targets=[echo], health={"type": "ping", **FAST, "interval": 0.5, "timeout": 0.4}, ready=False)
    if program.starts():
        program.wait_ready()
        program.wait_log(f"target {echo.address} is up")
        program.connect().send(b"x").expect(b"x")
        assert echo.accepted == 1
    else:
        assert program.wait() == 1
        assert "ICMP" in program.log
