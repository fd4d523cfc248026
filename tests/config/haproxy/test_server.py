"""Server lines become targets, and the options of a backend checks."""

import pytest

from tcp_proxy.config.haproxy import proxy, server
from tcp_proxy.config.haproxy.proxy import Proxy
from tcp_proxy.config.haproxy.text import Line, sections

PLAIN = {"interval": 2, "interval_down": 2, "timeout": 2, "rise": 2, "fall": 3}


def imported(line, *before):
    """(target, its checks, what was noted)"""
    notes = []
    note = lambda where, why: notes.append(why)  # noqa: E731
    (section,) = sections("\n".join(["backend b", *before, line]))
    (made,) = [server.read(one, one.servers[0], note) for one in [proxy.read(section, Proxy(Line(0, ())), note)]]
    return (made.target, made.health, notes) if made else (None, None, notes)


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("db.example:5432", "db.example:5432"),
        ("10.0.0.1", "10.0.0.1"),
        ("ipv4@10.0.0.1:80", "10.0.0.1:80"),
        ("[::1]:80", "[::1]:80"),
        ("::1:80", "[::1]:80"),
        ("ipv6@::1:80", "[::1]:80"),
        ("unix@/run/x", "unix:/run/x"),
        ("/run/x", "unix:/run/x"),
    ],
)
def test_addresses(address, ours):
    assert imported(f"server a {address}") == ({"name": "a", "address": ours}, [], [])


@pytest.mark.parametrize("address", ["10.0.0.1:+10", "fd@3", "sockpair@4", "abns@x"])
def test_an_address_without_counterpart_is_noted(address):
    target, _, notes = imported(f"server a {address}")
    assert target is None
    assert "its address has no counterpart" in notes[0]


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ("weight 10 backup maxconn 30", {"weight": 10, "backup": True, "max_connections": 30}),
        ("disabled maxconn 0", {"disabled": True}),
        ("send-proxy", {"send_proxy": 1}),
        ("send-proxy-v2", {"send_proxy": 2}),
        ("send-proxy-v2-ssl", {"send_proxy": {"version": 2, "tlvs": ["ssl"]}}),
        ("ssl", {"tls": True}),
        ("source 10.0.0.9", {"source": "10.0.0.9"}),
        ("source 0.0.0.0 usesrc clientip backup", {"transparent": True, "backup": True}),
        ("source 10.0.0.9 interface eth1 weight 3", {"source": ["10.0.0.9", "eth1"], "weight": 3}),
        ("ssl verify none", {"tls": {"verify": False}}),
        ("ssl ca-file /ca.pem sni str(x.org) crt /c.pem", {
            "tls": {"ca": "/ca.pem", "server_name": "x.org", "certificate": {"chain": "/c.pem"}}
        }),
        ("ssl alpn h2,http/1.1 ssl-min-ver TLSv1.3", {"tls": {"alpn": ["http/1.1"], "min_version": "1.3"}}),
        ("resolvers dns init-addr none,last id 7", {}),
    ],
)  # fmt: skip
def test_options(options, keys):
    target, _, notes = imported(f"server a x:1 {options}")
    assert target == {"name": "a", "address": "x:1"} | keys
    assert notes == (["alpn h2: targets are spoken to in HTTP/1.1; left out"] if "h2" in options else [])


@pytest.mark.parametrize(
    "option", ["cookie s1", "track b/x", "fastinter 1s", "sni ssl_fc_sni", "unheard-of 7 8"]
)
def test_no_option_is_dropped_in_silence(option):
    _, _, notes = imported(f"server a x:1 ssl {option} weight 2")
    assert len(notes) == 1
    assert notes[0].startswith(option)


@pytest.mark.parametrize(
    ("before", "options", "check"),
    [
        ([], "check", {"type": "tcp"}),
        ([], "check inter 10s rise 4 fall 5 port 81", {
            "type": "tcp", "interval": 10, "interval_down": 10, "timeout": 10, "rise": 4, "fall": 5, "port": 81
        }),
        (["timeout connect 1s"], "check inter 10s downinter 500", {
            "type": "tcp", "interval": 10, "interval_down": 0.5, "timeout": 1
        }),
        (["timeout connect 1s", "timeout check 3s"], "check inter 10s", {
            "type": "tcp", "interval": 10, "interval_down": 10, "timeout": 3
        }),
        (["default-server check inter 5s"], "", {"type": "tcp", "interval": 5, "interval_down": 5, "timeout": 5}),
        (["option httpchk"], "check", {"type": "http", "method": "OPTIONS", "path": "/"}),
        (["option httpchk /h"], "check", {"type": "http", "method": "OPTIONS", "path": "/h"}),
        ([r"option httpchk GET /h HTTP/1.1\r\nHost:\ www"], "check", {
            "type": "http", "method": "GET", "path": "/h", "headers": {"Host": "www"}
        }),
        (["option httpchk", "http-check send meth GET uri /h ver HTTP/1.1 hdr Host www", "http-check expect status 200"],
         "check", {"type": "http", "method": "GET", "path": "/h", "headers": {"Host": "www"}, "status": [200]}),
        (["option httpchk", "http-check expect status 200-399,404"], "check", {
            "type": "http", "method": "OPTIONS", "path": "/", "status": ["2xx", "3xx", 404]
        }),
        (["option pgsql-check user me"], "check", {"type": "exchange", "preset": "postgres", "user": "me"}),
        (["option mysql-check"], "check", {"type": "exchange", "preset": "mysql"}),
        (["option redis-check"], "check", {"type": "exchange", "preset": "redis"}),
        (["option smtpchk EHLO x"], "check", {"type": "exchange", "preset": "smtp"}),
        (["option tcp-check", r"tcp-check send PING\r\n", "tcp-check expect string +PONG"], "check", {
            "type": "exchange", "send": "PING\\r\\n", "expect": "+PONG"
        }),
        (["option httpchk"], "check check-ssl", {"type": "http", "method": "OPTIONS", "path": "/", "tls": True}),
    ],
)  # fmt: skip
def test_checks(before, options, check):
    _, health, notes = imported(f"server a x:1 {options}", *before)
    assert health == [PLAIN | check]
    assert not notes


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (["option httpchk", "http-check expect rstring ok"], "only a status"),
        (["option httpchk", "http-check expect status 201-203"], "only a status"),
        (["option httpchk", "http-check send meth GET uri-lf x"], "uri-lf x: no counterpart"),
        (["option external-check"], "a check of type script is the counterpart"),
        (["option ssl-hello-chk"], "taken as a tcp check"),
        (["option tcp-check", "tcp-check expect binary 00"], "no counterpart"),
    ],
)
def test_no_rule_of_a_check_is_dropped_in_silence(before, why):
    assert why in imported("server a x:1 check", *before)[2][0]


def test_without_check_there_is_none():
    assert imported("server a x:1 check no-check")[1] == imported("server a x:1")[1] == []
