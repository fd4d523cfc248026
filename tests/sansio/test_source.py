"""From where connects come, in words: addresses, ranges, interfaces."""

import pytest

from tcp_proxy.sansio.source import addresses_of, is_interface, parse_source


@pytest.mark.parametrize(
    ("text", "entry", "addresses"),
    [
        ("192.0.2.1", "192.0.2.1", ["192.0.2.1"]),
        ("2001:DB8::0:1", "2001:db8::1", ["2001:db8::1"]),
        ("::ffff:192.0.2.1", "192.0.2.1", ["192.0.2.1"]),
        ("192.0.2.254-192.0.3.1", "192.0.2.254-192.0.3.1", ["192.0.2.254", "192.0.2.255", "192.0.3.0", "192.0.3.1"]),
        ("2001:db8::1-2001:db8::2", "2001:db8::1-2001:db8::2", ["2001:db8::1", "2001:db8::2"]),
        ("192.0.2.1-192.0.2.1", "192.0.2.1-192.0.2.1", ["192.0.2.1"]),
        ("eth1", "eth1", []),
        ("br-lan.7@x", "br-lan.7@x", []),
    ],
)
def test_what_it_is(text, entry, addresses):
    assert parse_source(text) == entry
    assert addresses_of(entry) == addresses
    assert is_interface(entry) == (not addresses)


@pytest.mark.parametrize(
    "text",
    [
        "", "192.0.2.300", "192.0.2.1:80", "10.0.0.0/8", "192.0.2.1-", "192.0.2.1-2001:db8::1", "fe80::1%eth0", "-eth1",
        "1eth", "a" * 16, "eth1:0", "a b", "192.0.2.1-192.0.2.2-192.0.2.3",
    ],
)  # fmt: skip
def test_what_it_is_not(text):
    with pytest.raises(ValueError, match="wanted an IP address"):
        parse_source(text)


@pytest.mark.parametrize("text", ["192.0.2.2-192.0.2.1", "10.0.0.0-10.0.16.0"])
def test_a_range_has_its_bounds(text):
    with pytest.raises(ValueError, match="a range of 1 to 4096 addresses"):
        parse_source(text)
