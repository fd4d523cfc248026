"""What does not move in a take-over, or not at once: the old worker goes on with it, and ends with the last of it."""

import socket
import ssl

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.certificates import Authority
from kit.clogged import clog
from kit.ctl import Ctl
from kit.takeover import TOP, Succession
from kit.waiting import PATIENCE, wait_until


@pytest.fixture(scope="module")
def root():
    return Authority()


def test_a_session_with_tls_ends_where_it_is_and_is_said_to(root, proxy, service, servers, tmp_path):
    top = {"workers": 1, **TOP, "api": api_config()}
    program = proxy(targets=[service()], top=top, tls={"certificates": [root.issue("a.org").write(tmp_path)]})
    said = Ctl.of(program)("upgrade", "--dry-run").text
    assert "drains: app app, TLS with its clients: its sessions end in the old workers" in said
    (old,) = program.workers()
    line = Succession(program, servers)
    tls = servers.enter_context(
        ssl.create_default_context(cadata=root.pem).wrap_socket(
            socket.create_connection(("127.0.0.1", program.port), PATIENCE), server_hostname="a.org"
        )
    )
    tls.sendall(b"before")
    assert tls.recv(100) == b"before"
    new = line.upgrade()
    new.wait_log("management API on")
    tls.sendall(b"after")
    assert tls.recv(100) == b"after"
    api = Api.of(new)
    workers = api.get("/api/v1/workers").json
    assert [(one["pid"], one["state"]) for one in workers if one["pid"] == old] == [(old, "draining")]
    (session,) = api.get("/api/v1/sessions").json["sessions"]
    tls.close()
    wait_until(lambda: not procfs.is_running(old), "its worker ends with it")
    record = new.record()
    assert (record["id"], record["bytes_up"]) == (session["id"], len(b"beforeafter"))
    assert "processes" not in record
    new.uncounted = None
    line.end()


def test_a_session_that_is_being_connected_is_so_in_the_old_worker_and_moves_then(proxy, target, servers):
    hole = target(backlog=0)
    program = proxy(targets=[hole], top={"workers": 1, **TOP}, timeouts={"connect": 60})
    (old,) = program.workers()
    line = Succession(program, servers)
    full = servers.enter_context(clog(hole))
    client = program.connect().send(b"question")
    wait_until(lambda: procfs.tcp_sockets(old)["SYN_SENT"] == 1, "it is being connected")
    new = line.upgrade()
    assert procfs.tcp_sockets(old)["SYN_SENT"] == 1
    full.close()
    server = hole.accept()
    while (said := server.read_first()) == b"":  # one of those that were in the way
        server = hole.accept()
    assert said == b"question"
    server.send(b"answer")
    client.expect(b"answer")
    wait_until(lambda: not procfs.is_running(old), "its worker ends when it has moved")
    server.send(b"more")
    client.expect(b"more").fin()
    server.expect_fin().fin()
    client.expect_fin()
    record = new.record()
    assert (record["reason"], len(record["processes"])) == ("done", 2)
    assert record["processes"][0] == old
    line.end()
