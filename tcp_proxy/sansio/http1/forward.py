"""What goes on: the head for the target, the head for the client, and our own answers. Pure.

Fields keep their order and their spelling. Taken away are those of one hop only, and who asked is said anew (fields.py);
added at the end are Via, X-Forwarded-* and X-Request-ID for the target, Via and Connection for the client.
"""

from dataclasses import dataclass
from typing import Final

from tcp_proxy.sansio.http1.fields import CHUNKED, UNSAID
from tcp_proxy.sansio.http1.requests import Request
from tcp_proxy.sansio.http1.responses import Response
from tcp_proxy.sansio.trace_context import NOTHING, Span

REASONS: Final = {
    400: b"Bad Request",
    404: b"Not Found",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
    508: b"Loop Detected",
}
RETRY_AFTER: Final = b"Retry-After: %d\r\n"
RETRY_SECONDS: Final = 5  # where nobody knows
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_VIA = (b"Via: 1.0 tcp_proxy\r\n", b"Via: 1.1 tcp_proxy\r\n")
_CODING: Final = frozenset({b"transfer-encoding"})
_CODING_AND_TRAILER: Final = frozenset({b"transfer-encoding", b"trailer"})
_HOST: Final = frozenset({b"host"})
_EXPECT: Final = frozenset({b"expect"})
_FRAMING: Final = frozenset({b"transfer-encoding", b"content-length"})


@dataclass(frozen=True, slots=True)
class Client:
    """Whom a request comes from, as the target is told. `trusted`: what it says of those before it is believed. `port`: the
    one that it had connected to, where that is told; `certificate`: lines about the one that it has shown."""

    ip: bytes
    trusted: bool = False
    forwarded: bool = False  # say it in Forwarded (RFC 7239) as well
    proto: bytes = b"http"
    port: bytes = b""
    certificate: bytes = b""


def request_head(
    request: Request, client: Client, identity: bytes, host: bytes = b"", upgrade: bytes = b"", span: Span | None = None
) -> bytes:
    """For the target. `identity`: the X-Request-ID if the client has sent none; `host`: in place of the client's.

    `upgrade`: the protocol that may be asked for; `span`: what is traced of it.
    """
    fields = request.fields
    line, kept = request.line, fields.kept
    replaced = NOTHING if span is None else span.dropped
    if request.is_rewritten or host:
        line = b"%b %b HTTP/1.1\r\n" % (request.method, request.path)
        dropped = _HOST | _EXPECT if not request.minor else _HOST
        kept = b"Host: %b\r\n%b" % (host or request.host, fields.without(dropped | replaced))
    elif not replaced.isdisjoint(fields.values):
        kept = fields.without(replaced)
    end = b"" if b"x-request-id" in fields.values else b"X-Request-ID: %b\r\n" % identity
    if span is not None:
        end += span.line
    if upgrade:
        end += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade
    return b"%b%b%b\r\n" % (line, request_lines(request, client, kept), end)


def request_lines(request: Request, client: Client, kept: bytes) -> bytes:
    """What stands between the first line and X-Request-ID. `kept`: the client's own."""
    values = request.fields.values
    if len(values) > 1 and not values.keys().isdisjoint(_OF_CLIENT):
        added = _who_asked(request, client)
    else:
        added = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (
            client.ip,
            client.proto,
            request.host,
        )
        if client.port:
            added += b"X-Forwarded-Port: %b\r\n" % client.port
    if client.certificate:
        added += client.certificate
    if client.forwarded:
        added += _forwarded(request, client)
    return b"%b%b%b" % (kept, _VIA[request.minor], added)


def response_head(response: Response, request: Request, keep: bool, date: bytes) -> bytes:
    """For the client. `keep`: the connection stays open; `date`: for an answer without one."""
    fields = response.fields
    kept = fields.kept
    status = response.status
    if status < 200 or status == 204 or (request.method == b"CONNECT" and status < 300):
        if fields.length != UNSAID:
            kept = fields.without(_FRAMING)
    elif fields.length == CHUNKED and not request.minor:  # the answer to a HEAD too
        kept = fields.without(_CODING_AND_TRAILER)
    line = response.line if response.minor else b"HTTP/1.1" + response.line[8:]
    end = _VIA[response.minor]
    if status == 101:
        end += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % fields.value(b"upgrade")
    elif status >= 200:
        if not keep:
            end += b"Connection: close\r\n"
        elif not request.minor:
            end += b"Connection: keep-alive\r\n"
        if b"date" not in fields.values:
            end += b"Date: %b\r\n" % date
    return b"%b%b%b\r\n" % (line, kept, end)


def own_answer(
    status: int, text: str, keep: bool, date: bytes, bodiless: bool = False, after: int = RETRY_SECONDS
) -> bytes:
    """What we say ourselves: the status, and why, in one line of plain text. `after`: seconds until a new try."""
    reason = REASONS[status]
    body = b"%d %b: %b\n" % (status, reason, text.encode("latin-1", "replace"))
    more = (RETRY_AFTER % after if status in (429, 503) else b"") + (b"" if keep else b"Connection: close\r\n")
    head = b"HTTP/1.1 %d %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nDate: %b\r\n%bVia: 1.1 tcp_proxy\r\n\r\n"
    return head % (status, reason, len(body), date, more) + (b"" if bodiless else body)


_OF_CLIENT: Final = frozenset({
    b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded",
})  # fmt: skip


def _who_asked(request: Request, client: Client) -> bytes:
    """The client has something to say of those before it."""
    fields = request.fields
    chain, proto, host, port = client.ip, client.proto, request.host, client.port
    passed = b""
    if client.trusted:
        before = fields.value(b"x-forwarded-for")
        chain = before + b", " + client.ip if before else client.ip
        proto = fields.value(b"x-forwarded-proto") or proto
        host = fields.value(b"x-forwarded-host") or host
        port = fields.value(b"x-forwarded-port") or port
        if b"forwarded" in fields.values and not client.forwarded:
            passed = b"Forwarded: %b\r\n" % fields.value(b"forwarded")
    said = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (chain, proto, host)
    if port:
        said += b"X-Forwarded-Port: %b\r\n" % port
    return said + passed


def _forwarded(request: Request, client: Client) -> bytes:
    """RFC 7239; an IPv6 address and a host with a port must be quoted."""
    ip = b'"[%b]"' % client.ip if b":" in client.ip else client.ip
    element = b'for=%b;host="%b";proto=%b' % (ip, request.host, client.proto)
    before = request.fields.value(b"forwarded") if client.trusted else b""
    return b"Forwarded: %b\r\n" % (before + b", " + element if before else element)
