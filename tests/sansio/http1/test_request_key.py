"""What of a request decides its target. The cases of HAProxy's `balance hdr` and `balance uri`, and of Envoy's
hash_policy."""

import pytest

from tcp_proxy.sansio.http1.request_key import cookies, key_of
from tcp_proxy.sansio.http1.requests import Limits, read_request


def request(*lines, line=b"GET /a/b?c=d HTTP/1.1"):
    found = read_request(b"\r\n".join([line, b"Host: www.example.org", *lines, b"", b""]), 0, Limits())
    return found[0]


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ([b"X-User: ann"], b"ann"),
        ([b"x-uSER:\tann  "], b"ann"),
        ([b"X-User: ann", b"Other: x", b"X-User: bob"], b"ann, bob"),
        ([b"X-User: "], None),  # HAProxy: "does not contain any value"
        ([], None),
        ([b"X-Users: ann"], None),
    ],
)
def test_a_header(lines, key):
    assert key_of("header", "X-User")(request(*lines)) == key


def test_the_host_is_the_one_that_is_asked_for():
    assert key_of("header", "Host")(request()) == b"www.example.org"
    assert key_of("header", "host")(request(line=b"GET http://other.example/ HTTP/1.1")) == b"other.example"


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ([b"Cookie: session=1"], b"1"),
        ([b"Cookie: a=b; session=1=2 ; c=d"], b"1=2"),
        ([b"Cookie: a=b", b"Cookie: session=1"], b"1"),
        ([b"Cookie: session=1; session=2"], b"1"),
        ([b"Cookie: Session=1"], None),  # the names of cookies have their letter case
        ([b"Cookie: session"], None),
        ([b"Cookie: session="], None),
        ([b"Cookie: xsession=1"], None),
        ([], None),
    ],
)
def test_a_cookie(lines, key):
    assert key_of("cookie", "session")(request(*lines)) == key


def test_cookies_as_they_come():
    assert cookies(request(b"Cookie:a=1;b=2;;c", b"cookie: d=3")) == [(b"a", b"1"), (b"b", b"2"), (b"d", b"3")]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b"GET /a/b?c=d HTTP/1.1", b"/a/b"),  # HAProxy: "the left part of the URI (before the question mark)"
        (b"GET http://other.example/x?y HTTP/1.1", b"/x"),
        (b"OPTIONS * HTTP/1.1", b"*"),
    ],
)
def test_the_path(line, key):
    assert key_of("path", "")(request(line=line)) == key


def test_an_address_is_nothing_that_a_request_says():
    assert key_of("address", "") is None
