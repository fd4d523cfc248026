"""What the API shows: a configuration comes back as the one it was. The other views: tests/control/api/test_routes.py."""

import dataclasses
import json
import pathlib

import pytest

from kit.certificates import Authority
from tcp_proxy.config.load import load_file, load_text
from tcp_proxy.config.schema import load_schema
from tcp_proxy.config.secrets import without_secrets
from tcp_proxy.control.answers import views
from tcp_proxy.control.long_answer import pieces

HOME = pathlib.Path(__file__).parents[3]
APPS = {
    "tcp": {
        "bind": ["127.0.0.1", "::1"], "ports": [5001, "6000-6003"], "balance": "least_connections", "on_down": "close",
        "targets": [
            "a:1", "unix:/run/x", "host",
            {"name": "g", "ports": {str(port): f"b:{port}" for port in (5001, 6000, 6001, 6002, 6003)}, "drain": True},
            {"address": "[::9]:2", "weight": 0, "backup": True, "max_connections": 3, "disabled": True},
            {"address": "b:2", "source": "192.0.2.7"}, {"address": "c:2", "source": "eth1", "transparent": True},
        ],
        "timeouts": {"connect": 1.5, "first_bytes": 2},
    },
    "checks": {
        "targets": ["a:1", {"address": "b:1", "health": []}, {"address": "c:1", "health": {"type": "ping"}}],
        "health": [
            {"type": "http", "path": "/x", "headers": {"A": "b"}, "status": [200, "3xx"], "interval": 3},
            {"type": "exchange", "send": "x", "expect_regex": "y", "tls": True, "fall_action": "drain"},
            {"type": "exchange", "preset": "redis", "port": 7}, {"type": "script", "command": ["/bin/true", "a b"]},
        ],
    },
    "http": {
        "mode": "http", "upstream_connections": 7, "forwarded": True, "trusted_proxies": ["192.0.2.0/24"],
        "upgrades": ["websocket", "x/1"], "limits": {"body": 5},
        "timeouts": {"request": 3, "response": 4, "next_request": 5},
        "targets": [{"name": "t", "address": "a:1"}], "routes": [{"host": "*.a", "path": "/x", "targets": ["t"]}],
    },
    "proxy": {
        "accept_proxy": {"from": ["192.0.2.0/24", "::1"], "others": "accept", "max_size": 300},
        "targets": [
            {"address": "a:1", "send_proxy": 1},
            {"address": "b:1", "send_proxy": {"tlvs": ["alpn", "ssl"]}, "health": {"send_proxy": 0}},
        ],
    },
    "access": {"access": {"allow": ["10.0.0.0/8", "::1"], "deny": ["10.1.2.3"]}},
    "access without allow": {"access": {"deny": ["10.1.0.0/16"]}},
    "lists": {"targets": ["a:1", "file:t.json", {"address": "srv:_a._tcp.b", "max_connections": 3}]},
    "source": {"source": ["192.0.2.1-192.0.2.9", "eth1"], "transparent": True},
    "own log": {"access_log": "own.log", "access_log_format": "json"},
    "sessions": {"limits": {"sessions": 7}},
    "levels": {
        "overprovisioning": 140, "targets": ["a:1", {"address": "b:1", "priority": 3, "zone": "x"}],
    },
    "maglev": {"balance": "maglev", "hash": {"key": "first_bytes", "slice": [1, 9], "table_size": 1021}},
    "ring": {"balance": "ring_hash", "hash": {"ring_size": 300, "key": "sni"}},
    "http hash": {"balance": "rendezvous", "mode": "http", "hash": {"key": "header", "name": "X-User"}},
    "rises": {"slow_start": 7.5, "panic": 40},
    "outlier": {"outlier": {"consecutive_failures": 7, "max_ejected": 34}},
    "http outlier": {"mode": "http", "outlier": {"slower_than": 2.5, "consecutive_gateway_failures": 3}},
    "http sessions": {"mode": "http", "limits": {"sessions": 7, "fields": 9}},
    "proxy from anybody": {"accept_proxy": {"from": "any", "required": False}},
    "sticky": {"sticky": {"expires": 5, "ipv4_prefix": 24}},
    "sticky cookie": {
        "mode": "http", "targets": [{"name": "t", "address": "a:1"}],
        "sticky": {"key": "cookie", "cookie": {"name": "x", "samesite": None, "max_age": 7, "secure": True}},
    },
    "sticky by bytes": {"sticky": {"key": "source_ip+first_bytes", "slice": [2, 9], "size": 10}},
    "failover": {
        "balance": "failover",
        "failover": {"check": "/bin/true", "triggers": ["/bin/true", "/bin"], "while_electing": "refuse", "failback": True},
        "without_quorum": "keep",
    },
}  # fmt: skip


def comes_back(config):
    assert load_text("".join(pieces(views.config(config))).encode(), "shown") == _shown(config)


def _shown(config):
    """Secrets in checks do not come back."""

    def checks(found):
        return None if found is None else tuple(map(without_secrets, found))

    def app(one):
        targets = tuple(dataclasses.replace(target, health=checks(target.health)) for target in one.targets)
        return dataclasses.replace(one, health=checks(one.health), targets=targets)

    return dataclasses.replace(config, apps=tuple(map(app, config.apps)))


def test_tls_comes_back_as_it_was(tmp_path):
    authority = Authority()
    one = authority.issue("a.org").write(tmp_path, "one", "secret")
    two = authority.issue("b.org").write(tmp_path, "two", combined=True)
    (tmp_path / "ca.pem").write_text(authority.pem)
    (tmp_path / "crl.pem").write_text(authority.revoke())
    ca = str(tmp_path / "ca.pem")
    tls = {
        "certificates": [one, two], "client_ca": ca, "crl": str(tmp_path / "crl.pem"), "verify": "required",
        "min_version": "1.3", "handshake_timeout": 2, "alpn": ["x"], "watch": False,
    }  # fmt: skip
    routes = [{"sni": ["*.b.org", "c.org"], "alpn": ["h2"], "targets": ["a:1"], "passthrough": True}, {"targets": ["b:1"]}]
    own = {"address": "b:1", "tls": {"ca": ca, "certificate": one, "server_name": "x", "min_version": "1.3"}}
    targets = [{"address": "a:1", "tls": True}, own]
    app = {"name": "app", "ports": [5001], "targets": targets, "tls": tls, "routes": routes}
    config = load_text(json.dumps({"apps": [app]}).encode(), "file")
    comes_back(config)
    text = "".join(pieces(views.config(config)))
    assert "BEGIN" not in text
    assert "secret" not in text


def test_every_key_of_an_app_and_of_a_target_is_shown():
    """`comes_back` cannot see a key that is new and missing: both sides have its default."""
    apps = [app_as_shown({"name": "app", "ports": [5001], "targets": ["a:1"], **app}) for app in APPS.values()]
    keys = load_schema()["properties"]["apps"]["items"]["properties"]
    by_tls = {"tls"}  # in test_tls_comes_back_as_it_was
    assert set(keys) <= {key for app in apps for key in app} | by_tls
    assert set(target_keys(keys["targets"])) <= {key for app in apps for target in app["targets"] for key in target}


def app_as_shown(app):
    config = load_text(json.dumps({"apps": [app]}).encode(), "file")
    return json.loads("".join(pieces(views.config(config))))["apps"][0]


def target_keys(schema):
    return next(branch["properties"] for branch in schema["items"]["anyOf"] if "properties" in branch)


@pytest.mark.parametrize("app", APPS.values(), ids=APPS)
def test_an_app_comes_back_as_it_was(app):
    whole = {"name": "app", "ports": [5001], "targets": ["a:1"], **app}
    comes_back(load_text(json.dumps({"apps": [whole]}).encode(), "file"))


def test_the_top_level_comes_back_as_it_was():
    top = {
        "workers": 3, "user": "u", "group": "g", "pid_file": "p", "state": "s", "shutdown_grace": 1.5, "access_log": "-",
        "log": {"level": "error", "format": "json"}, "api": {"listen": "*:1", "token_file": "t", "hosts": ["A.b"]},
    }  # fmt: skip
    for more in ({}, top):
        app = {"name": "app", "ports": [5001], "targets": ["a:1"]}
        comes_back(load_text(json.dumps({**more, "apps": [app]}).encode(), "file"))


@pytest.mark.parametrize("path", sorted((HOME / "examples").glob("*.json")), ids=lambda path: path.name)
def test_examples_come_back_as_they_were(path, monkeypatch):
    monkeypatch.chdir(HOME / "examples")
    comes_back(load_file(str(path)))
