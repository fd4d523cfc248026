"""Max-Forwards (RFC 9110, 7.6.2): how many hops an OPTIONS or a TRACE may go on; it is ours to answer when none is left.

Pure. A TRACE is answered with the first line and those fields that say where it has been, and with no other: what a browser
adds of its own, cookies above all, is nothing that a page may have read back to it (RFC 9110, 9.3.8).
"""

from typing import Final

from tcp_proxy.sansio.http1.fields import DIGITS, Refused
from tcp_proxy.sansio.http1.requests import Request

COUNTED: Final = frozenset({b"OPTIONS", b"TRACE"})
TRACED: Final = frozenset({b"host", b"max-forwards", b"via"})
HEAD: Final = b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\nDate: %b\r\n%bVia: 1.1 tcp_proxy\r\n\r\n%b"


def count_down(request: Request) -> bool:
    """One hop is taken off; whether the request goes on. Raises Refused. Of other methods the field means nothing."""
    if request.method not in COUNTED:
        return True
    values = request.fields.values[b"max-forwards"]
    if len(values) != 1 or not DIGITS.fullmatch(values[0]):
        raise Refused(400, "a Max-Forwards that is no number")
    left = int(values[0])
    if left:
        request.fields = request.fields.replaced(b"max-forwards", b"%d" % (left - 1))
    return left > 0


def final_answer(request: Request, keep: bool, date: bytes) -> bytes:
    connection = b"" if keep and request.minor else b"Connection: keep-alive\r\n" if keep else b"Connection: close\r\n"
    if request.method == b"OPTIONS":
        return HEAD % (b"", 0, date, connection, b"")
    lines = [b"%b:%b\r\n" % pair for pair in request.fields.pairs if pair[0].lower() in TRACED]
    content = b"%b%b\r\n" % (request.line, b"".join(lines))
    return HEAD % (b"Content-Type: message/http\r\n", len(content), date, connection, content)
