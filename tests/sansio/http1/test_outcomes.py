"""What becomes of a request: whether again, whether kept, and what a failure is called."""

import pytest

from tcp_proxy.sansio.http1 import outcomes
from tcp_proxy.sansio.http1.requests import Limits, read_request
from tcp_proxy.sansio.http1.responses import read_response
from tcp_proxy.sansio.reasons import Reason, Side

LIMITS = Limits(8192, 65536, 100)


def request(line, *fields):
    head = b"\r\n".join((line, b"Host: a", *fields, b"", b""))
    return read_request(head, 0, LIMITS, 0)[0]


def response(status, *fields):
    head = b"\r\n".join((b"HTTP/1.1 %d X" % status, *fields, b"", b""))
    return read_response(head, 0, LIMITS, False, 0)[0]


@pytest.mark.parametrize(
    ("method", "nothing_sent", "is_unheard", "again"),
    [
        (b"GET", False, True, True),
        (b"PUT", False, True, True),
        (b"POST", False, True, False),  # it may have had its effect
        (b"POST", True, False, True),
        (b"GET", False, False, False),
    ],
)
def test_a_request_is_sent_again_only_where_it_can_have_had_no_effect(method, nothing_sent, is_unheard, again):
    assert outcomes.may_send_again(request(method + b" / HTTP/1.1"), nothing_sent, is_unheard) is again


@pytest.mark.parametrize(
    ("line", "fields", "kept", "decoded"),
    [
        (b"GET / HTTP/1.1", (b"Content-Length: 5",), True, False),
        (b"GET / HTTP/1.1", (b"Transfer-Encoding: chunked",), True, False),
        (b"GET / HTTP/1.1", (), False, False),  # until the target closes
        (b"GET / HTTP/1.0", (b"Transfer-Encoding: chunked",), False, True),
    ],
)
def test_a_client_is_kept_where_it_can_tell_the_end_of_the_answer(line, fields, kept, decoded):
    asked, answer = request(line, b"Connection: keep-alive"), response(200, *fields)
    assert outcomes.decodes(asked, answer) is decoded
    assert outcomes.may_keep_client(asked, answer, decoded) is kept


@pytest.mark.parametrize(
    ("line", "status", "switched"),
    [
        (b"GET / HTTP/1.1", 101, True),
        (b"GET / HTTP/1.1", 200, False),
        (b"CONNECT a:1 HTTP/1.1", 200, True),
        (b"CONNECT a:1 HTTP/1.1", 403, False),
    ],
)
def test_what_switches_the_protocol(line, status, switched):
    assert outcomes.switches(request(line), response(status)) is switched


def test_whose_silence_it_is():
    assert outcomes.silent(60.0, True, True)[:1] + outcomes.silent(60.0, True, True)[2:] == (
        504, Reason.IDLE_TIMEOUT, Side.TARGET,
    )  # fmt: skip
    assert outcomes.silent(60.0, False, True).side is Side.CLIENT
    assert outcomes.silent(60.0, False, False).text == "the target did not answer within 60 seconds"


def test_what_is_refused_whatever_the_route():
    assert outcomes.refusal(request(b"CONNECT a:1 HTTP/1.1"), False, 0) == (501, "CONNECT is not allowed")
    assert outcomes.refusal(request(b"CONNECT a:1 HTTP/1.1"), True, 0) is None
    sized = request(b"PUT / HTTP/1.1", b"Content-Length: 11")
    assert outcomes.refusal(sized, False, 10) == (413, "a body of more than 10 bytes")
    assert outcomes.refusal(sized, False, 0) is None
    odd = request(b"PUT / HTTP/1.1", b"Content-Length: 1", b"Expect: more")
    assert outcomes.refusal(odd, False, 0) == (417, "an expectation other than 100-continue")


@pytest.mark.parametrize(("reason", "status"), [(Reason.NO_TARGET, 503), (Reason.LIMIT, 503), (Reason.CONNECT_FAILED, 502)])
def test_without_a_connection_it_is_not_counted_as_the_target_s_answer(reason, status):
    failure = outcomes.not_connected(reason)
    assert (failure.status, failure.reason, failure.side) == (status, reason, Side.PROXY)
