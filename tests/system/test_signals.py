"""SIGTERM and SIGINT end the program without losing a client, a second one at once; other signals break nothing."""

import os
import signal

import pytest

from kit import procfs
from kit.load import Load
from kit.peer import connect
from kit.waiting import Stopwatch, pause, wait_until

ENDING = [signal.SIGTERM, signal.SIGINT]
EVERY = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_lets_sessions_finish_and_refuses_new_clients(proxy, target, number):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    program.workers()
    program.signal(number)
    wait_until(lambda: not procfs.tcp_sockets(program.pid)["LISTEN"], "the listener is closed")
    with pytest.raises(OSError, match="refused"):
        connect(program.port, seconds=3)
    client.send(b"still here")
    server.expect(b"still here").send(b"so am I").fin()
    client.expect(b"so am I").expect_fin().fin()
    server.expect_fin()
    assert program.wait() == 0
    assert program.record()["reason"] == "done"


def test_without_sessions_the_end_is_quick(proxy, service):
    program = proxy(targets=[service()], top={"workers": 2, "shutdown_grace": 30})
    watch = Stopwatch()
    assert program.stop() == 0
    assert watch.seconds < 8


def test_a_session_that_outlives_the_grace_is_reset(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], top={"shutdown_grace": 0.5})
    client, server = program.connect(), server_side.accept()
    program.signal(signal.SIGTERM)
    client.expect_rst()
    server.expect_rst()
    assert program.wait() == 0
    program.wait_log("WARNING.*1 session did not end in time and was reset", seconds=0.1)
    record = program.record()
    assert (record["reason"], record["ended_by"]) == ("shutdown", "proxy")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_at_once(proxy, target, number, status):
    server_side = target()
    program = proxy(targets=[server_side], top={"shutdown_grace": 60})
    client, server = program.connect(), server_side.accept()
    server.send(b"the first half of an answer")
    client.expect(b"the first half of an answer")
    family = program.family()
    program.signal(number)
    wait_until(lambda: not procfs.tcp_sockets(program.pid)["LISTEN"], "the first signal is obeyed")
    watch = Stopwatch()
    program.signal(number)
    client.expect_rst()  # a FIN would make the half look whole
    server.expect_rst()
    assert program.wait() == status
    assert watch.seconds < 8
    wait_until(lambda: not any(procfs.is_running(pid) for pid in family), "the workers' end")
    record = program.record()
    assert (record["reason"], record["ended_by"]) == ("shutdown", "proxy")


def test_a_second_signal_resets_bulk_sessions_too(proxy, target):
    """Those that live in a relay thread."""
    server_side = target()
    program = proxy(targets=[server_side], top={"shutdown_grace": 60})
    client, server = program.connect(), server_side.accept()
    chunk = bytes(1 << 20)
    for _ in range(16):
        server.send(chunk)
        client.expect(chunk)
    program.signal(signal.SIGTERM)
    wait_until(lambda: not procfs.tcp_sockets(program.pid)["LISTEN"], "the first signal is obeyed")
    program.signal(signal.SIGTERM)
    client.expect_rst()
    server.expect_rst()
    assert program.wait() == 143
    assert program.record()["reason"] == "shutdown"


def test_a_worker_that_does_not_obey_is_killed_soon_after_a_second_signal(proxy, service):
    program = proxy(targets=[service()], top={"shutdown_grace": 60})
    (worker,) = program.workers()
    os.kill(worker, signal.SIGSTOP)
    program.signal(signal.SIGTERM)
    program.wait_log("no new clients")
    program.signal(signal.SIGTERM)
    assert program.wait() == 143
    assert not procfs.is_running(worker)
    program.uncounted = None


def test_a_grace_of_nothing_resets_and_records(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], top={"shutdown_grace": 0})
    client, server = program.connect(), server_side.accept()
    program.signal(signal.SIGTERM)
    client.expect_rst()
    server.expect_rst()
    assert program.wait() == 0
    assert program.record()["reason"] == "shutdown"


@pytest.mark.parametrize("number", EVERY)
def test_a_signal_to_a_worker_alone_breaks_no_session(proxy, target, number):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    worker = program.workers()
    for _ in range(3):
        os.kill(worker[0], number)
        client.send(b"?")
        server.expect(b"?").send(b"!")
        client.expect(b"!")
    assert program.workers() == worker
    assert program.is_running


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_to_the_whole_group_breaks_no_session(proxy, target, number):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    worker = program.workers()
    for _ in range(3):
        program.signal_group(number)
        client.send(b"?")
        server.expect(b"?").send(b"!")
        client.expect(b"!")
    assert program.workers() == worker
    assert program.is_running


@pytest.mark.parametrize("number", ENDING)
def test_a_stop_sent_to_the_whole_group_is_as_graceful_as_one_to_the_supervisor(proxy, target, number):
    """Ctrl-C in a terminal reaches everybody; only the supervisor may act on it."""
    server_side = target()
    program = proxy(targets=[server_side], top={"workers": 2})
    client, server = program.connect(), server_side.accept()
    program.workers()
    program.signal_group(number)
    wait_until(lambda: not procfs.tcp_sockets(program.pid)["LISTEN"], "the listener is closed")
    client.send(b"x" * 100_000).fin()
    assert len(server.read_to_end()) == 100_000
    server.fin()
    client.expect_fin()
    assert program.wait() == 0


@pytest.mark.parametrize("number", EVERY)
def test_a_worker_that_is_still_starting_ignores_signals_too(proxy, service, number):
    """From before its first import (9.7)."""
    program = proxy(targets=[service()], ready=False)
    worker = wait_until(program.workers, "the first worker", 5)
    while not program.count_log("ready:"):
        os.kill(worker[0], number)
        pause(0.01)
    program.wait_ready()
    assert program.workers() == worker
    assert program.connect().send(b"hi").expect(b"hi")


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_loses_no_client_whose_connect_succeeded(proxy, service, workers):
    """Ten runs. Refused clients are not lost: they know it at once and go elsewhere."""
    echo = service()
    for run in range(10):
        program = proxy(targets=[echo], top={"workers": workers})
        program.uncounted = None
        with Load(program.port, clients=8, connect_seconds=0.3) as load:
            load.wait_sessions(100)
            program.workers()
            program.signal(signal.SIGTERM)
            assert program.wait() == 0
        assert load.failed_in("session") == [], f"run {run}: {load.failed_in('session')[:3]}"
        assert len(program.records_now()) == load.done
        assert {record["reason"] for record in program.records_now()} == {"done"}


def test_repeated_sigterm_while_nothing_runs(proxy, service):
    """Signals in a row, faster than they are handled: one clean end or one hard end, never a hang or a traceback."""
    for _ in range(5):
        program = proxy(targets=[service()])
        program.workers()
        for _ in range(5):
            if program.is_running:
                program.signal(signal.SIGTERM)
        assert program.wait() in {0, 143, -signal.SIGTERM}  # the last: it came while the interpreter was shutting down
