"""What a section says, with what its defaults say; every keyword without counterpart is noted."""

import pytest

from tcp_proxy.config.haproxy import proxy
from tcp_proxy.config.haproxy.proxy import Proxy
from tcp_proxy.config.haproxy.text import Line, sections


def imported(*lines, base=None):
    notes = []
    (section,) = sections("\n".join(["listen it", *lines]))
    return proxy.read(section, base or Proxy(Line(0, ())), lambda line, why: notes.append(f"{line}: {why}")), notes


def test_keywords():
    found, notes = imported(
        "mode http", "balance leastconn", "retries 5", "maxconn 100", "timeout connect 1s", "timeout client 2000",
        "option httpchk", "option http-server-close", "option forwardfor", "bind :80", "server a x:1",
        "default-server check", "default_backend b", "stick on src", "stick-table type ip size 1m expire 1h",
        "tcp-request inspect-delay 5s", "tcp-request content accept if { req_ssl_hello_type 1 }", "log global",
    )  # fmt: skip
    assert (found.kind, found.name, found.mode) == ("listen", "it", "http")
    assert (found.retries, found.maxconn, found.closes) == (5, 100, True)
    assert found.timeouts == {"connect": 1, "client": 2}
    assert found.inspect_delay == 5
    assert found.server_defaults == ("check",)
    assert not notes


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        (["log global"], None), (["log stdout format raw local0"], "-"), (["log /dev/log local0"], "syslog+unix:///dev/log"),
        (["log 127.0.0.1 local0"], "syslog+udp://127.0.0.1:514"), (["no log"], "off"),
        (["no log", "log 127.0.0.1:5514 local0"], "syslog+udp://127.0.0.1:5514"),
    ],
)  # fmt: skip
def test_where_it_logs(lines, place):
    found, _ = imported(*lines)
    assert found.access_log == place


@pytest.mark.parametrize("words", ["10.0.0.1 usesrc hdr_ip(x-forwarded-for)", "10.0.0.1:8000"])
def test_what_of_a_source_has_no_counterpart_is_noted(words):
    notes = []
    assert proxy.source_keys(tuple(words.split()), Line(1, ()), lambda _, why: notes.append(why)) == {"source": "10.0.0.1"}
    assert len(notes) == 1


def test_the_second_log_is_noted():
    found, notes = imported("log stdout local0", "log 127.0.0.1:5514 local0")
    assert found.access_log == "-"
    assert notes[1] == "log 127.0.0.1:5514 local0: an app has one access_log; left out"


def test_defaults_stay_as_they_are():
    base, _ = imported("timeout connect 1s", "server a x:1", "acl a path_beg /", "option httpclose")
    found, _ = imported("timeout connect 2s", "server b x:1", "acl a path_beg /x", "no option httpclose", base=base)
    assert (base.timeouts, len(base.servers), len(base.acls["a"]), base.closes) == ({"connect": 1}, 1, 1, True)
    assert (found.timeouts, len(found.servers), len(found.acls["a"]), found.closes) == ({"connect": 2}, 2, 2, False)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("http-request deny", "no counterpart"),
        ("errorfile 503 /x", "no counterpart"),
        ("option allbackups", "no counterpart"),
        ("no option allbackups", ""),
        ("no option forwardfor", "this is always so here"),
        ("no log", ""),
        ("option forwardfor except 127.0.0.1", "X-Forwarded-For is always added"),
        ("timeout tarpit 5s", "no counterpart"),
        ("timeout connect", "not understood"),
        ("timeout connect soon", "not understood"),
        ("retries many", "not understood"),
        ("mode health", "it is taken as tcp"),
        ("stick store-request src", "clients stick by their address alone"),
        ("tcp-request connection reject", "no counterpart"),
        ("stats uri /x", "management API"),
        ("log 127.0.0.1 local0", "a format of our own"),
    ],
)
def test_nothing_is_dropped_in_silence(line, why):
    _, notes = imported(line)
    assert [note for note in notes if note.startswith(f"{line}: ") and why in note] or not why
    assert len(notes) == bool(why)
