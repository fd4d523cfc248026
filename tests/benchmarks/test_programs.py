"""Programs are found or named with their packages, and nothing of one is left when it has been stopped."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from benchmarks import programs
from benchmarks.programs import Failed, Missing, Program
from kit import procfs
from kit.ports import free_port
from kit.programs import need
from kit.waiting import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVER = (
    "import signal, socket, subprocess, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(sys.argv[2])))\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
    "server = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
    "signal.pause()\n"
)


ORPHANS = (
    "import os, subprocess, sys\n"
    "from benchmarks import procfs\n"
    "from benchmarks.programs import stop_what_is_left\n"
    "words = [sys.executable, '-c', \"import os; os.spawnlp(os.P_WAIT, 'sleep', 'sleep', '60')\"]\n"
    "subprocess.Popen(words)\n"
    "while len(found := procfs.tree(os.getpid())) < 3: pass\n"
    "stop_what_is_left()\n"
    "print(*found[1:], procfs.tree(os.getpid()) == found[:1])\n"
)


def test_what_is_missing_is_named_with_its_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(programs, "ELSEWHERE", ())
    with pytest.raises(Missing, match=r"^not installed: nginx, wrk \(Debian: apt install nginx-light wrk\)$"):
        programs.need(["nginx", "wrk"])
    with pytest.raises(Missing, match=r"^sockperf is not installed \(Debian: apt install sockperf\)$"):
        programs.find("sockperf")


def test_the_stream_module_is_a_package_of_its_own(monkeypatch):
    need("nginx")
    monkeypatch.setattr(programs, "stream_module", lambda: None)
    with pytest.raises(Missing, match="libnginx-mod-stream"):
        programs.need(["nginx"])


def test_another_one_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "_instead", {})
    path = tmp_path / "haproxy"
    path.write_text("#!/bin/sh\necho HAProxy version 9.9.9-0 2026/01/01\n")
    path.chmod(0o755)
    programs.use("haproxy", str(path))
    assert (programs.find("haproxy"), programs.version("haproxy")) == (str(path), "9.9.9-0")


@pytest.mark.parametrize("name", programs.PACKAGES)
def test_versions(name):
    need(name)
    assert programs.version(name)[0].isdigit()


def test_nobody_is_left_whose_start_was_interrupted():
    words = [sys.executable, "-W", "ignore", "-c", ORPHANS]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    child, grandchild, is_clean = done.stdout.split()
    assert is_clean == "True"
    assert not procfs.is_running(int(child))
    wait_until(lambda: not procfs.is_running(int(grandchild)), "the end of the child's child")


@pytest.fixture
def server(tmp_path):
    port = free_port()
    program = Program([sys.executable, "-c", SERVER, port, 0], tmp_path, [port])
    yield program
    program.stop()


def test_a_program_is_waited_for_and_stopped_with_its_children(server):
    server.wait_listening()
    family = server.pids()
    assert len(family) == 2
    server.check()
    server.stop()
    wait_until(lambda: not any(map(procfs.is_running, family)), "all have ended")


def test_children_of_a_program_that_was_killed_end_too(server):
    server.wait_listening()
    family = server.pids()
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    with pytest.raises(Failed, match="ended with status -9"):
        server.check()
    server.stop()
    wait_until(lambda: not any(map(procfs.is_running, family)), "all have ended")


def test_a_program_that_ends_at_once_says_why(tmp_path):
    port = free_port()
    program = Program([sys.executable, "-c", "raise SystemExit('no such luck')"], tmp_path, [port])
    with pytest.raises(Failed, match="no such luck"):
        program.wait_listening()
    program.stop()
