"""The head of a request: bytes -> Request, or Refused with the status to answer. Pure.

Strict where a lenient reader could see another message than we do (RFC 9112, 3 and 6; RFC 9110, 7): what two readers may
take differently never goes on.
"""

import re
from dataclasses import dataclass
from typing import Final

from tcp_proxy.sansio.http1.fields import CHUNKED, UNSAID, Fields, Refused, read_fields

LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!\"$-~]+) HTTP/([0-9])\.([0-9])\r\n")
HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
ABSOLUTE: Final = re.compile(rb"(?:http|https)://([^/?]*)(.*)", re.IGNORECASE)
# CR and LF that are not one line end, and NUL; a CR at the very end may get its LF yet.
LONE: Final = re.compile(rb"(?<!\r)\n|\r(?![\n]|\Z)|\x00")
END: Final = b"\r\n\r\n"
# Doing it twice is the same as once (RFC 9110, 9.2.2): may be sent again when nobody knows whether it arrived.
IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
LINE_SHOWN: Final = 1024  # bytes of a first line that was refused
_SKIPPED: Final = 2  # empty lines before a request: some clients send one after a body


@dataclass(frozen=True, slots=True)
class Limits:
    """What a head may have; more is answered with 414 or 431."""

    line: int = 8192  # bytes of the first line
    head: int = 65536  # bytes in all
    fields: int = 200


AS_MUCH_AS_CAME: Final = Limits(1 << 30, 1 << 30, 1 << 30)  # for a head that was read before


class Request:
    """`path` is what the target is asked for; `host` without its line's spelling; `length` of the body, or CHUNKED."""

    __slots__ = ("fields", "host", "is_rewritten", "length", "line", "method", "minor", "path", "said")

    def __init__(self, method: bytes, path: bytes, minor: int, fields: Fields, line: bytes) -> None:
        self.method = method
        self.path = path
        self.minor = minor
        self.fields = fields
        self.line = line  # the first line as it came
        self.said: tuple[str, str, str] | None = None  # what the access log says of it (wire.log_lines), once it has
        self.is_rewritten = minor != 1  # the first line, and perhaps Host, must be written anew
        values = fields.values
        self.length = 0 if fields.length == UNSAID else fields.length
        if minor == 0 and self.length == CHUNKED:
            raise Refused(400, "a transfer coding in HTTP/1.0")
        hosts = values.get(b"host")
        if hosts is None:
            if minor:
                raise Refused(400, "no Host")
            self.host = b""
        else:  # empty where there is no authority (RFC 9112, 3.2)
            if len(hosts) != 1 or not (HOST.fullmatch(hosts[0]) or not hosts[0]):
                raise Refused(400, "more than one Host" if len(hosts) != 1 else "a Host that is none")
            self.host = hosts[0]
        if path[0] != 47 or method == b"CONNECT":
            self._other_form()

    def __repr__(self) -> str:
        return f"<Request {self.method.decode()} {self.path!r} length {self.length}>"

    @property
    def keeps(self) -> bool:
        """Whether the client wants the connection kept."""
        options = self.fields.options
        return b"close" not in options if self.minor else b"keep-alive" in options and b"close" not in options

    @property
    def is_idempotent(self) -> bool:
        return self.method in IDEMPOTENT

    @property
    def expects(self) -> bool:
        """Whether the client waits for 100 Continue before it sends the body."""
        return b"expect" in self.fields.values and self.minor > 0

    def _other_form(self) -> None:
        """Not a path: `*`, an absolute URI, or the authority of a CONNECT."""
        path, method = self.path, self.method
        if method == b"CONNECT":
            if not HOST.fullmatch(path) or b":" not in path.rpartition(b"]")[2]:
                raise Refused(400, "a CONNECT to what is no authority")
            if self.length:
                raise Refused(400, "a CONNECT with a body")
            return
        if path == b"*":
            if method != b"OPTIONS":
                raise Refused(400, "an asterisk for another method than OPTIONS")
            return
        found = ABSOLUTE.fullmatch(path)
        if found is None or not HOST.fullmatch(found[1]):
            raise Refused(400, "a request for what is neither a path nor a URI")
        self.host, rest = found[1], found[2]
        if not rest and method == b"OPTIONS":
            rest = b"*"
        self.path = rest if rest[:1] in (b"/", b"*") else b"/" + rest
        self.is_rewritten = True


def read_request(data: bytes, start: int, limits: Limits, seen: int = 0) -> tuple[Request, int] | None:
    """The request whose head begins at `start`, and where its body begins; None as long as it is not whole.

    `seen`: so much of `data` was looked at before, for the same answer. Who sends single bytes must not cost a look at all
    of them each time.
    """
    for _ in range(_SKIPPED):
        if data.startswith(b"\r\n", start):
            start += 2
    end = data.find(END, max(start, seen - len(END)) if seen else start)
    if end < 0:
        look_at_part(data, start, seen)
        if len(data) - start > limits.line and data.find(b"\r\n", start, start + limits.line) < 0:
            raise Refused(414, f"a request line of more than {limits.line} bytes")
        if len(data) - start >= limits.head + len(END):
            raise Refused(431, f"a head of more than {limits.head} bytes")
        return None
    if end - start > limits.head:
        raise Refused(431, f"a head of more than {limits.head} bytes")
    found = LINE.match(data, start)
    if found is None:
        end_of_line = data.index(b"\r\n", start)
        raise _why(data[start:end_of_line], limits)
    method, path, major, minor = found.groups()
    body = found.end()
    if body - start > limits.line:
        raise Refused(414, f"a request line of more than {limits.line} bytes")
    if major != b"1":
        raise Refused(505, "a version other than HTTP/1")
    fields = read_fields(data[body : end + 2])
    if fields.count > limits.fields:
        raise Refused(431, f"more than {limits.fields} fields")
    request = Request(method, path, 0 if minor == b"0" else 1, fields, data[start:body])
    if minor > b"1":  # RFC 9110, 2.5: the highest version that we know is spoken to all above it
        request.is_rewritten = True
    return request, end + 4


def head_of(request: Request) -> bytes:
    """A head of which `read_request` makes the same request, with what we have changed in it."""
    return b"%b%b\r\n" % (request.line, b"".join([b"%b:%b\r\n" % pair for pair in request.fields.pairs]))


def first_line(data: bytes) -> bytes:
    """Of a request that could not be read: as much of it as there is, and as anybody wants to see."""
    return data.lstrip(b"\r\n")[:LINE_SHOWN].partition(b"\n")[0].rstrip(b"\r")


def look_at_part(data: bytes, start: int, seen: int = 0) -> None:
    """Refuse what can become no head any more: nobody should wait for the rest of it."""
    if LONE.search(data, max(start, seen - 1)):
        raise Refused(400, "a bare CR or LF, or a NUL")


def _why(line: bytes, limits: Limits) -> Refused:
    if len(line) > limits.line:
        return Refused(414, f"a request line of more than {limits.line} bytes")
    return Refused(400, "a first line that is none of HTTP/1")
