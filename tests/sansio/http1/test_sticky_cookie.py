"""The sticky cookie: what of a request and of an answer changes, and nothing else. HAProxy's cases: `cookie SRV insert
indirect nocache`, and `cookie SESSION prefix`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.config.model import StickyCookie
from tcp_proxy.sansio.http1.fields import read_answer_fields, read_fields
from tcp_proxy.sansio.http1.forward import Client, request_head, response_head
from tcp_proxy.sansio.http1.requests import Limits, read_request
from tcp_proxy.sansio.http1.responses import read_response
from tcp_proxy.sansio.http1.sticky_cookie import CookieRule, mark_of

MARK = mark_of("web", "a")


def request(*lines, line=b"GET / HTTP/1.1"):
    return read_request(b"\r\n".join([line, b"Host: a", *lines, b"", b""]), 0, Limits())[0]


def response(*lines, line=b"HTTP/1.1 200 OK"):
    return read_response(b"\r\n".join([line, b"Date: x", b"Content-Length: 0", *lines, b"", b""]), 0, Limits(), False)[0]


def sent(one):
    return request_head(one, Client(b"192.0.2.1"), b"i").split(b"\r\nVia:")[0].split(b"\r\n")[1:]


def answered(rule, one, is_new=True, is_secure=False):
    rule.mark(one, MARK, is_new, is_secure)
    return response_head(one, request(), True, b"").split(b"\r\n")[1:-3]


def rule(mode="insert", name="SRV", **more):
    return CookieRule(StickyCookie(name, mode, **more))


def test_a_mark_says_nothing_but_which_one_it_is():
    assert len(MARK) == 16
    assert MARK != mark_of("web", "b") != mark_of("other", "b")
    assert mark_of("web", "a") == MARK, "in every worker, and after a restart"


@pytest.mark.parametrize(
    ("cookies", "left"),
    [
        ([b"Cookie: SRV=%b" % MARK], []),
        ([b"Cookie: a=b; SRV=%b; c=d" % MARK], [b"Cookie: a=b; c=d"]),
        ([b"Cookie: SRV=%b; c=d" % MARK, b"X: y"], [b"Cookie: c=d", b"X: y"]),
        ([b"Cookie: c=d", b"Cookie:SRV=%b" % MARK], [b"Cookie: c=d"]),
        ([b"cookie: SRV = %b " % MARK], []),
    ],
)
def test_insert_takes_it_away_from_requests(cookies, left):
    one = request(*cookies)
    assert rule().take(one) == MARK
    assert sent(one) == [b"Host: a", *left]


@pytest.mark.parametrize("cookies", [[], [b"Cookie: srv=x"], [b"Cookie: XSRV=x; a"], [b"Cookie: SRV"], [b"X: SRV=x"]])
def test_what_is_not_it_stays(cookies):
    one = request(*cookies)
    assert rule().take(one) == b""
    assert sent(one) == [b"Host: a", *cookies]


def test_what_is_remembered_of_equal_heads_is_not_changed():
    line = b"Cookie: SRV=%b" % MARK
    rule().take(request(line))
    assert sent(request(line)) == [b"Host: a", line]
    answered(rule(), response(b"X: y"))
    assert answered(rule(), response(b"X: y"), is_new=False) == [b"Date: x", b"Content-Length: 0", b"X: y"]
    assert read_fields(b"Host: a\r\n%b\r\n" % line).kept.endswith(line + b"\r\n")
    assert b"Set-Cookie" not in read_answer_fields(b"Date: x\r\nContent-Length: 0\r\nX: y\r\n").kept


@pytest.mark.parametrize(
    ("more", "is_secure", "cookie"),
    [
        ({}, False, b"; Path=/; HttpOnly; SameSite=Lax"),
        ({}, True, b"; Path=/; HttpOnly; SameSite=Lax; Secure"),
        ({"secure": True}, False, b"; Path=/; HttpOnly; SameSite=Lax; Secure"),
        ({"secure": False}, True, b"; Path=/; HttpOnly; SameSite=Lax"),
        ({"path": "", "http_only": False, "samesite": None}, False, b""),
        ({"path": "/x", "domain": "example.org", "max_age": 60, "samesite": "Strict"}, False,
         b"; Path=/x; Domain=example.org; Max-Age=60; HttpOnly; SameSite=Strict"),
    ],
)  # fmt: skip
def test_insert_puts_it_into_the_answer(more, is_secure, cookie):
    found = answered(rule(**more), response(b"Set-Cookie: own=1"), is_secure=is_secure)
    set_cookie = b"Set-Cookie: SRV=%b%b" % (MARK, cookie)
    assert found == [b"Date: x", b"Content-Length: 0", b"Set-Cookie: own=1", set_cookie, b"Cache-Control: private"]


def test_insert_without_nocache():
    assert answered(rule(no_cache=False), response())[-1].startswith(b"Set-Cookie: SRV=")


def test_a_client_that_has_it_is_told_nothing():
    assert answered(rule(), response(), is_new=False) == [b"Date: x", b"Content-Length: 0"]


def test_prefix_is_before_the_targets_own_value_and_taken_away_again():
    answer = response(b"Set-Cookie: SRV=abc; Path=/; HttpOnly", b"Set-Cookie: o=SRV=x")
    found = answered(rule("prefix"), answer, is_new=False)
    assert found[2:] == [b"Set-Cookie: SRV=%b~abc; Path=/; HttpOnly" % MARK, b"Set-Cookie: o=SRV=x"]
    one = request(b"Cookie: o=1; SRV=%b~abc; p=2" % MARK)
    assert rule("prefix").take(one) == MARK
    assert sent(one) == [b"Host: a", b"Cookie: o=1; SRV=abc; p=2"]


@pytest.mark.parametrize("value", [b"abc", b"a~b", b"~", b"0123456789ABCDEF~x"])
def test_prefix_leaves_what_has_no_mark(value):
    one = request(b"Cookie: SRV=%b" % value)
    assert rule("prefix").take(one) == b""
    assert sent(one) == [b"Host: a", b"Cookie: SRV=%b" % value]


def test_prefix_without_a_cookie_of_the_target_changes_nothing():
    assert answered(rule("prefix"), response(b"Set-Cookie: other=1")) == [
        b"Date: x", b"Content-Length: 0", b"Set-Cookie: other=1",
    ]  # fmt: skip


def test_it_holds_in_a_request_that_is_written_anew():
    """HTTP/1.0, and what no next hop gets."""
    one = request(b"Cookie: SRV=%b; a=b" % MARK, b"Connection: X", b"X: y", line=b"GET / HTTP/1.0")
    rule().take(one)
    assert sent(one) == [b"Host: a", b"Cookie: a=b"]


VALUE = st.text("abc=~ \t;S", max_size=12).map(str.encode)


@given(st.lists(st.tuples(st.sampled_from([b"Cookie", b"X"]), VALUE), max_size=4), st.sampled_from(["insert", "prefix"]))
def test_whatever_a_client_sends_the_target_gets_a_head(lines, mode):
    one = request(*(b"%b: %b" % line for line in lines))
    rule(mode, "S").take(one)
    assert read_request(request_head(one, Client(b"192.0.2.1"), b"i"), 0, Limits()) is not None
