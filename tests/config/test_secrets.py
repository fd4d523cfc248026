"""Logins in checks are shown to nobody: not in the configuration as it runs, not in a plan, an event, the log."""

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import sqlite3
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.api import Api, api_config
from kit.ctl import Ctl
from kit.ports import free_port
from tcp_proxy.config.diff import shown
from tcp_proxy.config.model import Check, Failover
from tcp_proxy.config.secrets import HIDDEN, hidden, secrets_in, secrets_of, without_secrets
from tcp_proxy.sansio.escapes import escaped

SECRET = "HUNTER2"
CHECKS = [
    {"type": "http", "headers": {"Authorization": f"Bearer {SECRET}", "X-Key": SECRET, "Host": "web"}, "body": SECRET},
    {"type": "exchange", "send": f"AUTH {SECRET}\\r\\n", "expect": "+OK", "fall_action": "ignore"},
    {"type": "exchange", "preset": "postgres", "user": SECRET, "fall_action": "ignore"},
]


def test_what_is_no_secret_stays():
    check = Check(type="http", headers=(("Host", "web"), ("authorization", SECRET)))
    assert without_secrets(check).headers == (("Host", "web"), ("authorization", HIDDEN))
    plain = Check(type="http", path="/x")
    assert without_secrets(plain) == plain


def test_words_about_a_check_have_none():
    for check in (Check(type="http", headers=(("X-Key", SECRET),)), Check(type="exchange", send=SECRET, user=SECRET)):
        assert SECRET not in shown(check)
        assert HIDDEN in shown(check)
        assert SECRET not in shown((check,))


def test_no_answer_no_event_and_no_line_of_the_log_has_one(proxy, service):
    def config(fall):
        checks = [{**check, "interval": 60, "fall": fall} for check in CHECKS]
        app = {"name": "web", "ports": [port], "targets": [{"address": server.address, "health": checks}], "health": checks}
        return {"apps": [app]}

    port, server = free_port(), service(greeting=b"no", hang_up=True)
    program = proxy(config(1), top={"api": api_config()})
    api = Api.of(program)
    target = f"/api/v1/apps/web/targets/{server.address.replace(':', '%3A')}"
    program.wait_log("is down")
    paths = ("/api/v1/apps", "/api/v1/config", f"{target}/probes", f"{target}/health", target)
    answers = [api.get(path).text for path in paths]
    answers.append(api.post("/api/v1/plan", config(2)).text)
    api.post("/api/v1/apps/web/targets", {"address": "127.0.0.1:1", "name": "new", "health": CHECKS}, status=201)
    answers += [api.get(path).text for path in ("/api/v1/events", "/api/v1/config")]
    assert HIDDEN in answers[0]
    assert [answer for answer in answers if SECRET in answer] == []
    assert SECRET not in program.log


def test_the_variables_of_scripts_have_names_and_no_values():
    check = Check(type="script", command=("/x",), environment=("HOME", "PGPASSWORD=hunter2", "*", "EMPTY="))
    assert without_secrets(check).environment == ("HOME", "PGPASSWORD=***", "*", "EMPTY=***")
    assert "hunter2" not in shown((check,))
    assert "hunter2" not in shown(Failover(environment=("PGPASSWORD=hunter2",)))


# -- what a target or a script says again


def said(check, text, **environ):
    return hidden(text, secrets_of(check, environ))


@pytest.mark.parametrize(
    ("check", "text", "shows"),
    [
        (Check(type="http", headers=(("X-Login", "Bearer HUNTER2"),)), 'status 401 "no HUNTER2"', 'status 401 "no ***"'),
        (Check(type="http", headers=(("Authorization", "Bearer HUNTER2"),)), "Bearer HUNTER2!", "***!"),
        (Check(type="http", headers=(("X-Key", "a+b(c"),)), "a+b(c aab(c", "*** aab(c"),
        (Check(type="http", headers=(("Host", "web1"), ("Accept", "text"))), "web1 text", "web1 text"),
        (Check(type="http", body='{"password": "HUNTER2"}'), "status 400 HUNTER2", "status 400 ***"),
        (Check(type="exchange", send="AUTH HUNTER2\\r\\n"), r'"-ERR \x27HUNTER2\x27"', r'"-ERR \x27***\x27"'),
        (Check(type="exchange", send="GET / HTTP/1.0\\r\\n\\r\\n"), '"HTTP/1.0 500"', '"HTTP/1.0 500"'),
        (Check(type="exchange", send="PING me", expect="PING"), '"PING"', '"PING"'),
        (Check(type="exchange", preset="postgres", user="me"), 'role "me" of some', 'role "***" of some'),
        (Check(type="http", headers=(("X-Flag", "1"),)), "127.0.0.1:1", "127.0.0.1:1"),
        (Check(type="exchange", send="AUTH abc\\r\\n"), '"no abc for abcd"', '"no *** for abcd"'),
        (Check(type="exchange", send="SELECT db"), '"no db, no dbs"', '"no ***, no dbs"'),
        (Check(type="script", environment=("PGPASSWORD=xy",)), "xy is wrong, xyz too", "*** is wrong, xyz too"),
        (Check(type="script", environment=("PGPASSWORD=HUNTER2",)), "exit status 1: HUNTER2", "exit status 1: ***"),
    ],
)
def test_a_text_of_a_check_has_no_secret_of_it(check, text, shows):
    assert said(check, text) == shows


def test_what_basic_has_coded_is_a_secret():
    coded = base64.b64encode(b"monitor:HUNTER2").decode()
    check = Check(type="http", headers=(("Authorization", f"Basic {coded}"),))
    assert said(check, f"{coded} HUNTER2 monitor:HUNTER2") == "*** *** ***"
    assert said(Check(type="http", headers=(("Authorization", "Basic ???"),)), "no ???") == "no ***"


def test_variables_of_scripts_that_we_have():
    environ = {"PGPASSWORD": "HUNTER2", "PATH": "/usr/bin", "API_TOKEN": "abcdef", "EDITOR": "emacs"}
    assert secrets_in(("PGPASSWORD", "PATH", "NOT_THERE"), environ) == ("HUNTER2",)
    assert set(secrets_in(("*",), environ)) == {"HUNTER2", "abcdef"}
    assert secrets_in(("EDITOR",), environ) == ("emacs",)


@given(st.binary(min_size=1, max_size=30), st.binary(max_size=20), st.binary(max_size=20), st.integers(1, 60))
def test_no_answer_that_holds_it_shows_it_wherever_it_is_cut(secret, before, after, most):
    """The evidence of an exchange is cut off in bytes, and escaped."""
    check = Check(type="exchange", send="".join(f"\\x{byte:02x}" for byte in secret))
    text = hidden(escaped(before + secret + after, most), secrets_of(check, {}))
    whole = escaped(secret, len(secret))[1:-1]
    if len(secret) >= 4:
        assert whole not in text


class Echo(threading.Thread):
    """A server that says in its answer what it was asked, as many do."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server = server
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection:
                asked = connection.recv(4096)
                said = re.search(rb"(Bearer |AUTH )?" + SECRET.encode(), asked)
                connection.sendall(b"HTTP/1.1 500 nobody knows " + (said[0] if said else b"this") + b"\r\n\r\n")


def test_no_view_shows_a_secret_that_a_target_or_a_script_says_again(proxy, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        echo = Echo(server)
        try:
            look_everywhere(proxy, tmp_path, server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            echo.join()


def follow(api, program):
    """All events from the first on, up to a session that ends without a target: its id."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", api.where, timeout=20)) as connection:
        connection.request("GET", "/api/v1/events/stream?sessions=true&after=0")
        lines = []
        with connection.getresponse() as response:
            program.connect().expect_rst()
            for line in response:
                lines.append(line)
                if b"no_target" in line:
                    break
    assert any(HIDDEN.encode() in line for line in lines)
    assert not any(SECRET.encode() in line for line in lines)
    return json.loads(lines[-1].removeprefix(b"data: "))["data"]["id"]


def look_everywhere(proxy, folder, port):
    tells = str(folder / "tells.sh")
    (folder / "tells.sh").write_text('#!/bin/sh\necho "cannot log in with $PGPASSWORD"\nexit 1\n')
    os.chmod(tells, 0o755)
    checks = [
        {"type": "http", "headers": {"Authorization": f"Bearer {SECRET}"}},
        {"type": "exchange", "send": f"AUTH {SECRET}\\r\\n", "expect": "never"},
        {"type": "script", "command": tells, "environment": [f"PGPASSWORD={SECRET}"]},
    ]
    names = ("http", "exchange", "script")
    targets = [
        {"address": f"127.0.0.1:{port}", "name": name, "health": {**check, "interval": 60, "timeout": 2}}
        for name, check in zip(names, checks, strict=True)
    ]
    failover = {"check": tells, "environment": [f"PGPASSWORD={SECRET}"], "max_backoff": 60}
    one = {"name": "one", "ports": [free_port()], "targets": targets}
    two = {"name": "two", "ports": [free_port()], "targets": [f"127.0.0.1:{port}"], "health": [], "balance": "failover"}
    top = {"api": api_config(), "state": "state.db", "log": {"level": "debug", "format": "json"}}
    program = proxy({"apps": [one, {**two, "failover": failover}]}, top=top)
    api = Api.of(program)
    for name in names:
        program.wait_log(f"target {name} is down")
    program.wait_log("cannot be primary: check")
    views = ["/api/v1/apps", "/api/v1/apps/one", "/api/v1/config", "/api/v1/events", "/api/v1/apps/two/election", "/metrics"]
    views += [f"/api/v1/apps/one/targets/{name}{view}" for name in names for view in ("", "/probes", "/health")]
    answers = {view: api.get(view).text for view in views}
    assert [view for view, text in answers.items() if SECRET in text] == []
    told = [answers[f"/api/v1/apps/one/targets/{name}"] for name in names]
    assert all(HIDDEN in text for text in told), told
    ctl = Ctl.of(program)
    asked = (["status"], ["events"], ["sessions"], ["why", follow(api, program)])
    for words in (*asked, *(["checks", "one", name] for name in names)):
        assert SECRET not in ctl(*words).text
    assert SECRET not in api.get("/api/v1/sessions").text
    assert SECRET not in program.log
    assert program.log.count(f"cannot log in with {HIDDEN}") >= 2
    program.stop()
    with contextlib.closing(sqlite3.connect(program.folder / "state.db")) as connection:
        rows = connection.execute("SELECT evidence FROM targets UNION SELECT checks FROM servers").fetchall()
    assert any(HIDDEN in text for (text,) in rows)
    assert not any(SECRET in text for (text,) in rows)
