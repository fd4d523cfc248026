"""The most exact network of an address: the table says what a search through all networks would say."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcp_proxy.sansio.networks import parse_network, ranges_of, table_of

NONE = 999


def naive(networks, address):
    """As it is said: the longest prefix of those that have it."""
    having = [network for network in networks if network.version == address.version and address in network]
    return networks[max(having, key=lambda network: network.prefixlen)] if having else NONE


def found(networks, address):
    ranges = ranges_of(table_of(networks, NONE))
    return ranges[address.version == 6].find(address.packed)


def some_networks(version):
    """Few bits, at the ends and in the middle, so that they lie in and beside each other."""
    bits = 32 if version == 4 else 128
    kind = ip_network("0.0.0.0/0" if version == 4 else "::/0").__class__

    def network(length, high, low):
        number = (high << bits - 4 | low) >> bits - length << bits - length
        return kind((number, length))

    lengths = st.one_of(st.integers(0, 6), st.integers(bits - 6, bits))
    return st.builds(network, lengths, st.sampled_from([0, 7, 8, 15]), st.sampled_from([0, 1, 2, 3, 9, (1 << bits - 4) - 1]))


NETWORKS = st.dictionaries(st.one_of(some_networks(4), some_networks(6)), st.integers(0, 500), max_size=30)


@given(NETWORKS, st.data())
@example({ip_network("0.0.0.0/0"): 1, ip_network("255.255.255.255/32"): 2, ip_network("0.0.0.0/32"): 3}, None)
@example({ip_network("::/0"): 1, ip_network("ffff::/16"): 2, ip_network("ffff:ffff::/32"): 3}, None)
def test_the_most_exact_network_counts(networks, data):
    edges = {ip_address("0.0.0.0"), ip_address("255.255.255.255"), ip_address("::"), ip_address("ffff::"), ip_address("::1")}
    for network in networks:
        first, last = network.network_address, network.broadcast_address
        edges |= {first, last}
        edges |= {type(first)(max(0, int(first) - 1)), type(first)(min(2**first.max_prefixlen - 1, int(last) + 1))}
    if data is not None:
        edges.add(data.draw(st.ip_addresses()))
    for address in edges:
        assert found(networks, address) == naive(networks, address), address


def test_no_network_is_every_address_s_otherwise():
    assert found({}, ip_address("192.0.2.1")) == found({}, ip_address("2001:db8::1")) == NONE


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.1", "192.0.2.1/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::/0", "::/0"),
        ("::fffe:0:0/95", "::fffe:0:0/95"),
    ],
)
def test_networks_as_people_write_them(text, network):
    assert str(parse_network(text)) == network


@pytest.mark.parametrize("text", ["", "any", "192.0.2.1/24", "10.0.0.0/33", "192.0.2", "host", "::/129", "10.0.0.0/8 "])
def test_what_is_no_network_has_a_clause(text):
    with pytest.raises(ValueError, match=r"\w"):
        parse_network(text)
