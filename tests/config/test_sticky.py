"""`sticky` of an app: what arrives, and what contradicts itself has its one line."""

import dataclasses

import pytest

from tcp_proxy.config.model import Sticky, StickyCookie
from tcp_proxy.config.schema import load_schema


def test_sticky_has_defaults_and_takes_a_slice(app):
    assert app().sticky is None
    assert app(sticky={}).sticky == Sticky()
    found = app(sticky={"key": "source_ip+first_bytes", "slice": [2, 9], "expires": 1, "ipv6_prefix": 128}).sticky
    assert found == Sticky("source_ip+first_bytes", (2, 9), 1.0, ipv6_prefix=128)


COOKIE = {"mode": "http", "targets": [{"address": "a:1", "name": "t"}]}


HEADER = {**COOKIE, "sticky": {"key": "header", "header": "X-User"}}


def test_a_header_is_the_key_of_a_table(app):
    found = app(**COOKIE, sticky={"key": "header", "header": "X-User", "expires": 5, "size": 9})
    assert (found.sticky, found.http.cookie) == (Sticky("header", (0, 0), 5.0, 9, header="X-User"), None)


def test_a_cookie_has_defaults_and_every_key_arrives(app):
    found = app(**COOKIE, sticky={"key": "cookie"})
    assert (found.sticky, found.http.cookie) == (None, StickyCookie())
    said = {
        "name": "X", "mode": "prefix", "path": "/x", "domain": "example.org", "max_age": 60, "secure": True,
        "http_only": False, "samesite": "Strict", "no_cache": False,
    }  # fmt: skip
    assert app(**COOKIE, sticky={"key": "cookie", "cookie": said}).http.cookie == StickyCookie(**said)
    assert app(**COOKIE, sticky={"key": "cookie", "cookie": {"samesite": None}}).http.cookie.samesite is None
    properties = load_schema()["properties"]["apps"]["items"]["properties"]["sticky"]["properties"]["cookie"]["properties"]
    assert {key: value["default"] for key, value in properties.items()} == dataclasses.asdict(StickyCookie())


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"sticky": {"slice": [0, 4]}}, '.sticky.slice: a slice is for the key "source_ip+first_bytes"'),
        ({"sticky": {"key": "source_ip+first_bytes"}}, '.sticky.key: missing key "slice" beside it'),
        ({"sticky": {"key": "source_ip+first_bytes", "slice": [4, 4]}}, ".sticky.slice: found a list; wanted [start, end)"),
        ({"sticky": {"key": "source_ip+first_bytes", "slice": [4]}}, ".sticky.slice: found a list; wanted [start,"),
        ({"sticky": {}, "mode": "http"}, '.sticky: mode "http" balances requests, not clients: they stay by'),
        ({"sticky": {"key": "cookie"}}, '.sticky.key: "cookie" is of mode http'),
        ({"sticky": {"cookie": {"name": "x"}}}, '.sticky.cookie: it is of the key "cookie", in mode http'),
        ({**COOKIE, "sticky": {"key": "cookie", "expires": 5}}, ".sticky.expires: a cookie is kept by the client"),
        ({**COOKIE, "sticky": {"key": "cookie", "cookie": {"name": "a b"}}}, '.sticky.cookie.name: found "a b"; wanted'),
        ({**COOKIE, "sticky": {"key": "cookie", "cookie": {"path": "/;x"}}}, '.sticky.cookie.path: found "/;x"; wanted'),
        ({**COOKIE, "sticky": {"key": "cookie", "cookie": {"samesite": "None", "secure": False}}},
         '.sticky.cookie.secure: browsers take no cookie with "samesite": "None" that is not secure'),
        ({"mode": "http", "sticky": {"key": "cookie"}}, '.targets[0]: found "a:1": with a sticky cookie each'),
        ({"mode": "http", "targets": ["srv:_a._tcp.b.example"], "sticky": {"key": "cookie"}},
         '.targets[0]: found "srv:_a._tcp.b.example": with a sticky cookie each needs a "name"'),
        ({"sticky": {"key": "header"}}, '.sticky.key: "header" is of mode http'),
        ({"sticky": {"header": "X-User"}}, '.sticky.header: it is of the key "header", in mode http'),
        ({"mode": "http", "sticky": {"key": "header"}}, '.sticky.key: missing key "header" beside it'),
        ({"mode": "http", "sticky": {"key": "header", "header": "a b"}}, '.sticky.header: found "a b"; wanted the name'),
        ({**HEADER, "routes": [{"path": "/", "targets": ["t"]}]}, ".routes: a client that belongs to a target goes there"),
        ({**HEADER, "sticky": {**HEADER["sticky"], "ipv4_prefix": 24}}, ".sticky.ipv4_prefix: a client is known by"),
        ({**HEADER, "sticky": {**HEADER["sticky"], "cookie": {"name": "x"}}}, ".sticky.cookie: a client is known by"),
        ({"sticky": {}, "balance": "failover"}, '.sticky: balance "failover" has one target for everybody'),
        ({"sticky": {"size": 0}}, ".sticky.size: found 0; wanted a whole number from 1"),
    ],
)
def test_what_is_wrong_with_sticky(more, complaint, app_complaints):
    (line,) = app_complaints(more)
    assert line.startswith(f"$.apps[0]{complaint}"), line
