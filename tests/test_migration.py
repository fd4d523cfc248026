"""docs/migration.md: their configuration is one, as far as somebody here can say so, and ours beside it does the same.

That ours can be loaded is in test_docs.py, HAProxy's in tests/config/haproxy and tests/peers.
"""

import json
import pathlib
import re
import shlex
import tomllib

import pytest
import yaml

from kit.api import Api
from kit.origin import Origin
from kit.peer import connect
from kit.ports import free_port
from kit.programs import need, run
from kit.proxy import run_to_end
from tcp_proxy.config.load import load_text
from tcp_proxy.config.tcpffee import convert

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "migration.md").read_text()
STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"


def section(name):
    return PAGE.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]


def blocks(name, kind="json"):
    return re.findall(rf"^```{kind}\n(.*?)^```", section(name), re.DOTALL | re.MULTILINE)


def loaded(text):
    return load_text(text.encode(), "page", {})


def ours(name):
    return loaded(blocks(name)[-1])


def addresses(text):
    """Of servers: with their ports."""
    return set(re.findall(r"\b10\.\d+\.\d+\.\d+:\d+", text))


@pytest.mark.parametrize(("name", "kind"), [("nginx stream", "nginx"), ("Traefik", "yaml"), ("Caddy", "")])
def test_the_same_servers_are_on_both_sides(name, kind):
    theirs = blocks(name, kind)[0]
    assert addresses(theirs) == {str(target.address) for app in ours(name).apps for target in app.targets} != set()


def test_nginx_takes_it(tmp_path):
    need("nginx")
    if not pathlib.Path(STREAM).exists():
        pytest.skip("nginx has no module for streams here")
    file = tmp_path / "nginx.conf"
    (theirs,) = blocks("nginx stream", "nginx")
    file.write_text(f"load_module {STREAM}; pid {tmp_path}/pid; error_log {tmp_path}/error.log;\nevents {{}}\n{theirs}")
    run("nginx", "-t", "-q", "-c", file)
    (app,) = ours("nginx stream").apps
    assert (app.timeouts.connect, app.timeouts.idle, app.balance) == (5, 3600, "least_connections")


def test_traefik_s_routes_are_ours():
    (theirs,) = blocks("Traefik", "yaml")
    routers = yaml.safe_load(theirs)["http"]["routers"].values()
    rules = [re.findall(r"(?:Host|PathPrefix)\(`(.*?)`\)", one["rule"]) for one in routers]
    routes = json.loads(blocks("Traefik")[0])["apps"][0]["routes"]
    assert [[route[key] for key in ("host", "path") if key in route] for route in routes] == rules


def test_flopsy_s_flags_become_that(tmp_path):
    (line,) = re.findall(r"^    tcp-proxy (.*)$", section("flopsy"), re.MULTILINE)
    printed = run_to_end(*shlex.split(line), "--print-config", cwd=tmp_path).stdout
    assert loaded(printed) == ours("flopsy")


def test_tcpffee_s_file_becomes_that():
    (theirs,) = blocks("tcpffee", "toml")
    document, _ = convert(tomllib.loads(theirs), {})
    assert loaded(json.dumps(document)) == ours("tcpffee")


def test_tcp_proxy_s_file_is_read_as_it_is():
    theirs, ours = map(loaded, blocks("TCP-Proxy"))
    assert theirs == ours


def test_what_weldr_s_clients_type_brings_a_server(proxy):
    config = json.loads(blocks("weldr")[0])
    port = config["apps"][0]["ports"][0] = free_port()
    config["api"]["listen"] = f"127.0.0.1:{free_port()}"
    config["workers"] = 1
    program = proxy(config)
    program.uncounted = None
    Api.of(program)  # it is there
    (line,) = re.findall(r"^    curl (.*)$", section("weldr"), re.MULTILINE)
    with Origin() as origin:
        line = line.replace("localhost:8687", config["api"]["listen"]).replace("127.0.0.1:12345", f"127.0.0.1:{origin.port}")
        run("curl", "--silent", "--fail", *shlex.split(line))
        with connect(port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.read_to_end().startswith(b"HTTP/1.1 200 ")
    assert program.stop() == 0
