"""The head of an answer: bytes -> Response, or Refused (the client then gets 502). Pure.

Stricter than RFC 9112 asks where two readers could see two messages; where there is one meaning only, what targets write
is taken as HAProxy and nginx take it, and goes on in its proper form: LF for a line end, statuses of three digits above 599,
versions above 1.1, more than one space before the status, and what read_answer_fields takes. docs/http.md has the table.
"""

import re
from typing import Final

from tcp_proxy.sansio.http1.fields import CHUNKED, UNSAID, Fields, Refused, read_answer_fields
from tcp_proxy.sansio.http1.requests import END, Limits

LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])( [\t -~\x80-\xff]*)?\r\n")
ODD_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) +([1-9][0-9][0-9])( [^\x00\r\n]*)?\r\n")
REASON: Final = re.compile(rb"[\t -~\x80-\xff]*")
LF: Final = re.compile(rb"\r?\n")
LF_END: Final = re.compile(rb"\n\r?\n")
NEVER: Final = re.compile(rb"\r(?!\n|\Z)|\x00")  # a CR that is no part of a line end, and NUL
UNTIL_CLOSE: Final = UNSAID  # the body goes on until the target closes
_BEGIN: Final = b"HTTP/1."


class Response:
    """`length` of the body that follows: a number, CHUNKED or UNTIL_CLOSE. `status` 1xx but 101 is not the last word."""

    __slots__ = ("fields", "length", "line", "minor", "status")

    def __init__(self, status: int, minor: int, fields: Fields, line: bytes, bodiless: bool) -> None:
        self.status = status
        self.minor = minor
        self.fields = fields
        self.line = line
        if fields.length == CHUNKED and not minor:
            raise Refused(502, "a transfer coding in HTTP/1.0")
        self.length = 0 if bodiless or status in (204, 304) or status < 200 else fields.length

    def __repr__(self) -> str:
        return f"<Response {self.status} length {self.length}>"

    @property
    def is_interim(self) -> bool:
        return self.status < 200 and self.status != 101

    @property
    def keeps(self) -> bool:
        """Whether the target's connection can be used again, once the body has been read."""
        return self.minor == 1 and b"close" not in self.fields.options and self.length != UNTIL_CLOSE


class BareLfResponse(Response):
    """Some lines of it end with LF alone. Where its writer meant the head to end is less certain then than elsewhere, so
    nobody else's answer is read from that connection."""

    __slots__ = ()

    @property
    def keeps(self) -> bool:
        return False


def read_response(data: bytes, start: int, limits: Limits, bodiless: bool, seen: int = 0) -> tuple[Response, int] | None:
    """The answer that begins at `start`, and where its body begins; None as long as it is not whole.

    `bodiless`: it answers a HEAD; `seen`: so much of `data` was looked at before.
    """
    most = start + limits.head
    end = data.find(END, max(start, seen - len(END)) if seen else start)
    if 0 <= end <= most:
        try:
            return _whole(data, start, end, limits, bodiless), end + len(END)
        except Refused:
            found = LF_END.search(data, start, end + len(END))  # the head may have ended before
            if found is None or data.count(b"\n", start, found.end()) == data.count(b"\r\n", start, found.end()):
                raise
    else:
        found = LF_END.search(data, max(start, seen - len(END)) if seen else start, most + len(END))
    if found is not None and found.start() <= most:
        end = found.end()
        return _with_bare_lf(data[start:end], limits, bodiless), end
    if end > most or len(data) - most >= len(END):
        raise Refused(502, f"a head of more than {limits.head} bytes")
    came = len(data) - start
    if not data[start : start + 7].startswith(_BEGIN[:came]):
        raise Refused(502, "a first line that is none of HTTP/1")
    if NEVER.search(data, max(start, seen - 1)):
        raise Refused(502, "a bare CR, or a NUL")
    return None


def _whole(data: bytes, start: int, end: int, limits: Limits, bodiless: bool, kind: type[Response] = Response) -> Response:
    found = LINE.match(data, start)
    line = None
    if found is None:
        found = ODD_LINE.match(data, start)
        if found is None:
            raise Refused(502, "a first line that is none of HTTP/1")
        reason = found[3] or b""
        minor = b"1" if found[1] > b"1" else found[1]
        line = b"HTTP/1.%b %b%b\r\n" % (minor, found[2], reason if REASON.fullmatch(reason) else b" ")
    body = found.end()
    fields = read_answer_fields(data[body : end + 2])
    if fields.count > limits.fields:
        raise Refused(502, f"more than {limits.fields} fields")
    return kind(int(found[2]), 0 if found[1] == b"0" else 1, fields, line or data[start:body], bodiless)


def _with_bare_lf(head: bytes, limits: Limits, bodiless: bool) -> Response:
    """RFC 9112, 2.2: LF alone may be taken for a line end. It goes on as CRLF."""
    if NEVER.search(head):
        raise Refused(502, "a bare CR, or a NUL")
    plain = LF.sub(b"\r\n", head)
    return _whole(plain, 0, len(plain) - len(END), limits, bodiless, BareLfResponse)
