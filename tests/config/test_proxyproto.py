"""What an app says of the PROXY protocol arrives, and what is wrong with it has its one line."""

import json

import pytest

from tcp_proxy.config.load import load_text
from tcp_proxy.config.model import AcceptProxy, SendProxy
from tcp_proxy.config.proxyproto import BINARY, EVERYWHERE, FOR_ALL, long_headers
from tcp_proxy.sansio.proxyproto import UNIQUE_ID, build


def test_nothing_is_believed_where_nothing_is_said(app):
    assert app().accept_proxy is None


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        ({"from": "any"}, AcceptProxy(EVERYWHERE)),
        ({"from": ["192.0.2.1", "10.0.0.0/8"]}, AcceptProxy(("192.0.2.1/32", "10.0.0.0/8"))),
        ({"from": ["2001:db8::/32", "::ffff:192.0.2.0/120"]}, AcceptProxy(("2001:db8::/32", "192.0.2.0/24"))),
        (
            {"from": ["::1"], "required": False, "others": "accept", "max_size": 1024},
            AcceptProxy(("::1/128",), False, "accept", 1024),
        ),
    ],
)
def test_what_is_said_arrives(app, plain, value):
    assert app(accept_proxy=plain).accept_proxy == value


def test_mode_http_has_it_too(app):
    assert app(mode="http", accept_proxy={"from": "any"}).accept_proxy == AcceptProxy(EVERYWHERE)


@pytest.mark.parametrize(
    ("plain", "path", "text"),
    [
        ({}, "accept_proxy", 'missing key "from"'),
        ({"from": []}, "accept_proxy.from", "wanted a list of addresses and networks"),
        ({"from": "10.0.0.0/8"}, "accept_proxy.from", 'or "any" for everybody'),
        ({"from": ["10.0.0.1/8"]}, "accept_proxy.from[0]", "has host bits set"),
        ({"from": ["any"]}, "accept_proxy.from[0]", '"any" stands alone'),
        ({"from": ["localhost"]}, "accept_proxy.from[0]", "wanted an address or a network"),
        ({"from": "any", "max_size": 100}, "accept_proxy.max_size", "from 232 to 65551"),
        ({"from": "any", "others": "direct"}, "accept_proxy.others", 'wanted one of "refuse", "accept"'),
        ({"from": "any", "timeout": 1}, "accept_proxy.timeout", "unknown key"),
    ],
)
def test_what_is_wrong_is_said(app_complaints, plain, path, text):
    (complaint,) = app_complaints({"accept_proxy": plain})
    assert complaint.startswith(f"$.apps[0].{path}: ")
    assert text in complaint


# -- out


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        (None, None),
        (1, SendProxy(1)),
        (2, SendProxy(2)),
        ({}, SendProxy(2)),
        ({"version": 1}, SendProxy(1)),
        ({"tlvs": ["unique_id", "crc32c"]}, SendProxy(2, ("unique_id", "crc32c"))),
    ],
)
def test_what_a_target_gets_arrives(app, plain, value):
    (target,) = app(targets=[{"address": "a:1", "send_proxy": plain}]).targets
    assert target.send_proxy == value


@pytest.mark.parametrize(
    ("plain", "path", "text"),
    [
        (3, "", "wanted 1, 2, or an object"),
        (True, "", "wanted 1, 2, or an object"),
        ("v2", "", "wanted 1, 2, or an object"),
        ({"version": 3}, ".version", "wanted 1 or 2"),
        ({"tlvs": ["netns"]}, ".tlvs[0]", '"unique_id"'),
        ({"version": 1, "tlvs": ["crc32c"]}, ".tlvs", "version 1 has no TLVs"),
    ],
)
def test_what_is_wrong_with_it_is_said(app_complaints, plain, path, text):
    (complaint,) = app_complaints({"targets": [{"address": "a:1", "send_proxy": plain}]})
    assert complaint.startswith(f"$.apps[0].targets[0].send_proxy{path}: ")
    assert text in complaint


def test_checks_send_what_sessions_send_unless_they_say_otherwise(app):
    health = [{}, {"send_proxy": 0}, {"send_proxy": 1}, {"port": 7}, {"port": 7, "send_proxy": 2}, {"type": "ping"}]
    targets = [{"address": "a:1", "send_proxy": 2}, "b:1", {"address": "c:1", "send_proxy": 1, "health": {"rise": 3}}]
    found = app(targets=targets, health=health)
    one, other, own = (target.checks(found.health) for target in found.targets)
    assert [check.send_proxy for check in one] == [2, 0, 1, None, 2, None]
    assert other is found.health
    assert [(check.send_proxy, check.rise) for check in own] == [(1, 3)]


def test_a_check_that_does_not_connect_has_no_header(app_complaints):
    (complaint,) = app_complaints({"health": {"type": "ping", "send_proxy": 1}})
    assert '"send_proxy" is for checks of type "tcp" or "http" or "exchange"' in complaint


@pytest.mark.parametrize(
    ("tlvs", "is_long"), [([], False), (["unique_id", "crc32c"], False), (["authority"], True), (["ssl"], True)]
)
def test_headers_that_some_receivers_end_are_warned_of(tlvs, is_long):
    target = {"address": "a:1", "name": "t", "send_proxy": {"tlvs": tlvs}}
    text = json.dumps({"apps": [{"name": "web", "ports": [5001], "targets": [target]}]})
    warnings = list(long_headers(load_text(text.encode(), "config.json")))
    assert [warning.startswith("app web: target t: its PROXY header may have") for warning in warnings] == [True] * is_long


def test_the_size_that_is_warned_of_is_never_below_the_header_that_is_sent():
    ends = ("2001:db8:1111:2222:3333:4444:5555:6666", 65535), ("2001:db8:1111:2222:3333:4444:5555:7777", 65535)
    assert len(build(2, *ends)) == BINARY
    assert len(build(2, *ends, [(UNIQUE_ID, b"69200e71.9999-9999999999")], checksum=True)) <= BINARY + 32 + 7 <= FOR_ALL
