"""Events that come at the wrong moment for an election: nobody is primary beside another one, and it goes on."""

import contextlib
import json
import os
import signal
import socket

import pytest

from kit.api import Api, api_config
from kit.clogged import clog
from kit.ports import free_ports
from kit.waiting import Deadline, Stopwatch, pause, wait_until

STUBBORN = "trap '' TERM; while :; do sleep 0.1; done"
SOON = {"interval": 0.1, "timeout": 0.1}


def reload(program, outcome="SIGHUP: (done|nothing)", **keys):
    """It is to run as `program.config` says, with these keys of the first app; the line of the log before that."""
    program.config["apps"][0].update(keys)
    (path,) = program.folder.glob(f"config-{id(program):x}.json")
    path.write_text(json.dumps(program.config))
    since = len(program.lines)
    program.signal(signal.SIGHUP)
    program.wait_log(outcome, since=since)
    return since


def accepts(program, greeting):
    """Whether somebody who comes now is greeted so."""
    with contextlib.suppress(ConnectionError), program.connect() as client:
        return client.read_first() == greeting
    return False


def test_an_app_that_leaves_and_comes_back_waits_for_its_last_script(failover, service, script, tmp_path):
    """A trigger of the time before is being ended: none runs beside it, and its end closes no port. Counters go on."""
    one = service(greeting=b"one")
    body = f"mkdir {tmp_path}/lock || echo beside another >> {tmp_path}/out; echo run >> {tmp_path}/out"
    stubborn = f"trap '' TERM; [ -e {tmp_path}/hang ] && for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done"
    trigger = script(f"{body}; {stubborn}; rmdir {tmp_path}/lock; exit 0")
    program = failover([one.address], triggers=[trigger], while_electing="refuse", top={"api": api_config()})
    program.wait_log("is primary")
    api = Api.of(program)
    assert api.get("/api/v1/apps/app/election").json["elections"] == 1
    (tmp_path / "hang").touch()
    two = service(greeting=b"two")
    reload(program, targets=[two.address])
    wait_until(lambda: (tmp_path / "out").read_text().count("run") == 2, "the trigger runs")
    settings = program.config["apps"][0]["failover"]
    reload(program, balance="round_robin", failover={})
    (tmp_path / "hang").unlink()
    since = reload(program, balance="failover", failover=settings)
    program.wait_log("is primary", since=since)
    wait_until(lambda: accepts(program, b"two"), "the port is open")
    pause(1.2)  # the old script is over by now
    assert accepts(program, b"two")
    assert (tmp_path / "out").read_text() == "run\n" * 3
    assert api.get("/api/v1/apps/app/election").json["elections"] == 2
    assert 'tcp_proxy_elections_total{app="app"} 2.0' in api.get("/metrics").text


def test_an_app_that_leaves_and_comes_back_with_another_primary_has_one(failover, service, script):
    """Its sessions go on when it leaves; when it is there again they are those of a former primary."""
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = failover([one.address], on_demotion="close")
    old = program.connect().expect(b"one")
    own = dict(program.config["apps"][0])
    reload(program, name="another")
    old.send(b"on").expect(b"on")
    check = script(f"[ $(ss -tnH state established dport = :{one.port} | wc -l) = 0 ]")
    settings = {**own["failover"], "check": check, "max_backoff": 0}
    since = reload(program, **{**own, "targets": [two.address], "failover": settings})
    program.wait_log("is primary", since=since)
    assert not program.count_log("cannot be primary: check")
    old.expect_rst()
    wait_until(lambda: accepts(program, b"two"), "the new one serves")


def test_a_primary_that_moves_is_another_one(failover, service, script, tmp_path):
    """The name is the same, the server is not: it is checked, and the triggers run for it, before anybody is sent there."""
    one, two, three = (service(greeting=name) for name in (b"one", b"two", b"three"))
    check = script(f'echo "check $1" >> {tmp_path}/out; [ "$1" != {two.address} ]')
    trigger = script(f'echo "trigger $1" >> {tmp_path}/out')
    how = {"check": check, "triggers": [trigger], "max_backoff": 0, "on_demotion": "close"}
    program = failover([{"name": "db", "address": one.address}], **how)
    program.wait_log("target db is primary")
    client = program.connect().expect(b"one")
    since = reload(program, targets=[{"name": "db", "address": two.address}])
    program.wait_log("target db cannot be primary", since=since)
    client.expect_rst()
    assert two.accepted <= program.count_log("trying target db"), "nobody but who asks"
    since = reload(program, targets=[{"name": "db", "address": three.address}])
    program.wait_log("target db is primary", since=since)
    program.connect().expect(b"three")
    steps = list(dict.fromkeys((tmp_path / "out").read_text().splitlines()))
    assert steps == [
        f"check {one.address}", f"trigger {one.address}", f"check {two.address}", f"check {three.address}",
        f"trigger {three.address}",
    ]  # fmt: skip


def test_a_target_that_was_away_has_not_been_up_meanwhile(failover, service):
    """Failback counts from when it is there again."""
    one, two = service(greeting=b"one"), service(greeting=b"two")
    both = [one.address, two.address]
    program = failover(both, failback=True, failback_after=1.0, health=[SOON])
    program.wait_log(f"{one.address} is primary")
    since = reload(program, targets=both[1:])
    program.wait_log(f"{two.address} is primary", since=since)
    pause(1.0)
    watch = Stopwatch()
    since = reload(program, targets=both)
    program.wait_log("has come back", since=since)
    assert watch.seconds > 0.9


def test_elections_do_not_wait_for_health_checks(proxy, service, script):
    """Sixteen of those may run at a time, and more than that hang."""
    one, hanging = service(greeting=b"one"), script("exec sleep 1000")
    health = {"type": "script", "command": hanging, "interval": 3600, "timeout": 60}
    port, other = free_ports(2)
    targets = [f"127.0.0.1:{number}" for number in range(1, 21)]
    many = {"name": "many", "ports": [other], "targets": targets, "health": health}
    app = {
        "name": "app", "ports": [port], "targets": [one.address], "balance": "failover", "health": [],
        "failover": {"check": script("exit 0")},
    }  # fmt: skip
    program = proxy({"apps": [many]}, ready=False)
    program.wait_log("ready:")
    (path,) = program.folder.glob("config-*.json")
    path.write_text(json.dumps({**program.config, "apps": [many, app]}))
    program.signal(signal.SIGHUP)
    program.wait_log("app app: .* is primary")
    program.connect(port).expect(b"one")


def test_everything_at_once_while_a_script_does_not_end(failover, service, script):
    """Promotions ever again, a reload, its target removed: the script is killed in time, and the next one is asked."""
    one, two, three = (service(greeting=name) for name in (b"one", b"two", b"three"))
    check = script(f'test "$1" = {one.address} && {{ {STUBBORN}; }}; exit 0')
    targets = [one.address, two.address, three.address]
    program = failover(targets, check=check, top={"api": api_config()}, ready=False)
    program.wait_log(f"trying target {one.address}")
    program.wait_log("management API on")
    api, watch = Api.of(program), Stopwatch()
    turns = 0
    while not program.count_log("is primary"):
        assert watch.seconds < 10, "the election hangs"
        name = (two, three)[turns % 2].address
        with contextlib.suppress(AssertionError):  # 409 when it is primary meanwhile
            api.post(f"/api/v1/apps/app/targets/{name}/promote")
        turns += 1
        if turns == 3:
            reload(program, targets=[two.address, three.address])
        pause(0.1)
    wait_until(lambda: accepts(program, b"two") or accepts(program, b"three"), "somebody serves")


def test_a_closed_port_that_becomes_another_apps_is_open(proxy, service):
    """It was closed for want of a primary, which its new app does not need."""
    port, other, new = free_ports(3)
    electing = {
        "name": "electing", "ports": [port], "targets": ["127.0.0.1:1"], "balance": "failover", "health": [],
        "failover": {"while_electing": "refuse"},
    }  # fmt: skip
    plain = {"name": "plain", "ports": [other], "targets": [service(greeting=b"plain").address], "health": []}
    program = proxy({"apps": [electing, plain]}, ready=False)
    program.wait_log("ready:")
    program.wait_log("no target can be primary")
    electing["ports"], plain["ports"] = [new], [other, port]
    reload(program)
    for number in (port, other):
        program.connect(number).expect(b"plain")


def test_ports_that_a_refused_reload_had_to_close_are_open_again(proxy, service, free_port):
    """The way to another address was blocked: the old sockets come back, and there is a primary."""
    port, blocker = free_port(), socket.socket()
    app = {
        "name": "app", "ports": [port], "bind": "127.0.0.1", "targets": [service(greeting=b"one").address],
        "balance": "failover", "health": [], "failover": {"while_electing": "refuse"},
    }  # fmt: skip
    program = proxy({"apps": [app]})
    program.wait_log("is primary")
    program.connect().expect(b"one")
    with blocker:
        blocker.bind(("127.0.0.2", port))
        blocker.listen()
        reload(program, "nothing was changed", bind="*")
        wait_until(lambda: accepts(program, b"one"), "the port is open again")


def test_a_loss_that_is_not_confirmed_is_none(failover, target):
    """A worker could not connect in time, the supervisor can: the client that waits is sent to the same primary."""
    busy = target(backlog=0)
    program = failover([busy.address], connect=2, ready=False)
    program.wait_log("is primary")
    program.wait_log("ready:")
    busy.accept().close()  # who asked whether it is there
    with clog(busy):
        client = program.connect()
        client.send(b"hello")
        program.wait_log("connecting to target .* failed")
    deadline = Deadline()
    while not deadline.is_over:  # those that filled its queue, the supervisor, and then the client
        server = busy.accept()
        if server.read_first() == b"hello":
            break
    server.send(b"welcome")
    client.expect(b"welcome")
    assert program.count_log("a primary is looked for") == 1
    assert program.count_log("is primary") == 1


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_trigger_whose_name_is_no_text(failover, service, script, tmp_path, format):
    """flopsy aborts."""
    one = service(greeting=b"one")
    script("exit 0", "triggers.d/fine")
    odd = os.fsencode(tmp_path / "triggers.d") + b"/\xff"
    os.rename(tmp_path / "triggers.d" / "fine", odd)
    with open(odd, "wb") as file:
        file.write(b"#!/bin/sh\necho ran\nexit 3\n")
    with open(os.fsencode(tmp_path / "triggers.d") + b"/\xfe", "wb"):
        pass  # not executable
    program = failover(
        [one.address], triggers=[str(tmp_path / "triggers.d")], top={"log": {"format": format}, "access_log": None}
    )
    program.connect().expect(b"one")
    for words in ("udcff: ran", "udcff: exit status 3", "udcfe is left out: it is not executable"):
        program.wait_log(words)
