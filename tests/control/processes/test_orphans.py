"""What scripts leave behind is reaped by process 1, and elsewhere by the supervisor, for as long as it lives."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from kit import procfs
from kit.ports import free_port
from kit.programs import need
from kit.proxy import ROOT
from kit.shell import write_script
from kit.waiting import wait_until

# One of its session; one that leads a process group, as timeout(1) does, and hangs; one with a session of its own.
BODY = "(exec sleep 1000) & timeout 1000 sleep 1000 & setsid sh -c 'sleep 0.1' & echo >> {count}; exit 0"


def states(pid):
    """(children that have ended, others that sleep)"""
    children = procfs.children(pid)
    return sum(not line for line in children.values()), sum("sleep" in str(line) for line in children.values())


def of_scripts(folder):
    """The processes of its checks, whoever is their parent now: a variable tells them."""
    mark, found = f"OF_SCRIPTS={folder}\0".encode(), []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                found += [int(entry)] if mark in pathlib.Path(f"/proc/{entry}/environ").read_bytes() else []
    return found


def configuration(folder, service):
    count = folder / "count"
    path = write_script(folder / "check", BODY.format(count=count))
    health = {"type": "script", "command": path, "interval": 0.2, "timeout": 0.2, "interval_down": 0.2}
    health["environment"] = [f"OF_SCRIPTS={folder}"]
    app = {"name": "app", "ports": [free_port()], "targets": [service().address], "health": health}
    (folder / "config.json").write_text(json.dumps({"apps": [app]}))
    return lambda: len(count.read_text()) if count.exists() else 0


def is_clean(pid):
    """But for the check that runs just now."""
    ended, sleeping = states(pid)
    return ended <= 2 and sleeping <= 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a namespace of processes")
def test_as_process_1(tmp_path, service):
    need("unshare")
    count = configuration(tmp_path, service)
    argv = [shutil.which("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-m", "tcp_proxy"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, cwd=tmp_path, env=env, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as outer:
        try:
            assert any(b"ready:" in line for line in outer.stderr)
            (first,) = procfs.children(outer.pid)
            wait_until(lambda: count() >= 20, "many checks")
            wait_until(lambda: is_clean(first), lambda: f"their end: {states(first)}")
            os.kill(first, signal.SIGTERM)
            assert b"Traceback" not in outer.stderr.read()
            assert outer.wait(20) == 0
        finally:
            outer.kill()


def test_as_any_other_process(tmp_path, service):
    count = configuration(tmp_path, service)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "tcp_proxy"]
    with subprocess.Popen(argv, cwd=tmp_path, env=env, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as program:
        try:
            assert any(b"ready:" in line for line in program.stderr)
            wait_until(lambda: count() >= 20, "many checks")
            wait_until(lambda: is_clean(program.pid), lambda: f"their end: {states(program.pid)}")
            program.send_signal(signal.SIGTERM)
            assert b"Traceback" not in program.stderr.read()
            assert program.wait(20) == 0
        finally:
            program.kill()
            with contextlib.suppress(TimeoutError):  # what has a session of its own is let go, and ends by itself
                wait_until(lambda: not of_scripts(tmp_path), "the end of what was let go", 5)
            left = of_scripts(tmp_path)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert not left, "nothing that a script has started outlives the program"
