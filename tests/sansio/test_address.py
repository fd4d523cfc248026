"""Addresses: what is taken, what is refused, and whether the refusal says what to write instead."""

import ipaddress
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.sansio.address import (
    IPV4,
    Address,
    ListenAddress,
    client_text,
    host_field,
    hosts_overlap,
    ip_of,
    parse_listen_host,
    parse_port,
    parse_ports,
    parse_target,
    parse_target_or_host,
    place_fault,
    server_name,
)

LONG_LABEL = "a" * 64


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("example.com:80", Address("example.com", 80)),
        ("example.com.:80", Address("example.com.", 80)),
        ("db_1:5432", Address("db_1", 5432)),
        ("a:1", Address("a", 1)),
        ("xn--bcher-kva.example:65535", Address("xn--bcher-kva.example", 65535)),
        ("127.0.0.1:9001", Address("127.0.0.1", 9001)),
        ("[::1]:80", Address("::1", 80)),
        ("[2001:DB8:0:0:0:0:0:1]:80", Address("2001:db8::1", 80)),
        ("[::ffff:192.0.2.1]:80", Address("192.0.2.1", 80)),
        ("[fe80::1%eth0]:80", Address("fe80::1%eth0", 80)),
        ("unix:/run/x.sock", Address(path="/run/x.sock")),
        ("UNIX:/run/with space", Address(path="/run/with space")),
        ("unix:/" + "a" * 106, Address(path="/" + "a" * 106)),
    ],
)
def test_a_target_address_is_understood(text, address):
    assert parse_target(text) == address


@pytest.mark.parametrize("host", ["127.0.0.1", "255.255.255.255", "256.0.0.1", "01.2.3.4", "1.2.3", "a.1.2.3.4", ""])
@pytest.mark.parametrize(
    "port", ["1", "80", "080", "9999", "65535", "65536", "99999", "100000", "0", "", "8a", "\u0663", "80\n"]
)
def test_the_short_way_of_ipv4_says_what_the_long_one_says(host, port):
    def said_by(parse):
        try:
            return parse(f"{host}:{port}")
        except ValueError as error:
            return str(error)

    assert said_by(parse_target_or_host) == said_by(parse_target)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty"),
        ("example.com", '"example.com:80"'),
        ("example.com:", "no port after the colon"),
        ("example.com:http", '"http" is not a port'),
        ("example.com:0", '"0" is not a port'),
        ("example.com:70000", "from 1 to 65535"),
        ("example.com:-1", "not a port"),
        ("example.com:٣", "not a port"),
        ("example.com:" + "9" * 300, "of 312 characters"),
        (":80", "no host before"),
        (" a:80", "white space"),
        ("a: 80", "white space"),
        ("a:80\n", "white space or a control character"),
        ("a\u00a0b:80", "white space"),
        ("a\ud800:80", "control character"),
        ("http://example.com:80/path", 'such as "example.com:80"'),
        ("tcp://", '"host:80"'),
        ("a:b:80", "more than one colon"),
        ("::1", '"[::1]:80"'),
        ("2001:db8::1", '"[2001:db8::1]:80"'),
        ("::1:5001", '"[::1]:5001"'),
        ("2001:db8:0:0:0:0:0:1:80", '"[2001:db8:0:0:0:0:0:1]:80"'),
        ("2001:db8:0:0:0:0:0:1:x", '"[2001:db8:0:0:0:0:0:1]:x"'),
        ("[::1", '"[" without "]"'),
        ("[::1]", '"[::1]:80"'),
        ("[::1]80", 'wanted ":"'),
        ("[::1]:", "no port"),
        ("[127.0.0.1]:80", "not an IPv6 address"),
        ("[example.com]:80", "not an IPv6 address"),
        ("256.1.1.1:80", "not an IPv4 address"),
        ("127.1:80", "not an IPv4 address"),
        ("127.0.0.01:80", "leading zeros"),
        ("0x7f000001:80", "not an IPv4 address"),
        ("bücher.example:80", "xn--"),
        ("10.0.0:80", "not an IPv4 address"),
        ("*:80", 'not a host name: "*" can be in no name'),
        ("-a:80", 'not a host name: "-a" begins or ends with a hyphen'),
        ("a..b:80", "not a host name: nothing stands before a dot"),
        (".b:80", "not a host name: nothing stands before a dot"),
        ("user@host:80", 'not a host name: "@" can be in no name'),
        (f"{LONG_LABEL}:80", "not a host name: a part of it has 64 characters, at most 63 are possible"),
        (f"{'a.' * 127}b:80", "not a host name: it has 255 characters, at most 253 are possible"),
        ("unix:", '"unix:/"'),
        ("unix:run/x.sock", '"unix:/run/x.sock"'),
        ("unix:///run/x.sock", '"unix:/run/x.sock"'),
        ("unix:/a\0b", "control character"),
        ("unix:/" + "a" * 107, "this one has 108"),
        ("unix:/" + "ä" * 54, "this one has 109"),
    ],
)
def test_a_wrong_target_address_is_refused_with_what_to_write(text, sentence):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  the sentence is compared below
        parse_target(text)
    assert sentence in str(refusal.value)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("host", ["a", "a.b.", "_x.a-b.example", "10.0.0.1", "fe80::1%eth0", "::1", "invalid.example"])
def test_a_host_that_somebody_may_reach(host):
    assert place_fault(host) == ""


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("db.invalid", "never has an address (RFC 6761)"),
        ("x.ONION.", "a name that ends in .onion never has an address (RFC 7686)"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("fe80::1", '"[fe80::1%eth0]"'),
    ],
)
def test_a_host_that_nobody_can_reach(host, sentence):
    assert sentence in place_fault(host)


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_a_target_that_reads_the_same_again_or_a_value_error(text):
    try:
        address = parse_target(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017  an answer either way is the property
    else:
        assert parse_target(str(address)) == address
        assert bool(address.path) != bool(address.host and address.port)


@pytest.mark.parametrize("port", [1, 80, 65535])
def test_a_port_is_a_number_from_1_to_65535(port):
    assert parse_port(str(port)) == port
    assert parse_ports(port) == range(port, port + 1)


@pytest.mark.parametrize("port", [0, -1, 65536, 10**400])
def test_a_number_that_is_no_port_is_refused(port):
    with pytest.raises(ValueError, match="is not a port"):
        parse_ports(port)


@pytest.mark.parametrize(
    ("text", "ports"),
    [("8000-8009", range(8000, 8010)), ("1-1", range(1, 2)), ("8000 - 8001", range(8000, 8002))],
)
def test_a_range_of_ports_includes_both_ends(text, ports):
    assert parse_ports(text) == ports


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("5001", "without quotes: 5001"),
        ("", "a range such as"),
        ("a-b", "a range such as"),
        ("1-2-3", "a range such as"),
        ("-5", "a range such as"),
        ("0-5", '"0" is not a port'),
        ("1-65536", '"65536" is not a port'),
        ("9-1", 'wanted "1-9"'),
        ("1-10001", "at most 10000"),
    ],
)
def test_a_wrong_range_is_refused_with_what_to_write(text, sentence):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  the sentence is compared below
        parse_ports(text)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("*", "*"),
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_equal_addresses_to_listen_on_are_equal_values(text, host):
    assert parse_listen_host(text) == host


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("localhost", '"127.0.0.1" or "::1"'),
        ("LOCALHOST", '"127.0.0.1" or "::1"'),
        ("example.com", "not an IP address"),
        ("", "not an IP address"),
        ("[::1]", 'without brackets: "::1"'),
        ("[::1]:80", "the port belongs in ports"),
        ("127.0.0.1:80", 'the port belongs in ports; wanted "127.0.0.1"'),
        ("*:80", 'wanted "*"'),
        ("127.0.0.1 ", "white space"),
        ("fe80::1%e\n", "control character"),
        ("127.0.0.256", "not an IP address"),
    ],
)
def test_a_wrong_address_to_listen_on_is_refused_with_what_to_write(text, sentence):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  the sentence is compared below
        parse_listen_host(text)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "0.0.0.0", True),
        ("::1", "::", True),
        ("::1", "::2", False),
        ("::", "0.0.0.0", False),
        ("::", "127.0.0.1", False),
        ("::1", "0.0.0.0", False),
        ("*", "127.0.0.1", True),
        ("*", "::1", True),
        ("*", "::", True),
        ("*", "0.0.0.0", True),
        ("*", "*", True),
    ],
)
def test_hosts_overlap_when_the_kernel_would_refuse_the_second(one, other, overlap):
    assert hosts_overlap(one, other) is overlap
    assert hosts_overlap(other, one) is overlap


def test_addresses_are_shown_as_they_are_written():
    shown = [str(Address("::1", 80)), str(Address("a", 80)), str(Address(path="/x"))]
    assert shown == ["[::1]:80", "a:80", "unix:/x"]
    assert str(ListenAddress("::", 80)) == "[::]:80"
    assert str(ListenAddress("*", 80)) == "*:80"


def test_an_absurdly_long_number_of_a_port_is_refused_like_any_other():
    with pytest.raises(ValueError, match="range such as"):
        parse_ports("1" * (sys.get_int_max_str_digits() + 1) + "-2")


def test_addresses_are_shown_as_people_write_them():
    assert client_text(("127.0.0.1", 5)) == "127.0.0.1:5"
    assert client_text(("::1", 5, 0, 0)) == "[::1]:5"
    assert client_text(("::ffff:10.0.0.1", 5, 0, 0)) == "10.0.0.1:5"
    assert ip_of(("::ffff:10.0.0.1", 5, 0, 0)) == "10.0.0.1"


@pytest.mark.parametrize(
    ("host", "port", "tls", "said"),
    [
        ("shop.example", 80, False, "shop.example"), ("shop.example", 8080, False, "shop.example:8080"),
        ("shop.example", 443, True, "shop.example"), ("shop.example", 80, True, "shop.example:80"),
        ("192.0.2.1", 80, False, "192.0.2.1"), ("::1", 80, False, "[::1]"), ("::1", 443, False, "[::1]:443"),
        ("fe80::1%lo", 80, False, "[fe80::1]"), ("", 0, False, "localhost"),
    ],
)  # fmt: skip
def test_the_host_that_is_said(host, port, tls, said):
    assert host_field(host, port, 443 if tls else 80) == said


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("shop.example", "shop.example"), ("shop.example:8443", "shop.example"), ("192.0.2.1:443", "192.0.2.1"),
        ("[2001:db8::1]", "2001:db8::1"), ("[2001:db8::1]:443", "2001:db8::1"), ("", ""), ("a..b", ""), (".a", ""),
        ("x" * 64, ""), ("shop.example.", "shop.example"), ("shop.example.:8443", "shop.example"), ("a..", ""), (".", ""),
    ],
)  # fmt: skip
def test_the_name_that_tls_asks_for(host, name):
    assert server_name(host) == name


@given(st.lists(st.sampled_from(["0", "1", "9", "10", "99", "100", "199", "200", "249", "250", "255", "256", "01", "", "a"]),
                min_size=3, max_size=5))  # fmt: skip
def test_what_is_seen_as_ipv4_at_once_is_what_the_library_takes(octets):
    text = ".".join(octets)
    try:
        found = str(ipaddress.IPv4Address(text))
    except ValueError:
        found = None
    assert (text if IPV4.fullmatch(text) else None) == found
