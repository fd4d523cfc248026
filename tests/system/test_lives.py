"""Processes die: a worker, the supervisor, a target. What each death costs, and what comes after it."""

import os
import signal

import pytest

from kit import procfs
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


@pytest.mark.alone
def test_workers_without_a_supervisor_stop_listening_and_drain(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], top={"workers": 2, "shutdown_grace": 3})
    client, server = program.connect(), server_side.accept()
    workers = program.workers()
    program.signal(signal.SIGKILL)
    program.wait()
    wait_until(lambda: not any(procfs.tcp_sockets(pid)["LISTEN"] for pid in running(workers)), "closed listeners", 0.5)
    client.send(b"x")
    server.expect(b"x")
    client.expect_rst(seconds=8)
    wait_until(lambda: not running(workers), "the workers' end", 4)


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
