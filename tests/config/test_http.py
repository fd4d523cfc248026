"""What an app in mode http may say, and what is said of what it may not."""

import pytest

from tcp_proxy.config.model import Http, Limits, Route, SessionLimits


def test_the_defaults(app):
    assert app().http is None
    assert app(mode="tcp").http is None
    assert app(mode="http").http == Http()
    assert [check.type for check in app(mode="http").health] == ["http"]
    assert app(mode="http", health=[]).health == ()


def test_every_key(app):
    written = {
        "upstream_connections": 7, "upstream_idle": 8, "preserve_host": False, "forwarded": True, "allow_connect": True,
        "trusted_proxies": ["192.0.2.0/24", "::1"], "upgrades": [], "limits": {"body": 9.0},
        "routes": [{"targets": ["one"]}, {"host": "*.A.org", "path": "/x", "targets": ["one"]}],
    }  # fmt: skip
    found = app(mode="http", targets=[{"address": "a:1", "name": "one"}], **written).http
    assert found == Http(
        7, 8.0, False, True, True, ("192.0.2.0/24", "::1/128"), (), Limits(body=9),
        (Route("", "", ("one",)), Route("*.A.org", "/x", ("one",))),
    )  # fmt: skip


WRONG = [
    ({"routes": [{"targets": ["two"]}]}, 'routes[0].targets[0]: no target of this app is named "two"'),
    ({"routes": [{"targets": []}]}, "routes[0].targets"),
    ({"routes": [{}]}, 'routes[0]: missing key "targets"'),
    ({"routes": [{"host": "a:80", "targets": ["a:1"]}]}, "routes[0].host"),
    ({"routes": [{"host": "*", "targets": ["a:1"]}]}, "routes[0].host"),
    ({"routes": [{"path": "x", "targets": ["a:1"]}]}, "routes[0].path"),
    ({"routes": [{"path": "/a b", "targets": ["a:1"]}]}, "routes[0].path"),
    (
        {"routes": [{"host": ".a.org", "targets": ["a:1"]}]},
        'routes[0].host: found ".a.org"; wanted a host name without a port, "*.a.org" for every name below it',
    ),
    ({"routes": [{"host": "a..org", "targets": ["a:1"]}]}, "routes[0].host"),
    ({"routes": [{"host": "[::g]", "targets": ["a:1"]}]}, "routes[0].host"),
    ({"routes": [{"host": "[::1%lo]", "targets": ["a:1"]}]}, "routes[0].host"),
    (
        {"routes": [{"path": "/a?x=1", "targets": ["a:1"]}]},
        'routes[0].path: found "/a?x=1"; wanted a path without "?" and "#": only the path is compared',
    ),
    ({"routes": [{"path": "/a#x", "targets": ["a:1"]}]}, "routes[0].path"),
    (
        {"routes": [{"host": "A.org", "targets": ["a:1"]}, {"host": "a.org.", "targets": ["a:1"]}]},
        "routes[1]: the same host and path as $.apps[0].routes[0]; this route is never used",
    ),
    (
        {"routes": [{"host": f"[{zero}::1]", "path": "/a", "targets": ["a:1"]} for zero in ("", "0")]},
        "routes[1]: the same host and path as $.apps[0].routes[0]; this route is never used",
    ),
    ({"trusted_proxies": ["a"]}, "trusted_proxies[0]"),
    ({"trusted_proxies": ["192.0.2.1/24"]}, "trusted_proxies[0]"),
    ({"upgrades": ["a b"]}, "upgrades[0]"),
    ({"limits": {"line": 1}}, "limits.line"),
    ({"upstream_idle": 0}, "upstream_idle"),
]


@pytest.mark.parametrize(("keys", "found"), WRONG)
def test_what_is_wrong_is_said(keys, found, app_complaints):
    (complaint,) = app_complaints({"mode": "http", "targets": ["a:1"], **keys})
    assert complaint.startswith(f"$.apps[0].{found}")


def test_keys_of_mode_http_are_errors_in_mode_tcp(app_complaints):
    wrong = {"upstream_idle": 5, "routes": [{"path": "/", "targets": ["a:1"]}], "timeouts": {"response": 5}}
    complaints = app_complaints(wrong)
    assert [text.split(":")[0] for text in complaints] == [
        "$.apps[0].upstream_idle", "$.apps[0].routes[0].path", "$.apps[0].timeouts.response",
    ]  # fmt: skip
    assert all("mode http" in text for text in complaints)


def test_limits_of_requests_are_errors_in_mode_tcp_and_those_of_sessions_are_not(app, app_complaints):
    complaints = app_complaints({"limits": {"sessions": 5, "body": 7, "head": 65536}})
    assert complaints == ['$.apps[0].limits.body: "body" is of mode http; wanted "mode": "http", or not this key']
    assert app(limits={"sessions": 5.0}).limits == SessionLimits(sessions=5)
    both = app(mode="http", limits={"sessions": 5, "body": 7})
    assert (both.limits.sessions, both.http.limits.body) == (5, 7)
