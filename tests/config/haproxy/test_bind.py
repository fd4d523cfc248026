"""Bind lines become listeners: of one app where they may be, of several where TLS or the ports differ."""

import pytest

from tcp_proxy.config.haproxy.bind import listeners
from tcp_proxy.config.haproxy.text import Line, words


def imported(*lines):
    notes = []
    made = [Line(number, ("bind", *words(line, number))) for number, line in enumerate(lines, 1)]
    return listeners(made, lambda line, why: notes.append(why)), notes


@pytest.mark.parametrize(
    ("text", "bind", "ports"),
    [
        (":80", "0.0.0.0", [80]),
        ("*:80", "0.0.0.0", [80]),
        ("127.0.0.1:80", "127.0.0.1", [80]),
        ("localhost:80", "127.0.0.1", [80]),
        (":8000-8009", "0.0.0.0", ["8000-8009"]),
        ("[::]:80", "*", [80]),
        (":::80", "*", [80]),
        ("[::]:80 v4v6", "*", [80]),
        ("[::]:80 v6only", "::", [80]),
        ("ipv6@:80", "*", [80]),
        ("ipv4@*:80", "0.0.0.0", [80]),
        ("mptcp@:80", "0.0.0.0", [80]),
        ("10.0.0.1:80,10.0.0.1:81", "10.0.0.1", [80, 81]),
        ("10.0.0.1:80,10.0.0.2:80", ["10.0.0.1", "10.0.0.2"], [80]),
    ],
)
def test_addresses(text, bind, ports):
    assert imported(text) == ([{"bind": bind, "ports": ports}], [])


def test_lines_of_one_kind_are_one_app():
    assert imported("10.0.0.1:80", "10.0.0.1:81", "10.0.0.2:80", "10.0.0.2:81")[0] == [
        {"bind": ["10.0.0.1", "10.0.0.2"], "ports": [80, 81]}
    ]


def test_other_ports_and_tls_are_apps_of_their_own():
    found, notes = imported("10.0.0.1:80", "10.0.0.2:81", ":443 ssl crt /a.pem crt /b.pem alpn h2,http/1.1")
    tls = {"certificates": [{"chain": "/a.pem"}, {"chain": "/b.pem"}], "alpn": ["http/1.1"]}
    assert found == [
        {"bind": "10.0.0.1", "ports": [80]},
        {"bind": "10.0.0.2", "ports": [81]},
        {"bind": "0.0.0.0", "ports": [443], "tls": tls},
    ]
    assert notes == ["alpn h2: clients are spoken to in HTTP/1.1; left out"]


def test_what_is_said_of_clients():
    line = ":443 ssl crt /a.pem ca-file /ca.pem crl-file /crl.pem verify optional ssl-min-ver TLSv1.3"
    (app,), notes = imported(f"{line} strict-sni no-tls-tickets")
    assert app["tls"] == {
        "certificates": [{"chain": "/a.pem"}], "client_ca": "/ca.pem", "crl": "/crl.pem", "verify": "optional",
        "min_version": "1.3", "strict_sni": True, "tickets": False,
    }  # fmt: skip
    assert not notes


def test_proxies_are_believed_as_there_and_said():
    (app,), notes = imported(":80 accept-proxy")
    assert app["accept_proxy"] == {"from": "any"}
    assert "whoever connects is believed" in notes[0]


@pytest.mark.parametrize("option", ["interface eth0", "mss 1400", "transparent", "tfo", "unheard-of", "maxconn 7"])
def test_no_option_is_dropped_in_silence(option):
    (app,), notes = imported(f":80 {option}")
    assert app == {"bind": "0.0.0.0", "ports": [80]}
    assert notes[0].startswith(option)


@pytest.mark.parametrize("address", ["/run/x", "unix@/run/x", "fd@3", "abns@x", "quic4@:443", "10.0.0.1"])
def test_an_address_without_counterpart_is_noted(address):
    assert imported(address) == ([], [f"{address}: only addresses with ports have a counterpart, left out"])
