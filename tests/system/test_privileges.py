"""A program that root starts and that is a plain user's: all of its processes, its files, and its low ports."""

import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import stat
import subprocess

import pytest

from kit import procfs
from kit.other_user import NOBODY, needs_root, open_folder, program
from kit.peer import connect
from kit.ports import free_port
from kit.proxy import ROOT, Proxy
from kit.shell import write_script
from kit.waiting import wait_until
from system.test_reload import Config, messages

pytestmark = needs_root
HOST = "127.0.0.77"  # where nobody else listens below 1024
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "privileges.md"
UID = pwd.getpwnam(NOBODY).pw_uid


@pytest.fixture
def folder():
    with open_folder() as folder:
        yield folder


@pytest.fixture
def start(folder):
    """start(config): the program, in the user's own folder."""
    running = []

    def start(config, ready=True):
        defaults = {"workers": 1, "log": {"format": "json"}, "shutdown_grace": 5, "user": NOBODY}
        running.append(one := Proxy({**defaults, **config}, folder / "own", program=program(folder / "mounts")))
        return one.wait_ready() if ready else one

    yield start
    with contextlib.ExitStack() as stack:
        for one in running:
            stack.callback(one.kill)
        for one in running:
            if one.is_running:
                one.close_clients()
                assert one.stop() == 0, one.log


def app(service, *ports, **keys):
    return {"name": "a", "bind": HOST, "ports": list(ports), "targets": [service.address], "health": [], **keys}


def serves(port):
    """Whether the greeting of its target comes from there."""
    with contextlib.closing(connect(port, HOST)) as client:
        client.send(b"x").expect(b"onex")


def status(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def run(config, folder, *arguments):
    """What it says that ends by itself."""
    (folder / "own" / "config.json").write_text(json.dumps(config))
    return subprocess.run(
        [*program(folder / "mounts"), *arguments, "config.json"], cwd=folder / "own", check=False, timeout=20,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip


def ended(config, folder):
    """What a start that fails says."""
    found = run(config, folder)
    assert (found.returncode, found.stdout) == (1, "")
    return found.stderr


def test_all_processes_are_the_users_and_low_ports_are_listened_on(start, service, folder):
    one = start({"apps": [app(service(greeting=b"one"), 83)], "workers": 2, "api": {"listen": f"unix:{folder}/own/api"}})
    one.wait_log("management API on")
    family = [one.pid, *procfs.children(one.pid)]
    assert len(family) == 4
    for pid in family:
        known = status(pid)
        assert known["Uid"].split() == [str(UID)] * 4
        assert known["Gid"].split() == [str(pwd.getpwnam(NOBODY).pw_gid)] * 4
        capabilities = {name: int(known[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")}
        assert set(capabilities.values()) <= ({1 << 10, 0} if pid == one.pid else {0})
    serves(83)


def test_a_low_port_may_come_with_a_reload(start, service):
    server = service(greeting=b"one")
    one = start({"apps": [app(server, free_port())]})
    file = Config(one)
    file.app["ports"].append(84)
    assert "done" in messages(file.reload())[-1]
    serves(84)
    file.config["user"] = "root"
    lines = messages(file.reload())
    assert any('user: "nobody" -> "root" (at the next start)' in line for line in lines)
    assert status(one.pid)["Uid"].split() == [str(UID)] * 4


def test_what_it_writes_is_the_users(start, service, folder):
    names = ("pid", "state", "access.log")
    files = dict(zip(("pid_file", "state", "access_log"), names, strict=True))
    one = start({"apps": [app(service(hang_up=True, greeting=b"x"), free_port())], **files})
    own = folder / "own"
    assert {name: os.stat(own / name).st_uid for name in names} == dict.fromkeys(names, UID)
    assert int((own / "pid").read_text()) == one.pid
    os.rename(own / "access.log", own / "access.log.1")
    one.signal(signal.SIGUSR2)
    wait_until((own / "access.log").exists, "another access log")
    with contextlib.closing(connect(one.port, HOST)) as client:
        client.receive(1)
    wait_until(lambda: (own / "access.log").read_text(), "a record")
    assert one.stop() == 0
    assert not (own / "pid").exists()


def test_a_script_is_the_users_with_his_environment(start, service, folder):
    said = folder / "own" / "said"
    script = write_script(folder / "check", f'id -u > {said}; id -G >> {said}; echo "$HOME" >> {said}')
    (folder / "check").chmod(0o755)
    check = {"type": "script", "command": [str(script)], "interval": 30}
    start({"apps": [app(service(), free_port(), health=check)]})
    wait_until(lambda: said.exists() and said.read_text().count("\n") == 3, "what the script says")
    uid, groups, home = said.read_text().splitlines()
    entry = pwd.getpwnam(NOBODY)
    assert (int(uid), home) == (UID, entry.pw_dir)
    assert set(map(int, groups.split())) == set(os.getgrouplist(NOBODY, entry.pw_gid))


@pytest.mark.parametrize("key", ["pid_file", "state", "access_log"])
def test_a_file_that_could_not_be_written_is_an_error_at_the_start(folder, key):
    """Also one that root has left there."""
    apps = [{"name": "a", "ports": [free_port()], "targets": ["192.0.2.1:1"], "health": []}]
    (folder / "there").write_text("")
    for path in (folder / "new", folder / "there"):
        text = ended({"apps": apps, "user": NOBODY, key: str(path)}, folder)
        assert len(text.splitlines()) == 1
        assert str(path) in text
        assert re.search("[Pp]ermission denied|unable to open|readonly|cannot be written", text), text
    assert not (folder / "new").exists()


def test_who_cannot_be_is_an_error(folder):
    apps = [{"name": "a", "ports": [free_port()], "targets": ["192.0.2.1:1"], "health": []}]
    assert ended({"apps": apps, "user": "no-such-user"}, folder) == (
        "cannot start: user: this machine has no user no-such-user\n"
    )
    assert "no group no-such-group" in ended({"apps": apps, "user": NOBODY, "group": "no-such-group"}, folder)


def test_files_that_only_root_may_read_are_warned_of_and_a_reload_of_them_fails_whole(start, service, folder):
    one = start({"apps": [app(service(greeting=b"one"), free_port())]}, ready=False)
    path = next((folder / "own").glob("config-*.json"))
    one.wait_ready()
    assert "cannot be read by user" not in one.log
    assert one.stop() == 0
    path.chmod(0o600)
    shutil.chown(path, "root")
    again = Proxy(None, folder / "own", program=program(folder / "mounts"), args=(str(path),))
    try:
        again.wait_ready()
        again.wait_log(f"{path} cannot be read by user nobody: a reload would fail")
        again.signal(signal.SIGHUP)
        again.wait_log("cannot be read: Permission denied")
        again.wait_log("SIGHUP: nothing was changed")
        serves(json.loads(path.read_text())["apps"][0]["ports"][0])
        assert again.stop() == 0
    finally:
        again.kill()


def test_check_looks_as_the_user(folder):
    apps = [{"name": "a", "bind": HOST, "ports": [85], "targets": ["192.0.2.1:1"], "health": []}]
    config = {"apps": apps, "user": NOBODY, "pid_file": str(folder / "pid"), "state": str(folder / "own" / "state")}
    found = run(config, folder, "--check")
    assert (found.returncode, found.stderr) == (0, f"config.json: pid_file: {folder}/pid cannot be written by this user\n")


def test_the_example_of_the_page(start, service, folder):
    text = re.search(r"^```json\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]
    for name in ("run", "lib", "log"):
        (folder / "own" / name).mkdir()
        shutil.chown(folder / "own" / name, NOBODY)
    for said, ours in (("/run/tcp_proxy", "run"), ("/var/lib/tcp_proxy", "lib"), ("/var/log/tcp_proxy", "log")):
        text = text.replace(said, str(folder / "own" / ours))
    config = json.loads(text)
    (one,) = config["apps"]
    assert config["user"] == "tcp_proxy"
    assert one["ports"] == [443]
    one |= {"bind": HOST, "ports": [86], "targets": [service(greeting=b"one").address], "health": []}
    running = start({**config, "user": NOBODY})
    serves(86)
    assert stat.S_ISSOCK(os.stat(folder / "own" / "run" / "api.sock").st_mode)
    assert running.stop() == 0
    assert (folder / "own" / "log" / "access.log").read_text()


def test_so_are_files_that_it_includes_and_secrets(start, service, folder):
    port, secret, apps = free_port(), folder / "secret", folder / "own" / "apps"
    apps.mkdir()
    login = {"type": "http", "headers": {"Authorization": f"@{secret}"}}
    (apps / "a.json").write_text(json.dumps(app(service(), port, health=[login])))
    for path in (secret, apps / "a.json"):
        path.touch()
        path.chmod(0o600)
        shutil.chown(path, "root")
    one = start({"include": "apps"})
    for path in (secret, apps / "a.json"):
        one.wait_log(f"{path} cannot be read by user nobody: a reload would fail")
