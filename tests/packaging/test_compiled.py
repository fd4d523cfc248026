"""The compiled build, from the same sources: it is installed as a user does it, says what it is, and serves."""

import json
import os
import shutil
import socket
import subprocess
import sysconfig

import pytest

from kit.api import Api
from kit.origin import Origin
from kit.ports import free_ports
from kit.servers import Service
from kit.waiting import wait_until
from tcp_proxy import __version__
from tests.packaging.conftest import built, installation_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    if shutil.which("gcc") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no C compiler (Debian: gcc)")
    how = {"TCP_PROXY_COMPILE": "1", "TCP_PROXY_COMPILE_LEVEL": "0"}
    wheel = built(tmp_path_factory.mktemp("compiled"), 800, **how)
    assert "none-any" not in wheel.name
    return installation_of(wheel, tmp_path_factory.mktemp("prefix"))


def test_it_says_that_it_is_compiled_and_has_the_sources_too(compiled):
    assert compiled.run("tcp-proxy", "--version").stdout == f"tcp_proxy {__version__} (compiled)\n"
    (package,) = compiled.prefix.glob("lib/python*/site-packages/tcp_proxy")
    for name in ("runtime/loop", "dataplane/session", "dataplane/http/exchange", "sansio/http1/requests"):
        assert (package / (name + SUFFIX)).exists()
        assert (package / (name + ".py")).exists()


def test_it_serves_both_modes(compiled, tmp_path):
    tcp, http, management = free_ports(3)
    with Service() as service, Origin() as origin:
        apps = [
            {"name": "tcp", "ports": [tcp], "targets": [service.address]},
            {"name": "http", "ports": [http], "mode": "http", "targets": [origin.address]},
        ]
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"apps": apps, "api": {"listen": f"127.0.0.1:{management}"}}))
        how = {"cwd": tmp_path, "env": compiled.environment, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(["tcp-proxy", path], **how) as program:
            try:
                wait_until(lambda: accepts(tcp) and accepts(http) and accepts(management), "all of its ports")
                with socket.create_connection(("127.0.0.1", tcp), timeout=20) as client:
                    client.sendall(b"there and back")
                    assert client.recv(100) == b"there and back"
                assert Api(http).get("/").status == 200
                assert Api(management).get("/api/v1/status").json["build"] == "compiled"
            finally:
                program.terminate()
                said = program.communicate(timeout=60)[1]
    assert "Traceback" not in said
    assert program.returncode == 0


def accepts(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
