"""The header of the PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy, 2026/04/27): read and written.

Pure. A reader gives all that has come so far and is told that the header is whole, that more must come, that this is none
(`NoHeader`), or what is wrong with it (`Malformed`). A header may be cut at any byte. What comes behind it is data, a
second header too.

Always true: addresses are in their shortest spelling, and an IPv4 one that was written as IPv6 is an IPv4 one; what a
sender says is never guessed at: numbers have no leading zeros, lengths are exact, a checksum that is there is right.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from re import compile as pattern
from typing import NamedTuple

V1_BEGINS = b"PROXY "
V1_MOST = 107  # bytes, with CR LF
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2_HEAD = 16  # bytes: the signature, version and command, family and transport, length of the rest
V2_MOST = V2_HEAD + 65535

UNKNOWN = b"PROXY UNKNOWN\r\n"  # the short form: HAProxy ends the long one
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"  # without addresses: HAProxy 3 ends one that has some

# Types of TLVs, and of those within the one of TLS.
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, SSL, NETNS = 0x01, 0x02, 0x03, 0x04, 0x05, 0x20, 0x30
GCP, AWS, AZURE = 0xE0, 0xEA, 0xEE
HOPS, HOPS_OURS, MOST_HOPS = 0xE7, b"tcp_proxy", 10  # by how many of this program it has come, in a byte behind its name
SSL_VERSION, SSL_CN, SSL_CIPHER, SSL_SIGNATURE, SSL_KEY = 0x21, 0x22, 0x23, 0x24, 0x25
SSL_IS_TLS, SSL_HAS_CERTIFICATE, SSL_HAD_CERTIFICATE = 0x01, 0x02, 0x04  # of `Ssl.client`
MOST_UNIQUE_ID = 128  # bytes
MOST_NOTE = 64  # bytes of a TLV that are told

_BYTE = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V1_FAMILIES = {  # the letters of an IPv6 address are looked at first: a parser knows interfaces, too
    b"TCP4": (4, pattern(rb"%b(?:\.%b){3}" % (_BYTE, _BYTE))),
    b"TCP6": (6, pattern(rb"[0-9A-Fa-f:.]{2,45}")),
}
_PORT = pattern(rb"0|[1-9][0-9]{0,4}")
_ADDRESSES = (0, 12, 36, 216)  # bytes of both, by family: unspecified, IPv4, IPv6, UNIX
_TCP4, _TCP6 = 0x11, 0x21
_MAPPED = bytes(10) + b"\xff\xff"  # of an IPv4 address as IPv6

End = tuple[str, int]  # an address and a port
Tlv = tuple[int, bytes]


class NoHeader(ValueError):
    """These bytes cannot be the beginning of a header."""


class Malformed(ValueError):
    """A header that is wrong; its text says how."""


class Header(NamedTuple):
    """`source` and `destination`: None where the connection's own are to be used. `size`: its bytes."""

    version: int
    size: int
    source: End | None = None
    destination: End | None = None
    is_local: bool = False  # the sender's own connection: a health check's, mostly
    tlvs: tuple[Tlv, ...] = ()


class Ssl(NamedTuple):
    """What a sender says of its client's TLS. `client`: bits SSL_…; `verify`: 0 where a certificate was verified, and of no
    meaning where there was none."""

    client: int
    verify: int
    tlvs: tuple[Tlv, ...]


# -- reading


def read(data: bytes, most: int = V2_MOST) -> Header | None:
    """The header at the beginning of `data`; None: more must come. A v2 one has at most so many bytes.

    Raises NoHeader or Malformed as soon as that is certain."""
    if data.startswith(V1_BEGINS):
        return _read_v1(data)
    if data.startswith(SIGNATURE):
        return _read_v2(data, most)
    if V1_BEGINS.startswith(data) or SIGNATURE.startswith(data):
        return None
    raise NoHeader("no PROXY header")


def _read_v1(data: bytes) -> Header | None:
    end = data.find(b"\n", 0, V1_MOST)
    if end < 0:
        if len(data) >= V1_MOST:
            raise Malformed(f"a PROXY line without an end within {V1_MOST} bytes")
        return None
    if data[end - 1 : end] != b"\r":
        raise Malformed("a PROXY line that ends without CR")
    kind, *fields = data[len(V1_BEGINS) : end - 1].split(b" ")
    if kind == b"UNKNOWN":
        return Header(1, end + 1)
    if kind not in _V1_FAMILIES or len(fields) != 4:
        raise Malformed('a PROXY line that is not "TCP4" or "TCP6", two addresses, two ports')
    version, form = _V1_FAMILIES[kind]
    source, destination = (_v1_address(text, version, form.fullmatch(text) is not None) for text in fields[:2])
    return Header(1, end + 1, (source, _v1_port(fields[2])), (destination, _v1_port(fields[3])))


def _v1_address(text: bytes, version: int, has_form: bool) -> str:
    if has_form and version == 4:
        return text.decode()
    try:
        address = ip_address(text.decode()) if has_form else None
    except ValueError:
        address = None
    if address is None or address.version != version:
        raise Malformed(f"a PROXY line with an address that is not IPv{version}")
    return _shortest(address)


def _v1_port(text: bytes) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise Malformed("a PROXY line with a port that is none")
    return int(text)


def _read_v2(data: bytes, most: int) -> Header | None:
    known = len(data)
    if known > 12 and data[12] >> 4 != 2:
        raise Malformed(f"a PROXY header of version {data[12] >> 4}")
    if known > 12 and data[12] & 15 > 1:
        raise Malformed(f"a PROXY header with the command {data[12] & 15}")
    if known < V2_HEAD:
        return None
    is_local, family, transport = not data[12] & 15, data[13] >> 4, data[13] & 15
    size = V2_HEAD + int.from_bytes(data[14:V2_HEAD], "big")
    if size > most:
        raise Malformed(f"a PROXY header of {size} bytes: more than {most}")
    if not is_local and (family > 3 or transport > 2):
        raise Malformed(f"a PROXY header of the family and transport {data[13]:#04x}")
    if not is_local and size - V2_HEAD < _ADDRESSES[family]:
        raise Malformed("a PROXY header that is too short for its addresses")
    if known < size:
        return None
    if is_local or not family:  # its rest may be anything
        return Header(2, size, is_local=is_local)
    tlvs = tuple(_tlvs(data[V2_HEAD + _ADDRESSES[family] : size]))
    _check_sum(data[:size], V2_HEAD + _ADDRESSES[family])
    if data[13] not in (_TCP4, _TCP6):  # UDP, UNIX and what is unspecified has no address that could be used here
        return Header(2, size, tlvs=tlvs)
    source, destination = _v2_ends(data[V2_HEAD : V2_HEAD + _ADDRESSES[family]])
    return Header(2, size, source, destination, tlvs=tlvs)


def _v2_ends(block: bytes) -> tuple[End, End]:
    ports = int.from_bytes(block[-4:-2], "big"), int.from_bytes(block[-2:], "big")
    if len(block) == _ADDRESSES[1]:
        source, destination = ".".join(map(str, block[:4])), ".".join(map(str, block[4:8]))
    else:
        source, destination = _shortest(IPv6Address(block[:16])), _shortest(IPv6Address(block[16:32]))
    return (source, ports[0]), (destination, ports[1])


def _tlvs(data: bytes) -> Iterator[Tlv]:
    at = 0
    while at < len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        if at + 3 > len(data) or end > len(data):
            raise Malformed("a PROXY header with a TLV that is longer than the header")
        yield data[at], data[at + 3 : end]
        at = end


def _check_sum(header: bytes, at: int) -> None:
    """`at`: where its TLVs begin, which are whole."""
    while at < len(header):
        length = int.from_bytes(header[at + 1 : at + 3], "big")
        if header[at] == CRC32C:
            if length != 4:
                raise Malformed(f"a PROXY header with a checksum of {length} bytes")
            blank = header[: at + 3] + bytes(4) + header[at + 7 :]
            if crc32c(blank) != int.from_bytes(header[at + 3 : at + 7], "big"):
                raise Malformed("a PROXY header with a wrong checksum")
        at += 3 + length


def read_ssl(value: bytes) -> Ssl:
    """What a TLV of the type SSL holds. Raises Malformed."""
    if len(value) < 5:
        raise Malformed("a PROXY header with a TLV of TLS that is too short")
    return Ssl(value[0], int.from_bytes(value[1:5], "big"), tuple(_tlvs(value[5:])))


def hops_of(tlvs: Iterable[Tlv]) -> int:
    """By how many of this program that say so it has come."""
    said = (value for kind, value in tlvs if kind == HOPS and value[:-1] == HOPS_OURS)
    return next((value[-1] for value in said), 0)


def one_hop_more(tlvs: Iterable[Tlv]) -> Tlv:
    return HOPS, HOPS_OURS + bytes((min(255, hops_of(tlvs) + 1),))


def notes(tlvs: Iterable[Tlv]) -> str:
    """What clouds say of the endpoint that a client came by, in words; "" where they say nothing. What is of another shape
    than is published is told as it is."""
    return " ".join(_note(kind, value) for kind, value in tlvs if kind in (GCP, AWS, AZURE))


def _note(kind: int, value: bytes) -> str:
    name = value[1:].decode("ascii", "replace")
    if kind == AWS and value[:1] == b"\1" and name.isascii() and name.isprintable() and len(name) <= MOST_NOTE:
        return f"aws_vpce_id={name}"
    if kind == AZURE and value[:1] == b"\1" and len(value) == 5:
        return f"azure_link_id={int.from_bytes(value[1:], 'little')}"
    if kind == GCP and len(value) == 8:
        return f"gcp_psc_connection_id={int.from_bytes(value, 'big')}"
    return f"{kind:#04x}={value[:MOST_NOTE].hex()}"


def _shortest(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(address if mapped is None else mapped)


# -- writing


def build(
    version: int, source: End | None, destination: End | None, tlvs: Iterable[Tlv] = (), checksum: bool = False
) -> bytes:
    """The header of a client with these two ends; None: they are not IP addresses. TLVs and a checksum are of version 2.

    A client without addresses is UNKNOWN in v1, and LOCAL in v2: others are ended by HAProxy and Apache."""
    if version == 1:
        return _build_v1(source, destination)
    if source is None or destination is None:
        return LOCAL
    first, second = _packed(source[0]), _packed(destination[0])
    if len(first) != len(second):
        first, second = (_MAPPED + ip if len(ip) == 4 else ip for ip in (first, second))
    block = first + second + source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    rest = b"".join([tlv(kind, value) for kind, value in tlvs])
    code = _TCP4 if len(first) == 4 else _TCP6
    if not checksum:
        return _v2(code, block + rest)
    header = _v2(code, block + tlv(CRC32C, bytes(4)) + rest)
    at = V2_HEAD + len(block) + 3
    return header[:at] + crc32c(header).to_bytes(4, "big") + header[at + 4 :]


def _build_v1(source: End | None, destination: End | None) -> bytes:
    if source is None or destination is None:
        return UNKNOWN
    first, second = _text(source[0]), _text(destination[0])
    if ":" not in first and ":" not in second:
        return f"PROXY TCP4 {first} {second} {source[1]} {destination[1]}\r\n".encode()
    first, second = (ip if ":" in ip else f"::ffff:{ip}" for ip in (first, second))
    return f"PROXY TCP6 {first} {second} {source[1]} {destination[1]}\r\n".encode()


def _v2(code: int, rest: bytes) -> bytes:
    return SIGNATURE + bytes((0x21, code)) + len(rest).to_bytes(2, "big") + rest


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def build_ssl(client: int, verify: int, tlvs: Iterable[Tlv]) -> bytes:
    """What a TLV of the type SSL holds."""
    return bytes((client,)) + verify.to_bytes(4, "big") + b"".join(tlv(kind, value) for kind, value in tlvs)


def _text(ip: str) -> str:
    """An address in its shortest spelling, of one as a sockaddr has it: perhaps with an interface, or IPv4 as IPv6."""
    return _shortest(ip_address(ip.partition("%")[0])) if ":" in ip else ip


def _packed(ip: str) -> bytes:
    text = _text(ip)
    return IPv6Address(text).packed if ":" in text else bytes(map(int, text.split(".")))


# -- the checksum (RFC 4960, appendix B)


def _table() -> tuple[int, ...]:
    entries = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        entries.append(value)
    return tuple(entries)


_CRC_TABLE = _table()


def crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC_TABLE[(value ^ byte) & 255]
    return value ^ 0xFFFFFFFF
