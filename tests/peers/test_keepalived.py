"""A virtual address that keepalived moves, by what /readyz says: the configuration of docs/cluster.md, in two namespaces."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess

import pytest

from kit.ports import free_port
from kit.programs import need, run
from kit.proxy import PROGRAM, Proxy
from kit.waiting import wait_until

DOCS = (pathlib.Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
EXAMPLE = re.search(r"```\n(global_defs \{.*?)```", DOCS, re.DOTALL)[1]
VIRTUAL = "192.0.2.100"


class Machine:
    """A network namespace with a proxy and a keepalived."""

    def __init__(self, name, address, folder, stack):
        self.name, self.address, self.folder, self.stack = name, address, folder, stack
        self.inside = (need("ip"), "netns", "exec", name)
        folder.mkdir()

    def serve(self):
        api, port = free_port(), free_port()
        app = {"name": "app", "bind": "*", "ports": [8080], "targets": [f"127.0.0.1:{port}"], "health": []}
        config = {"workers": 1, "shutdown_grace": 1, "api": {"listen": f"127.0.0.1:{api}"}, "apps": [app]}
        echo = pathlib.Path(__file__).parents[2] / "examples" / "echo.py"
        self.start(PROGRAM[0], str(echo), "serve", f"127.0.0.1:{port}")
        self.proxy = Proxy(config, self.folder, program=(*self.inside, *PROGRAM))
        self.stack.callback(self.proxy.kill)
        self.proxy.wait_ready()
        return api

    def keep(self, api, priority):
        text = EXAMPLE.replace("eth0", "v0").replace("8687", str(api)).replace("/usr/bin/curl", need("curl"))
        config = self.folder / "keepalived.conf"
        config.write_text(text.replace("priority 100", f"priority {priority}"))
        pids = [f"--{kind}={self.folder}/{kind}" for kind in ("pid", "vrrp_pid", "checkers_pid")]
        own = ["--dont-fork", "--log-console", "--no-syslog", "--vrrp", f"--use-file={config}", *pids]
        with (self.folder / "keepalived.log").open("wb") as log:
            self.start(need("keepalived"), *own, stdout=log, stderr=log)

    def start(self, *command, **output):
        process = subprocess.Popen(
            [*self.inside, *command], stdin=subprocess.PIPE, start_new_session=True,
            **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **output},
        )  # fmt: skip
        self.stack.callback(end, process)

    def has_address(self):
        return f" {VIRTUAL}/24 " in run("ip", "-n", self.name, "-oneline", "address", "show", "dev", "v0")

    def greeting(self):
        """What a client from here is told by whoever has the virtual address."""
        code = f"import socket; print(socket.create_connection(('{VIRTUAL}', 8080), 5).recv(99))"
        command = [*self.inside, PROGRAM[0], "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        return done.stdout.strip()


def end(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.stdin.close()
    process.wait()


@pytest.fixture
def machines(tmp_path):
    need("keepalived")
    if os.geteuid() != 0 or subprocess.run([need("unshare"), "--net", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    names = [f"tp{os.getpid()}{letter}" for letter in "ab"]
    with contextlib.ExitStack() as stack:
        made = []
        for number, name in enumerate(names, 1):
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "delete", name)
            made.append(Machine(name, f"192.0.2.{number}", tmp_path / name, stack))
        run("ip", "link", "add", "v0", "netns", names[0], "type", "veth", "peer", "name", "v0", "netns", names[1])
        for machine in made:
            run("ip", "-n", machine.name, "address", "add", f"{machine.address}/24", "dev", "v0")
            for device in ("lo", "v0"):
                run("ip", "-n", machine.name, "link", "set", device, "up")
        yield made


def test_the_address_goes_where_a_proxy_is_ready(machines):
    a, b = machines
    for machine, priority in ((a, 150), (b, 100)):
        machine.keep(machine.serve(), priority)
    wait_until(lambda: a.has_address() and not b.has_address(), "the first has it")
    wait_until(lambda: "this is" in b.greeting(), "and serves by it")
    a.proxy.stop()
    wait_until(lambda: b.has_address() and not a.has_address(), "the second has it when the first does not serve")
    wait_until(lambda: "this is" in a.greeting(), "and serves by it")
