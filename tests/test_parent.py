"""A parent that stays, as process 1 of a container does, while programs take over from each other below it."""

import os
import signal
import sys

import pytest

from kit import procfs
from kit.api import api_config
from kit.ctl import Ctl
from kit.ports import free_port
from kit.proxy import Proxy
from kit.takeover import TOP
from kit.waiting import PATIENCE, wait_until

PARENT = (sys.executable, "-m", "tcp_proxy.parent")


@pytest.fixture
def parent(tmp_path, service, servers):
    """parent(): it, and the program's configuration."""
    app = {"name": "app", "ports": [free_port()], "health": [], "targets": [service().address]}
    one = Proxy({"workers": 1, **TOP, "api": api_config(), "apps": [app], "shutdown_grace": 5}, tmp_path, program=PARENT)
    servers.callback(one.kill)
    servers.callback(one.close_clients)
    one.wait_log("management API on")
    return one


def program_of(parent):
    return int((parent.folder / "proxy.pid").read_text())


def test_programs_take_over_below_it_and_it_ends_with_the_last(parent, servers):
    first = program_of(parent)
    assert first != parent.pid
    kept = parent.connect().send(b"a").expect(b"a")
    Ctl.of(parent)("upgrade", seconds=60)
    wait_until(lambda: not procfs.is_running(first), "the first one is reaped")
    second = program_of(parent)
    servers.callback(lambda: procfs.is_running(second) and os.kill(second, signal.SIGKILL))
    assert second != first
    kept.send(b"b").expect(b"b")
    parent.signal(signal.SIGHUP)
    parent.wait_log("SIGHUP: nothing is different")
    kept.close()
    wait_until(lambda: not [pid for pid in procfs.children(parent.pid) if procfs.is_zombie(pid)], "all are reaped")
    parent.signal(signal.SIGTERM)
    assert parent.process.wait(PATIENCE) == 0, parent.log
    assert not procfs.is_running(second)


def test_it_ends_with_the_status_of_a_program_that_nobody_has_taken_over_from(parent, tmp_path):
    os.kill(program_of(parent), signal.SIGKILL)
    assert parent.process.wait(PATIENCE) == 128 + signal.SIGKILL
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    other = Proxy(wrong, tmp_path, program=PARENT)
    assert other.process.wait(PATIENCE) == 2
    other.kill()
