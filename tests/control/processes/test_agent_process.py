"""The cluster agent's process in a running program: its own, replaced when it dies or hangs, gone when the program goes."""

import os
import pathlib
import signal

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.etcd import Etcd
from kit.waiting import wait_until

MODULE = b"tcp_proxy.control.cluster_agent.server"


def agent_pid(program):
    """None between a death and the next one."""
    return next((pid for pid, line in procfs.children(program.pid).items() if MODULE in line), None)


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as one:
        yield one


@pytest.fixture
def program(etcd, proxy, service):
    cluster = {"endpoints": etcd.urls, "node": "a", "lease": 2}
    made = proxy(targets=[service()], top={"cluster": cluster, "api": api_config()})
    made.wait_log("joined as node a, 1 node")
    return made


def test_there_is_no_process_without_the_key(proxy, service):
    program = proxy(targets=[service()], top={"api": api_config()})
    assert agent_pid(program) is None
    assert Api.of(program).get("/api/v1/cluster", status=404).json["detail"].startswith("this proxy is in no cluster")


def test_a_killed_one_is_replaced_and_sessions_do_not_notice(program, etcd):
    client = program.connect().send(b"x").expect(b"x")
    for _ in range(3):
        before, lines = agent_pid(program), len(program.lines)
        os.kill(before, signal.SIGKILL)
        wait_until(lambda old=before: agent_pid(program) not in (None, old), "another process")
        client.send(b"y").expect(b"y")
        program.wait_log("joined as node a", since=lines)
    assert program.count_log("cluster agent .* ended: SIGKILL") == 3
    assert len(etcd.keys("/tcp-proxy/default/nodes/")) == 1


@pytest.mark.slow
def test_one_that_hangs_is_replaced(program):
    before = agent_pid(program)
    os.kill(before, signal.SIGSTOP)
    program.wait_log("cluster agent .* has been silent for", seconds=60.0)
    wait_until(lambda: agent_pid(program) not in (None, before), "another process")
    program.connect().send(b"x").expect(b"x")


def test_it_does_not_mind_signals_to_the_group(program):
    pid = agent_pid(program)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(pid, number)
    assert Api.of(program).get("/api/v1/cluster").json["state"] == "joined"
    assert agent_pid(program) == pid


def test_it_leaves_the_cluster_when_the_program_stops(program, etcd):
    assert len(etcd.keys("/tcp-proxy/default/nodes/")) == 1
    assert program.stop() == 0
    assert etcd.keys("/tcp-proxy/default/nodes/") == []


def test_it_leaves_when_the_supervisor_is_killed(program, etcd):
    pid = agent_pid(program)
    program.workers()
    program.process.kill()
    wait_until(lambda: not procfs.is_running(pid), "its end")
    program.kill()
    assert etcd.keys("/tcp-proxy/default/nodes/") == []


def test_an_end_does_not_wait_for_etcd(program, etcd):
    etcd.stop(0)
    pid = agent_pid(program)
    assert program.stop() == 0
    assert not procfs.is_running(pid)
    etcd.go_on(0)


def test_a_file_that_cannot_be_used_is_told(etcd, proxy, service, tmp_path):
    file = tmp_path / "password"
    file.write_text("a\nb\n")
    top = {"cluster": {"endpoints": etcd.urls, "user": "u", "password_file": str(file)}}
    program = proxy(targets=[service()], top=top, ready=False)
    assert program.wait() == 2
    assert f"$.cluster: {file}: wanted one line with a password" in program.log


def test_the_supervisor_imports_nothing_of_it(program):
    maps = [pathlib.Path(f"/proc/{pid}/maps").read_text() for pid in (program.pid, agent_pid(program))]
    assert ["aiohttp" in text for text in maps] == [False, True]
