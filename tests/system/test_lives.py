"""Processes die: a worker, the supervisor, a target. What each death costs, and what comes after it."""

import contextlib
import os
import signal
import sqlite3

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.load import Load
from kit.ports import free_port
from kit.proxy import WORKER
from kit.servers import start_service
from kit.waiting import Stopwatch, pause, wait_until

CLIENTS = 8


@pytest.mark.slow
def test_a_worker_killed_under_load_costs_no_new_connection_and_is_replaced(proxy, service):
    program = proxy(targets=[service()], top={"workers": 2})
    program.uncounted = None
    with Load(program.port, clients=CLIENTS) as load:
        for _ in range(3):
            load.wait_sessions(50)
            before = program.workers()
            lines = len(program.lines)
            os.kill(before[0], signal.SIGKILL)
            program.wait_log(rf"pid {before[0]}\) ended: .*(SIGKILL|signal 9|[Kk]illed)", since=lines)
            wait_until(lambda gone=before[0]: gone not in program.workers(), "the end of the old one")
            wait_until(lambda: len(program.workers()) == 2, "a new one")
            program.wait_log("serves", since=lines)
        load.wait_sessions(50)
    assert load.failed_in("connect") == []
    assert len(load.failed_in("session")) <= 3 * CLIENTS
    program.baseline.clear()  # other workers than those of the start


def test_the_only_worker_is_killed_while_clients_wait(proxy, service):
    """The listening socket is the supervisor's: clients that connect meanwhile wait in its queue and are served."""
    program = proxy(targets=[service()])
    program.connect().send(b"1").expect(b"1")
    worker = program.workers()[0]
    os.kill(worker, signal.SIGKILL)
    waiting = [program.connect() for _ in range(20)]
    for client in waiting:
        client.send(b"2").expect(b"2")
    assert program.workers() != [worker]
    program.uncounted = -1  # the session of the killed worker has no record, but one event with its number
    program.wait_log("1 sessions? ended with it")
    program.baseline.pop(worker)


def test_a_worker_that_dies_again_and_again_is_replaced_ever_more_slowly(proxy, service):
    program = proxy(targets=[service()])
    seen = 0
    watch = Stopwatch()
    while watch.seconds < 6:
        for worker in program.workers():
            with contextlib.suppress(ProcessLookupError):  # it was seen in its end
                os.kill(worker, signal.SIGKILL)
                seen += 1
        pause(0.02)
    assert 2 <= seen < 15, f"{seen} workers in 6 s"
    program.connect().send(b"again").expect(b"again")
    program.baseline.clear()
    program.uncounted = None


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_supervisor_killed_and_started_again_ten_times(proxy, target):
    """Each new one serves at once; sessions of the old one's worker go on to their end; no worker is left behind."""
    server_side = target()
    port = free_port()
    app = {"name": "app", "ports": [port], "targets": [server_side.address], "health": []}
    config = {"apps": [app], "shutdown_grace": 60}
    workers, old = [], []
    program = proxy(config)
    for number in range(10):
        client, server = program.connect(), server_side.accept()
        client.send(b"%d" % number)
        server.expect(b"%d" % number)
        old.append((client, server))
        workers += program.workers()
        program.signal(signal.SIGKILL)
        program.wait()
        program = proxy(config)
    for number, (client, server) in enumerate(old):
        client.send(b"still %d" % number).fin()
        server.expect(b"still %d" % number).expect_fin().send(b"bye").fin()
        client.expect(b"bye").expect_fin()
    wait_until(lambda: not any(procfs.is_running(pid) for pid in workers), "the end of the old workers", 10)


def test_workers_without_a_supervisor_stop_listening_and_drain(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], top={"workers": 2, "shutdown_grace": 3})
    client, server = program.connect(), server_side.accept()
    workers = program.workers()
    program.signal(signal.SIGKILL)
    program.wait()
    wait_until(lambda: not any(procfs.tcp_sockets(pid)["LISTEN"] for pid in running(workers)), "closed listeners")
    client.send(b"x")
    server.expect(b"x")
    client.expect_rst()
    wait_until(lambda: not running(workers), "the workers' end")


@pytest.mark.parametrize("keys", [{}, {"while_electing": "refuse"}])
def test_a_primary_is_left_when_the_supervisor_is_killed_before_another_is_found(proxy, target, keys):
    """Its sessions are reset by the orphans; and none of them has any when the next life looks for a primary."""
    one, two = target(), target()
    program = proxy(primary_of([one, two], keys))
    one.accept().close()  # the election's own
    client, server = program.connect(), one.accept()
    client.send(b"x")
    server.expect(b"x")
    workers = program.workers()
    program.signal(signal.SIGKILL)
    program.wait()
    again = proxy(primary_of([two, one], keys, port=program.port))
    server.expect_rst()
    client.expect_rst()
    two.accept().close()
    again.connect().send(b"y")
    two.accept().expect(b"y")
    wait_until(lambda: not running(workers), "the old workers' end", 10)


def test_with_state_the_primary_and_the_epochs_are_those_of_the_earlier_life(proxy, service, tmp_path):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    config = {**primary_of([one, two], {}), "state": str(tmp_path / "state"), "api": api_config()}
    program = proxy(config)
    Api.of(program).post(f"/api/v1/apps/app/targets/{two.address}/promote", status=202)
    program.wait_log(f"target {two.address} is primary")
    program.connect().expect(b"two")
    wait_until(lambda: saved(tmp_path / "state") == (two.address, 2), "it")
    program.signal(signal.SIGKILL)
    program.wait()
    again = proxy(config)
    again.connect().expect(b"two")
    election = Api.of(again).get("/api/v1/apps/app/election").json
    assert (election["primary"], election["epoch"]) == (two.address, 3)
    assert again.count_log(f"trying target {one.address}") == 0


def saved(path):
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT target, epoch FROM primaries").fetchone()


def test_a_stopped_worker_of_an_earlier_life_keeps_the_next_from_having_two_primaries(proxy, target):
    """Its port is closed, so that it is not in the way of binding it."""
    one = target()
    keys = {"while_electing": "refuse"}
    program = proxy(primary_of([one], keys))
    one.accept().close()
    client, server = program.connect(), one.accept()
    client.send(b"x")
    server.expect(b"x")  # the worker knows that it is connected
    (worker,) = program.workers()
    os.kill(worker, signal.SIGSTOP)
    program.signal(signal.SIGKILL)
    program.wait()
    try:
        again = proxy(primary_of([one], keys, port=program.port), ready=False)
        assert again.wait() == 1
        assert f"app 'app' would have two primaries: process {worker} (a worker of tcp_proxy" in again.log
    finally:
        os.kill(worker, signal.SIGCONT)
    server.expect_rst()
    client.expect_rst()
    wait_until(lambda: not running([worker]), "its end", 10)


def test_a_start_names_the_stopped_worker_that_holds_its_port(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    (worker,) = program.workers()
    os.kill(worker, signal.SIGSTOP)
    program.signal(signal.SIGKILL)
    program.wait()
    try:
        again = proxy({"apps": [{"name": "app", "ports": [program.port], "targets": [server_side.address]}]}, ready=False)
        assert again.wait() == 1
        said = f"process {worker} (a worker of tcp_proxy whose supervisor is gone, stopped) listens there"
        assert said in again.log
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_until(lambda: not running([worker]), "its end", 10)


def primary_of(targets, keys, port=0):
    failover = {"on_demotion": "close", **keys}
    app = {"name": "app", "ports": [port or free_port()], "targets": [target.address for target in targets], "health": []}
    return {"workers": 1, "apps": [{**app, "balance": "failover", "failover": failover}]}


def running(pids):
    return [pid for pid in pids if procfs.is_running(pid)]


@pytest.mark.slow
def test_a_target_killed_under_load_costs_only_the_requests_in_flight_on_it(proxy):
    first, second = free_port(), free_port()
    with start_service(first, "first") as victim, start_service(second, "second"):
        check = {"interval": 0.5, "timeout": 0.4}
        program = proxy(targets=[f"127.0.0.1:{first}", f"127.0.0.1:{second}"], health=check)
        program.uncounted = None
        with Load(program.port, clients=CLIENTS) as load:
            load.wait_sessions(200)
            victim.kill()
            program.wait_log(f"target 127.0.0.1:{first} is down")
            load.wait_sessions(200)
            with start_service(first, "first"):
                program.wait_log(f"target 127.0.0.1:{first} is up .was down")
                before = load.answers[b"first"]
                wait_until(lambda: load.answers[b"first"] > before + 20, "the target takes part again")
                load.stop()
        assert load.failed_in("connect") == []
        assert len(load.failed_in("session")) <= CLIENTS, load.failures[:20]


def test_a_dead_supervisor_takes_no_worker_with_it_into_a_zombie(proxy, service):
    program = proxy(targets=[service()], top={"workers": 2})
    assert len(program.workers()) == 2
    assert all(WORKER in line for pid, line in procfs.children(program.pid).items() if pid in program.workers())
    workers = program.workers()
    assert program.stop() == 0
    assert running(workers) == []


@pytest.mark.slow
def test_a_worker_that_hangs_is_reported_with_its_stacks_and_replaced(proxy, service):
    """SIGSTOP makes it silent on its channel; 10 s later its stacks are asked for and it is replaced (9.7)."""
    program = proxy(targets=[service()])
    worker = program.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    waiting = program.connect()
    program.wait_log(r"silent|hang|answer", seconds=20)
    waiting.send(b"at last").expect(b"at last", seconds=20)
    assert worker not in program.workers()
    program.baseline.clear()
    program.uncounted = None
