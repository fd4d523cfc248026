"""What is remembered whole goes on with the very bytes that the general way gives it, and nothing special is among it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.http1.fields import Refused
from tcp_proxy.sansio.http1.forward import Client, request_head, request_lines, response_head
from tcp_proxy.sansio.http1.outcomes import may_keep_client, refusal, switches
from tcp_proxy.sansio.http1.plain import FIELDS, SIZE, are_plain, plain_answer, plain_request
from tcp_proxy.sansio.http1.requests import Limits, read_request
from tcp_proxy.sansio.http1.responses import read_response

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 00:00:00 GMT\r\nContent-Length: 5\r\n\r\n"
CLIENTS = [
    Client(b"10.0.0.1"),
    Client(b"::1", trusted=True, forwarded=True, proto=b"https", port=b"443", certificate=b"X-Client-Certificate-X: y\r\n"),
]

lines = st.lists(
    st.sampled_from([
        b"Host: a", b"Host: b:80", b"host:c", b"Accept: */*", b"X-Y: z", b"Connection: close", b"Connection: x-y",
        b"X-Forwarded-For: 1.1.1.1", b"Forwarded: for=x", b"Expect: 100-continue", b"Max-Forwards: 3", b"Upgrade: websocket",
        b"Content-Length: 0", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"X-Request-ID: me", b"TE: trailers",
        b"Authorization: NTLM abc", b"Via: 1.1 other", b" folded", b"Date: now", b"X_Forwarded-For: y", b"bad line",
        b"Set-Cookie: a=b", b"WWW-Authenticate: NTLM x",
    ]),
    max_size=6,
)  # fmt: skip


@given(
    st.sampled_from([
        b"GET /a?b HTTP/1.1", b"POST / HTTP/1.1", b"HEAD / HTTP/1.1", b"GET / HTTP/1.0", b"GET http://b/ HTTP/1.1",
        b"CONNECT a:1 HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET / HTTP/1.2", b"\r\nGET / HTTP/1.1",
    ]),
    lines, st.sampled_from([b"", b"x", GET]), st.sampled_from(CLIENTS),
)  # fmt: skip
def test_a_plain_request_goes_on_as_any_other(first, fields, rest, client):
    data = b"\r\n".join([first, *fields]) + b"\r\n\r\n" + rest
    request = plain_request(data)
    if request is None:
        return
    assert not rest
    general, end = read_request(data, 0, Limits())
    assert end == len(data)
    assert (request.length, request.keeps, request.minor, request.expects) == (0, True, 1, False)
    assert refusal(general, False, 1) is None
    head = request.line + request_lines(request, client, request.fields.kept) + b"X-Request-ID: id-1\r\n\r\n"
    assert head == request_head(general, client, b"id-1")


@given(
    st.sampled_from([
        b"HTTP/1.1 200 OK", b"HTTP/1.1 204 No", b"HTTP/1.1 304 Not", b"HTTP/1.0 200 OK", b"HTTP/1.1 100 Go",
        b"HTTP/1.1 101 Up", b"HTTP/1.1 404", b"HTTP/1.1  700 x", b"HTTP/1.1 200 OK\nA: b",
    ]),
    lines,
)  # fmt: skip
def test_a_plain_answer_goes_on_as_any_other(first, fields):
    head = b"\r\n".join([first, *fields]) + b"\r\n\r\n"
    answer = plain_answer(head)
    if answer is None:
        return
    request, _ = read_request(GET, 0, Limits())
    general, end = read_response(head, 0, Limits(), False)
    assert end == len(head)
    assert (general.length, general.status) == (answer.response.length, answer.response.status)
    assert general.length >= 0
    assert general.keeps
    assert not switches(request, general)
    assert may_keep_client(request, general, False)
    assert answer.head == response_head(general, request, True, b"another date")


def test_most_are_plain():
    assert plain_request(GET) is plain_request(bytes(bytearray(GET)))
    assert plain_answer(ANSWER).response.length == 5


LONG = GET.replace(b"/", b"/" + b"a" * SIZE)


@pytest.mark.parametrize("data", [b"", GET[:-1], GET + b"x", GET + GET, b"x" * 40, b"\r\n\r\n", LONG])
def test_what_is_not_one_whole_request_is_not(data):
    assert plain_request(data) is None


@pytest.mark.parametrize("head", [b"", ANSWER[:-1], ANSWER + b"x", ANSWER.replace(b"K", b"K" * SIZE), b"HTTP/1.1 200\n\n"])
def test_what_is_not_one_whole_head_is_not(head):
    assert plain_answer(head) is None


def test_narrow_limits_take_nothing_as_plain():
    """Whatever is plain is within the limits of an app that takes it."""
    many = GET[:-2] + b"a:\r\n" * (FIELDS + 1) + b"\r\n"
    with pytest.raises(Refused):
        read_request(many, 0, Limits(fields=FIELDS))
    assert plain_request(many) is None
    assert are_plain(Limits())
    for limits in (Limits(line=SIZE - 1), Limits(head=SIZE - 1), Limits(fields=FIELDS - 1)):
        assert not are_plain(limits)
