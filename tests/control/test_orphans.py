"""Process 1 buries what scripts leave behind, and nothing that is somebody's to wait for."""

import json
import os
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
from kit.waiting import pause, wait_until
from tcp_proxy.control import orphans


def zombies(pid):
    return [child for child, line in procfs.children(pid).items() if not line]


def test_what_we_have_started_is_left_to_who_waits_for_it():
    for how in ({}, {"process_group": 0}):
        with subprocess.Popen([sys.executable, "-c", ""], **how) as child:
            wait_until(lambda child=child: child.pid in zombies(os.getpid()), "its end")
            assert child.pid not in orphans.ended()
    with subprocess.Popen([sys.executable, "-c", ""], start_new_session=True) as child:
        wait_until(lambda: child.pid in orphans.ended(), "its end")


def test_elsewhere_nothing_is_done():
    orphans.begin(None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a namespace of processes")
def test_as_process_1(tmp_path, service):
    """A check that leaves two children behind each time: one in its group, one in a session of its own."""
    need("unshare")
    path = write_script(tmp_path / "check", "(exec sleep 1000) & setsid sh -c 'sleep 0.1' & exit 0")
    health = {"type": "script", "command": path, "interval": 0.2, "timeout": 0.2}
    config = {"apps": [{"name": "app", "ports": [free_port()], "targets": [service().address], "health": health}]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    argv = [shutil.which("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-m", "tcp_proxy"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, cwd=tmp_path, env=env, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as outer:
        try:
            assert any(b"ready:" in line for line in outer.stderr)
            (first,) = procfs.children(outer.pid)
            wait_until(lambda: len(zombies(first)) >= 10, "many that are to be buried")
            wait_until(lambda: len(zombies(first)) <= 2, "their end")
            pause(0.5)
            os.kill(first, signal.SIGTERM)
            assert b"Traceback" not in outer.stderr.read()
            assert outer.wait(20) == 0
        finally:
            outer.kill()
