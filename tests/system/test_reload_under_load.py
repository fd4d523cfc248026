"""What an operator does to a running proxy, under load that never pauses: not one request fails (the proofs of issue 4).

wrk asks all the while, on kept connections and on fresh ones; sessions that were opened before move bytes when it is over.
"""

import contextlib
import itertools
import json
import os
import re
import signal
import socket

import pytest

from kit import procfs, programs
from kit.api import Api, api_config, path_of
from kit.console import Console
from kit.load import Load
from kit.ports import free_port
from kit.waiting import settled, wait_until
from kit.wrk import Wrk
from tests.system.test_reload import Config, messages

pytestmark = pytest.mark.slow

BLOCK = os.urandom(1 << 18)
SERVED = 300  # requests that are to be answered between two steps


class House:
    """A program with an app `web` before two nginx, and an app `long` before an echo, with sessions that stay."""

    def __init__(self, program, servers, echo):
        self.program, self.servers, self.echo = program, servers, echo
        self.file = Config(program)
        self.web, self.long = program.config["apps"]
        self.port = self.web["ports"][0]
        program.uncounted = None
        self.quiet = [self.open_session() for _ in range(4)]
        self.bulk = self.open_session()
        self.move_bulk()  # so much at once that a relay thread has it from now on

    def open_session(self):
        return self.program.connect(self.long["ports"][0]).send(b"opened").expect(b"opened")

    def reload(self, **web):
        """What the reload said."""
        self.web.update(web)
        return [line for line in messages(self.file.reload()) if line.startswith("SIGHUP")]

    def move_bulk(self):
        for _ in range(8):
            self.bulk.send(BLOCK[: 1 << 16]).expect(BLOCK[: 1 << 16])

    def serve(self, count=SERVED):
        """Let wrk go on for so many requests."""
        wanted = sum(map(programs.nginx_requests, self.servers)) + count
        wait_until(lambda: sum(map(programs.nginx_requests, self.servers)) >= wanted, "requests go on", 30)

    def check(self):
        """Those that were there before have lost nothing."""
        for session in self.quiet:
            session.send(b"still here").expect(b"still here")
        self.move_bulk()

    @contextlib.contextmanager
    def load(self, kept=True, fresh=True):
        """Both kinds at once; a failed request fails the test."""
        with contextlib.ExitStack() as stack:
            if kept:
                stack.enter_context(Wrk(self.port, self.program.folder))
            if fresh:
                stack.enter_context(Wrk(self.port, self.program.folder, kept=False))
            self.serve()
            yield
            self.serve()
            self.check()


@pytest.fixture
def house(proxy, service, servers, tmp_path):
    def start(workers=2, mode="tcp", **how):
        started = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            started.append(server := programs.nginx(tmp_path / name))
            servers.callback(server.close)
        for server in started:
            server.wait_listening()
        echo, addresses = service(), [server.address for server in started]
        apps = [
            {"name": "web", "mode": mode, "ports": [free_port()], "targets": addresses, "health": []},
            {"name": "long", "ports": [free_port()], "targets": [echo.address], "health": []},
        ]
        top = {"workers": workers, "access_log": None, **how.pop("top", {})}
        return House(proxy({"apps": apps}, top=top, **how), started, echo)

    return start


@pytest.mark.timeout(180)
def test_200_reloads_in_a_row_that_alternate_two_files(house):
    it = house()
    a, b = (server.address for server in it.servers)
    first = {"ports": [it.port], "targets": [a, b], "balance": "round_robin", "health": [], "retries": 1}
    second = {
        "ports": [it.port, free_port()], "targets": [{"address": b, "weight": 3}], "balance": "least_connections",
        "health": [{"interval": 1}], "timeouts": {"idle": 100},
    }  # fmt: skip
    family, flat, before = set(it.program.family()), set(), {}
    with it.load():
        for n in itertools.count(1):
            assert it.reload(**(second if n % 2 else first))[-1].startswith("SIGHUP: done")
            if n % 50:
                continue
            now = {pid: procfs.resident(pid) for pid in family}
            # What is kept of each reload shows in every fifty of them; what has its full size some day does not.
            flat |= {pid for pid, size in before.items() if now[pid] - size < 512 << 10}
            if n >= 200 and flat == family:
                break
            assert n < 400, (before, now)
            before = now


class ByApi:
    """What Console.say does, asked of the management API."""

    def __init__(self, program):
        self.api = Api.of(program)

    def say(self, call, app, what):
        if call == "add_target":
            return self.api.post(path_of(app, None, "targets"), what, status=201)
        return self.api.ask("DELETE", path_of(app, what), status=204)


@pytest.mark.parametrize("by", [Console, ByApi])
def test_targets_are_added_and_removed_at_run_time(house, by):
    it = house(console=True, top={"api": api_config()})
    say = by(it.program).say
    a, b = (server.address for server in it.servers)
    with it.load():
        for gone in itertools.islice(itertools.cycle([a, b]), 20):
            say("remove_target", "web", gone)
            it.serve(20)
            say("add_target", "web", {"address": gone, "weight": 2})
        say("add_target", "long", {"address": a})
        say("remove_target", "long", it.echo.address)
        it.check()
        say("remove_target", "long", a)
        say("add_target", "long", {"address": it.echo.address})
        it.open_session()


@pytest.mark.parametrize("mode", ["tcp", "http"])
def test_targets_are_drained_disabled_and_weighed_at_run_time_and_by_configuration(house, mode):
    it = house(console=True, mode=mode)
    say = Console(it.program).say
    a, b = (server.address for server in it.servers)
    with it.load():
        words = (("drain", 1), ("disabled", 5), ("ready", 0), ("ready", 9))
        for target, (admin, weight) in itertools.product((a, b), words):
            say("set_target", "web", target, admin, weight)
            it.serve(20)
        for entry in ({"drain": True}, {"disabled": True}, {"weight": 0}, {"backup": True}, {"max_connections": 100}):
            for pair in ([{"address": a, **entry}, b], [a, {"address": b, **entry}]):
                it.reload(targets=pair)
                it.serve(20)
        it.reload(targets=[a, b])


def test_a_port_is_added_and_removed(house):
    """On the port that goes: whoever's connect succeeded is served."""
    it = house()
    extra = free_port()

    def ask(peer):
        peer.send(b"GET /hello HTTP/1.0\r\n\r\n")
        assert peer.read_to_end().endswith(b"hello from nginx\n")

    with it.load(), Load(extra, talk=ask, clients=4) as comers:
        for n in range(4):
            it.reload(ports=[it.port, extra])
            comers.wait_sessions(20)
            since = comers.done
            it.reload(ports=[it.port])
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", extra))
            assert comers.done >= since, n
    assert comers.failed_in("session") == []


def check_failures(wrk, program, kills):
    """A killed worker's sessions, and nobody else's; between accept() and its counters one is not counted yet."""
    lost = [int(found[1]) for found in map(re.compile(r"(\d+) sessions? ended with it").search, program.lines) if found]
    assert len(lost) == kills
    assert wrk.failed <= sum(lost) + kills, (wrk, lost)
    assert wrk.errors["connect"] == wrk.errors["timeout"] == wrk.errors["status"] == 0, wrk


@pytest.mark.parametrize("kept", [True, False])
def test_a_worker_is_killed(house, kept):
    """Its sessions end, as the log counts them, and no other; whoever waits to be accepted is served by the others."""
    it = house()
    with Wrk(it.port, it.program.folder, kept=kept, connections=16, failures=None) as wrk:
        it.serve()
        for _ in range(3):
            since, victim = len(it.program.lines), it.program.workers()[0]
            os.kill(victim, signal.SIGKILL)
            it.program.wait_log("sessions? ended with it", since=since)
            it.program.wait_log("serves, with room", since=since)
            it.serve()
    check_failures(wrk, it.program, kills=3)
    it.program.baseline.clear()


def test_ports_change_places_between_apps(house):
    """They are handed over, not closed: whoever comes meanwhile is served by the one or the other."""
    programs.need("wrk")
    it = house()
    other = free_port()
    second = {**it.web, "name": "second", "ports": [other]}
    it.file.config["apps"].append(second)
    it.reload()
    with it.load(), Wrk(other, it.program.folder), Wrk(other, it.program.folder, kept=False):
        for pair in itertools.islice(itertools.cycle([(other, it.port), (it.port, other)]), 20):
            it.web["ports"], second["ports"] = [pair[0]], [pair[1]]
            lines = it.reload()
            assert len([line for line in lines if "taken over from app" in line]) == 2, lines
            it.serve(20)
    it.file.config["apps"].remove(second)
    it.reload()


def test_a_storm_of_signals(house):
    """Whatever comes while a reload waits is one reload; the last file is what runs in the end."""
    it = house()
    a, b = (server.address for server in it.servers)
    with it.load():
        for n in range(300):
            it.web["targets"] = [(a, b)[n % 2]]
            it.file.write()
            it.program.signal((signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)[n % 3])
        it.web["targets"] = [a, b]
        it.file.write()
        wait_until(lambda: settled(lambda: len(it.program.lines), 0.5), "the end of the storm")
        assert "nothing was changed" not in it.reload()[-1]
        assert it.reload()[-1] == "SIGHUP: nothing is different"


def test_workers_are_killed_in_the_middle_of_reloads(house):
    """Those that take their places know the new configuration, and no more fails than the sessions of the dead."""
    it = house(workers=2)
    a, b = (server.address for server in it.servers)
    with Wrk(it.port, it.program.folder, kept=False, failures=None) as wrk:
        it.serve()
        for n in range(6):
            it.web.update(targets=[(a, b)[n % 2]], timeouts={"idle": 100 + n}, ports=[it.port, free_port()])
            it.file.write()
            since, victim = len(it.program.lines), it.program.workers()[n % 2]
            it.program.signal(signal.SIGHUP)
            if n % 3:
                it.program.wait_log("reading the configuration", since=since)
            os.kill(victim, signal.SIGKILL)
            it.program.wait_log("sessions? ended with it", since=since)
            it.program.wait_log("SIGHUP: done", since=since)
            it.program.wait_log("serves, with room", since=since)
        it.serve()
    check_failures(wrk, it.program, kills=6)
    it.reload(ports=[it.port], retries=0)
    it.servers.pop(0).close()
    with Wrk(it.port, it.program.folder, kept=False):  # whoever still went to `a` would be reset
        it.serve()
    it.program.baseline.clear()


def test_a_reload_with_errors_in_it(house):
    it = house()
    good = json.dumps(it.program.config)
    with it.load():
        for _ in range(10):
            it.web.update(balanse="x", retries="many", ports=["a"])
            lines = messages(it.file.reload())
            assert len([line for line in lines if "config-" in line]) == 3, lines
            assert lines[-1] == "SIGHUP: nothing was changed"
            assert "nothing was changed" in messages(it.file.reload(text="{"))[-1]
            it.web.clear()
            it.web.update(json.loads(good)["apps"][0])
        assert messages(it.file.reload())[-1] == "SIGHUP: nothing is different"


def test_a_new_port_that_cannot_be_bound(house):
    it = house()
    with socket.create_server(("127.0.0.1", 0)) as taken, it.load():
        for _ in range(10):
            lines = it.reload(ports=[it.port, free_port(), taken.getsockname()[1]], targets=[it.echo.address])
            assert lines[-1] == "SIGHUP: nothing was changed"


@pytest.mark.parametrize("mode", ["tcp", "http"])
def test_workers_become_three_and_one_again(house, mode):
    it = house(workers=1, mode=mode)
    with it.load():
        for number in (3, 1, 3, 2, 1):
            it.file.config["workers"] = number
            it.reload()
            it.serve()
    assert not it.program.count_log("ended:")
    it.program.close_clients()
    wait_until(lambda: len(it.program.workers()) == 1, "those that left have ended")
    it.program.baseline.clear()
