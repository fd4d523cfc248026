"""A whole haproxy.cfg: apps, their targets and routes, what is said of it; and no line of it lost in silence."""

import json
import pathlib
import re
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.config.haproxy.document import convert
from tcp_proxy.config.load import load_text
from tcp_proxy.config.report import CannotImport, ConfigErrors

WEB = """
global
    log /dev/log local0
    nbthread 2
    pidfile /run/it.pid
defaults
    mode http
    timeout connect 5s
    timeout client 50000
    timeout server 1m
    retries 2
frontend web
    bind 127.0.0.1:8080
    maxconn 1000
    acl is_api path_beg /api/
    use_backend api if is_api
    http-request set-header X-Foo bar
    default_backend main
backend main
    balance leastconn
    option httpchk GET /health
    server s1 10.0.0.1:80 check inter 1s maxconn 30
    server s2 10.0.0.2:80 check inter 1s backup
backend api
    server s1 10.0.1.1:8080
backend nobody
    server x 10.0.9.1:80
"""
PG = """
listen pg
    source 0.0.0.0 usesrc clientip
    log 127.0.0.1:5514 local0
    bind 127.0.0.1:5432
    timeout client 1h
    timeout server 1h
    balance source
    option pgsql-check user me
    stick-table type ip size 1m expire 30m
    stick on src
    server a 10.0.3.1:5432 check on-marked-down shutdown-sessions slowstart 20s
    server b 10.0.3.2:5432 check
"""


def test_a_frontend_with_routes():
    document, notes = convert(WEB)
    check = {"type": "http", "method": "GET", "path": "/health"}
    check |= {"interval": 1, "interval_down": 1, "timeout": 1, "rise": 2, "fall": 3}
    one = {"name": "main-s1", "address": "10.0.0.1:80", "max_connections": 30, "health": [check]}
    assert document == {
        "access_log": "syslog+unix:///dev/log", "workers": 2, "pid_file": "/run/it.pid",
        "apps": [{
            "name": "web", "bind": "127.0.0.1", "ports": [8080], "mode": "http", "balance": "least_connections",
            "targets": [
                one, {"name": "s2", "address": "10.0.0.2:80", "backup": True, "health": [check]},
                {"name": "api-s1", "address": "10.0.1.1:8080"},
            ],
            "routes": [{"path": "/api", "targets": ["api-s1"]}, {"targets": ["main-s1", "s2"]}],
            "health": [], "retries": 2,
            "timeouts": {"request": 50, "next_request": 50, "response": 60, "connect": 5},
            "limits": {"sessions": 1000, "queue": 10000, "queue_timeout": 5},
        }],
    }  # fmt: skip
    assert [note.partition(":")[0] for note in notes] == ["line 3", "line 16", "line 17", "line 24", "line 26"]
    assert load_text(json.dumps(document).encode(), "x").apps[0].targets[2].name == "api-s1"


def test_the_example_of_the_documents():
    page = (pathlib.Path(__file__).parents[3] / "docs" / "migration.md").read_text()
    theirs = page[page.index("    defaults\n") : page.index("becomes this")]
    document, notes = convert(textwrap.dedent(theirs))
    ours = re.search(r"^```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[1]
    assert load_text(json.dumps(document).encode(), "x") == load_text(ours.encode(), "x")
    assert [note.partition(":")[0] for note in notes] == ["line 9", "line 16"]


def test_a_listen():
    document, notes = convert(PG)
    (app,) = document["apps"]
    check = app["health"][0]
    assert (check["type"], check["preset"], check["user"]) == ("exchange", "postgres", "me")
    assert not any("health" in target for target in app["targets"])
    assert app["sticky"] == {"key": "source_ip", "expires": 1800}
    assert (app["balance"], app["on_down"], app["slow_start"]) == ("source_hash", "close", 20)
    assert app["timeouts"] == {"idle": 3600}
    assert (app["transparent"], "source" in app) == (True, False)
    assert app["access_log"] == "syslog+udp://127.0.0.1:5514"
    (note,) = notes
    assert note.startswith("line 4: log 127.0.0.1:5514 local0: sessions are logged there")
    load_text(json.dumps(document).encode(), "x")


def test_binds_that_differ_are_apps():
    document, _ = convert("listen a\n bind :80\n bind :443 ssl crt /x.pem\n server a x:1\n")
    found = [(app["name"], app["ports"], "tls" in app) for app in document["apps"]]
    assert found == [("a", [80], False), ("a-2", [443], True)]


def test_named_defaults():
    text = "defaults one\n retries 1\ndefaults two from one\n mode http\nlisten a from one\n bind :1\nlisten b\n bind :2\n"
    one, two = convert(text + "listen c from two\n bind :3\n")[0]["apps"][::2]
    assert (one["retries"], one.get("mode")) == (1, None)
    assert (two["retries"], two["mode"]) == (1, "http")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("global\n daemon\n", "nothing to listen on"),
        ("frontend\n bind :1\n", "line 1: frontend: wanted a name"),
        ("listen a from x\n bind :1\n", "line 1: there is no section defaults x"),
        ("listen a\n", "nothing to listen on"),
    ],
)
def test_what_cannot_become_one(text, error):
    with pytest.raises(CannotImport, match=error):
        convert(text)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["default_backend gone"], "there is no backend gone"),
        (["use_backend gone if { path_beg / }"], "there is no backend gone"),
        (["balance uri"], "this policy has no counterpart"),
        (["balance url_param user"], "this policy has no counterpart"),
        (["mode http", "stick on src"], "mode http has no sticky"),
        (["stick-table type ip size 1m store gpc0"], "a table for counting"),
    ],
)
def test_what_is_said(lines, why):
    _, notes = convert("\n".join(["listen a", " bind :1", " server a x:1", *lines]))
    assert any(why in note for note in notes)


def test_sections_without_counterpart_are_noted_once():
    _, notes = convert("listen a\n bind :1\npeers p\n peer a 1.1.1.1:1\nresolvers r\n nameserver a 1.1.1.1:53\n")
    assert notes == [f"line {n}: {kind} {kind[0]}: this section has no counterpart, left out, with its lines"
                     for n, kind in ((3, "peers"), (5, "resolvers"))]  # fmt: skip


def test_the_policy_of_another_backend_is_noted():
    text = "frontend f\n bind :1\n mode http\n use_backend b if { path_beg /x/ }\n default_backend a\nbackend a\n"
    document, notes = convert(text + " balance source\n server a x:1\nbackend b\n balance leastconn\n server b x:2\n")
    assert document["apps"][0]["balance"] == "source_hash"
    assert any(note.startswith("line 10: balance leastconn: an app has one policy: a's") for note in notes)


WORDS = st.sampled_from([
    *"global defaults frontend backend listen f b bind :80 [::]:443 ssl crt /a.pem server a 10.0.0.1:80 x:1 check".split(),
    *"inter 1s weight 7 mode http tcp balance source use_backend if { } path_beg /x hdr(host)".split(),
    *"x.org option default_backend httpchk timeout connect client acl no stick on src stick-table expire".split(),
    *"http-check expect status 200 or from".split(),
    *'maxconn log global tcp-check send retries default-server accept-proxy alpn h2 # " \\'.split(),
])  # fmt: skip
LINES = st.lists(st.lists(WORDS, min_size=1, max_size=7).map(" ".join), max_size=14)


def answer_or_line(call):
    """What it returns, or None when it refuses in one line."""
    try:
        return call()
    except (CannotImport, ConfigErrors) as error:
        text = str(error)
    assert all(line.strip() for line in text.splitlines())
    return None


@settings(max_examples=400)
@given(LINES)
def test_any_text_is_a_document_or_one_line(lines):
    found = answer_or_line(lambda: convert("\n".join(["listen first", "bind :8080", *lines])))
    if found is not None:
        document, notes = found
        assert all(note.startswith("line ") and len(note.splitlines()) == 1 for note in notes)
        answer_or_line(lambda: load_text(json.dumps(document).encode(), "x"))
