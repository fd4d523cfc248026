"""Those that are compared: this proxy, HAProxy and nginx's stream module, each with the best settings we know for it.

A Contender is one of them with a number of workers. All serve the same targets on listeners of their own.
"""

import json
import os
import pathlib
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.ports import SESSION
from benchmarks.programs import Failed, Program, find, stream_module

ROOT = pathlib.Path(__file__).resolve().parents[1]
BULK = {"bulk", "blocks"}  # the services whose sessions move much
PIPES = 64  # HAProxy's; two for a bulk session
SPARE = 200  # descriptors that are no session's
UNEVEN = 1.12  # times another's sessions a worker of ours may have before it leaves clients to that one

HAPROXY = """\
global
    maxconn {maxconn}
    maxpipes {pipes}
    nbthread {workers}
    tune.pipesize 1048576
defaults
    mode tcp
    backlog 4096
    timeout connect 10s
    timeout client 1h
    timeout server 1h
"""
HAPROXY_APP = """\
listen {name}
    bind 127.0.0.1:{port}
    server target 127.0.0.1:{target}
"""
HAPROXY_SPLICES = """\
    option splice-request
    option splice-response
"""
NGINX = """\
{module}
daemon off;
worker_processes {workers};
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections {connections}; multi_accept on; }}
stream {{
    access_log off;
    proxy_timeout 1h;
"""
NGINX_APP = (
    "    server {{ listen 127.0.0.1:{port} backlog=4096; proxy_pass 127.0.0.1:{target}; proxy_buffer_size {buffer}; }}\n"
)


@dataclass(frozen=True)
class Contender:
    name: str
    kind: Literal["project", "haproxy", "nginx"]
    workers: int = 1
    access_log: bool = False


PROJECT = Contender("project", "project")
PROJECT_LOG = Contender("project with access log", "project", access_log=True)
PROJECT_TWO = Contender("project x2", "project", workers=2)
HAPROXY_ONE = Contender("HAProxy", "haproxy")
HAPROXY_TWO = Contender("HAProxy x2", "haproxy", workers=2)
NGINX_ONE = Contender("nginx", "nginx")
NGINX_TWO = Contender("nginx x2", "nginx", workers=2)

EVERYBODY = (PROJECT, HAPROXY_ONE, NGINX_ONE, PROJECT_LOG, PROJECT_TWO, HAPROXY_TWO, NGINX_TWO)
PAIRS = (  # who is compared with whom
    (PROJECT, HAPROXY_ONE),
    (PROJECT, NGINX_ONE),
    (PROJECT_LOG, HAPROXY_ONE),
    (PROJECT_TWO, HAPROXY_TWO),
    (PROJECT_TWO, NGINX_TWO),
)


class Proxy(Program):
    """A contender that runs; `ports` by the name of the service that is behind."""

    def __init__(
        self,
        contender: Contender,
        targets: Mapping[str, int],
        folder: pathlib.Path,
        writers: Mapping[str, Any] | None = None,
    ) -> None:
        """`folder` is its own; `writers` of configurations, those of mode tcp if not others."""
        self.contender = contender
        self.port = dict(zip(targets, SESSION.take(len(targets)), strict=True))
        argv, env = (writers or WRITERS)[contender.kind](contender, self.port, targets, folder)
        super().__init__(argv, folder, self.port.values(), env)


Argv = list[object]


def write_project(
    contender: Contender, ports: Mapping[str, int], targets: Mapping[str, int], folder: pathlib.Path
) -> tuple[Argv, dict[str, str]]:
    return project_of(project_config(contender, ports, targets, folder), folder)


def project_of(text: Mapping[str, Any], folder: pathlib.Path) -> tuple[Argv, dict[str, str]]:
    """How it is started with this configuration."""
    config = folder / "config.json"
    config.write_text(json.dumps(text))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # a start is measured as a user has it: with the modules compiled
    return [sys.executable, "-m", "tcp_proxy", config], env


def project_config(
    contender: Contender, ports: Mapping[str, int], targets: Mapping[str, int], folder: pathlib.Path
) -> dict[str, object]:
    """No health checks: HAProxy and nginx have none here, and iperf3 would take a probe for its client."""
    apps = [
        {"name": name, "ports": [ports[name]], "targets": [f"127.0.0.1:{port}"], "health": []}
        for name, port in targets.items()
    ]
    log = str(folder / "access.log") if contender.access_log else None
    return {"workers": contender.workers, "shutdown_grace": 10, "log": {"level": "warning"}, "access_log": log, "apps": apps}


def write_haproxy(
    contender: Contender, ports: Mapping[str, int], targets: Mapping[str, int], folder: pathlib.Path
) -> tuple[Argv, None]:
    config = folder / "haproxy.cfg"
    config.write_text(haproxy_config(contender, ports, targets))
    return [find("haproxy"), "-db", "-f", config], None


def haproxy_config(contender: Contender, ports: Mapping[str, int], targets: Mapping[str, int]) -> str:
    """As many connections as its descriptors allow: it refuses to start with more."""
    maxconn = (descriptor_limit() - 2 * PIPES - SPARE) // 2
    text = HAPROXY.format(maxconn=maxconn, pipes=PIPES, workers=contender.workers)
    for name, target in targets.items():
        text += HAPROXY_APP.format(name=name, port=ports[name], target=target)
        text += HAPROXY_SPLICES if name in BULK else ""
    return text


def write_nginx(
    contender: Contender, ports: Mapping[str, int], targets: Mapping[str, int], folder: pathlib.Path
) -> tuple[Argv, None]:
    config = folder / "nginx.conf"
    config.write_text(nginx_config(contender, ports, targets, folder))
    user = "user root;" if os.geteuid() == 0 else ""
    return [find("nginx"), "-p", folder, "-e", folder / "error.log", "-g", user, "-c", config], None


def nginx_config(contender: Contender, ports: Mapping[str, int], targets: Mapping[str, int], folder: pathlib.Path) -> str:
    module, limit = stream_module(), descriptor_limit()
    if module is None:
        raise Failed("nginx has no stream module")
    text = NGINX.format(
        module=module, workers=contender.workers, descriptors=limit, connections=limit - SPARE, folder=folder
    )
    for name, target in targets.items():
        text += NGINX_APP.format(port=ports[name], target=target, buffer="512k" if name in BULK else "16k")
    return text + "}\n"


WRITERS = {"project": write_project, "haproxy": write_haproxy, "nginx": write_nginx}


def descriptor_limit() -> int:
    """The hard limit, but not more than anybody needs here: HAProxy sets aside memory for all of it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)


def has_room_for(sessions: int) -> bool:
    """Whether every proxy may have that many at once, with two descriptors each."""
    return 2 * sessions + 2 * SPARE <= descriptor_limit()


def most_sessions(kind: str, workers: int, wanted: int) -> int:
    """As many as a proxy may have at once, in whole hundreds, if not all that are wanted: no worker stops accepting. Each of
    ours has the limit for itself, all threads of HAProxy have it together; so have the clients, and the targets."""
    limit = descriptor_limit()
    ours, theirs = (limit - SPARE) / 2 * (1 + (workers - 1) / UNEVEN), (limit - 2 * SPARE) / 2
    return min(wanted, *(int(most) // 100 * 100 for most in (ours if kind == "project" else theirs, limit - SPARE)))
