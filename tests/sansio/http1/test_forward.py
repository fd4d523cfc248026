"""Heads that go on: what is added, what is said anew, what stays as it came."""

import re

import pytest

from tcp_proxy.sansio.http1.forward import Client, own_answer, request_head, response_head
from tcp_proxy.sansio.http1.requests import Limits, read_request
from tcp_proxy.sansio.http1.responses import read_response

LIMITS = Limits()
CLIENT = Client(b"192.0.2.7")
DATE = b"Sat, 21 Nov 2026 13:36:28 GMT"


def request(text):
    return read_request(text, 0, LIMITS)[0]


def response(text, bodiless=False):
    return read_response(text, 0, LIMITS, bodiless)[0]


def forwarded(text, client=CLIENT, **how):
    head = request_head(request(text), client, b"id-1", **how)
    assert read_request(head, 0, LIMITS)[1] == len(head)  # a request itself
    return head


ADDED = (
    b"Via: 1.1 tcp_proxy\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"
    b"X-Request-ID: id-1\r\n\r\n"
)


def test_what_is_added_stands_at_the_end():
    text = b"GET /x HTTP/1.1\r\nB: c\r\nHost: a\r\nAccept:*/*\r\n"
    assert forwarded(text + b"\r\n") == text + ADDED


def test_fields_of_the_hop_go():
    text = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X\r\nX: y\r\nTE: trailers\r\nUpgrade: h2c\r\nB: c\r\n\r\n"
    assert forwarded(text) == b"GET /x HTTP/1.1\r\nHost: a\r\nB: c\r\n" + ADDED


@pytest.mark.parametrize("path", [b"http://a/x", b"HTTP://a/x"])
def test_a_uri_becomes_a_path(path):
    assert (
        forwarded(b"GET %b HTTP/1.1\r\nB: c\r\nHost: other\r\n\r\n" % path)
        == b"GET /x HTTP/1.1\r\nHost: a\r\nB: c\r\n" + ADDED
    )


def test_version_1_0_becomes_ours():
    head = forwarded(b"GET / HTTP/1.0\r\nA: b\r\nExpect: 100-continue\r\n\r\n", host=b"target:80")
    assert head.startswith(b"GET / HTTP/1.1\r\nHost: target:80\r\nA: b\r\nVia: 1.0 tcp_proxy\r\n")


def test_a_host_of_the_target_s_own():
    head = forwarded(b"GET / HTTP/1.1\r\nA: b\r\nHost: a\r\n\r\n", host=b"target:80")
    assert head.startswith(b"GET / HTTP/1.1\r\nHost: target:80\r\nA: b\r\n")
    assert b"X-Forwarded-Host: a\r\n" in head


SAID = (
    b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n"
    b"Forwarded: for=x\r\n\r\n"
)


def test_a_stranger_s_word_does_not_count():
    assert forwarded(SAID) == b"GET / HTTP/1.1\r\nHost: a\r\n" + ADDED


@pytest.mark.parametrize("client", [CLIENT, Client(b"192.0.2.7", trusted=True)])
def test_cgi_reads_who_asked_from_us_alone(client):
    """Its variables have `_` for all that is no letter or digit."""
    spoofs = (
        b"X_Forwarded_For: 6\r\nX-Forwarded_Proto: 6\r\nX_Forwarded-Host: 6\r\nx.forwarded.for: 6\r\nX_FORWARDED_FOR: 7\r\n"
    )
    lines = forwarded(b"GET / HTTP/1.1\r\nHost: a\r\n" + spoofs + b"\r\n", client).split(b"\r\n")[1:-2]
    variables = [
        (re.sub(rb"[^A-Z0-9]", b"_", name.upper()), value) for name, _, value in (x.partition(b": ") for x in lines)
    ]
    assert [value for name, value in variables if name.startswith(b"X_FORWARDED")] == [b"192.0.2.7", b"http", b"a"]


def test_a_trusted_proxy_s_word_counts():
    head = forwarded(SAID, Client(b"192.0.2.7", trusted=True))
    for field in (
        b"X-Forwarded-For: 1.2.3.4, 192.0.2.7",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: b",
        b"Forwarded: for=x",
    ):
        assert field + b"\r\n" in head


def test_a_port_is_told_where_there_is_one_to_tell():
    over_tls = Client(b"192.0.2.7", proto=b"https", port=b"8443")
    head = forwarded(SAID.replace(b"\r\n\r\n", b"\r\nX-Forwarded-Port: 1\r\n\r\n"), over_tls)
    assert b"X-Forwarded-Proto: https\r\n" in head
    assert head.count(b"X-Forwarded-Port: 8443\r\n") == head.lower().count(b"x-forwarded-port") == 1
    assert b"X-Forwarded-Port: 8443\r\n" in forwarded(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", over_tls)
    trusted = Client(b"192.0.2.7", trusted=True)
    said = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Port: 1\r\n\r\n"
    assert b"X-Forwarded-Port: 1\r\n" in forwarded(said, trusted)
    assert b"Port" not in forwarded(said)


SPELLINGS = [b"X-Client-Certificate-Subject", b"x_client.certificate-VERIFIED", b"X-CLIENT-CERTIFICATE-X"]


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("certificate", [b"", b"X-Client-Certificate-Subject: CN=real\r\n"])
def test_what_is_known_of_a_certificate_is_told_by_us_alone(name, certificate):
    said = b"GET / HTTP/1.1\r\nHost: a\r\n%b: CN=admin\r\n\r\n" % name
    head = forwarded(said, Client(b"192.0.2.7", trusted=True, certificate=certificate))
    assert b"admin" not in head
    assert (b"CN=real" in head) == bool(certificate)


def test_forwarded_on_request():
    assert b'Forwarded: for=192.0.2.7;host="a";proto=http\r\n' in forwarded(SAID, Client(b"192.0.2.7", forwarded=True))
    head = forwarded(SAID, Client(b"::1", trusted=True, forwarded=True))
    assert head.count(b"Forwarded:") == 1
    assert b'Forwarded: for=x, for="[::1]";host="a";proto=http\r\n' in head


def test_a_request_s_identity_is_passed_on():
    head = forwarded(b"GET / HTTP/1.1\r\nHost: a\r\nx-request-id: mine\r\n\r\n")
    assert head.lower().count(b"x-request-id:") == 1
    assert b"x-request-id: mine" in head


def test_an_upgrade_that_is_allowed():
    head = forwarded(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", upgrade=b"websocket")
    assert head.endswith(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert head.count(b"Upgrade: ") == 1


GET = request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
OLD = request(b"GET / HTTP/1.0\r\n\r\n")


def test_an_answer_goes_on_with_via():
    text = b"HTTP/1.1 200 Fine\r\nDate: x\r\nContent-Length: 5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
    assert response_head(response(text + b"\r\n"), GET, True, DATE) == text + b"Via: 1.1 tcp_proxy\r\n\r\n"


def test_an_answer_s_hop_fields_go():
    hop = b"Connection: close, Secret\r\nSecret: y\r\nKeep-Alive: timeout=5\r\n"
    text = b"HTTP/1.1 200 OK\r\nDate: x\r\n%bContent-Length: 5\r\n\r\n" % hop
    wanted = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\nVia: 1.1 tcp_proxy\r\n\r\n"
    assert response_head(response(text), GET, True, DATE) == wanted


def test_an_answer_says_whether_the_connection_stays():
    fine = response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert b"Connection" not in response_head(fine, GET, True, DATE)
    assert b"Connection: close\r\n" in response_head(fine, GET, False, DATE)
    assert b"Connection: keep-alive\r\n" in response_head(fine, OLD, True, DATE)


def test_an_answer_without_date_gets_one():
    assert b"Date: " + DATE in response_head(response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), GET, True, DATE)


def test_an_old_target_s_version_becomes_ours():
    head = response_head(response(b"HTTP/1.0 200 OK\r\nDate: x\r\n\r\n"), GET, False, DATE)
    assert head == b"HTTP/1.1 200 OK\r\nDate: x\r\nVia: 1.0 tcp_proxy\r\nConnection: close\r\n\r\n"


def test_who_cannot_read_chunks_is_told_of_none():
    chunked = response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n")
    assert b"chunked" in response_head(chunked, GET, True, DATE)
    head = response_head(chunked, OLD, False, DATE)
    assert b"chunked" not in head
    assert b"Trailer" not in head


@pytest.mark.parametrize("status", [b"100", b"103", b"204"])
def test_what_has_no_body_says_no_length(status):
    head = response_head(response(b"HTTP/1.1 %b X\r\nContent-Length: 5\r\nA: b\r\n\r\n" % status), GET, True, DATE)
    assert b"Content-Length" not in head
    assert b"A: b\r\n" in head


def test_an_answer_to_head_and_304_keep_their_length():
    for text in (b"HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n",):
        assert b"Content-Length: 5\r\n" in response_head(response(text), GET, True, DATE)
    assert b"Content-Length: 5" in response_head(
        response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", True), GET, True, DATE
    )


def test_the_word_of_an_upgrade():
    text = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
    head = response_head(response(text), GET, True, DATE)
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in head
    assert b"Sec-WebSocket-Accept: x\r\n" in head


def test_our_own_answers_are_answers():
    for status in (400, 408, 413, 414, 417, 431, 500, 501, 502, 503, 504, 505):
        text = own_answer(status, "because", False, DATE)
        found, end = read_response(text, 0, LIMITS, False)
        assert (found.status, found.length, found.keeps) == (status, len(text) - end, False)
        assert text[end:].endswith(b": because\n")
        assert (b"Retry-After" in text) == (status == 503)
    assert own_answer(502, "x", True, DATE, bodiless=True).endswith(b"\r\n\r\n")


def test_an_answer_to_connect_has_no_length():
    """It has no body (RFC 9110, 9.3.6): what follows is the tunnel's."""
    asked = request(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n")
    for field in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
        found, _ = read_response(b"HTTP/1.1 200 OK\r\n" + field + b"\r\nA: b\r\n\r\n", 0, LIMITS, False)
        head = response_head(found, asked, True, b"now")
        assert head == b"HTTP/1.1 200 OK\r\nA: b\r\nVia: 1.1 tcp_proxy\r\nDate: now\r\n\r\n"
        refused, _ = read_response(b"HTTP/1.1 407 No\r\n" + field + b"\r\n\r\n", 0, LIMITS, False)
        assert field in response_head(refused, asked, True, b"now")


def test_the_answer_to_a_head_of_who_cannot_read_chunks():
    asked = request(b"HEAD / HTTP/1.0\r\n\r\n")
    found, _ = read_response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n", 0, LIMITS, True)
    assert b"chunked" not in response_head(found, asked, False, b"now")


def test_another_minor_version_becomes_ours():
    for minor in (b"2", b"9"):
        head = forwarded(b"GET /x HTTP/1.%b\r\nB: c\r\nHost: a\r\nExpect: 100-continue\r\n\r\n" % minor)
        assert head == b"GET /x HTTP/1.1\r\nHost: a\r\nB: c\r\nExpect: 100-continue\r\n" + ADDED


def test_an_empty_host_is_passed_on():
    assert forwarded(b"GET /x HTTP/1.1\r\nHost:\r\nB: c\r\n\r\n").startswith(b"GET /x HTTP/1.1\r\nHost: \r\nB: c\r\n")
    head = forwarded(b"GET /x HTTP/1.0\r\nHost:\r\n\r\n")
    assert head.count(b"Host: \r\n") == 2  # and X-Forwarded-Host


def test_what_connection_takes_away_is_made():
    head = forwarded(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-request-id\r\nX-Request-ID: mine\r\n\r\n")
    assert head == b"GET / HTTP/1.1\r\nHost: a\r\n" + ADDED
    text = b"HTTP/1.1 200 OK\r\nConnection: date\r\nDate: x\r\nContent-Length: 5\r\n\r\n"
    assert response_head(response(text), GET, True, DATE).count(b"Date: ") == 1
