"""Checks of targets that are spoken to over TLS: what a session would meet decides."""

import json

import pytest

from kit import programs
from kit.api import Api, api_config, path_of
from kit.certificates import Authority
from kit.ports import free_port
from kit.waiting import wait_until

OFTEN = {"interval": 0.2, "interval_down": 0.2}
HTTP, TCP = {"type": "http", **OFTEN}, {"type": "tcp", **OFTEN}
EXCHANGE = {"type": "exchange", "send": "GET / HTTP/1.0\\r\\n\\r\\n", "expect": "200", **OFTEN}


@pytest.fixture(scope="module")
def root():
    return Authority()


@pytest.fixture
def s_server(root, tmp_path, servers):
    """s_server(*arguments): the port of an openssl s_server with a certificate for a.org, that answers requests."""

    def start(*arguments):
        said, port = root.issue("a.org").write(tmp_path, "a"), free_port()
        argv = ("s_server", "-accept", port, "-cert", said["chain"], "-key", said["key"], "-www", *arguments)
        server = programs.Program([programs.need("openssl"), *argv], port, tmp_path)
        servers.callback(server.close)
        server.wait_listening()
        return port

    return start


def target(port, root, tmp_path, name="a.org", **more):
    (tmp_path / "ca.pem").write_text(root.pem)
    tls = {"ca": str(tmp_path / "ca.pem"), "server_name": name, **more}
    return {"address": f"127.0.0.1:{port}", "name": name, "tls": tls}


@pytest.mark.parametrize("check", [HTTP, TCP, EXCHANGE])
def test_a_target_whose_certificate_does_not_fit_is_down(root, s_server, tmp_path, proxy, check):
    port = s_server()
    program = proxy(targets=[target(port, root, tmp_path, name) for name in ("a.org", "b.org")], health=check)
    program.wait_log(r"target a\.org is up")
    wrong = r"TLS failed: certificate verify failed: Hostname mismatch, certificate is not valid for 'b\.org'"
    program.wait_log(rf"target b\.org is down.*{wrong}")


def test_a_renewed_authority_is_believed_at_the_next_check(root, s_server, tmp_path, proxy):
    port = s_server()
    entry = target(port, root, tmp_path)
    (tmp_path / "ca.pem").write_text(Authority().pem)
    program = proxy(targets=[entry], health=TCP)
    program.wait_log(r"target a\.org is down.*TLS failed: certificate verify failed")
    (tmp_path / "ca.pem").write_text(root.pem)
    program.wait_log(r"app app: target a\.org: \S+/ca\.pem is read again")
    program.wait_log(r"target a\.org is up")


def test_a_target_that_wants_to_know_who_asks_is_shown_it(root, s_server, tmp_path, proxy):
    (tmp_path / "ca.pem").write_text(root.pem)
    port = s_server("-Verify", "1", "-verify_return_error", "-CAfile", tmp_path / "ca.pem")
    mine = root.issue("proxy", client=True).write(tmp_path, "mine", "secret")
    targets = [target(port, root, tmp_path, certificate=mine), {**target(port, root, tmp_path), "name": "stranger"}]
    program = proxy(targets=targets, health=HTTP)
    program.wait_log(r"target a\.org is up")
    program.wait_log(r"target stranger is down.*TLS failed: .*certificate required")
    assert "secret" not in program.log


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_certificate_that_is_refused_is_noticed_without_a_word(root, s_server, tmp_path, proxy, version):
    """In TLS 1.3 after the handshake."""
    (tmp_path / "ca.pem").write_text(root.pem)
    port = s_server("-Verify", "1", "-verify_return_error", "-CAfile", tmp_path / "ca.pem", version)
    mine = root.issue("proxy", client=True).write(tmp_path, "mine")
    other = Authority("others").issue("proxy", client=True).write(tmp_path, "other")
    x = {**target(port, root, tmp_path, certificate=other), "name": "x"}
    targets = [target(port, root, tmp_path, certificate=mine), x]
    program = proxy(targets=targets, health=TCP)
    program.wait_log(r"target a\.org is up")
    program.wait_log(r"target x is down.*TLS failed: .*alert unknown ca")


def test_a_check_of_another_port_says_for_itself_whether_it_speaks_tls(root, s_server, tmp_path, service, proxy):
    port, plain = s_server(), service(answer=lambda _: b"HTTP/1.1 200 OK\r\n\r\n")
    entry = target(port, root, tmp_path)
    program = proxy({
        "api": api_config(),
        "apps": [{"name": "app", "ports": [free_port()], "targets": [entry], "health": {**HTTP, "port": plain.port}}],
    })  # fmt: skip
    path = path_of("app", "a.org", "probes")
    wait_until(lambda: Api.of(program).get(path).json[0]["probes"], "a result")
    assert Api.of(program).get(path).json[0]["probes"][0]["text"] == f"http 127.0.0.1:{plain.port}/: status 200 OK"


def test_tls_turned_on_by_a_reload_is_what_is_checked(root, s_server, tmp_path, proxy):
    port = s_server()
    other = {**target(port, root, tmp_path), "health": []}
    targets = [{"address": f"127.0.0.1:{port}"}, other]
    app = {"name": "app", "ports": [free_port()], "targets": targets, "health": HTTP}
    program = proxy({"api": api_config(), "apps": [app]})
    program.wait_log(r"target 127\.0\.0\.1:\d+ is down")
    entry = {**target(port, root, tmp_path), "name": f"127.0.0.1:{port}"}
    config = {**program.config, "apps": [{**program.config["apps"][0], "targets": [entry, other]}]}
    path = next(program.folder.glob("config-*.json"))
    path.write_text(json.dumps(config))
    Api.of(program).post("/api/v1/reload")
    program.wait_log(r"target 127\.0\.0\.1:\d+ is up.*https 127")


def test_who_shows_a_wrong_certificate_is_no_primary(root, s_server, tmp_path, proxy):
    port = s_server()
    targets = [target(port, root, tmp_path, name) for name in ("b.org", "a.org")]
    program = proxy(targets=targets, balance="failover")
    program.wait_log(r"b\.org.*TLS failed: certificate verify failed: Hostname mismatch")
    program.wait_log(r"target a\.org is primary")
