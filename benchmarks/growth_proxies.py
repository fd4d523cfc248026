"""Those that are compared with many targets: so many apps, `listen` of HAProxy, each with 20 targets and a port of its own.

The targets of the last app are there, all others are addresses that nobody goes to. Statistics are on, on both sides.
HAProxy runs with a master and a worker, as one that is to be reloaded does.
"""

import contextlib
import http.client
import pathlib
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from benchmarks.lab import Lab
from benchmarks.ports import SESSION
from benchmarks.programs import Failed, Program, find
from benchmarks.proxies import Argv, Contender, project_of

PER_APP = 20
ADDED = "added"  # the name of the target that a reload brings
MOST = 256  # its weight, so that nearly each session is its
AT_ONCE = 100  # ports
MAXCONN = 1000
STATS = "stats"  # HAProxy's socket
LISTS = ("/api/v1/status", "/api/v1/workers", "/api/v1/apps", "/api/v1/statistics?brief=true")
WITHIN = 120.0  # seconds, for an answer
HAPROXY = """\
global
    maxconn {maxconn}
    nbthread 1
    stats socket {socket}
defaults
    mode tcp
    backlog 4096
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen api
    mode http
    bind 127.0.0.1:{api}
    {exporter}
    stats enable
    stats uri /
"""
EXPORTER = "http-request use-service prometheus-exporter if { path /metrics }"


@dataclass(frozen=True)
class Crowd:
    """What both are to serve: the ports of the interface for questions and of each app, and of the targets that are there.
    `added` is that of the target that a reload brings, 0 before."""

    api: int
    listeners: Sequence[int]
    greeter: int
    added: int = 0

    def apps(self) -> Iterator[tuple[str, int, list[tuple[str, str, int]]]]:
        """Name, port, and targets by name, address and weight."""
        for number, port in enumerate(self.listeners):
            is_last = number == len(self.listeners) - 1
            net = f"127.{1 + number // 250}.{1 + number % 250}"
            hosts = ["127.0.0.1" if is_last else f"{net}.{1 + target}" for target in range(PER_APP)]
            targets = [(f"t{target}", f"{host}:{self.greeter}", 1) for target, host in enumerate(hosts)]
            if is_last and self.added:
                targets.append((ADDED, f"127.0.0.1:{self.added}", MOST))
            yield f"app{number}", port, targets


def write_project(crowd: Crowd, folder: pathlib.Path) -> tuple[Argv, dict[str, str] | None]:
    apps = [
        {
            "name": name, "ports": [port], "health": [],
            "targets": [{"name": target, "address": address, "weight": weight} for target, address, weight in targets],
        }
        for name, port, targets in crowd.apps()
    ]  # fmt: skip
    api = {"listen": f"127.0.0.1:{crowd.api}"}
    return project_of({"workers": 1, "log": {"level": "warning"}, "api": api, "apps": apps}, folder)


def write_haproxy(crowd: Crowd, folder: pathlib.Path) -> tuple[Argv, dict[str, str] | None]:
    exporter = EXPORTER if has_exporter() else ""
    text = [HAPROXY.format(maxconn=MAXCONN, socket=folder / STATS, api=crowd.api, exporter=exporter)]
    for name, port, targets in crowd.apps():
        text.append(f"listen {name}\n    bind 127.0.0.1:{port}\n")
        text += [f"    server {target} {address} weight {weight}\n" for target, address, weight in targets]
    config = folder / "haproxy.cfg"
    config.write_text("".join(text))
    return [find("haproxy"), "-W", "-db", "-f", config], None


WRITERS = {"project": write_project, "haproxy": write_haproxy}


class Crowded(Program):
    """A contender with so many apps, each on a port of its own; `lab` has the targets."""

    def __init__(self, lab: Lab, contender: Contender, apps: int, folder: pathlib.Path) -> None:
        api, *listeners = ports(apps + 1)
        self.is_project, self._folder, self._added = contender.kind == "project", folder, lab.targets["added"]
        self._crowd = Crowd(api, listeners, lab.targets["greet"])
        argv, env = WRITERS[contender.kind](self._crowd, folder)
        super().__init__(argv, folder, (api, listeners[-1]), env)

    @property
    def last(self) -> int:
        """The port of the last app."""
        return self._crowd.listeners[-1]

    def reload(self) -> None:
        """One more target for the last app."""
        WRITERS["project" if self.is_project else "haproxy"](replace(self._crowd, added=self._added), self._folder)
        self.process.send_signal(signal.SIGHUP if self.is_project else signal.SIGUSR2)

    def metrics(self) -> int:
        """How many bytes they are."""
        return self._get("/metrics" if self.is_project or has_exporter() else "/;csv")

    def status(self) -> int:
        """Of the program as a whole; HAProxy says it of everything."""
        return self._get("/api/v1/status") if self.is_project else self._show_stat()

    def list(self) -> int:
        """Every target with its state and its counters: what `tcp-proxy-ctl status` asks for."""
        return sum(map(self._get, LISTS)) if self.is_project else self._show_stat()

    def _show_stat(self) -> int:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(WITHIN)
            sock.connect(str(self._folder / STATS))
            sock.sendall(b"show stat\n")
            size = 0
            while data := sock.recv(1 << 20):
                size += len(data)
        return size

    def _get(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._crowd.api, timeout=WITHIN)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            buffer, size = bytearray(1 << 20), 0
            while count := answer.readinto(buffer):
                size += count
        if answer.status != http.client.OK:
            raise Failed(f"{path}: {answer.status} {bytes(buffer[:200])!r}")
        return size


@contextlib.contextmanager
def crowded(lab: Lab, contender: Contender, apps: int) -> Iterator[Crowded]:
    """One that may not be ready yet."""
    proxy = Crowded(lab, contender, apps, lab.new_folder())
    with lab.watching(proxy, contender):
        yield proxy


@cache
def ports(count: int) -> list[int]:
    """Each proxy has the same ones, after another."""
    found: list[int] = []
    while len(found) < count:
        found += SESSION.take(AT_ONCE)
    return found[:count]


@cache
def has_exporter() -> bool:
    told = subprocess.run([find("haproxy"), "-vv"], capture_output=True, text=True, check=False).stdout
    return "prometheus" in told.lower()
