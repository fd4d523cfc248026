"""Health checks as the file says them: what they become, and what contradicts itself."""

import pytest

from tcp_proxy.config.model import Check
from tests.config.test_build import refuses

WHERE = "$.apps[0].health"


def test_all_keys_of_an_http_check(app):
    plain = {
        "type": "http", "tls": True, "method": "POST", "path": "/up?deep=1", "headers": {"Host": "shop", "X-Probe": " 1 "},
        "body": "{}", "status": [204, "3xx"], "port": 8081,
    }  # fmt: skip
    assert app(health=plain).health == (
        Check(
            "http", port=8081, tls=True, method="POST", path="/up?deep=1", headers=(("Host", "shop"), ("X-Probe", "1")),
            body="{}", status=("204", "3xx"),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("more", [{}, {"tls": True}, {"path": "/up", "status": 200}])
def test_https_is_http_over_tls(app, more):
    (check,) = app(health={"type": "https", **more}).health
    assert app(health={**more, "type": "http", "tls": True}).health == (check,)
    assert (check.type, check.tls) == ("http", True)


@pytest.mark.parametrize(("plain", "status"), [(204, "204"), ("2xx", "2xx"), (200.0, "200")])
def test_one_status(app, plain, status):
    assert app(health={"type": "http", "status": plain}).health[0].status == (status,)


def test_a_redirect_is_well_unless_a_status_is_said(app):
    assert app(health={"type": "http"}).health[0].status == ("2xx", "3xx")
    (check,) = app(mode="http").health
    assert (check.type, check.status, check.rise, check.fall) == ("http", ("2xx", "3xx"), 2, 3)


@pytest.mark.parametrize(
    ("plain", "interval_down"), [({}, 2.0), ({"interval": 1}, 1.0), ({"interval_down": 7}, 7.0), ({"interval": 5}, 2.0)]
)
def test_interval_down_is_never_above_the_interval(app, plain, interval_down):
    assert app(health=plain).health[0].interval_down == interval_down


def test_all_keys_of_an_exchange(app):
    plain = {"type": "exchange", "send": r"PING\r\n", "expect_regex": r"^\+PONG", "tls": True}
    assert app(health=plain).health == (Check("exchange", tls=True, send=r"PING\r\n", expect_regex=r"^\+PONG"),)
    plain = {"type": "exchange", "preset": "postgres", "user": "monitor"}
    assert app(health=plain).health == (Check("exchange", preset="postgres", user="monitor"),)


@pytest.mark.parametrize(
    ("given", "timeout"),
    [({}, 10.0), ({"interval": 3}, 3.0), ({"interval": 60, "timeout": 1}, 1.0), ({"preset": "redis"}, 2.0)],
)
def test_a_preset_may_take_its_usual_time(app, given, timeout):
    """postscreen greets for six seconds."""
    (check,) = app(health={"type": "exchange", "preset": "smtp", **given}).health
    assert check.timeout == timeout


def test_the_environment_of_a_script(app):
    words = ["NAME", "_N=", "A=b=c\td", "*"]
    (check,) = app(health={"type": "script", "command": "/bin/true", "environment": words}).health
    assert check.environment == tuple(words)


@pytest.mark.parametrize("command", ["/bin/true", ["/bin/true"], ["/bin/true", "-x", ""]])
def test_a_script_and_its_arguments(app, command):
    words = (command,) if isinstance(command, str) else tuple(command)
    assert app(health={"type": "script", "command": command}).health == (Check("script", command=words),)


def test_a_target_may_have_checks_of_its_own(app):
    own = {"address": "a:2", "health": [{"type": "http"}, {}]}
    unchecked, usual = {"address": "a:3", "health": []}, {"address": "a:4", "health": None}
    made = app(targets=["a:1", own, unchecked, usual], health={"type": "ping"})
    assert made.health == (Check("ping"),)
    assert [target.health for target in made.targets] == [None, (Check("http"), Check()), (), None]


@pytest.mark.parametrize(
    ("check", "parts"),
    [
        (
            {"type": "https", "tls": False},
            ["health.tls", 'found false; a check of type "https" is over TLS: wanted "http", or no "tls"'],
        ),
        ({"type": "https", "send": "x"}, ["health.send", 'this one is of type "https"']),
        ({"type": "ping", "port": 80}, (".port: ", '"tcp" or "http" or "exchange"', 'of type "ping"')),
        ({"path": "/up"}, (".path: ", '"path" is for checks of type "http"', 'of type "tcp"')),
        ({"type": "http", "send": "x"}, (".send: ", 'of type "exchange"')),
        ({"type": "ping", "tls": False}, (".tls: ", '"http" or "exchange"')),
        ({"type": "http", "path": "up"}, (".path: ", 'found "up"', "begins with /")),
        ({"type": "http", "path": "/a b"}, (".path: ", "no spaces")),
        ({"type": "http", "method": "GET /"}, (".method: ", "name of a method")),
        ({"type": "http", "headers": {"A B": "x"}}, (".headers", '"A B" is no name of a header')),
        ({"type": "http", "headers": {"A": "x\r\nB: y"}}, (".headers.A: ", "control characters")),
        ({"type": "http", "headers": {"A": 1}}, (".headers.A: ", "found 1; wanted text")),
        ({"type": "http", "status": 99}, (".status: ", "wanted a number from 100 to 599")),
        ({"type": "http", "status": [200, "20x"]}, (".status[1]: ", 'found "20x"')),
        ({"type": "http", "status": []}, (".status: ", "a list of them")),
        ({"environment": ["A"]}, (".environment: ", 'checks of type "script"')),
        ({"type": "script", "command": "/bin/true", "environment": ["A B"]}, (".environment[0]: ", "NAME=value")),
        ({"type": "script", "command": "/bin/true", "environment": ["=x"]}, (".environment[0]: ", "NAME=value")),
        ({"type": "script", "command": "/bin/true", "environment": ["A=\0"]}, (".environment[0]: ", "NAME=value")),
        ({"type": "exchange"}, (": ", '"expect", "expect_regex" or "preset"')),
        ({"type": "exchange", "send": "x"}, (": ", '"expect", "expect_regex" or "preset"')),
        ({"type": "exchange", "expect": "x", "expect_regex": "y"}, (".expect_regex: ", "wanted one of them")),
        ({"type": "exchange", "preset": "redis", "expect": "y"}, (".expect: ", "wanted one of them")),
        ({"type": "exchange", "preset": "redis", "send": "y"}, (".send: ", "knows what it sends")),
        ({"type": "exchange", "preset": "redis", "user": "y"}, (".user: ", '"mysql" and "postgres"')),
        ({"type": "exchange", "preset": "mysql", "tls": True}, (".tls: ", "no TLS")),
        ({"type": "exchange", "preset": "mysq"}, (".preset: ", '"mysql"')),
        ({"type": "exchange", "expect": r"a\yb"}, (".expect: ", r"\y is no escape", r"\xHH")),
        ({"type": "exchange", "send": "\\", "expect": "x"}, (".send: ", "is no escape")),
        ({"type": "script"}, (": ", 'needs a "command"')),
        ({"type": "script", "command": []}, (".command: ", "wanted the path of an executable")),
        ({"type": "script", "command": "/nowhere/x"}, (".command: ", '"/nowhere/x": there is no such file')),
        ({"type": "script", "command": ["/nowhere/x", "a"]}, (".command[0]: ", "there is no such file")),
        ({"type": "script", "command": "/etc/passwd"}, (".command: ", "it is not executable (see: chmod +x)")),
        ({"type": "script", "command": "/"}, (".command: ", "this is a folder")),
        ({"type": "script", "command": ["/bin/true", "a\0"]}, (".command: ", "a zero character")),
        ({"command": "/bin/true"}, (".command: ", 'of type "script"')),
        ({"type": "exchange", "expect_regex": "(x"}, (".expect_regex: ", "not a regular expression of RE2: missing ): (x")),
        ({"type": "exchange", "expect_regex": r"(a)\1"}, (".expect_regex: ", r"of RE2: invalid escape sequence: \1")),
        ({"type": "exchange", "expect_regex": "(?=a)"}, (".expect_regex: ", "of RE2: invalid perl operator: (?=")),
        ({"type": "exchange", "expect_regex": "(a{99}){99}"}, (".expect_regex: ", "of RE2: invalid repetition size")),
    ],
)
def test_what_is_refused(app_complaints, check, parts):
    assert refuses(app_complaints({"health": check}), WHERE, *parts) is True
    whole = app_complaints({"targets": ["b:1", {"address": "a:1", "health": check}]})
    assert refuses(whole, "$.apps[0].targets[1].health", *parts) is True


def test_several_checks_are_each_judged(app_complaints):
    found = app_complaints({"health": [{"path": "/"}, {"type": "http"}, {"type": "exchange"}]})
    assert [line.split(": ")[0] for line in found] == [f"{WHERE}[0].path", f"{WHERE}[2]"]


def test_a_unix_target_with_checks_of_its_own_does_not_mind_the_apps(app, app_complaints):
    own = {"address": "unix:/x", "health": {}}
    assert app(targets=["a:1", own], health={"type": "ping"}).targets[1].health == (Check(),)
    own["health"] = {"type": "ping"}
    whole = app_complaints({"targets": ["a:1", own]})
    assert refuses(whole, "$.apps[0].targets[1].health.type: ", "cannot be pinged") is True
