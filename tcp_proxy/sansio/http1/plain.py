"""The heads that come again and again, remembered whole: of plain requests, and of plain answers to them. Pure.

A request is plain where none of the rules for special ones can hold: it has no body, goes on as it came, asks for no
upgrade and nothing to be counted, belongs to no login, and its connection stays. An answer is plain where its length is
known and both connections stay. For all others, and for a head of more than a KiB, there is the way that is always right:
both ways give the same bytes (test_plain.py).
"""

from functools import lru_cache
from typing import Final

from tcp_proxy.sansio.http1.fields import Refused
from tcp_proxy.sansio.http1.forward import response_head
from tcp_proxy.sansio.http1.requests import Limits, Request, read_request
from tcp_proxy.sansio.http1.responses import Response, read_response

REMEMBERED, SIZE, FIELDS = 512, 1024, 64
_LIMITS: Final = Limits(line=SIZE, head=SIZE, fields=FIELDS)
_SPECIAL: Final = frozenset({b"expect", b"max-forwards", b"upgrade", b"x-request-id"})
_SPECIAL_METHODS: Final = frozenset({b"CONNECT", b"HEAD"})


class PlainAnswer:
    """`said`: the head as it came; `head`: for the client of a plain request."""

    __slots__ = ("head", "response", "said")

    def __init__(self, said: bytes, response: Response, head: bytes) -> None:
        self.said = said
        self.response = response
        self.head = head

    def __repr__(self) -> str:
        return f"<PlainAnswer {self.said!r}>"


def are_plain(limits: Limits) -> bool:
    """Whether they allow all that is plain."""
    return limits.line >= SIZE and limits.head >= SIZE and limits.fields >= FIELDS


@lru_cache(REMEMBERED)
def _request(head: bytes) -> Request | None:
    try:
        found = read_request(head, 0, _LIMITS)
    except Refused:
        return None
    if found is None or found[1] != len(head):
        return None
    request, _ = found
    fields = request.fields
    is_special = request.is_rewritten or request.length or fields.has_login or request.method in _SPECIAL_METHODS
    return request if not is_special and request.keeps and _SPECIAL.isdisjoint(fields.values) else None


def plain_request(data: bytes) -> Request | None:
    """The one that `data` is, all of it. It is everybody's who sends the same: nothing of it may be changed."""
    return _request(data) if len(data) <= SIZE else None


_GET = read_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, _LIMITS)


@lru_cache(REMEMBERED)
def _answer(head: bytes) -> PlainAnswer | None:
    try:
        found = read_response(head, 0, _LIMITS, bodiless=False)
    except Refused:
        return None
    if found is None or found[1] != len(head):
        return None
    response, _ = found
    fields = response.fields
    is_known = response.status >= 200 and response.length >= 0 and b"date" in fields.values
    if not is_known or not response.keeps or fields.has_login:
        return None
    assert _GET is not None
    return PlainAnswer(head, response, response_head(response, _GET[0], keep=True, date=b""))


def plain_answer(head: bytes) -> PlainAnswer | None:
    """The one whose head this is, to a plain request. It is everybody's: nothing of it may be changed."""
    return _answer(head) if len(head) <= SIZE else None
