"""The contenders with a stick table by address, and with what operators may ask: our API, HAProxy's page of statistics.

Of the services, "greet" is behind a sticky app, and "api" is no target but that interface. nginx's stream module has no
such table.
"""

import pathlib
from collections.abc import Mapping

from benchmarks.programs import find
from benchmarks.proxies import Argv, Contender, haproxy_config, project_of

KEYS = 1_000_000  # more than come in one run
ASKED = {"project": "/api/v1/status", "haproxy": "/;csv"}
HAPROXY_STICKS = """\
listen greet
    bind 127.0.0.1:{port}
    stick-table type ip size {keys} expire 10m
    stick on src
    server target 127.0.0.1:{target}
listen api
    mode http
    bind 127.0.0.1:{api}
    stats enable
    stats uri /
"""


def write_project(
    contender: Contender, ports: Mapping[str, int], targets: Mapping[str, int], folder: pathlib.Path
) -> tuple[Argv, dict[str, str]]:
    app = {
        "name": "greet", "ports": [ports["greet"]], "targets": [f"127.0.0.1:{targets['greet']}"], "health": [],
        "sticky": {"expires": 600, "size": KEYS},
    }  # fmt: skip
    text = {
        "workers": contender.workers, "shutdown_grace": 10, "log": {"level": "warning"},
        "api": {"listen": f"127.0.0.1:{ports['api']}"}, "apps": [app],
    }  # fmt: skip
    return project_of(text, folder)


def write_haproxy(
    contender: Contender, ports: Mapping[str, int], targets: Mapping[str, int], folder: pathlib.Path
) -> tuple[Argv, None]:
    text = haproxy_config(contender, {}, {})
    text += HAPROXY_STICKS.format(port=ports["greet"], target=targets["greet"], api=ports["api"], keys=KEYS)
    config = folder / "haproxy.cfg"
    config.write_text(text)
    return [find("haproxy"), "-db", "-f", config], None


WRITERS = {"project": write_project, "haproxy": write_haproxy}
