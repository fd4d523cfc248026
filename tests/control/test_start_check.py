"""What would keep a configuration from being started on this machine: said without starting anything."""

import json
import os
import socket

import pytest

from kit.certificates import Authority
from kit.ports import free_port
from tcp_proxy.config.load import load_text
from tcp_proxy.control import start_check
from tcp_proxy.control.listeners import descriptors
from tcp_proxy.control.start_check import start_faults


def faults(app=None, **top):
    app = {"name": "web", "ports": [free_port()], "targets": ["192.0.2.1:1"]} | (app or {})
    return start_faults(load_text(json.dumps({"apps": [app]} | top).encode(), "x"))


def test_nothing_is_said_of_what_can_be_started(tmp_path):
    (tmp_path / "log").write_text("")
    files = {"pid_file": str(tmp_path / "pid"), "state": str(tmp_path / "state"), "access_log": str(tmp_path / "log")}
    assert faults(**files, api={"listen": f"unix:{tmp_path}/api"}) == []
    assert faults({"bind": ["127.0.0.1", "::1"]}, access_log="-", pid_file="here.pid") == []
    assert faults({"bind": "*"}) == []


def test_nothing_is_bound_or_made(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert faults({"ports": [port]}, state=str(tmp_path / "state")) == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("key", ["pid_file", "state", "access_log", "api"])
def test_files_that_cannot_be_made(monkeypatch, tmp_path, key):
    def said(path):
        return faults(**({"api": {"listen": f"unix:{path}"}} if key == "api" else {key: str(path)}))

    name = "api.listen" if key == "api" else key
    assert said(tmp_path) == [f"{name}: {tmp_path} is a folder"]
    assert said(tmp_path / "no" / "x") == [f"{name}: {tmp_path}/no/x cannot be made: there is no folder {tmp_path}/no"]
    monkeypatch.setattr(start_check.os, "access", lambda *_: False)  # root may everything
    assert said(tmp_path / "x") == [f"{name}: {tmp_path}/x cannot be written by this user"]


def test_an_address_that_this_machine_does_not_have():
    said = ["192.0.2.77 cannot be listened on: Cannot assign requested address"]
    assert faults({"bind": ["127.0.0.1", "192.0.2.77"]}) == said


def test_a_port_that_needs_a_privilege(monkeypatch, tmp_path):
    status, first = tmp_path / "status", tmp_path / "first"
    first.write_text("1024\n")
    really = start_check._number

    def number(path, *rest):
        return really(str(status if path == "/proc/self/status" else first), *rest)

    monkeypatch.setattr(start_check, "_number", number)
    status.write_text("Name:\tx\nCapEff:\t0000000000000400\n")
    assert faults({"ports": [80]}) == []
    status.write_text("Name:\tx\nCapEff:\t0000000000000000\n")
    assert faults({"ports": [2000]}) == []
    (said,) = faults({"ports": [80]})
    assert said.startswith("port 80: this user may not listen below 1024")
    (said,) = faults({"ports": [80, 443, 2000]})
    assert said.startswith("ports 80 to 443: this user may not")


def test_targets_that_are_not_there(tmp_path):
    (tmp_path / "file").write_text("")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    targets = [f"unix:{tmp_path}/{name}" for name in ("file", "socket", "later")]
    assert faults({"targets": [*targets, "[fe80::1%lo]:1", "[fe80::1%nosuch0]:1"]}) == [
        f"app web: target unix:{tmp_path}/file: {tmp_path}/file is no socket",
        "app web: target [fe80::1%nosuch0]:1: this machine has no interface nosuch0",
    ]


def test_what_the_process_may_not(monkeypatch):
    monkeypatch.setattr(start_check, "permission_error", lambda: "may not send ICMP")
    monkeypatch.setattr(descriptors, "limit", lambda: 30)
    first, second = faults({"health": {"type": "ping"}})
    assert first == "may not send ICMP"
    assert "too few descriptors: a process may have 30" in second
    assert len(faults()) == 1


# -- another user


def config_of(app=None, **top):
    app = {"name": "web", "ports": [free_port()], "targets": ["192.0.2.1:1"]} | (app or {})
    return load_text(json.dumps({"apps": [app]} | top).encode(), "x")


def test_nobody_else_is_asked_for_where_nothing_is_said(monkeypatch):
    monkeypatch.setattr(start_check.privileges, "become", lambda _: pytest.fail("asked"))
    assert start_check.become(config_of()) == start_check.program_fault(config_of()) == ""
    assert start_check.later_faults(config_of(), ["x"]) == []


def test_why_it_cannot_be_that_user_is_a_clause(monkeypatch):
    def refuse(_who):
        raise start_check.CannotBecome("only root may")

    monkeypatch.setattr(start_check.privileges, "become", refuse)
    assert start_check.become(config_of(user="nobody")) == "user: only root may"
    assert start_check.become(config_of(user="no-such-user")) == "user: this machine has no user no-such-user"


def test_a_user_needs_the_program(monkeypatch):
    assert start_check.program_fault(config_of(user="nobody")) == ""
    monkeypatch.setattr(start_check.os, "access", lambda path, _right: not path.endswith("__init__.py"))
    assert "has no access to the program itself: " in start_check.program_fault(config_of(user="nobody"))


def test_files_that_will_be_read_again(monkeypatch, tmp_path):
    certificate = Authority().issue("a.example").write(tmp_path, "a")
    networks = tmp_path / "networks"
    networks.write_text("10.0.0.0/8\n")
    tls = {"certificates": [{key: certificate[key] for key in ("chain", "key")}]}
    config = config_of({"access": {"deny": [f"@{networks}"]}, "tls": tls}, user="nobody")
    assert start_check.later_faults(config, [__file__]) == []
    monkeypatch.setattr(start_check.os, "access", lambda *_: False)  # root may everything
    said = " cannot be read by user nobody: a reload would fail"
    files = [line.partition(said)[0] for line in start_check.later_faults(config, ["c"])]
    assert files == [str(networks), certificate["chain"], certificate["key"]], "c is not there, which is for others to say"
