"""The statistics of a running program: exact under load, never falling, readable for Prometheus, free for the sessions."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kit import procfs, programs
from kit.api import Api, api_config
from kit.load import Load
from kit.ports import free_port
from kit.waiting import wait_until
from tests.system.test_reload import Config

TALK = len(b"question\n")  # bytes each way of a session of kit.load


def statistics(program):
    return Api.of(program).get("/api/v1/statistics").json


def app_of(program):
    return statistics(program)["apps"]["app"]


def samples(program):
    """(name, labels) -> value, of /metrics."""
    found = {}
    for family in text_string_to_metric_families(Api.of(program).get("/metrics").text):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def when_all_is_over(program):
    """The app's statistics once it has no session any more."""
    wait_until(lambda: app_of(program)["sessions"]["current"] == 0, "the end of all sessions")
    return app_of(program)


# -- exact


def test_every_session_and_every_byte_is_counted(proxy, service):
    one, two = service(), service()
    program = proxy(targets=[one, two], top={"workers": 2, "api": api_config()})
    with Load(program.port, clients=8) as load:
        load.wait_sessions(400)
    assert load.failures == []
    program.uncounted = load.done
    app = when_all_is_over(program)
    assert app["sessions"]["total"] == app["session_ends"]["done"] == app["connect_seconds"]["count"] == load.done
    assert app["session_seconds"]["count"] == app["session_seconds"]["upto"][-1] == load.done
    assert app["bytes"] == {"up": TALK * load.done, "down": TALK * load.done}
    assert [listener["sessions"]["total"] for listener in app["listeners"].values()] == [load.done]
    for target in (one, two):
        counted = app["targets"][target.address]
        assert counted["sessions"]["total"] == counted["session_ends"]["done"] == target.accepted
        assert counted["bytes"]["up"] == TALK * target.accepted
    assert app["sessions"]["peak"] <= 8
    assert sum(app["session_ends"].values()) == load.done


@pytest.mark.slow
@pytest.mark.parametrize("close", [True, False])
def test_statistics_and_session_records_agree_under_wrk(proxy, servers, tmp_path, close):
    nginx = programs.nginx(tmp_path)
    servers.callback(nginx.close)
    program = proxy(targets=[nginx.wait_listening()], top={"workers": 2, "api": api_config()})
    program.uncounted = None
    header = ["-H", "Connection: close"] if close else []
    report = programs.run("wrk", "-t1", "-c50", "-d2", *header, f"http://127.0.0.1:{program.port}/hello")
    assert "Socket errors" not in report, report
    app, sum_of = when_all_is_over(program), Counter()
    records = program.records(app["sessions"]["total"])
    for record in records:
        sum_of.update({key: record[key] for key in ("bytes_up", "bytes_down", "seconds", "connect_seconds")})
    assert app["bytes"] == {"up": sum_of["bytes_up"], "down": sum_of["bytes_down"]}
    ends = {reason: count for reason, count in app["session_ends"].items() if count}
    assert ends == Counter(record["reason"] for record in records)
    assert app["connect_seconds"]["count"] == app["session_seconds"]["count"] == len(records)
    rounding = 2e-6 * len(records)
    assert app["session_seconds"]["sum"] == pytest.approx(sum_of["seconds"], abs=rounding)
    assert app["connect_seconds"]["sum"] == pytest.approx(sum_of["connect_seconds"], abs=rounding)


def test_failed_connects_and_retries_are_counted(proxy, service):
    nobody, alive = f"127.0.0.1:{free_port()}", service()
    program = proxy(targets=[nobody, alive], top={"workers": 2, "api": api_config()})
    with Load(program.port, clients=4) as load:
        load.wait_sessions(100)
    assert load.failures == []
    program.uncounted = load.done
    app = when_all_is_over(program)
    refused = sum(len(record["tried"]) for record in program.records(load.done))
    assert refused > 10
    assert app["targets"][nobody]["connect_failures"]["refused"] == app["connect_failures"]["refused"] == refused
    assert app["targets"][alive.address]["connect_retries"] == app["connect_retries"] == refused
    assert sum(app["connect_failures"].values()) == refused
    assert app["targets"][nobody]["sessions"]["total"] == 0
    assert app["targets"][alive.address]["sessions"]["total"] == load.done


def test_sessions_that_go_on_are_seen(proxy, service):
    program = proxy(targets=[service()], top={"workers": 2, "api": api_config()})
    clients = [program.connect().send(b"abc").expect(b"abc") for _ in range(5)]
    wait_until(lambda: app_of(program)["bytes"] == {"up": 15, "down": 15}, "all bytes are counted")
    assert app_of(program)["sessions"] == {"current": 5, "peak": 5, "total": 5}
    clients[0].close()
    wait_until(lambda: app_of(program)["sessions"] == {"current": 4, "peak": 5, "total": 5}, "the end of one")


@pytest.mark.slow
def test_requests_are_counted_under_wrk(proxy, servers, tmp_path):
    """In mode http: each request, at its target, by status."""
    nginx = programs.nginx(tmp_path)
    servers.callback(nginx.close)
    top = {"workers": 2, "api": api_config(), "access_log": None}
    program = proxy(mode="http", targets=[nginx.wait_listening()], top=top)
    program.uncounted = None
    report = programs.run("wrk", "-t1", "-c20", "-d1", f"http://127.0.0.1:{program.port}/hello")
    answered = int(re.search(r"(\d+) requests in", report)[1])
    programs.run("curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{program.port}/nothing")
    app = when_all_is_over(program)
    (target,) = app["targets"].values()
    statuses = {status: count for status, count in target["requests"]["statuses"].items() if count}
    assert statuses.pop("4xx") == 1
    in_flight = statuses.pop("none", 0)  # when wrk ended
    assert statuses.keys() == {"2xx"}
    assert answered <= statuses["2xx"] <= answered + 20 - in_flight
    assert app["requests"]["seconds"]["count"] == sum(app["requests"]["statuses"].values())
    assert Api.of(program).get("/stats").json["server"] == {"success": statuses["2xx"] + 1, "failed": 0}
    labels = (("app", "app"), ("status", "4xx"), ("target", nginx.address))
    assert samples(program)["tcp_proxy_target_requests_total", labels] == 1


def test_health_checks_are_counted(proxy, service):
    nobody, alive = f"127.0.0.1:{free_port()}", service()
    program = proxy(
        targets=[nobody, alive], health={"type": "tcp", "interval": 0.05, "timeout": 0.05}, top={"api": api_config()}
    )
    program.uncounted = None

    def probes():
        return [app_of(program)["targets"][name]["probes"].get("tcp", {}) for name in (nobody, alive.address)]

    wait_until(lambda: all(sum(found.values()) >= 3 for found in probes()), "three rounds")
    dead, living = probes()
    assert dead["success"] == living["failure"] == 0
    assert app_of(program)["targets"][nobody]["state"] == "down"


# -- never falling

GROWING = ("_total", "_count", "_sum", "_bucket")


class Watch:
    """Reads /metrics again and again; `falls` are the counters that were ever less than before."""

    def __init__(self, program):
        self._program = program
        self._is_over = threading.Event()
        self.falls, self.looks, self.last = [], 0, {}
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()

    def _run(self):
        while not self._is_over.is_set():
            found = samples(self._program)
            for key, value in found.items():
                if key[0].endswith(GROWING) and value < self.last.get(key, 0):
                    self.falls.append((key, self.last[key], value))
            missing = [key for key in self.last if key not in found and dict(key[1]).keys() <= {"app", "le", "reason"}]
            self.falls += [(key, "gone") for key in missing]
            self.last, self.looks = found, self.looks + 1
            self._is_over.wait(0.05)  # without a pause it takes the time that workers need to start


def kill(worker):
    """Not between the two words by which it counts an end, which are no call apart: such a session is in both
    (docs/statistics.md)."""
    os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: procfs.is_stopped(worker), "it stands still")
    while not procfs.are_in_calls(worker):
        os.kill(worker, signal.SIGCONT)
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: procfs.is_stopped(worker), "it stands still")
    os.kill(worker, signal.SIGKILL)


def test_no_counter_falls_when_workers_are_killed(proxy, service):
    echo = service()
    program = proxy(targets=[echo], top={"workers": 2, "api": api_config()})
    program.uncounted = None
    with Load(program.port) as load, Watch(program) as watch:
        for deaths in range(1, 4):
            load.wait_sessions(50)
            kept = [program.connect().send(b"x").expect(b"x") for _ in range(4)]
            victim, *_ = before = program.workers()
            kill(victim)
            wait_until(lambda was=before: len(program.workers()) == 2 and program.workers() != was, "another worker")
            for client in kept:
                client.close()
            serving = 2 + deaths  # the next to die is one that has served
            wait_until(lambda now=serving: program.count_log(r"worker \d+ \(pid \d+\) serves") >= now, "the replacement")
        load.wait_sessions(50)
        wait_until(lambda now=watch.looks: watch.looks > now + 1, "two looks more")
    assert watch.falls == []
    app = when_all_is_over(program)
    assert statistics(program)["workers_died"] == 3
    assert app["sessions"]["total"] == sum(app["session_ends"].values()), "each session is accounted for"
    assert app["session_ends"]["worker_died"] >= 1
    assert load.done <= app["sessions"]["total"] <= load.done + len(load.failures) + len(program.clients)
    program.close_clients()
    program.baseline.clear()


def test_an_apps_counters_do_not_fall_when_targets_leave(proxy, service):
    one, two = service(), service()
    program = proxy(targets=[one, two], top={"api": api_config()})
    file = Config(program)
    with Load(program.port) as load, Watch(program) as watch:
        for targets in ([one], [two], [one, two], [two], [one]):
            load.wait_sessions(50)
            file.app["targets"] = [target.address for target in targets]
            file.reload()
        load.wait_sessions(50)
    assert load.failures == []
    program.uncounted = load.done
    assert [fall for fall in watch.falls if "target" not in dict(fall[0][1])] == []
    app = when_all_is_over(program)
    assert app["sessions"]["total"] == app["session_ends"]["done"] == load.done
    assert app["bytes"] == {"up": TALK * load.done, "down": TALK * load.done}


# -- for Prometheus


def test_every_metric_has_its_help_and_type_and_no_sample_comes_twice(proxy, service):
    program = proxy(targets=[service()], top={"api": api_config()})
    program.connect().send(b"x").expect(b"x")
    reply = Api.of(program).get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    said = defaultdict(set)
    for line in reply.text.splitlines():
        if line.startswith("# "):
            _, word, name, _ = line.split(" ", 3)
            assert name not in said[word], f"{line}: twice"
            said[word].add(name)
    assert said["HELP"] == said["TYPE"]
    names = {family.name for family in text_string_to_metric_families(reply.text)}
    assert names == {name.removesuffix("_total") for name in said["TYPE"]}
    lines = [line.rpartition(" ")[0] for line in reply.text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))


def test_openmetrics_for_who_wants_it(proxy, service):
    program = proxy(targets=[service()], top={"api": api_config()})
    reply = Api.of(program).get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.text.endswith("# EOF\n")


def test_the_token_is_wanted_here_too(proxy, service, tmp_path):
    token = tmp_path / "token"
    token.write_text("a-long-and-secret-token")
    token.chmod(0o600)
    program = proxy(targets=[service()], top={"api": api_config(token_file=str(token))})
    Api.of(program).get("/metrics", status=401)
    assert Api.of(program, "a-long-and-secret-token").get("/metrics").text.startswith("# HELP tcp_proxy_build_info")


# -- what it costs the sessions

POLLER = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
while True:
    for path in ("/metrics", "/api/v1/sessions?limit=1000"):
        connection.request("GET", path)
        reply = connection.getresponse()
        assert reply.read() and reply.status == 200
    print(flush=True)
"""


def test_reading_the_metrics_wakes_no_worker(proxy, service):
    program = proxy(targets=[service()], top={"api": api_config(), "workers": 2})
    clients = [program.connect().send(b"x").expect(b"x") for _ in range(20)]
    api, before = Api.of(program), sum(map(procfs.wake_ups, program.workers()))
    for _ in range(200):
        api.get("/metrics")
        api.get("/api/v1/statistics")
    woken = sum(map(procfs.wake_ups, program.workers())) - before
    assert woken < 200, f"{woken} times woken by {len(clients)} silent sessions, the supervisor's pings and 400 questions"


@pytest.mark.alone
def test_a_session_does_not_wait_for_who_reads_the_statistics(proxy, service):
    """In figures without a clock: between two polls come many round trips, and hardly ever two polls in one round trip."""
    program = proxy(targets=[service()], top={"api": api_config()})
    client = program.connect()
    idle = [program.connect().send(b"x").expect(b"x") for _ in range(50)]
    port = program.config["api"]["listen"].rpartition(":")[2]
    polls, during = 0, Counter()
    poller = subprocess.Popen([sys.executable, "-c", POLLER, port], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    with contextlib.ExitStack() as stack:
        stack.callback(poller.wait)
        stack.callback(poller.kill)
        stack.callback(poller.stdout.close)
        os.set_blocking(poller.stdout.fileno(), False)
        while polls < 100:
            assert poller.poll() is None
            client.send(b"ping").expect(b"ping")
            seen = len(poller.stdout.read() or b"")
            polls += seen
            during[seen] += bool(polls)
    trips = sum(during.values())
    assert trips > 10 * polls, f"{trips} round trips during {polls} polls"
    assert sum(count for seen, count in during.items() if seen > 1) <= trips / 100
    assert len(idle) == 50
