"""The PROXY header that a target gets of a client: who it is and where it had connected to, as far as that is known.

Pure but for one question to the client's socket; in the thread of the dial that sends it. Where the client's own header said
who it is, that is passed on: the chain of proxies is one.
"""

from collections.abc import Iterator
from typing import Any, Protocol

from tcp_proxy.config.model import SendProxy
from tcp_proxy.dataplane.tls_told import name_of
from tcp_proxy.sansio.address import Restored
from tcp_proxy.sansio.proxyproto import (
    ALPN,
    AUTHORITY,
    SSL,
    SSL_CIPHER,
    SSL_CN,
    SSL_HAD_CERTIFICATE,
    SSL_HAS_CERTIFICATE,
    SSL_IS_TLS,
    SSL_VERSION,
    UNIQUE_ID,
    Tlv,
    build,
    build_ssl,
    one_hop_more,
)

PASSED_ON = {ALPN: "alpn", AUTHORITY: "authority", SSL: "ssl"}  # what a header that was received may say


class Introduced(Protocol):
    """Whom a header is about: a session, or a client's connection of mode http."""

    number: int
    thread: Any
    client: Any
    origin: Any  # wire.records.Origin of one that has moved here
    address: Any


def header_of(client: Introduced, wanted: SendProxy) -> bytes:
    """Raises OSError for a client that is gone."""
    address = client.address
    if isinstance(address, Restored):
        source, destination = (address.ip, address.port), address.destination
    else:
        source, destination = address[:2], client.client.getsockname()[:2]
    return build(wanted.version, source, destination, _tlvs(client, wanted), "crc32c" in wanted.tlvs)


def _tlvs(client: Introduced, wanted: SendProxy) -> list[Tlv]:
    if not wanted.tlvs:
        return []
    stream = getattr(client.client, "stream", None)  # of TLS that is ended here
    known = dict(_of_tls(stream)) if stream is not None else {}
    if isinstance(client.address, Restored):
        known.update(client.address.tlvs)  # it knows the client itself
    found = [(kind, value) for kind, value in known.items() if PASSED_ON.get(kind) in wanted.tlvs]
    if "hops" in wanted.tlvs:
        found.append(one_hop_more(client.address.tlvs if isinstance(client.address, Restored) else ()))
    if "unique_id" in wanted.tlvs:
        found.append((UNIQUE_ID, _id(client).encode()))
    return found


def _id(client: Introduced) -> str:
    """As in the access log."""
    origin = client.origin
    return f"{client.thread.recorder.incarnation}-{client.number}" if origin is None else origin.id


def _of_tls(stream: Any) -> Iterator[Tlv]:
    """`stream`: an ssl.SSLObject. A certificate that the client has shown is one that was verified; without one there is
    nothing that was, and so no 0 (2.2.6 of the protocol)."""
    alpn = stream.selected_alpn_protocol()
    if alpn:
        yield ALPN, alpn.encode()
    asked = name_of(stream)
    if asked:
        yield AUTHORITY, asked.encode()
    names = [value for part in (stream.getpeercert() or {}).get("subject", ()) for key, value in part if key == "commonName"]
    has_certificate = bool(stream.getpeercert(binary_form=True))
    parts: list[Tlv] = [(SSL_VERSION, (stream.version() or "").encode()), (SSL_CIPHER, stream.cipher()[0].encode())]
    parts += [(SSL_CN, name.encode()) for name in names[:1]]
    shown = SSL_HAS_CERTIFICATE | SSL_HAD_CERTIFICATE if has_certificate else 0
    yield SSL, build_ssl(SSL_IS_TLS | shown, 0 if has_certificate else 1, parts)
