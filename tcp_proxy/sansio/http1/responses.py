"""The head of an answer: bytes -> Response, or Refused (the client then gets 502). Pure, and as strict as for requests."""

import re

from tcp_proxy.sansio.http1.fields import CHUNKED, UNSAID, Fields, Refused, read_fields
from tcp_proxy.sansio.http1.requests import END, Limits, look_at_part

LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])( [\t -~\x80-\xff]*)?\r\n")
UNTIL_CLOSE = UNSAID  # the body goes on until the target closes
_BEGIN = b"HTTP/1."


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


def read_response(data: bytes, start: int, limits: Limits, bodiless: bool, seen: int = 0) -> tuple[Response, int] | None:
    """The answer that begins at `start`, and where its body begins; None as long as it is not whole.

    `bodiless`: it answers a HEAD; `seen`: so much of `data` was looked at before.
    """
    end = data.find(END, max(start, seen - len(END)) if seen else start)
    if len(data) - start > limits.head and (end if end >= 0 else len(data) - len(END) + 1) - start > limits.head:
        raise Refused(502, f"a head of more than {limits.head} bytes")
    if end < 0:
        if not data[start : start + 7].startswith(_BEGIN[: len(data) - start]):
            raise Refused(502, "a first line that is none of HTTP/1")
        look_at_part(data, start, seen)
        return None
    found = LINE.match(data, start)
    if found is None:
        raise Refused(502, "a first line that is none of HTTP/1")
    body = found.end()
    fields = read_fields(data[body : end + 2])
    if fields.count > limits.fields:
        raise Refused(502, f"more than {limits.fields} fields")
    return Response(int(found[2]), 1 if found[1] == b"1" else 0, fields, data[start:body], bodiless), end + 4
