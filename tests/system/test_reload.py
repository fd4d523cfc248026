"""A configuration that changes while the program serves: what changes, what stays, and what happens when it cannot."""

import json
import os
import pathlib
import re
import signal
import socket

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.load import Load
from kit.ports import free_port
from kit.waiting import wait_until

OVER = r"SIG(HUP|USR1): (done|nothing is different|nothing was changed)"


class Config:
    """The file of a running program: `change` writes it anew, `reload` waits for the end of what SIGHUP starts."""

    def __init__(self, program):
        self.program = program
        self.path = next(program.folder.glob("config-*.json"))
        self.config = program.config

    @property
    def app(self):
        return self.config["apps"][0]

    def write(self, text=None):
        self.path.write_text(text or json.dumps(self.config, indent=2))
        return self

    def reload(self, number=signal.SIGHUP, text=None):
        """The lines of the log from the signal to the one that says how it ended; what comes after is not of it."""
        self.write(text)
        since = len(self.program.lines)
        self.program.signal(number)
        last = self.program.wait_log(OVER, since=since)
        return self.program.lines[since : self.program.lines.index(last, since) + 1]


def messages(lines):
    return [json.loads(line)["message"] for line in lines]


# -- the words


def test_nothing_different_is_said(proxy, service):
    program = proxy(targets=[service()])
    lines = messages(Config(program).reload())
    assert lines == ["SIGHUP: reading the configuration again", "SIGHUP: nothing is different"]
    assert messages(Config(program).reload(signal.SIGUSR1))[-1] == "SIGUSR1: nothing is different"


def test_a_wrong_file_changes_nothing_and_all_its_errors_are_logged(proxy, service):
    program = proxy(targets=[service(greeting=b"one")])
    file = Config(program)
    file.app["balanse"], file.app["retries"] = "round_robin", "x"
    lines = messages(file.reload())
    assert len([line for line in lines if "unknown key" in line or "wanted" in line]) == 2
    assert lines[-1] == "SIGHUP: nothing was changed"
    assert messages(file.reload(text="{"))[-1] == "SIGHUP: nothing was changed"
    os.unlink(file.path)
    since = len(program.lines)
    program.signal(signal.SIGHUP)
    program.wait_log("there is no such file", since=since)
    program.wait_log("nothing was changed", since=since)
    program.connect().send(b"x").expect(b"onex")


def test_changes_are_said_one_by_one(proxy, service):
    one, two = service(), service()
    program = proxy(targets=[one])
    file = Config(program)
    file.app["targets"] = [{"address": one.address, "weight": 2}, two.address]
    file.app["retries"] = 1
    file.config["pid_file"] = "p"
    lines = messages(file.reload())
    app = "SIGHUP: app app: "
    assert lines[1:] == [
        'SIGHUP: pid_file: none -> "p" (at the next start)', f"{app}retries: 3 -> 1",
        f"{app}target {one.address}: weight: 1 -> 2", f"{app}target {two.address} added", "SIGHUP: done, 4 changes",
    ]  # fmt: skip


# -- targets


def test_what_is_read_at_the_start_only_is_said_until_then_and_never_shown_as_running(proxy, service):
    program = proxy(targets=[service()], top={"api": api_config()})
    file, api = Config(program), Api.of(program)
    before = api.get("/api/v1/config").json
    file.config["api"], file.config["state"] = {**program.config["api"], "hosts": ["x"]}, "state.db"
    for _ in range(2):
        lines = messages(file.reload())
        assert [line.endswith("(at the next start)") for line in lines] == [False, True, True, False], lines
        assert lines[-1] == "SIGHUP: done, 2 changes"
        assert api.get("/api/v1/config").json == before
    del file.config["api"]["hosts"], file.config["state"]
    assert messages(file.reload())[-1] == "SIGHUP: nothing is different"


def test_another_order_of_the_targets_says_who_is_primary_next(proxy, service):
    """There is nothing else in the file that is different."""
    first, second, third = (service(greeting=name) for name in (b"1", b"2", b"3"))
    program = proxy(targets=[first, second, third], balance="failover")
    program.wait_greeting(b"1")
    file = Config(program)
    file.app["targets"] = [first.address, third.address, second.address]
    assert messages(file.reload())[-2:] == ["SIGHUP: app app: its targets are in another order", "SIGHUP: done, 1 change"]
    first.close()
    program.wait_greeting(b"3")


def test_targets_come_and_go_and_sessions_of_those_that_left_go_on(proxy, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = proxy(targets=[one], top={"workers": 2})
    file = Config(program)
    stays = program.connect().expect(b"one")
    file.app["targets"] = [two.address]
    file.reload()
    for _ in range(4):
        program.connect().expect(b"two")
    stays.send(b"still").expect(b"still")
    file.app["targets"] = [one.address, two.address]
    file.reload()
    program.wait_greeting(b"one")
    program.wait_greeting(b"two")
    stays.send(b"still").expect(b"still")


def test_a_limit_changes_while_it_is_used(proxy, target):
    server = target()
    program = proxy(targets=[server], top={"workers": 2})
    file = Config(program)

    def limit(number):
        file.app["targets"] = [{"address": server.address, "max_connections": number}]
        file.reload()

    sessions = [(program.connect(), server.accept()) for _ in range(3)]
    for number in (4, 5, 3):
        limit(number)
        while len(sessions) < number:
            sessions.append((program.connect(), server.accept()))
        wait_until(lambda: is_reset(program.connect()), "the limit is known to every worker")
        while len(sessions) > 3:
            for end in sessions.pop():
                end.close()
        wait_until(lambda: len(program.records_now()) >= 1, "records")
    limit(1)
    for end in sessions.pop():
        end.close()
    program.connect().expect_rst()
    limit(0)
    for _ in range(4):
        sessions.append((program.connect(), server.accept()))
    program.uncounted = None


def is_reset(client):
    client.sock.settimeout(0.5)
    try:
        return client.sock.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_drained_and_disabled_targets_get_no_new_sessions_and_keep_theirs(proxy, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = proxy(targets=[one, two], top={"workers": 2})
    file = Config(program)
    held = [program.connect() for _ in range(4)]
    greetings = [client.read_first() for client in held]
    assert b"one" in greetings
    for key in ("drain", "disabled"):
        file.app["targets"] = [{"address": one.address, key: True}, two.address]
        file.app["on_down"] = "close"
        file.reload()
        for _ in range(4):
            program.connect().expect(b"two")
        for client in held:
            client.send(b"on").expect(b"on")
    file.app["targets"] = [one.address, two.address]
    file.reload()
    program.wait_greeting(b"one")


def test_a_check_that_comes_takes_a_dead_target_out_and_one_that_goes_brings_it_back(proxy, service):
    one, port = service(), free_port()
    program = proxy(targets=[one, f"127.0.0.1:{port}"])
    file = Config(program)
    file.app["health"] = {"interval": 0.1}
    file.reload()
    program.wait_log(f"target 127.0.0.1:{port} is down")
    file.app["health"] = []
    lines = messages(file.reload())
    assert any(f"target 127.0.0.1:{port} is up (was down): not checked" in line for line in lines), lines


def test_what_is_known_of_a_target_stays(proxy, service):
    """Its verdict: no client meets a target that is known to be down because of a reload."""
    one, port = service(), free_port()
    program = proxy(targets=[one, f"127.0.0.1:{port}"], health={"interval": 60, "fall": 1}, retries=0, ready=False)
    program.wait_log("ready:")
    program.wait_log(f"target 127.0.0.1:{port} is down")
    file = Config(program)
    file.app["timeouts"] = {"idle": 99}
    file.app["health"] = {"interval": 50, "fall": 3}
    file.reload()
    for _ in range(6):
        program.connect().send(b"x").expect(b"x")


# -- listeners


def test_ports_come_and_go_and_the_one_that_stays_is_not_rebound(proxy, service):
    program = proxy(targets=[service()], top={"workers": 2})
    file = Config(program)
    inode = listener_inodes(program.pid)
    extra = free_port()
    first = file.app["ports"]
    file.app["ports"] = [*first, extra]
    file.reload()
    program.connect(extra).send(b"x").expect(b"x")
    stays = program.connect(extra).send(b"y").expect(b"y")
    assert inode < listener_inodes(program.pid)
    file.app["ports"] = first
    file.reload()
    assert inode == listener_inodes(program.pid)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", extra))
    stays.send(b"z").expect(b"z")
    program.connect().send(b"x").expect(b"x")


def listener_inodes(pid):
    found = set()
    ours = {link for link in procfs.descriptors(pid).values() if link.startswith("socket:")}
    for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in ours:
            found.add(fields[9])
    return found


def test_a_port_that_cannot_be_bound_rolls_everything_back(proxy, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = proxy(targets=[one], top={"workers": 2})
    file = Config(program)
    before = {pid: procfs.kinds(pid) for pid in program.family()}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first = file.app["ports"]
        file.app["ports"], file.app["targets"] = [*first, free_port(), port], [two.address]
        file.config["workers"] = 3
        lines = messages(file.reload())
    errors = [line for line in lines if "cannot listen" in line]
    assert len(errors) == 1, lines
    assert f"cannot listen on 127.0.0.1:{port} for app 'app'" in errors[0]
    assert lines[-1] == "SIGHUP: nothing was changed"
    program.connect().expect(b"one")
    program.close_clients()
    wait_until(lambda: {pid: procfs.kinds(pid) for pid in program.family()} == before, "as it was")
    assert messages(file.reload())[-1].startswith("SIGHUP: done")
    program.connect().expect(b"two")
    program.baseline.clear()


def test_overlapping_listeners_change_places(proxy, service):
    program = proxy(targets=[service()], top={"workers": 2})
    file = Config(program)
    stays = program.connect().send(b"a").expect(b"a")
    for bind in ("*", "127.0.0.1"):
        file.app["bind"] = bind
        lines = messages(file.reload())
        assert any("(closed for a moment)" in line for line in lines)
        program.connect().send(b"x").expect(b"x")
        stays.send(b"b").expect(b"b")


def test_an_overlap_that_fails_brings_the_old_listener_back(proxy, service):
    program = proxy(targets=[service()], top={"workers": 2})
    file = Config(program)
    port = program.port
    with socket.create_server(("127.0.0.2", port)):
        file.app["bind"] = "*"
        lines = messages(file.reload())
        assert lines[-1] == "SIGHUP: nothing was changed", lines
        program.connect().send(b"x").expect(b"x")
    assert messages(file.reload())[-1].startswith("SIGHUP: done")
    program.connect().send(b"x").expect(b"x")


def test_apps_come_and_go_and_a_port_is_handed_over_without_closing(proxy, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = proxy(targets=[one], top={"workers": 2})
    file = Config(program)
    stays = program.connect().expect(b"one")
    inodes = listener_inodes(program.pid)
    port, other = program.port, free_port()
    file.config["apps"] = [
        {"name": "app", "ports": [other], "targets": [one.address], "health": []},
        {"name": "new", "ports": [port], "targets": [two.address], "health": []},
    ]
    lines = messages(file.reload())
    assert f"SIGHUP: app new: listener 127.0.0.1:{port} taken over from app app" in lines
    assert inodes < listener_inodes(program.pid)
    program.connect(port).expect(b"two")
    program.connect(other).expect(b"one")
    file.config["apps"] = file.config["apps"][1:]
    file.reload()
    program.connect(port).expect(b"two")
    stays.send(b"on").expect(b"on")
    stays.fin().read_to_end()
    wait_until(lambda: program.records_now(), "its record")
    assert program.records_now()[0]["app"] == "app"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", other))


# -- settings


def test_the_access_log_moves_ends_and_begins(proxy, service):
    program = proxy(targets=[service()], top={"workers": 2})
    file = Config(program)

    def session():
        program.connect().send(b"x").fin().read_to_end()

    def lines(name):
        path = program.folder / name
        return path.read_bytes().count(b"\n") if path.exists() else 0

    session()
    wait_until(lambda: lines("access.log") == 1, "the first file")
    file.config["access_log"] = "second.log"
    file.reload()
    session()
    wait_until(lambda: lines("second.log") == 1, "the second file")
    file.config["access_log"] = None
    file.reload()
    session()
    file.config["access_log"] = "third.log"
    file.reload()
    session()
    wait_until(lambda: lines("third.log") == 1, "the third file")
    assert (lines("access.log"), lines("second.log")) == (1, 1)
    file.config["access_log"] = "/nowhere/x.log"
    assert "SIGHUP: access_log /nowhere/x.log: No such file or directory" in messages(file.reload())
    program.uncounted = None
    program.baseline.clear()


def test_the_log_changes_its_level_and_its_format(proxy, service):
    program = proxy(targets=[service()])
    file = Config(program)
    file.config["log"] = {"level": "info", "format": "text"}
    said = file.reload()[-1]
    assert said.endswith("SIGHUP: done, 1 change")
    assert not said.startswith("{")


def test_the_access_log_changes_its_format_between_two_lines(proxy, service):
    program = proxy(targets=[service(greeting=b"g")], top={"workers": 2})
    file, path = Config(program), program.folder / "other.log"
    file.config["access_log"] = "other.log"
    file.reload()

    def sessions(count):
        before = path.read_text().count("\n")
        for _ in range(count):
            program.connect().expect(b"g").fin().expect_fin()
        wait_until(lambda: path.read_text().count("\n") == before + count, "their lines")

    sessions(4)
    for format in ("text", "json"):
        file.config["log"] = {"level": "info", "format": format}
        file.reload()
        sessions(4)
    lines = path.read_text().splitlines()
    assert ["{" if line.startswith("{") else " reason=done " in line for line in lines] == ["{"] * 4 + [True] * 4 + ["{"] * 4
    program.uncounted = None
    program.baseline.clear()


@pytest.mark.parametrize("steps", [(3, 1, 2, 1)])
def test_workers_become_more_and_fewer_and_nobody_is_lost(proxy, service, steps):
    program = proxy(targets=[service()])
    file = Config(program)
    stays = []
    with Load(program.port) as load:
        for number in steps:
            stays += [program.connect().send(b"a").expect(b"a") for _ in range(4)]
            file.config["workers"] = number
            file.reload()
            load.wait_sessions(50)
        wait_until(lambda: program.count_log("serves, with room") == 1 + 2 + 1, "all started")
        for client in stays:
            client.send(b"b").expect(b"b")
    assert load.failures == []
    program.close_clients()
    wait_until(lambda: len(program.workers()) == 1, "those that left have ended")
    assert not program.count_log("ended:")
    program.uncounted = None
    program.baseline.clear()  # the memory that has grown keeps a descriptor


def test_two_signals_at_once_are_two_reloads_one_after_the_other(proxy, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = proxy(targets=[one], top={"workers": 2})
    file = Config(program)
    file.app["targets"] = [two.address]
    file.write()
    for _ in range(2):
        program.signal(signal.SIGHUP)
        program.signal(signal.SIGUSR1)
    wait_until(lambda: program.count_log(OVER) >= 2, "the end of both")
    program.connect().expect(b"two")
    order = [line for line in messages(program.lines) if re.match("SIG(HUP|USR1): (reading|done|nothing)", line)]
    assert [line.split(": ")[1].split()[0] for line in order[:4]] == ["reading", "done,", "reading", "nothing"]


def test_names_that_are_new_are_known_before_anybody_needs_them(proxy, service):
    one = service(greeting=b"one")
    program = proxy(targets=[one])
    file = Config(program)
    file.app["targets"] = [f"localhost:{one.port}"]
    with Load(program.port, talk=lambda peer: peer.expect(b"one")) as load:
        load.wait_sessions(5)
        file.reload()
        load.wait_sessions(20)
    assert load.failures == []
    program.uncounted = None


# -- at awkward moments


def test_a_reload_before_everything_is_ready_comes_after_it(proxy, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = proxy(targets=[one], ready=False)
    file = Config(program)
    file.app["targets"] = [two.address]
    wait_until(lambda: procfs.catches_signal(program.pid, signal.SIGHUP), "that it has taken the signals over")
    file.reload()
    program.wait_log("ready:")
    program.connect().expect(b"two")


def test_a_stop_in_the_middle_of_a_reload_is_a_clean_end(proxy, service):
    for _ in range(4):
        program = proxy(targets=[service()], top={"workers": 2})
        file = Config(program)
        file.app["ports"] = [*file.app["ports"], free_port()]
        file.app["bind"] = "*"
        file.config["workers"] = 3
        file.write()
        program.signal(signal.SIGHUP)
        program.signal(signal.SIGTERM)
        assert program.wait() == 0, program.log


def test_a_worker_that_dies_in_the_middle_of_a_reload_is_replaced_by_one_that_knows_it(proxy, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = proxy(targets=[one], top={"workers": 2})
    file = Config(program)
    port = free_port()
    for n, server in enumerate((two, one, two)):
        file.app["targets"] = [server.address]
        file.app["ports"] = [program.port, port] if n % 2 == 0 else [program.port]
        victim = program.workers()[n % 2]
        os.kill(victim, signal.SIGSTOP)
        file.write()
        since = len(program.lines)
        program.signal(signal.SIGHUP)
        program.wait_log("reading the configuration", since=since)
        os.kill(victim, signal.SIGKILL)
        program.wait_log(OVER, since=since)
        wait_until(lambda gone=victim: gone not in program.workers() and len(program.workers()) == 2, "another one")
        greeting = b"two" if server is two else b"one"
        wait_until(lambda want=greeting: all(program.connect().read_first() == want for _ in range(4)), "the new target")
    program.uncounted = None
    program.baseline.clear()
