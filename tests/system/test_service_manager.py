"""The program under a service manager: what systemd hears of it, from its start to its end."""

import signal
import socket

import pytest

from kit.api import Api, api_config
from kit.shell import write_script
from kit.waiting import PATIENCE
from tests.system.test_reload import Config


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """Named before `proxy`, so that it goes after it: a program whose manager is gone closes its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def heard(manager):
    return manager.recv(4096).decode().split("\n")


def test_ready_reload_and_stop_are_told(manager, proxy, target):
    one = target()
    program = proxy(targets=[one])
    assert heard(manager) == ["READY=1", "STATUS=1 app on 1 listener, 1 worker"]
    client = program.connect().send(b"x")
    server = one.accept()
    server.expect(b"x")
    file = Config(program)
    file.app["retries"] = 1
    file.reload()
    began, at = heard(manager)
    assert (began, at[:15]) == ("RELOADING=1", "MONOTONIC_USEC=")
    assert heard(manager) == ["READY=1", "STATUS=SIGHUP: done, 1 change"]
    file.reload(text="{")
    assert heard(manager)[0] == "RELOADING=1"
    assert heard(manager) == ["READY=1", "STATUS=SIGHUP: nothing was changed"]
    program.signal(signal.SIGTERM)
    told = ["STOPPING=1", "STATUS=no new clients; running sessions have 5 s to end", "EXTEND_TIMEOUT_USEC=12000000"]
    assert heard(manager) == told
    client.close()
    server.close()
    assert program.wait() == 0


def test_the_watchdog_hears_of_the_supervisor(manager, proxy, target, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    proxy(targets=[target()])
    kinds = [heard(manager)[0] for _ in range(6)]
    assert kinds.count("WATCHDOG=1") >= 4
    assert kinds.count("READY=1") <= 1


def test_scripts_do_not_have_its_socket(manager, proxy, service, tmp_path):
    """Though `environment` says that they have everything."""
    script = tmp_path / "check"
    write_script(script, "echo found:$NOTIFY_SOCKET:$PATH >&2; exit 0")
    check = {"type": "script", "command": [str(script)], "environment": ["*"], "interval": 1}
    program = proxy(targets=[service()], health=[check], top={"log": {"level": "debug"}, "api": api_config()})
    assert Api.of(program).get("/healthz").status == 200
    assert "found::/" in program.wait_log("found:")
