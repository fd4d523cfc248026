"""The cluster agent's process in a running program: its own, replaced when it dies or hangs, gone when the program goes."""

import contextlib
import os
import pathlib
import signal
import socket

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.clock import Clock
from kit.etcd import Etcd
from kit.waiting import wait_until
from tcp_proxy.control.processes import agent_process as module
from tcp_proxy.control.processes.agent_process import BACKOFF_FIRST, AgentProcess
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.cluster import HoldWrites, JoinCluster, ReleaseWrites

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


# -- without a process


ORDER = JoinCluster("default", "a", "1f", ("http://e:1",), 10.0, "", "", "", "", "", 0.0, "info")


class Child:
    """What stands for a process: it ends when a test says so."""

    pid, has_wrong_version = 1, False
    all = []  # noqa: RUF012

    def __init__(self, loop, _name, _spawned, _received, ended):
        self.started, self.sent, self._ended = loop.now, [], ended
        self.all.append(self)

    def send(self, message):
        self.sent.append(message)

    def end(self):
        self._ended(self, "SIGKILL")

    def discard(self):
        """Nothing is there."""


@pytest.fixture
def agent(monkeypatch):
    """With its `clock` and `loop`; its processes are in Child.all."""
    monkeypatch.setattr(module, "Spawned", lambda *_: None)
    monkeypatch.setattr(module, "Child", Child)
    monkeypatch.setattr(Child, "all", [])
    clock = Clock()
    with contextlib.closing(Loop(clock=clock)) as loop:
        made = AgentProcess(loop, ORDER, lambda _news: None, lambda: None, socket.socket)
        made.clock, made.loop = clock, loop
        made.start()
        yield made


def turn(agent, seconds):
    agent.clock.turn(seconds)
    agent.loop.run_once(0)


def test_none_is_started_while_another_program_is_about_to_be_this_node(agent):
    """It would take a lease of its own, and the place of the node that goes on there."""
    agent.hold()
    Child.all[0].end()
    turn(agent, BACKOFF_FIRST)
    assert len(Child.all) == 1
    agent.release()
    assert len(Child.all) == 2
    assert Child.all[1].sent == [ORDER]
    turn(agent, BACKOFF_FIRST)
    assert len(Child.all) == 2, "once"


def test_one_that_is_held_and_released_lives_on(agent):
    agent.hold()
    agent.release()
    turn(agent, BACKOFF_FIRST)
    assert len(Child.all) == 1
    assert Child.all[0].sent == [ORDER, HoldWrites(), ReleaseWrites()]


def test_one_that_ended_meanwhile_is_not_started_after_the_end(agent):
    agent.hold()
    Child.all[0].end()
    turn(agent, BACKOFF_FIRST)
    agent.stop()
    agent.release()
    assert len(Child.all) == 1
