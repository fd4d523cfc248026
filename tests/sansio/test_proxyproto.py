"""The PROXY header: every vector, cut at every byte; what is written is read back, by ourselves and by another library."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxyprotocol.result import is_local, is_unknown
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from tcp_proxy.sansio import proxyproto
from tcp_proxy.sansio.proxyproto import (
    ALPN,
    AUTHORITY,
    CRC32C,
    LOCAL,
    NOOP,
    SIGNATURE,
    SSL,
    SSL_CN,
    SSL_HAS_CERTIFICATE,
    SSL_IS_TLS,
    SSL_VERSION,
    UNIQUE_ID,
    UNKNOWN,
    V1_MOST,
    Malformed,
    NoHeader,
    build,
    build_ssl,
    crc32c,
    read,
    read_ssl,
    tlv,
)
from tests.kit.proxy_headers import CLIENT, CLIENT6, PEER, REFUSED, SERVER, SERVER6, VECTORS, padded

ADDRESSES = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).filter(lambda ip: not ip.ipv4_mapped).map(str))
ENDS = st.tuples(ADDRESSES, st.integers(0, 65535))
TLVS = st.lists(st.tuples(st.integers(0, 255).filter(lambda kind: kind != CRC32C), st.binary(max_size=40)), max_size=5)


def verdict(data):
    """Of a stream that ends here: PEER, REFUSED, or the client; and the bytes behind the header."""
    try:
        header = read(data)
    except (Malformed, NoHeader):
        return REFUSED, b""
    if header is None:
        return REFUSED, b""
    return header.source or PEER, data[header.size :]


@pytest.mark.parametrize("name", VECTORS)
def test_every_vector_is_read_as_it_should_be(name):
    parts, wanted = VECTORS[name]
    assert verdict(b"".join(parts))[0] == wanted


@pytest.mark.parametrize("name", VECTORS)
def test_however_a_header_is_cut_the_outcome_is_the_same(name):
    """More is asked for until it is whole, and what is wrong is found at the latest with its last byte."""
    parts, wanted = VECTORS[name]
    whole = b"".join(parts)
    outcomes = []
    for size in range(len(whole) + 1):
        try:
            header = read(whole[:size])
        except (Malformed, NoHeader):
            outcomes.append(REFUSED)
            break
        if header is not None:
            outcomes.append(header.source or PEER)
            assert header.size == size
            assert read(whole + b"more") == header
            break
    assert outcomes == [wanted]


@pytest.mark.parametrize(("first", "second"), [("v1-tcp4", "v1-tcp4"), ("v1-tcp4", "v2-tcp4"), ("v2-tcp4", "v1-tcp4")])
def test_a_second_header_is_data(first, second):
    one, other = (VECTORS[name][0][0] for name in (first, second))
    assert verdict(one + other) == (CLIENT, other)


@pytest.mark.parametrize(
    "data", [b"G", b"GET / HTTP/1.1\r\n", b"PROXYGET", b"proxy ", b"\r\n\r\nx", b"\x16\x03\x01", b"PROXY\t"]
)
def test_what_cannot_be_a_header_is_known_at_once(data):
    with pytest.raises(NoHeader):
        read(data)


@pytest.mark.parametrize("data", [b"", b"P", b"PROXY", b"\r", b"\r\n\r\n", SIGNATURE, SIGNATURE[:5]])
def test_what_can_become_one_is_waited_for(data):
    assert read(data) is None


def test_a_line_has_at_most_107_bytes():
    assert read(b"PROXY UNKNOWN " + b"x" * (V1_MOST - 16) + b"\r\n") is not None
    for behind in (b"", b"\r\n"):
        with pytest.raises(Malformed, match="107"):
            read(b"PROXY UNKNOWN " + b"x" * (V1_MOST - 14) + behind)


@pytest.mark.parametrize("size", [31, 1000, 4096, 20_000, 65_551])
def test_a_long_header_is_read_and_one_that_is_longer_than_allowed_is_refused_by_its_length(size):
    header = padded(size)
    assert read(header, size).source == CLIENT
    with pytest.raises(Malformed, match=f"{size} bytes: more than {size - 1}"):
        read(header[:16], size - 1)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 2222\n", "without CR"),
        (b"PROXY TCP5 192.0.2.7 192.0.2.8 1111 2222\r\n", 'not "TCP4" or "TCP6"'),
        (b"PROXY UNKNOWNS\r\n", 'not "TCP4" or "TCP6"'),
        (b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 65536\r\n", "port"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 -1\r\n", "port"),
        (b"PROXY TCP4 192.0.2.07 192.0.2.8 1 1\r\n", "not IPv4"),
        (b"PROXY TCP4 192.0.2 192.0.2.8 1 1\r\n", "not IPv4"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", "not IPv6"),
        (b"PROXY TCP6 ::1 1::2::3 1 1\r\n", "not IPv6"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(line, text):
    with pytest.raises(Malformed, match=text):
        read(line)


def test_what_a_local_header_holds_is_not_looked_at():
    wrong_sum = tlv(CRC32C, b"1234") + b"\x04\xff\xff"
    for code in (0x00, 0x11, 0x47, 0xFF):
        header = read(SIGNATURE + bytes((0x20, code)) + len(wrong_sum).to_bytes(2, "big") + wrong_sum)
        assert header.is_local
        assert (header.source, header.tlvs) == (None, ())


def test_the_known_sum():
    """RFC 3720, B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"123456789") == 0xE3069283


def test_no_changed_bit_passes_a_header_with_a_checksum():
    header = build(2, CLIENT, SERVER, [(ALPN, b"http/1.1")], checksum=True)
    whole = read(header)
    assert whole.source == CLIENT
    for bit in range(8 * len(header)):
        at, mask = bit // 8, 1 << bit % 8
        changed = header[:at] + bytes((header[at] ^ mask,)) + header[at + 1 :]
        kind, _ = verdict(changed)
        if kind not in (REFUSED, PEER):  # or it is no checksum any more: then its own type was changed
            assert CRC32C not in dict(read(changed).tlvs)


def test_what_a_sender_says_of_tls_is_read_back():
    inner = [(SSL_VERSION, b"TLSv1.3"), (SSL_CN, b"client.example")]
    header = read(build(2, CLIENT, SERVER, [(SSL, build_ssl(SSL_IS_TLS | SSL_HAS_CERTIFICATE, 0, inner))]))
    ssl = read_ssl(dict(header.tlvs)[SSL])
    assert (ssl.client, ssl.verify, list(ssl.tlvs)) == (3, 0, inner)
    for wrong in (b"", b"\1\0\0\0", b"\1\0\0\0\0\x21\0\7TLS"):
        with pytest.raises(Malformed):
            read_ssl(wrong)


@given(ENDS, ENDS)
def test_a_line_that_is_written_is_read_back(source, destination):
    header = read(build(1, source, destination))
    assert (header.source, header.destination) == (source, destination)


@given(ENDS, ENDS, TLVS, st.booleans(), st.binary(max_size=20))
def test_a_binary_header_that_is_written_is_read_back(source, destination, tlvs, checksum, behind):
    data = build(2, source, destination, tlvs, checksum)
    header = read(data + behind)
    assert (header.source, header.destination, header.size) == (source, destination, len(data))
    assert [one for one in header.tlvs if one[0] != CRC32C] == tlvs
    assert all(read(data[:size]) is None for size in range(len(data)))


@given(st.binary(max_size=300), st.sampled_from([b"", SIGNATURE, SIGNATURE + b"\x21\x11", b"PROXY ", b"PROXY TCP4 "]))
def test_whatever_comes_is_a_header_or_none_or_wrong(data, begins):
    try:
        header = read(begins + data)
    except (Malformed, NoHeader):
        return
    assert header is None or header.size <= len(begins + data)


def test_clients_without_an_address_and_those_of_two_kinds():
    assert build(1, None, SERVER) == UNKNOWN == b"PROXY UNKNOWN\r\n"
    assert build(2, None, None) == LOCAL == VECTORS["v2-local-0"][0][0]
    mapped, interface = ("::ffff:192.0.2.7", 1111, 0, 0), ("fe80::1%eth0", 1, 0, 2)
    assert build(1, mapped, SERVER) == VECTORS["v1-tcp4"][0][0]
    assert build(2, mapped, SERVER) == VECTORS["v2-tcp4"][0][0]
    assert build(1, CLIENT, SERVER6) == b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::8 1111 2222\r\n"
    assert read(build(2, CLIENT6, SERVER))[2:4] == (CLIENT6, SERVER)
    assert build(1, interface, CLIENT6) == b"PROXY TCP6 fe80::1 2001:db8::7 1 1111\r\n"


# -- another implementation


def theirs(data):
    return (ProxyProtocolV1() if data.startswith(b"PROXY") else ProxyProtocolV2()).unpack(data)


@given(ENDS, ENDS, st.sampled_from([1, 2]), st.booleans())
def test_another_library_reads_what_we_write(source, destination, version, checksum):
    tlvs = [(AUTHORITY, b"a.example"), (UNIQUE_ID, b"69200e71.1-17"), (NOOP, b"")] if version == 2 else []
    result = theirs(build(version, source, destination, tlvs, checksum))
    ends = [proxyproto._shortest(ip) for ip, _ in (result.source, result.dest)]
    assert ends == [source[0], destination[0]]
    assert [port for _, port in (result.source, result.dest)] == [source[1], destination[1]]
    if tlvs:
        assert (result.tlv.authority, result.tlv.unique_id) == ("a.example", b"69200e71.1-17")


def test_another_library_knows_clients_without_address():
    assert is_unknown(theirs(UNKNOWN))
    assert is_local(theirs(LOCAL))


@pytest.mark.parametrize(
    ("tlv", "text"),
    [
        ((0xEA, b"\1vpce-08d2bf15fac5001c9"), "aws_vpce_id=vpce-08d2bf15fac5001c9"),
        ((0xEA, b"\2vpce"), "0xea=0276706365"),
        ((0xEA, b"\1a\nb"), "0xea=01610a62"),
        ((0xEA, b"\1\xff"), "0xea=01ff"),
        ((0xEA, b"\1" + b"x" * 5000), "0xea=01" + "78" * 63),
        ((0xEA, b""), "0xea="),
        ((0xEE, b"\1\x39\x30\0\0"), "azure_link_id=12345"),
        ((0xEE, b"\1\x39\x30\0"), "0xee=01393000"),
        ((0xE0, (12345).to_bytes(8, "big")), "gcp_psc_connection_id=12345"),
        ((0xE0, b"\1"), "0xe0=01"),
        ((UNIQUE_ID, b"x"), ""),
    ],
)
def test_what_clouds_say_is_told(tlv, text):
    assert proxyproto.notes([tlv]) == text
    assert proxyproto.notes([tlv, tlv]) == f"{text} {text}".strip()
