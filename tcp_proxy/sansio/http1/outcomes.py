"""What becomes of a request: whether it may be sent again, whether connections are kept, and what a failure is. Pure.

A request goes to a target a second time only where it can have had no effect the first time (RFC 9110, 9.2.2). A Failure
has the status and the text of our own answer; where a part of the target's is written, its reason and side alone count.
"""

from typing import Final, NamedTuple

from tcp_proxy.sansio.http1.fields import CHUNKED, Refused
from tcp_proxy.sansio.http1.requests import Request
from tcp_proxy.sansio.http1.responses import UNTIL_CLOSE, Response
from tcp_proxy.sansio.reasons import Reason, Side, errno_name


class Failure(NamedTuple):
    """`side`: whose fault it is."""

    status: int
    text: str
    reason: Reason
    side: Side


NO_SWITCH: Final = Failure(
    502, "the target switched protocols and did not take the request", Reason.TARGET_RESET, Side.TARGET
)  # fmt: skip
_NO_ANSWER: Final = {
    Reason.NO_TARGET: "no target is up",
    Reason.LIMIT: "every target is at its limit",
    Reason.QUEUE_TIMEOUT: "no target has had a place in time",
}


def not_connected(reason: Reason, code: int = 0) -> Failure:
    """No target was chosen, or none could be connected to; `code` is the errno of the last attempt."""
    if reason is Reason.TARGET_RESET:
        return Failure(502, f"the target reset its connection ({errno_name(code)}) without an answer", reason, Side.PROXY)
    if reason is Reason.CONNECT_FAILED:
        return Failure(502, f"no target could be connected to ({errno_name(code)})", reason, Side.PROXY)
    return Failure(503, _NO_ANSWER[reason], reason, Side.PROXY)


def lost(code: int) -> Failure:
    """The target's connection ended before there was an answer."""
    how = f"reset its connection ({errno_name(code)})" if code else "closed its connection"
    return Failure(502, f"the target {how} without an answer", Reason.TARGET_RESET, Side.TARGET)


def broken_off(code: int) -> Failure:
    """It ended in the middle of the answer."""
    text = f"the target broke off its answer ({errno_name(code) or 'end of file'})"
    return Failure(502, text, Reason.TARGET_RESET, Side.TARGET)


def wrong_answer(error: Refused) -> Failure:
    """It is no answer of HTTP."""
    return Failure(502, f"the target's answer has {error}", Reason.PROTOCOL_ERROR, Side.TARGET)


def wrong_request(error: Refused) -> Failure:
    """Its body is none."""
    return Failure(error.status, str(error), Reason.PROTOCOL_ERROR, Side.CLIENT)


def taken_out(reason: Reason) -> Failure:
    """By our own decision."""
    return Failure(502, "the target was taken out of service", reason, Side.PROXY)


def silent(seconds: float, is_answering: bool, is_client_late: bool) -> Failure:
    """No byte in any direction for so long. `is_client_late`: it is the client that owes the rest of its request."""
    if is_answering:
        return Failure(504, "the target went silent in its answer", Reason.IDLE_TIMEOUT, Side.TARGET)
    if is_client_late:
        return Failure(408, "the rest of the request did not come in time", Reason.IDLE_TIMEOUT, Side.CLIENT)
    text = f"the target did not answer within {seconds:g} seconds"
    return Failure(504, text, Reason.IDLE_TIMEOUT, Side.TARGET)


def refusal(request: Request, allow_connect: bool, body_most: int) -> tuple[int, str] | None:
    """Status and text of what we do not pass on, whatever the route."""
    if request.method == b"CONNECT" and not allow_connect:
        return 501, "CONNECT is not allowed"
    if request.expects and request.fields.value(b"expect").lower() != b"100-continue":  # many are one by now
        return 417, "an expectation other than 100-continue"
    if body_most and request.length > body_most:
        return 413, f"a body of more than {body_most} bytes"
    return None


def may_send_again(request: Request, nothing_sent: bool, is_unheard: bool) -> bool:
    """`nothing_sent`: the target took nothing of it. `is_unheard`: its connection ended at the request's head, before a byte
    of an answer (RFC 9110, 9.2.2)."""
    return nothing_sent or (is_unheard and request.is_idempotent)


def switches(request: Request, response: Response) -> bool:
    """Whether the connections carry another protocol from here on."""
    return response.status == 101 or (request.method == b"CONNECT" and 200 <= response.status < 300)


def decodes(request: Request, response: Response) -> bool:
    """Whether the chunks are taken off, for a client of HTTP/1.0."""
    return response.length == CHUNKED and not request.minor


def may_keep_client(request: Request, response: Response, decode: bool) -> bool:
    """Whether the client can tell where the answer ends, and wants to go on."""
    return request.keeps and not decode and response.length != UNTIL_CLOSE
