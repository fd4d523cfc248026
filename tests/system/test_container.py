"""The container's entry point, run in a scratch root; what is written in the Dockerfile, without an engine to build it."""

import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import urllib.request

import pytest

from kit.ports import free_port
from kit.proxy import PROGRAM, ROOT, Proxy
from kit.shell import write_script

ENTRY = ROOT / "container" / "entrypoint.sh"
HEALTH = ROOT / "container" / "health.sh"
APP = {"name": "web", "ports": [8080], "targets": ["192.0.2.1:80"]}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


class Scratch:
    """A root to look in, and a program `tcp-proxy` that only says what it was given."""

    def __init__(self, folder):
        self.root = folder / "a root"
        self.bin = folder / "bin"
        (self.root / "etc/flopsy/triggers.d").mkdir(parents=True)
        self.bin.mkdir()
        self.program('printf "<%s>" "$@"')

    def program(self, body):
        write_script(self.bin / "tcp-proxy", body)

    def write(self, name, text="", mode=0o644):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    @property
    def triggers(self):
        return f"<--on-failover><{self.root}/etc/flopsy/triggers.d>"

    def env(self, **more):
        return {"PATH": f"{self.bin}:{os.environ['PATH']}", "ROOT": str(self.root), **more}

    def run(self, *args, **env):
        """(what the program was given, what was said)"""
        done = subprocess.run([ENTRY, *args], env=self.env(**env), capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.removeprefix("<--api><127.0.0.1:8687>"), done.stderr


@pytest.fixture
def scratch(tmp_path):
    return Scratch(tmp_path)


def test_the_variables_become_flags(scratch):
    given, said = scratch.run(PORT="5432", HOSTS="a:1,b:2", MAX_BACKOFF="7")
    assert given == f"<--port><5432><--hosts><a:1,b:2><--max-backoff><7>{scratch.triggers}"
    assert said == ""


def test_empty_ones_are_left_out(scratch):
    assert scratch.run(PORT="", HOSTS="", MAX_BACKOFF="") == (scratch.triggers, "")
    assert scratch.run() == (scratch.triggers, "")


def test_they_are_quoted(scratch):
    given, _ = scratch.run(HOSTS="a:1, b:2 $(touch x) *", PORT="1; exit")
    assert given == f"<--port><1; exit><--hosts><a:1, b:2 $(touch x) *>{scratch.triggers}"


def test_arguments_are_passed_on_and_come_last(scratch):
    given, _ = scratch.run("-b", "0.0.0.0:80", "a b", PORT="1")
    assert given == f"<--port><1>{scratch.triggers}<-b><0.0.0.0:80><a b>"


def test_the_check(scratch):
    path = scratch.write("etc/flopsy/check-host.sh", "#!/bin/sh\n", 0o755)
    assert scratch.run() == (f"<--check-host><{path}>{scratch.triggers}", "")
    path.chmod(0o644)
    given, said = scratch.run()
    assert given == scratch.triggers
    assert f"{path} ignored: it is not an executable file" in said


def test_without_a_folder_of_triggers(scratch):
    (scratch.root / "etc/flopsy/triggers.d").rmdir()
    assert scratch.run(PORT="1") == ("<--port><1>", "")


def test_a_file_is_all_there_is(scratch):
    path = scratch.write("etc/tcp_proxy/config.json", "{}")
    check = scratch.write("etc/flopsy/check-host.sh", "#!/bin/sh\n", 0o755)
    given, said = scratch.run("--check", PORT="1", HOSTS="a:1")
    assert given == f"<{path}><--check>"
    assert said.splitlines() == [f"entrypoint: {what} ignored: there is {path}" for what in ("PORT", "HOSTS", check)]


@pytest.mark.parametrize("with_file", [False, True])
def test_it_becomes_the_program_so_signals_arrive(scratch, service, with_file):
    port, api = free_port(), free_port()
    one = service(greeting=b"one")
    scratch.program(f'[ "$1" != --api ] || {{ shift 2; set -- --api 127.0.0.1:{api} "$@"; }}; exec {" ".join(PROGRAM)} "$@"')
    env = {"PORT": str(port), "HOSTS": one.address}
    if with_file:
        app = {"name": "a", "ports": [port], "targets": [one.address]}
        config = {"apps": [app], "api": {"listen": f"127.0.0.1:{api}"}}
        scratch.write("etc/tcp_proxy/config.json", json.dumps(config))
    program = Proxy(None, scratch.root, program=("env", *(f"{k}={v}" for k, v in scratch.env(**env).items()), str(ENTRY)))
    try:
        program.wait_log("ready:", 20)
        program.wait_log("management API on", 20)
        with_file or program.wait_log("is primary")
        program.connect(port).expect(b"one")
        with urllib.request.urlopen(f"http://127.0.0.1:{api}/healthz", timeout=10) as reply:
            assert reply.status == 200
        program.close_clients()
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
    finally:
        program.kill()


def test_the_dockerfile_copies_what_is_there_and_gives_up_its_rights():
    for sources in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    for line in ("USER 10001:10001", "STOPSIGNAL SIGTERM", 'ENTRYPOINT ["/usr/local/bin/tcp-proxy-start"]'):
        assert line in DOCKERFILE
    assert 'CMD ["/usr/local/bin/tcp-proxy-health"]' in DOCKERFILE
    assert os.access(ENTRY, os.X_OK)
    assert os.access(HEALTH, os.X_OK)


def health(**environment):
    """Whether the container would be well."""
    env = {"PATH": f"{pathlib.Path(PROGRAM[0]).parent}:/usr/bin:/bin", **environment}
    return subprocess.run([HEALTH], env=env, capture_output=True, timeout=20, check=False).returncode == 0


def test_it_is_well_while_the_health_file_is_young(tmp_path):
    file = tmp_path / "a health file"
    where = {"TCP_PROXY_HEALTH_FILE": str(file), "HEALTH_URL": ""}
    assert not health(**where)
    file.write_text("serving\n")
    assert health(**where)
    old = time.time() - 60
    os.utime(file, (old, old))
    assert not health(**where)


def test_it_is_well_without_an_api(proxy, service, tmp_path, monkeypatch):
    file = str(tmp_path / "health")
    monkeypatch.setenv("TCP_PROXY_HEALTH_FILE", file)
    program = proxy(targets=[service()])
    assert health(TCP_PROXY_HEALTH_FILE=file)
    program.stop()
    assert not health(TCP_PROXY_HEALTH_FILE=file)


def test_with_an_address_that_is_asked(service):
    answer = b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    for status, is_well in ((b"200 OK", True), (b"503 No", False)):
        web = service(answer=lambda _data, status=status: answer % status)
        assert health(HEALTH_URL=f"http://{web.address}/healthz", TCP_PROXY_HEALTH_FILE="/nowhere") is is_well


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")
@pytest.mark.parametrize(
    ("owner", "group", "mode", "groups", "is_good"),
    [
        (10001, 10001, 0o400, "", True),  # a file of the machine, or Swarm with uid and mode
        (0, 0, 0o440, "0", True),  # Kubernetes: defaultMode 0400 and fsGroup 0
        (0, 2000, 0o440, "2000", False),  # another fsGroup
        (0, 0, 0o444, "", False),  # what engines do if nothing else is said
        (0, 0, 0o400, "", False),  # defaultMode 0400 alone
    ],
)
def test_a_token_as_engines_mount_secrets(owner, group, mode, groups, is_good):
    """docs/container.md says which of these are right. The program's user in the image is number 10001."""
    assert "--uid 10001" in DOCKERFILE
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        token = pathlib.Path(folder) / "token"
        token.write_text("0123456789abcdef0123\n")
        os.chown(token, owner, group)
        token.chmod(mode)
        config = {"api": {"listen": f"127.0.0.1:{free_port()}", "token_file": str(token)}, "apps": [APP]}
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(config))
        become = ["setpriv", "--reuid=10001", "--regid=10001", f"--groups={groups}" if groups else "--clear-groups"]
        check = [*become, *PROGRAM, "--check", f"{folder}/config.json"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(check, env=env, cwd=folder, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == (0 if is_good else 2), done
        assert is_good or "token file" in done.stderr
