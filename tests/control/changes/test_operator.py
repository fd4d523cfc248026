"""What an operator may do at run time: said to a running program on a console that only these tests have."""

import contextlib
import json
import threading

import pytest

from kit.console import WITH_CONSOLE, Console
from kit.ports import free_port
from kit.proxy import Proxy
from kit.supervisor import Rig
from kit.waiting import wait_until
from tcp_proxy.control.changes import operator as module


@pytest.fixture
def started(tmp_path):
    running = []

    def start(targets, app=None, **top):
        (tmp_path / "console").unlink(missing_ok=True)
        entries = [getattr(item, "address", item) for item in targets]
        app = {"name": "app", "ports": [free_port()], "targets": entries, "health": [], **(app or {})}
        config = {"workers": 2, "shutdown_grace": 1, "apps": [app], **top}
        running.append(program := Proxy(config, tmp_path, program=WITH_CONSOLE))
        return program.wait_ready(), Console(program).say

    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [program.kill() for program in running])
        yield start
        for program in running:
            program.close_clients()
            if program.is_running:
                assert program.stop() == 0
            program.baseline.clear()
            program.check()


def greetings(program, count=6):
    return {program.connect().read_first() for _ in range(count)}


def reload(program, say, **app):
    program.config["apps"][0].update(app)
    return say("reload", json.dumps(program.config))


def test_drain_disable_ready_and_weight(started, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program, say = started([one, two])
    held = [program.connect() for _ in range(4)]
    words = [client.read_first() for client in held]
    for admin in ("drain", "disabled"):
        assert "KnownTarget" in say("set_target", "app", one.address, admin)
        wait_until(lambda: greetings(program) == {b"two"}, "only the other one")
    say("set_target", "app", one.address, "ready", 0)
    assert greetings(program) == {b"two"}
    say("set_target", "app", one.address, None, 3)
    wait_until(lambda: greetings(program) == {b"one", b"two"}, "both again")
    for client in held:
        client.send(b"on").expect(b"on")
    assert set(words) == {b"one", b"two"}
    assert program.count_log("is drain, weight 1, by administration") == 1


def test_what_is_said_survives_reloads_until_the_file_says_otherwise(started, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program, say = started([one, two])
    say("set_target", "app", one.address, "drain")
    assert reload(program, say, retries=1) == ["app app: retries: 3 -> 1"]
    assert greetings(program) == {b"two"}
    changed = reload(program, say, targets=[{"address": one.address, "disabled": True}, two.address])
    name = f"app app: target {one.address}:"
    assert changed == [f"{name} drain: true -> false", f"{name} disabled: false -> true"]
    reload(program, say, targets=[one.address, two.address])
    wait_until(lambda: greetings(program) == {b"one", b"two"}, "both")


def test_targets_are_added_and_removed(started, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program, say = started([one])
    assert "KnownTarget" in say("add_target", "app", {"address": two.address, "name": "two"})
    wait_until(lambda: greetings(program) == {b"one", b"two"}, "both")
    say("remove_target", "app", one.address)
    wait_until(lambda: greetings(program) == {b"two"}, "the new one")
    assert reload(program, say, retries=2) == ["app app: retries: 3 -> 2"]
    assert greetings(program) == {b"two"}
    say("remove_target", "app", "two")
    program.connect().expect_rst()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (("set_target", "nobody", "x", "drain"), "Unknown: there is no app nobody"),
        (("set_target", "app", "x", "drain"), "Unknown: app app has no target x"),
        (("set_target", "app", "TARGET", "up"), "CannotApply: found 'up'; wanted one of ready, drain, disabled"),
        (("set_target", "app", "TARGET", None, 300), "CannotApply: found the weight 300; wanted a whole number"),
        (("add_target", "app", "TARGET"), "CannotApply: app app has a target named TARGET already"),
        (("add_target", "app", "no:where"), 'ConfigErrors: target:1:2: $[0]: found "no:where": "where" is not a port'),
        (("add_target", "app", {"address": "a:1", "wait": 3}), 'ConfigErrors: target:1:21: $[0].wait: unknown key "wait"'),
        (("add_target", "app", None), "ConfigErrors: target:1:2: $[0]: found null; wanted"),
        (("add_target", "app", float("nan")), "ConfigErrors: target:1:2"),
        (("remove_target", "app", "x"), "Unknown: app app has no target x"),
        (("probe_now", "app", "x"), "Unknown: app app has no target x"),
    ],
)
def test_refusals_are_one_clear_line(started, service, call, error):
    target = service()
    program, say = started([target])
    answer = say(*[target.address if item == "TARGET" else item for item in call])
    assert answer.startswith(error.replace("TARGET", target.address)), answer
    program.connect().send(b"x").expect(b"x")


def test_to_an_app_of_20000_targets_none_is_added(started, service):
    """Not one more, and one again when another has left."""
    here, more = service(), service()
    known = [f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}:9" for number in range(19_999)]
    _, say = started([here, *known], app={"balance": "least_connections"})
    refused = "CannotApply: app app has 20000 targets; at run time none is added to 20000"
    assert say("add_target", "app", more.address) == refused
    say("remove_target", "app", known[0])
    assert "KnownTarget" in say("add_target", "app", more.address)
    assert say("add_target", "app", "192.0.2.1:1") == refused


def test_sessions_of_a_target_are_closed(started, service):
    one = service()
    program, say = started([one])
    clients = [program.connect().send(b"x").expect(b"x") for _ in range(3)]
    say("close_sessions", "app", one.address)
    for client in clients:
        client.expect_rst()
    program.connect().send(b"x").expect(b"x")


def test_plan_says_what_reload_would_do_and_does_nothing(started, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program, say = started([one])
    other = json.loads(json.dumps(program.config))
    other["apps"][0].update(targets=[two.address], bind="*")
    port = program.port
    expected = [
        f"app app: listener 127.0.0.1:{port} removed (closed for a moment)", f"app app: listener *:{port} added",
        f"app app: target {two.address} added", f"app app: target {one.address} removed; its sessions go on to their end",
    ]  # fmt: skip
    assert say("plan", json.dumps(other)) == expected
    assert say("plan", json.dumps(program.config)) == []
    assert greetings(program) == {b"one"}
    assert "missing key" in say("plan", '{"app": []}')[0]
    assert say("reload", json.dumps(other)) == expected
    assert greetings(program) == {b"two"}
    assert "missing key" in say("reload", '{"app": []}')[0]


def test_what_was_said_is_there_after_a_restart(started, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program, say = started([one], state="state.db")
    say("set_target", "app", one.address, "drain")
    say("add_target", "app", two.address)
    say("set_target", "app", two.address, None, 5)
    program.close_clients()
    assert program.stop() == 0
    program, say = started([one], state="state.db", app={"ports": program.config["apps"][0]["ports"]})
    assert greetings(program) == {b"two"}
    assert "weight=5" in say("set_target", "app", two.address)
    say("remove_target", "app", two.address)
    reload(program, say, targets=[{"address": one.address, "drain": True}])
    program.close_clients()
    assert program.stop() == 0
    program, say = started([one], state="state.db")
    assert greetings(program) == {b"one"}, "the file has the last word since"


def test_slots_are_used_again(started, service):
    """Targets and listeners that come and go a hundred times: the counters' memory stays as it is."""
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program, say = started([one])
    stays = program.connect().expect(b"one")
    ports = [program.port]
    extra = free_port()
    used = []
    for n in range(20):
        say("add_target", "app", two.address)
        say("remove_target", "app", two.address)
        reload(program, say, ports=[*ports, *[extra][n % 2 :]], targets=[(two, one)[n % 2].address])
        used.append(say("blocks")[0])
    wait_until(lambda: say("blocks")[1] <= 1, "only the target of the session that stays is not settled")
    for _ in range(5):
        say("add_target", "app", f"127.0.0.1:{extra}")
        say("remove_target", "app", f"127.0.0.1:{extra}")
    assert say("blocks")[0] <= used[-1]
    stays.send(b"x").expect(b"x").close()
    wait_until(lambda: say("blocks")[1] == 0, "all settled")


def test_a_target_is_held_against_the_app_that_it_is_added_to(monkeypatch):
    """It is judged while a reload that makes another app of it is applied."""
    judging, load_target = threading.Event(), module.load_target
    monkeypatch.setattr(module, "load_target", lambda *what: judging.wait() and load_target(*what))
    rig = Rig(monkeypatch, 1500, workers=1)
    try:
        rig.api.ask("add_target", app="web", definition={"name": "new", "address": "127.9.9.9:80", "weight": 3})
        text = json.loads(rig.file(1))
        text["apps"][0]["balance"] = "failover"
        rig.text = json.dumps(text).encode()
        rig.api.ask("reload")
        rig.turn_until(lambda: rig.supervisor._context.slices.is_hidden)
        assert rig.supervisor._context.config.apps[0].balance == "round_robin"
        judging.set()
        wait_until(lambda: all(thread.name != "judge" for thread in threading.enumerate()), "it is judged")
        rig.turn_until(lambda: len(rig.api.statuses) == 2)
        assert sorted(rig.api.statuses) == [200, 422]
    finally:
        judging.set()
        rig.close()
