"""The state file from outside: a supervisor is killed, and the next one knows what it knew."""

import contextlib
import json
import signal
import sqlite3

import pytest

from kit.api import Api, api_config, path_of
from kit.console import Console
from kit.servers import Service
from kit.waiting import wait_until
from tcp_proxy.config.load import load_file
from tcp_proxy.control.changes import saved_overrides
from tcp_proxy.control.changes.overrides import Overrides
from tcp_proxy.control.store.state import StateFile

SLOW_TO_RISE = {"interval": 0.2, "timeout": 0.15, "rise": 1000}


def saved(folder, verdict):
    """Whether the file says so of one target; it may be read while the program writes it."""
    with contextlib.closing(sqlite3.connect(folder / "state.db")) as connection:
        return connection.execute("SELECT target FROM targets WHERE verdict = ?", (verdict,)).fetchall()


def knows_down(proxy, service, folder, **top):
    """A proxy that has just been killed, when it knew `bad` to be down; `bad` answers again."""
    bad, good = service(greeting=b"bad"), service(greeting=b"good")
    names = {"targets": [bad.address, good.address], "health": SLOW_TO_RISE, "top": top}
    program = proxy(**names)
    program.wait_log(f"target {bad.address} is up")
    bad.close()
    program.wait_log(f"target {bad.address} is down")
    if "state" in top:
        wait_until(lambda: saved(folder, "down"), "it is on disk")
    program.workers()
    program.signal(signal.SIGKILL)
    program.wait()
    return service(greeting=b"bad", port=bad.port), good, names


def test_a_target_known_to_be_down_gets_nobody_after_a_kill(proxy, service, tmp_path):
    """It answers again, but a thousand successes are asked for: whoever comes meanwhile goes to the other one."""
    bad, _good, names = knows_down(proxy, service, tmp_path, state="state.db")
    program = proxy(**names)
    assert program.count_log(f"target {bad.address} is down, as it was before the restart: .*refused") == 1
    assert {program.connect().receive(3) for _ in range(20)} == {b"goo"}


def test_without_a_state_file_the_first_result_decides(proxy, service, tmp_path):
    bad, _good, names = knows_down(proxy, service, tmp_path)
    program = proxy(**names)
    program.wait_log(f"target {bad.address} is up")
    assert {program.connect().receive(3) for _ in range(20)} == {b"goo", b"bad"}
    assert not (tmp_path / "state.db").exists()


def test_a_damaged_file_is_no_reason_not_to_start(proxy, service, tmp_path):
    (tmp_path / "state.db").write_text("not what it should be\n")
    program = proxy(targets=[service(greeting=b"x")], top={"state": "state.db"})
    program.wait_log(r"state file .*/state\.db: it is no SQLite file; it is set aside as .*/state\.db\.damaged-")
    assert program.connect().receive(1) == b"x"


def test_a_clean_end_leaves_one_whole_file(proxy, service, tmp_path):
    echo = service()
    program = proxy(targets=[echo], health={"interval": 60}, top={"state": "state.db"})
    program.wait_log(f"target {echo.address} is up")
    assert program.stop() == 0
    assert saved(tmp_path, "up") == [(echo.address,)]
    assert [path.name for path in tmp_path.glob("state*")] == ["state.db"]


def test_two_proxies_on_one_file(proxy, service, tmp_path):
    proxy(targets=[service()], top={"state": "state.db"})
    second = proxy(targets=[service()], top={"state": "state.db"}, ready=False)
    assert second.wait() == 1
    assert second.log.endswith("is in use by another tcp_proxy: stop that one, or give each a file of its own")


def test_what_was_said_at_run_time_survives_kills_and_a_reload(proxy, service, tmp_path):
    """Drained by an earlier life, in the words of the store; then two kills, and a reload of something else."""
    drained, removed, stays = (service(greeting=name) for name in (b"drained", b"removed", b"stays"))
    names = {"targets": [item.address for item in (drained, removed, stays)], "top": {"state": "state.db"}}
    for life in range(3):
        program = proxy(**names)
        if life == 0:
            assert program.stop() == 0
            say(tmp_path, program, drained.address, removed.address)
            continue
        program.wait_log(f"target {drained.address} is draining: set to drain")
        assert {program.connect().receive(5) for _ in range(9)} == {b"stays"}
        if life == 1:
            program.config["apps"][0]["retries"] = 1
            config_of(program).write_text(json.dumps(program.config))
            program.signal(signal.SIGHUP)
            program.wait_log("done, 1 change")
            assert {program.connect().receive(5) for _ in range(9)} == {b"stays"}
            program.workers()
            program.signal(signal.SIGKILL)
            program.wait()


def config_of(program):
    return program.folder / f"config-{id(program):x}.json"


def say(folder, program, drained, removed):
    file = load_file(str(config_of(program)))
    said = Overrides(file)
    said.set("app", drained, "drain", None)
    said.remove("app", removed)
    store = StateFile.open(str(folder / "state.db"))
    saved_overrides.save(store, said)
    store.close()


def test_killed_over_and_over_while_things_are_said(proxy, service, tmp_path):
    """Each life knows what was on disk before the kill, or something newer; never less, never nothing."""
    one, two = service(greeting=b"one"), service(greeting=b"two")
    durable = said = 1
    for _ in range(6):
        program = proxy(targets=[one, two], top={"state": "state.db"}, console=True)
        say = Console(program).say
        weight = say("weight", "app", one.address)
        assert durable <= weight <= said
        for said in range(weight + 1, weight + 30):
            say("set_target", "app", one.address, None, said)
        durable = saved_weight(tmp_path)
        program.workers()
        program.signal(signal.SIGKILL)
        program.wait()
        assert not program.count_log("damaged|set aside")
        (tmp_path / "console").unlink()


def test_what_the_api_has_answered_survives_a_kill(proxy, service, tmp_path):
    """Weights, a target added, one removed: each is on disk when the answer is there."""
    one, two, three = service(), service(), service()
    program = proxy(targets=[one, two], top={"state": "state.db", "api": api_config()})
    api = Api.of(program)

    def rows():
        with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as connection:
            said = connection.execute("SELECT target, admin, weight, origin FROM targets WHERE definition != ''").fetchall()
        return {target.decode() if isinstance(target, bytes) else target: rest for target, *rest in said}

    for weight in range(2, 12):
        api.ask("PATCH", path_of("app", one.address), {"weight": weight}, status=200)
        assert rows()[one.address] == ["", weight, "file"]
    api.post(path_of("app", None, "targets"), three.address, status=201)
    assert rows()[three.address] == ["", None, "api"]
    api.ask("DELETE", path_of("app", two.address), status=204)
    program.workers()
    program.signal(signal.SIGKILL)
    program.wait()
    program = proxy(targets=[one, two], top={"state": "state.db", "api": api_config()})
    found = {target["name"]: target["weight"] for target in Api.of(program).get(path_of("app", None, "targets")).json}
    assert found == {one.address: 11, three.address: 1}


def saved_weight(folder):
    with contextlib.closing(sqlite3.connect(folder / "state.db")) as connection:
        return (connection.execute("SELECT weight FROM targets WHERE weight IS NOT NULL").fetchone() or [1])[0]


@pytest.mark.parametrize("action", ["down", "drain"])
def test_a_group_that_was_down_is_so_after_a_restart_until_its_ill_server_is_well(
    proxy, service, free_port, tmp_path, action
):
    """The server that is well answers its check at once: that alone says nothing of the group."""
    ports = [free_port(), free_port()]
    well, ill = service(greeting=b"well"), service()
    group = {"name": "g", "ports": {str(ports[0]): well.address, str(ports[1]): ill.address}}
    other = {"name": "other", "address": "127.0.0.9"}
    beside = [Service(greeting=b"beside", host="127.0.0.9", port=port) for port in ports]
    checks = {"interval": 0.2, "timeout": 0.15, "fall_action": action}
    config = {"ports": ports, "targets": [group, other], "health": checks, "top": {"state": "state.db"}}
    word = {"down": "down", "drain": "draining"}[action]
    with contextlib.ExitStack() as stack:
        for one in beside:
            stack.enter_context(one)
        program = proxy(**config)
        program.wait_log("target g is up")
        ill.close()
        program.wait_log(f"target g is {word} .*refused")
        wait_until(lambda: b"g" in [row[0].encode() for row in saved(tmp_path, word)], "it is on disk")
        program.workers()
        program.signal(signal.SIGKILL)
        program.wait()
        before = well.accepted
        program = proxy(**config)
        wait_until(lambda: well.accepted >= before + 4, "the server that is well was checked again and again")
        assert not program.count_log("target g is up")
        assert {program.connect(ports[0]).receive(6) for _ in range(6)} == {b"beside"}
        stack.enter_context(Service(port=ill.port))
        program.wait_log(f"target g is up .was {word}")
