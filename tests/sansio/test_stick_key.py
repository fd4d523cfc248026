"""Keys of clients: addresses, prefixes, slices of first messages, and what people write."""

import ipaddress
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.stick_key import KeyMaker


@pytest.mark.parametrize(
    ("prefixes", "ip", "key"),
    [
        ((32, 64), "192.0.2.7", "192.0.2.7"),
        ((24, 64), "192.0.2.7", "192.0.2.0/24"),
        ((0, 64), "192.0.2.7", "0.0.0.0/0"),
        ((32, 64), "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ((32, 128), "2001:db8::1", "2001:db8::1"),
        ((32, 64), "fe80::1%eth0", "fe80::/64"),
        ((32, 0), "::1", "::/0"),
    ],
)
def test_the_address_is_cut_to_its_prefix(prefixes, ip, key):
    assert KeyMaker(*prefixes).of_address(ip) == key


@pytest.mark.parametrize(
    ("first", "key"),
    [(b"", "192.0.2.7"), (b"a", "192.0.2.7"), (b"ab", "192.0.2.7 62"), (b"abcdefgh", "192.0.2.7 6263")],
)
def test_a_shorter_message_gives_a_shorter_slice(first, key):
    maker = KeyMaker(32, 64, 1, 3)
    assert maker.needs_first_bytes
    assert maker.of_message("192.0.2.7", first) == key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (" 192.0.2.7 ", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0::9", "2001:db8::/64"),
        ("2001:db8::/64", "2001:db8::/64"),
        ("192.0.2.7 4A4b", "192.0.2.7 4a4b"),
    ],
)
def test_what_people_write(text, key):
    assert KeyMaker(32, 64, 0, 4).of_text(text) == key


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "does not appear to be"),
        ("example.org", "does not appear to be"),
        ("192.0.2.300", "does not appear to be"),
        ("192.0.2.7 zz", "hex"),
        ("2001:db8::/48", "a prefix of 64 bits, not 48"),
    ],
)
def test_what_is_no_key(text, error):
    with pytest.raises(ValueError, match=error):
        KeyMaker(32, 64, 0, 4).of_text(text)


def test_a_slice_where_there_are_none_is_refused():
    with pytest.raises(ValueError, match="without a slice"):
        KeyMaker(32, 64).of_text("192.0.2.7 4a")


@given(address=st.ip_addresses(), ipv4=st.integers(0, 32), ipv6=st.integers(0, 128), first=st.binary(max_size=12))
def test_a_key_written_down_is_the_same_key(address, ipv4, ipv6, first):
    maker = KeyMaker(ipv4, ipv6, 2, 9)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    key = maker.of_message(str(address), first)
    assert maker.of_text(key) == key


def test_the_value_of_a_header_is_its_own_key_unless_it_is_long_or_strange():
    maker = KeyMaker(is_text=True)
    assert maker.of_value(b"ann@example.org") == "ann@example.org"
    for value in (b"x" * 129, "\u00e4".encode(), b"a\x01b"):
        key = maker.of_value(value)
        assert key.startswith("blake2b:")
        assert len(key) == 40
        assert maker.of_value(value) == key
    assert maker.of_value(b"x" * 128) == "x" * 128


def test_no_key_waits_for_what_hashes_it_to_be_loaded(monkeypatch):
    """That takes milliseconds, and descriptors that there may not be: an app that may need it has it before a client."""
    maker = KeyMaker(is_text=True)
    monkeypatch.setitem(sys.modules, "hashlib", None)
    assert maker.of_value(b"x" * 129).startswith("blake2b:")
    KeyMaker()  # needs none


@given(st.text(max_size=200))
def test_what_a_person_writes_of_a_header_is_what_the_client_says(text):
    maker = KeyMaker(is_text=True)
    assert maker.of_text(f" {text} ") == maker.of_value(text.strip().encode())
