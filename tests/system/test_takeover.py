"""One program takes over from another: --takeover, from the first connection to the end of the old one's last session."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.load import Load
from kit.proxy import ROOT, run_to_end
from kit.takeover import TOP, Succession, at_step
from kit.waiting import PATIENCE, wait_until
from tcp_proxy.control.takeover.connection import MOST_DESCRIPTORS
from tcp_proxy.control.takeover.steps import Step
from tcp_proxy.wire.counters import ROOM, TARGET_SLOTS

NEW_STEPS = [Step.TOLD, Step.READY, Step.COMPLETE]  # before `taken`, in the new program
OLD_STEPS = [Step.FROZEN, Step.PAUSED]  # in the old one


@pytest.fixture
def line(proxy, servers):
    """line(**proxy): the first program of a succession."""

    def start(**how):
        top = {"workers": 2, **TOP, **how.pop("top", {})}
        return Succession(proxy(**how, top=top), servers)

    return start


def pid_in(program):
    return int((program.folder / "proxy.pid").read_text())


def totals(api):
    found = api.get("/api/v1/statistics").json
    return found["sessions"]["total"], found["apps"]["app"]["bytes"]


def test_sessions_go_on_and_new_ones_are_the_new_programs(line, service):
    succession = line(targets=[service()], top={"api": api_config()})
    old = succession.now
    kept = old.connect().send(b"before").expect(b"before")
    workers = old.workers()
    new = succession.upgrade()
    assert pid_in(new) == new.pid
    assert not set(new.workers()) & set(workers)
    fresh = new.connect().send(b"new").expect(b"new")
    kept.send(b"after").expect(b"after")
    succession.wait_old_workers()  # the session has moved
    kept.send(b"moved").expect(b"moved")
    new.wait_log("management API on")
    api = Api.of(new)
    assert len(api.get("/api/v1/sessions").json["sessions"]) == 2, "the one that has moved is there"
    kept.close()
    fresh.close()
    new.wait_log(f"taken over from process {old.pid} ")
    records = new.records(2)
    assert {record["reason"] for record in records} == {"done"}
    assert {record["bytes_up"] for record in records} == {len(b"beforeaftermoved"), len(b"new")}
    wait_until(lambda: totals(api) == (2, {"up": 19, "down": 19}), lambda: f"exact totals: {totals(api)}")
    succession.end()


@pytest.mark.slow
def test_upgrades_in_a_row_lose_no_connection(line, service):
    succession = line(targets=[service()], top={"api": api_config()})
    port = succession.now.port
    with Load(port, clients=6) as load:
        for _ in range(10):
            load.wait_sessions(20)
            succession.upgrade()
        load.wait_sessions(20)
    assert load.failures == []
    succession.wait_old_workers()
    api = Api.of(succession.now)
    wait_until(lambda: totals(api)[0] == load.done, lambda: f"{load.done} sessions: {totals(api)}")
    assert len(succession.now.records(load.done)) == load.done
    wait_until(lambda: procfs.kinds(succession.now.pid)["socket"] < 20, lambda: str(procfs.kinds(succession.now.pid)))
    succession.end()


@pytest.mark.parametrize("step", NEW_STEPS)
def test_a_new_program_that_is_killed_changes_nothing(line, service, step):
    succession = line(targets=[service()])
    old = succession.now
    kept = old.connect().send(b"a").expect(b"a")
    new = succession.begin(program=at_step(step))
    assert new.process.wait(30) == -signal.SIGKILL, new.log
    old.wait_log("all goes on here")
    assert pid_in(old) == old.pid
    kept.send(b"b").expect(b"b")
    old.connect().send(b"c").expect(b"c").close()
    old.signal(signal.SIGHUP)  # what is held is let go of
    old.wait_log("nothing is different")
    kept.close()
    old.records(2)
    old.uncounted = None
    succession.upgrade()
    succession.end()


@pytest.mark.parametrize("step", NEW_STEPS)
def test_a_new_program_that_hangs_is_given_up(line, service, step):
    succession = line(targets=[service()])
    old = succession.now
    new = succession.begin(program=at_step(step, "SIGSTOP"))
    wait_until(lambda: procfs.is_stopped(new.pid), "it is stopped", 30)
    old.connect().send(b"c").expect(b"c").close()
    old.signal(signal.SIGTERM)  # the end of its patience would be another reason
    assert old.wait(30) == 0
    new.signal(signal.SIGCONT)
    assert new.process.wait(30) == 1, new.log
    new.wait_log("cannot take over from process [0-9]+: it is ending")


@pytest.mark.parametrize("step", OLD_STEPS)
def test_an_old_program_that_is_killed_leaves_the_new_one_to_go_on(line, service, servers, step, tmp_path):
    succession = line(targets=[service()])
    first = succession.now
    first.stop()
    first.uncounted = None
    old = type(first)(first.config, tmp_path, program=at_step(step))
    servers.callback(old.kill)
    succession.programs.append(old.wait_ready())
    old.uncounted = None
    new = succession.begin()
    new.wait_log("ready:", 30)
    assert old.process.wait(PATIENCE) == -signal.SIGKILL
    succession.programs.append(new)
    assert pid_in(new) == new.pid
    new.uncounted = None
    new.connect().send(b"x").expect(b"x").close()
    succession.wait_old_workers()
    succession.end()


def test_after_taken_the_old_one_may_be_killed(line, service, servers, tmp_path):
    succession = line(targets=[service()])
    first = succession.now
    first.stop()
    first.uncounted = None
    old = type(first)(first.config, tmp_path, program=at_step(Step.LEFT))
    servers.callback(old.kill)
    succession.programs.append(old.wait_ready())
    kept = old.connect().send(b"a").expect(b"a")
    new = succession.begin()
    new.wait_log("ready:", 30)
    assert old.process.wait(PATIENCE) == -signal.SIGKILL
    succession.programs.append(new)
    kept.send(b"b").expect(b"b").close()
    new.uncounted = None
    assert new.record()["bytes_up"] == 2
    succession.end()


def test_a_wrong_configuration_is_refused_and_nothing_changes(line, service):
    succession = line(targets=[service()])
    old = succession.now
    new = succession.begin(config={**old.config, "workers": -1})
    assert new.process.wait(30) == 2
    old.connect().send(b"c").expect(b"c").close()
    assert old.count_log("take over") == 0


def test_more_targets_than_the_old_one_has_counters_for_are_refused_and_nothing_changes(line, service):
    """Its memory is the new one's."""
    succession = line(targets=[service()])
    old = succession.now
    targets = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:1" for number in range(ROOM // TARGET_SLOTS + 1)]
    new = succession.begin(config={**old.config, "apps": [{**old.config["apps"][0], "targets": targets, "health": []}]})
    assert new.process.wait(30) == 1
    assert new.log.splitlines()[-1].startswith("cannot start: there is no room for the counters of so many"), new.log
    old.wait_log("all goes on here")
    old.connect().send(b"c").expect(b"c").close()


def test_a_port_that_another_program_has_is_refused_and_nothing_changes(line, service):
    succession = line(targets=[service()])
    old = succession.now
    with socket.create_server(("127.0.0.1", 0)) as taken:
        app = {**old.config["apps"][0], "bind": "127.0.0.1"}
        other = {**app, "name": "other", "ports": [taken.getsockname()[1]]}
        new = succession.begin(config={**old.config, "apps": [old.config["apps"][0], other]})
        assert new.process.wait(30) == 1
    new.wait_log("cannot listen on")
    old.wait_log("all goes on here")
    old.connect().send(b"c").expect(b"c").close()


def test_there_must_be_somebody_to_take_over_from(proxy, target, tmp_path):
    program = proxy(targets=[target()])
    assert not list(tmp_path.glob("*.takeover")), "without a file beside it nobody would find it"
    for top, why in (({}, "neither pid_file nor state"), (TOP, "no tcp_proxy is there to be taken over from")):
        path = tmp_path / "config.json"
        path.write_text(json.dumps({**program.config, **top}))
        found = run_to_end("--takeover", path, cwd=tmp_path)
        assert found.returncode == 1
        assert why in found.stderr


def test_another_configuration_is_taken_over_with(line, service, free_port):
    """A listener leaves, one comes, a target is another one, a limit is."""
    one, two = service(greeting=b"1"), service(greeting=b"2")
    succession = line(targets=[{"address": one.address, "max_connections": 3}])
    old = succession.now
    kept = old.connect().expect(b"1")
    gone, port = old.port, free_port()
    app = {**old.config["apps"][0], "ports": [port], "targets": [{"address": two.address, "max_connections": 2}]}
    succession.upgrade({**old.config, "apps": [app]})
    new = succession.now
    fresh = new.connect(port).expect(b"2")
    wait_until(lambda: not is_open(gone), "the port that left is closed")
    kept.send(b"x").expect(b"x").close()
    fresh.close()
    succession.end()


def is_open(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_limits_count_the_sessions_of_both(line, service):
    succession = line(targets=[{"address": service().address, "max_connections": 2}])
    old = succession.now
    kept = old.connect().send(b"a").expect(b"a")
    new = succession.upgrade()
    second = new.connect().send(b"b").expect(b"b")
    third = new.connect()
    third.read_to_end()
    assert third.ended == "rst"
    third.close()
    kept.close()
    wait_until(lambda: len(new.records_now()) == 2, "its place is free")
    fourth = new.connect().send(b"d").expect(b"d")
    fifth = new.connect()
    fifth.read_to_end()
    assert fifth.ended == "rst"
    for client in (second, fourth, fifth):
        client.close()
    succession.end()


def test_what_was_said_at_run_time_stands(line, service):
    one, two = service(greeting=b"1"), service(greeting=b"2")
    targets = [{"name": "one", "address": one.address}, {"name": "two", "address": two.address}]
    succession = line(targets=targets, top={"api": api_config()})
    api = Api.of(succession.now)
    api.ask("PATCH", "/api/v1/apps/app/targets/one", {"admin": "drain"}, status=200)
    before = api.get("/api/v1/events").json[-1]["number"]
    new = succession.upgrade()
    new.wait_log("management API on")
    assert api.get("/api/v1/apps/app/targets/one").json["admin"] == "drain"
    new.wait_greeting(b"2")
    events = api.get(f"/api/v1/events?after={before}").json
    assert [event["data"]["pid"] for event in events if event["kind"] == "takeover"] == [succession.programs[0].pid]
    succession.end()


def test_a_target_that_was_down_is_down_from_the_start(line, service, free_port):
    """It answers again by then: who did not know it would find it up at the first answer, but it has to answer often."""
    port, two = free_port(), service(greeting=b"2")
    health = [{"interval": 60, "rise": 100}]
    succession = line(targets=[f"127.0.0.1:{port}", two], health=health, top={"api": api_config()})
    succession.now.wait_log(f"target 127.0.0.1:{port} is down")
    service(greeting=b"1", port=port)
    new = succession.upgrade()
    new.wait_log(f"target 127.0.0.1:{port} is down, as it was before")
    new.wait_log("management API on")
    for _ in range(6):
        new.wait_greeting(b"2")
    assert Api.of(new).get(f"/api/v1/apps/app/targets/127.0.0.1:{port}").json["state"] == "down"
    succession.end()


def test_no_election_is_held_and_no_trigger_runs_again(line, service, script, tmp_path):
    runs = tmp_path / "runs"
    trigger = script(f'echo "$1" >> {runs}')
    targets = [{"name": name, "address": service(greeting=name.encode()).address} for name in ("one", "two")]
    succession = line(targets=targets, balance="failover", failover={"triggers": [str(trigger)]})
    old = succession.now
    old.wait_log("target one is primary")
    kept = old.connect().expect(b"one")
    new = succession.upgrade()
    new.connect().expect(b"one").close()
    assert len(runs.read_text().splitlines()) == 1
    assert new.count_log("a primary is looked for") == 0
    kept.send(b"x").expect(b"x").close()
    succession.end()


def test_stick_entries_are_the_same_for_both(line, service):
    targets = [service(greeting=name) for name in (b"1", b"2", b"3")]
    succession = line(targets=targets, sticky={"key": "source_ip"})
    kept = succession.now.connect()
    first = kept.read_first()
    new = succession.upgrade()
    assert {new.connect().read_first() for _ in range(6)} == {first}
    kept.close()
    succession.wait_old_workers()
    assert new.connect().read_first() == first
    new.close_clients()
    succession.end()


def test_sigterm_ends_the_new_one_with_the_sessions_of_the_old(line, service):
    succession = line(targets=[service()], top={"shutdown_grace": 0.2})
    kept = succession.now.connect().send(b"a").expect(b"a")
    new = succession.upgrade()
    new.signal(signal.SIGTERM)
    kept.read_to_end()
    assert kept.ended == "rst"
    assert new.wait(PATIENCE) == 0
    assert os.path.exists(new.access_log)
    succession.wait_old_workers()
    assert new.record()["reason"] == "shutdown"


def ctl(program, *args):
    """tcp-proxy-ctl, and its exit status."""
    return subprocess.run(
        [sys.executable, "-m", "tcp_proxy.ctl", "--api", f"http://{program.config['api']['listen']}", *args],
        cwd=program.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=90,
        check=False,
    )  # fmt: skip


def test_the_operator_has_the_new_program_started(line, service, servers):
    succession = line(targets=[service()], top={"api": api_config()})
    old = succession.now
    kept = old.connect().send(b"a").expect(b"a")
    found = ctl(old, "upgrade", "--dry-run")
    assert "moves: 1 listener, counters" in found.stdout
    assert " has 1 session" in found.stdout
    assert "drains" not in found.stdout
    succession.old_workers.update(old.workers())
    found = ctl(old, "upgrade")
    assert found.returncode == 0, found.stderr + old.log
    assert f"has taken over from process {old.pid} (version" in found.stdout
    new = pid_in(old)
    servers.callback(lambda: procfs.is_running(new) and os.kill(new, signal.SIGKILL))
    assert old.process.wait(PATIENCE) == 0
    kept.send(b"b").expect(b"b").close()
    workers = [pid for pid, text in procfs.children(new).items() if b"dataplane.worker" in text]
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not any(map(procfs.is_running, (new, *workers))), "the end of the new program", 30)
    succession.wait_old_workers()


def test_what_the_new_program_says_is_what_the_operator_hears(line, service):
    succession = line(targets=[service()], top={"api": api_config()})
    old = succession.now
    path = next(old.folder.glob("config-*.json"))
    text = path.read_text()
    path.write_text(text.replace('"workers": 2', '"workers": -2'))
    found = ctl(old, "upgrade")
    assert found.returncode == 1
    assert "nothing has changed" in found.stderr
    assert "workers" in found.stderr
    path.write_text(text)
    assert Api.of(old).get("/api/v1/upgrade").json["state"] == "failed"
    old.connect().send(b"x").expect(b"x").close()


def listening_on(port):
    """The numbers of the sockets that listen on this port, of any address."""
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file]
    return {fields[9] for fields in rows if fields[3] == "0A" and fields[1].endswith(f":{port:04X}")}


def test_more_listeners_than_one_message_can_carry_are_all_taken_over(line, service):
    """With a session on each: the very sockets, and who was connected is served on."""
    hosts = [f"127.0.{number // 200}.{number % 200 + 1}" for number in range(MOST_DESCRIPTORS + 70)]
    succession = line(bind=hosts, targets=[service()])
    old = succession.now
    kept = [old.connect(host=host).send(b"a").expect(b"a") for host in hosts]
    before = listening_on(old.port)
    assert len(before) == len(hosts)
    new = succession.upgrade()
    assert listening_on(old.port) == before
    assert {f"socket:[{inode}]" for inode in before} <= set(procfs.descriptors(new.pid).values())
    for host, client in zip(hosts, kept, strict=True):
        client.send(b"b").expect(b"b").close()
        new.connect(host=host).send(b"c").expect(b"c").close()
    succession.end()
