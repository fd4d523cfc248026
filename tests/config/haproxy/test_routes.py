"""use_backend and its acls become routes; where the first that fits is not the most exact one, that is said."""

import pytest

from tcp_proxy.config.haproxy import proxy
from tcp_proxy.config.haproxy.proxy import Proxy
from tcp_proxy.config.haproxy.routes import routes
from tcp_proxy.config.haproxy.text import Line, sections


def imported(*lines):
    notes = []
    note = lambda line, why: notes.append((line.number - 1, why))  # noqa: E731
    (section,) = sections("\n".join(["frontend f", *lines]))
    found = routes(proxy.read(section, Proxy(Line(0, ())), note), note)
    return [(way, name) for way, name, _ in found], notes


@pytest.mark.parametrize(
    ("lines", "ways"),
    [
        (["use_backend b if { hdr(host) -i x.org }"], [{"host": "x.org"}]),
        (["use_backend b if { hdr(host) x.org y.org:8080 }"], [{"host": "x.org"}, {"host": "y.org"}]),
        (["use_backend b if { hdr_end(host) .x.org }"], [{"host": "*.x.org"}]),
        (["use_backend b if { req_ssl_sni -i x.org }"], [{"sni": "x.org"}]),
        (["use_backend b if { req.ssl_sni -m end .x.org }"], [{"sni": "*.x.org"}]),
        (["acl a path_beg /", "use_backend b if a"], [{"path": "/"}]),
        (["acl a hdr(host) x.org", "acl a hdr(host) y.org", "use_backend b if a"], [{"host": "x.org"}, {"host": "y.org"}]),
        (["acl a hdr(host) x.org", "acl p path_beg /", "use_backend b if a p"], [{"host": "x.org", "path": "/"}]),
        (["acl a hdr(host) x.org", "use_backend b if a || { path_beg / }"], [{"host": "x.org"}, {"path": "/"}]),
        (["acl a hdr(host) x", "acl c hdr(host) y", "use_backend b if a or c"], [{"host": "x"}, {"host": "y"}]),
    ],
)
def test_what_can_be_asked_for(lines, ways):
    assert imported(*lines) == ([(way, "b") for way in ways], [])


def test_a_path_is_compared_by_whole_segments_which_is_said():
    found, notes = imported("use_backend b if { path_beg /api/ }")
    assert found == [({"path": "/api"}, "b")]
    assert notes == [(1, "/api is compared by whole segments: not for /apix")]


@pytest.mark.parametrize(
    "condition",
    [
        "if { src 10.0.0.0/8 }", "if !a", "unless { path_beg / }", "if { path_reg ^/x }", "if { hdr(host) -m reg x }", "if",
        "if { hdr(host) -f /hosts }", "if { path_beg -i /x }", "if unknown", "if { path_beg / } { path_beg /x }", "if { }",
        "if { hdr(host) x } or { src 10.0.0.1 }",
    ],
)  # fmt: skip
def test_what_cannot_is_noted(condition):
    found, notes = imported("acl a path_beg /", f"use_backend b {condition}")
    assert not found
    assert [line for line, _ in notes] == [2]


def test_the_first_that_fits_and_the_most_exact_one():
    lines = ["a if { path_beg / }", "b if { hdr(host) x.org }", "c if { hdr(host) y.org }"]
    lines = [f"use_backend {line}" for line in lines]
    found, notes = imported(*lines, "use_backend d if { hdr(host) x.org }")
    assert [name for _, name in found] == ["a", "b", "c"]
    assert notes == [
        (2, "it is more exact than line 2 and wins here, where HAProxy takes the first"),
        (3, "it is more exact than line 2 and wins here, where HAProxy takes the first"),
        (4, "it is more exact than line 2 and wins here, where HAProxy takes the first"),
        (4, "line 3 takes all of it; left out"),
    ]
    assert not imported(*lines[1:], lines[0])[1]


def test_without_a_condition():
    found, notes = imported("use_backend b")
    assert not found
    assert notes == [(1, "without a condition it is a default_backend; left out")]
