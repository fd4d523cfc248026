"""Max-Forwards: one hop less, or ours to answer."""

import pytest

from tcp_proxy.sansio.http1.fields import Refused
from tcp_proxy.sansio.http1.forward import Client, request_head
from tcp_proxy.sansio.http1.max_forwards import count_down, final_answer
from tcp_proxy.sansio.http1.requests import Limits, read_request
from tcp_proxy.sansio.http1.responses import read_response


def read(method, value, more=b""):
    text = b"%b / HTTP/1.1\r\nHost: a\r\nMax-Forwards: %b\r\nA: b\r\n%b\r\n" % (method, value, more)
    return read_request(text, 0, Limits())[0]


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
def test_a_hop_is_taken_off(method):
    for value, left in ((b"1", b"0"), (b"010", b"9"), (b"9" * 18, b"9" * 17 + b"8")):
        request = read(method, value, b"Connection: max-forwards\r\n")
        assert count_down(request)
        head = request_head(request, Client(b"1.2.3.4"), b"id")
        assert b"Host: a\r\nMax-Forwards: %b\r\nA: b\r\nVia: " % left in head


def test_other_methods_do_not_count():
    for value in (b"0", b"5", b"x"):
        request = read(b"GET", value)
        assert count_down(request)
        assert b"Max-Forwards: %b\r\n" % value in request.fields.kept


@pytest.mark.parametrize("value", [b"", b"-1", b"x", b"1, 1", b"9" * 19, b"1\r\nMax-Forwards: 1"])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(Refused):
        count_down(read(b"OPTIONS", value))


def test_options_end_here():
    request = read(b"OPTIONS", b"00")
    assert not count_down(request)
    for keep in (True, False):
        text = final_answer(request, keep, b"now")
        answer, end = read_response(text, 0, Limits(), False)
        assert (answer.status, answer.length, answer.keeps, end) == (200, 0, keep, len(text))


def test_a_trace_shows_where_it_has_been_and_no_secret():
    request = read(b"TRACE", b"0", b"Cookie: secret\r\nVia: 1.1 x\r\nvia: 1.1 y\r\nAuthorization: secret\r\n")
    assert not count_down(request)
    text = final_answer(request, True, b"now")
    answer, end = read_response(text, 0, Limits(), False)
    content = b"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nVia: 1.1 x\r\nvia: 1.1 y\r\n\r\n"
    assert (answer.status, answer.length, text[end:]) == (200, len(content), content)
    assert b"Content-Type: message/http\r\n" in text
