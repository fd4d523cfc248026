"""Processes of ours as they are started: deaf to signals, found from any folder, nothing left open. Real processes."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from kit.proxy import ROOT
from tcp_proxy.control.processes.spawned import Spawned, _environment


def test_the_first_worker_is_started_before_anything_else_is_imported():
    """While it imports the supervisor does, too: what stands before that is waited for twice."""
    code = "import sys, tcp_proxy.control.processes.spawned; print(*(n for n in sys.modules if n.startswith('tcp_proxy')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    loaded = set(done.stdout.split())
    packages = {"tcp_proxy", "tcp_proxy.control", "tcp_proxy.control.processes"}
    assert {name for name in loaded if name.startswith("tcp_proxy")} == {*packages, "tcp_proxy.control.processes.spawned"}
    assert not {"dataclasses", "inspect", "json", "logging", "typing"} & loaded


def test_starting_one_leaves_our_own_signals_as_they_were():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    Spawned().discard()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


GROUP = """
import os, signal, sys
from tcp_proxy.control.processes.spawned import Spawned
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
all = [Spawned() for _ in range(5)]
for _ in range(100):
    os.killpg(0, signal.SIGINT)
    os.killpg(0, signal.SIGTERM)
signal.signal(signal.SIGINT, signal.SIG_DFL)
from tcp_proxy.wire.messages import Ping, encode
for spawned in all:
    spawned.sock.sendall(encode(Ping(7)))
    spawned.sock.settimeout(20)
    assert b"Pong" in spawned.sock.recv(100)
    os.killpg(0, signal.SIGTERM)
    spawned.sock.close()
print(*(spawned.process.wait(20) for spawned in all))
"""


def test_a_signal_to_the_whole_group_right_after_the_start_ends_no_worker():
    """As Ctrl-C in a terminal: each worker still answers, and ends by itself when its channel does."""
    done = subprocess.run(
        [sys.executable, "-c", GROUP], cwd=ROOT, start_new_session=True,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0 0 0 0 0\n", "")


OUTSIDE = """
import sys
from tcp_proxy.control.processes.spawned import Spawned
from tcp_proxy.wire.messages import Ping, encode
spawned = Spawned()
spawned.sock.sendall(encode(Ping(1)))
print(b"Pong" in spawned.sock.recv(100))
spawned.discard()
"""


@pytest.mark.parametrize("more", ["", "/nowhere"])
def test_a_source_tree_that_is_not_installed_works_from_any_folder(tmp_path, more):
    """-P and another working folder: the tree is named by PYTHONPATH, and what stood there before is kept."""
    (tmp_path / "json.py").write_text("raise SystemExit('the working folder is not searched')")
    path = f"{ROOT}:{more}" if more else str(ROOT)
    done = subprocess.run(
        [sys.executable, "-P", "-c", OUTSIDE], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_environment_of_a_child_names_the_tree_first(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert _environment()["PYTHONPATH"] == f"{ROOT}:/elsewhere"
    monkeypatch.delenv("PYTHONPATH")
    assert _environment()["PYTHONPATH"] == str(ROOT)


def test_what_a_child_may_keep_of_freed_memory_is_said_unless_the_user_has_said_it(monkeypatch):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    assert int(_environment()["MALLOC_TRIM_THRESHOLD_"]) > 1 << 20
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    assert _environment()["MALLOC_TRIM_THRESHOLD_"] == "1"


def test_the_soft_descriptor_limit_becomes_the_hard_one():
    code = (
        "import resource; from tcp_proxy.control.processes.spawned import raise_descriptor_limit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 150)); raise_descriptor_limit()\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "150 150\n"


def test_a_start_that_fails_leaves_nothing_open():
    before = len(os.listdir("/proc/self/fd"))
    executable, sys.executable = sys.executable, "/no/such/python"
    try:
        with pytest.raises(FileNotFoundError):
            Spawned()
    finally:
        sys.executable = executable
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_that_is_not_needed_is_gone_and_reaped():
    spawned = Spawned()
    spawned.discard()
    assert spawned.process.returncode == -signal.SIGKILL
    assert not pathlib.Path(f"/proc/{spawned.process.pid}").exists()
    spawned.discard()


def test_it_ends_when_its_channel_does_even_before_its_snapshot():
    spawned = Spawned()
    spawned.sock.close()
    assert spawned.process.wait(10) == 0
    spawned.discard()


