"""What the API shows: a configuration comes back as the one it was. The other views: tests/control/api/test_routes.py."""

import json
import pathlib

import pytest

from tcp_proxy.config.load import load_file, load_text
from tcp_proxy.control import views

HOME = pathlib.Path(__file__).parents[2]
APPS = {
    "tcp": {
        "bind": ["127.0.0.1", "::1"], "ports": [5001, "6000-6003"], "balance": "least_connections", "on_down": "close",
        "targets": [
            "a:1", "unix:/run/x", "host",
            {"name": "g", "ports": {str(port): f"b:{port}" for port in (5001, 6000, 6001, 6002, 6003)}, "drain": True},
            {"address": "[::9]:2", "weight": 0, "backup": True, "max_connections": 3, "disabled": True},
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
    "sticky": {"sticky": {"expires": 5, "ipv4_prefix": 24}},
    "sticky by bytes": {"sticky": {"key": "source_ip+first_bytes", "slice": [2, 9], "size": 10}},
    "failover": {
        "balance": "failover",
        "failover": {"check": "/bin/true", "triggers": ["/bin/true", "/bin"], "while_electing": "refuse", "failback": True},
    },
}  # fmt: skip


def comes_back(config):
    assert load_text(json.dumps(views.config(config)).encode(), "shown") == config


@pytest.mark.parametrize("app", APPS.values(), ids=APPS)
def test_an_app_comes_back_as_it_was(app):
    whole = {"name": "app", "ports": [5001], "targets": ["a:1"], **app}
    comes_back(load_text(json.dumps({"apps": [whole]}).encode(), "file"))


def test_the_top_level_comes_back_as_it_was():
    top = {
        "workers": 3, "pid_file": "p", "state": "s", "shutdown_grace": 1.5, "access_log": "-",
        "log": {"level": "error", "format": "json"}, "api": {"listen": "*:1", "token_file": "t", "hosts": ["A.b"]},
    }  # fmt: skip
    for more in ({}, top):
        app = {"name": "app", "ports": [5001], "targets": ["a:1"]}
        comes_back(load_text(json.dumps({**more, "apps": [app]}).encode(), "file"))


@pytest.mark.parametrize("path", sorted((HOME / "examples").glob("*.json")), ids=lambda path: path.name)
def test_examples_come_back_as_they_were(path, monkeypatch):
    monkeypatch.chdir(HOME / "examples")
    comes_back(load_file(str(path)))
