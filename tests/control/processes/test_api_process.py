"""The API's process in a running program: its own, replaced when it dies, gone when the supervisor goes."""

import os
import pathlib
import signal

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.waiting import wait_until

MODULE = b"tcp_proxy.control.api.server"


def api_pid(program):
    """None between a death and the next one."""
    return next((pid for pid, line in procfs.children(program.pid).items() if MODULE in line), None)


@pytest.fixture
def program(proxy, service):
    return proxy(targets=[service()], top={"api": api_config()})


def test_there_is_no_process_without_the_key(proxy, service):
    assert api_pid(proxy(targets=[service()])) is None


def test_a_killed_one_is_replaced_and_sessions_do_not_notice(program):
    client = program.connect().send(b"x").expect(b"x")
    api = Api.of(program)
    for _ in range(3):
        before = api_pid(program)
        os.kill(before, signal.SIGKILL)
        wait_until(lambda old=before: api_pid(program) not in (None, old), "another process")
        assert api.get("/api/v1/status").json["pid"] == program.pid, "a request waits in the queue of the listener"
        client.send(b"y").expect(b"y")
    assert program.count_log("management API .* ended: SIGKILL") == 3


def test_it_does_not_mind_signals_to_the_group(program):
    pid = api_pid(program)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(pid, number)
    Api.of(program).get("/api/v1/status")
    assert api_pid(program) == pid


def test_it_answers_while_the_program_stops_and_ends_with_it(program):
    client = program.connect().send(b"x").expect(b"x")
    pid = api_pid(program)
    program.signal(signal.SIGTERM)
    program.wait_log("SIGTERM: no new clients")
    assert Api.of(program).get("/api/v1/status").json["state"] == "stopping"
    client.close()
    assert program.wait() == 0
    assert not procfs.is_running(pid)


def test_it_ends_when_the_supervisor_is_killed(program):
    pid = api_pid(program)
    program.workers()
    program.process.kill()
    wait_until(lambda: not procfs.is_running(pid), "its end")
    program.kill()


def test_one_that_is_stopped_or_imports_is_no_hindrance_to_the_next_supervisor(program, proxy):
    """It holds the listening socket, and does not look at its channel."""
    where, config = Api.of(program).where, program.config
    program.workers()
    os.kill(api_pid(program), signal.SIGSTOP)
    program.process.kill()
    program.process.wait()
    following = proxy(config=config)
    assert Api(where).get("/api/v1/status").json["pid"] == following.pid
    program.kill()


def test_a_unix_socket(proxy, service, tmp_path):
    program = proxy(targets=[service()], top={"api": {"listen": f"unix:{tmp_path}/api.sock"}})
    assert Api.of(program).get("/api/v1/status").json["pid"] == program.pid
    assert program.stop() == 0
    assert not (tmp_path / "api.sock").exists()


def test_the_supervisor_imports_nothing_of_it(program):
    maps = [pathlib.Path(f"/proc/{pid}/maps").read_text() for pid in (program.pid, api_pid(program))]
    assert ["pydantic_core" in text for text in maps] == [False, True]
