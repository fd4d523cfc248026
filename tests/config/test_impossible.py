"""Hosts that no resolver can know and no connect can reach, as a configuration names them."""

import json

import pytest

from tcp_proxy.config.impossible import impossible_hosts
from tcp_proxy.config.load import load_text


def hosts(app=None, **top):
    app = {"name": "web", "ports": [1], "targets": ["a:1"]} | (app or {})
    return impossible_hosts(load_text(json.dumps({"apps": [app]} | top).encode(), "x"))


def checked_as(host):
    return {"type": "http", "headers": {"Host": host}}


def test_nothing_is_said_of_what_can_be():
    targets = ["a.example:1", "[::1]:1", "[fe80::1%eth0]:1", "unix:/run/x", "host"]
    checks = [checked_as(host) for host in ("a.example", "a.example:80", "10.0.0.1", "10.0.0.1:80", "[::1]", "[::1]:80", "")]
    assert hosts({"targets": targets, "health": [*checks, {"type": "tcp"}]}) == []
    routes = [{"host": host, "targets": ["a:1"]} for host in ("a.example", "*.a.example", "[::1]")]
    assert hosts({"mode": "http", "routes": routes}, api={"hosts": ["proxy.example", "[::1]"]}) == []


def test_a_target_that_nobody_can_reach():
    group = {"name": "g", "ports": {"1": "ff02::1".join("[]") + ":1"}}
    assert hosts({"targets": ["a.invalid:1", group]}) == [
        "app web: target a.invalid:1: a name that ends in .invalid never has an address (RFC 6761)",
        "app web: target g: this is a multicast or broadcast address: nobody can connect to it",
    ]


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("256.1.1.1", "not an IPv4 address"),
        ("10.0.0", "not an IPv4 address"),
        ("a..b", "nothing stands before a dot"),
        ("a" * 64, "64 characters"),
        ("a." * 127 + "b", "255 characters"),
        ("-a", "hyphen"),
    ],
)
def test_a_name_that_no_resolver_can_know(host, sentence):
    (of_app,) = hosts({"health": checked_as(f"{host}:80")})
    assert of_app.startswith(f'app web: a check\'s Host "{host[:50]}')
    assert sentence in of_app
    (of_target,) = hosts({"targets": [{"address": "a:1", "health": [checked_as(host), checked_as(host)]}]})
    assert of_target.startswith("app web: target a:1: a check's Host ")
    assert sentence in of_target
    if ".." not in host and len(host) < 250:  # in a route that is an error
        (of_route,) = hosts({"mode": "http", "routes": [{"host": f"*.{host}", "targets": ["a:1"]}]})
        assert of_route.startswith("app web: a route's host ")
        assert sentence in of_route
    if len(host) < 250:
        (of_api,) = hosts(api={"hosts": [host]})
        assert of_api.startswith("api.hosts: ")
        assert sentence in of_api


def test_what_a_host_header_cannot_hold_is_shown_safely():
    (said,) = hosts({"health": checked_as("a b\u202e")})
    assert said.isprintable()
    assert "can be in no name" in said
