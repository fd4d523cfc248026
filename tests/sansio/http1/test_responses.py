"""Heads of answers: what is read from them, every malformed one, and the same however they are cut."""

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.malformed import ANSWERS, TOLERATED
from tcp_proxy.sansio.http1.fields import CHUNKED, Refused
from tcp_proxy.sansio.http1.forward import response_head
from tcp_proxy.sansio.http1.requests import Limits, read_request
from tcp_proxy.sansio.http1.responses import UNTIL_CLOSE, read_response

LIMITS = Limits()


def is_refused(text):
    try:
        read_response(text, 0, LIMITS, False)
    except Refused:
        return True
    return False


def test_what_is_malformed_is_refused():
    assert [name for name, text in ANSWERS if not is_refused(text)] == []


def test_no_cut_makes_a_malformed_one_good():
    for name, text in ANSWERS:
        if len(text) < 300:
            assert any(is_refused(text[:size]) for size in range(len(text) + 1)), name


GOOD = {
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n": (200, 5, True),
    b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n": (200, 5, True),
    b"HTTP/1.1 200 \r\ncontent-length:5 \r\n\r\n": (200, 5, True),
    b"HTTP/1.1 404 N\xf6 such\tthing\r\nTransfer-Encoding: chunked\r\n\r\n": (404, CHUNKED, True),
    b"HTTP/1.1 200 OK\r\n\r\n": (200, UNTIL_CLOSE, False),
    b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n": (200, 5, False),
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n": (200, 5, False),
    b"HTTP/1.1 204 No Content\r\n\r\n": (204, 0, True),
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n": (304, 0, True),
    b"HTTP/1.1 100 Continue\r\n\r\n": (100, 0, True),
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n": (103, 0, True),
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n": (101, 0, True),
}


def test_what_is_read():
    for text, wanted in GOOD.items():
        response, end = read_response(text + b"more", 0, LIMITS, False)
        assert (response.status, response.length, response.keeps) == wanted
        assert end == len(text)
        assert response.is_interim == (response.status in (100, 103))


def test_a_head_is_whole_with_its_last_byte_and_not_before():
    for text in GOOD:
        assert all(read_response(text[:size], 0, LIMITS, False) is None for size in range(len(text)))


def test_an_answer_to_head_has_no_body():
    assert read_response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 0, LIMITS, True)[0].length == 0


@given(st.binary(max_size=80))
def test_nothing_raises_but_refused(junk):
    is_refused(junk)
    is_refused(b"HTTP/1.1 200 OK\r\n" + junk + b"\r\n\r\n")


def test_the_limit_of_a_head_is_the_same_wherever_it_is_cut():
    for more in (0, 1):
        text = b"HTTP/1.1 200 OK\r\nX: " + b"y" * (300 - 20 + more) + b"\r\n\r\n"
        for remembers in (0, 1):
            for size in range(1, 304):
                assert read_response(text[:size], 0, Limits(head=300), False, remembers * (size - 1)) is None
            if more:
                with pytest.raises(Refused):
                    read_response(text[:304], 0, Limits(head=300), False, remembers * 303)
            else:
                assert read_response(text, 0, Limits(head=300), False, remembers * 303)[1] == 304


ASKED = read_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, LIMITS)[0]


def test_what_has_one_meaning_goes_on_as_it_should_be():
    """However it is cut: whole with its last byte, and not before, whatever comes behind it."""
    for name, text, passed in TOLERATED:
        for behind in (b"", b"hello", b"he\r\n\r\nllo", b"\n\n\n"):
            response, end = read_response(text + behind, 0, LIMITS, False)
            assert (response.length, end) == (5, len(text)), name
            assert response_head(response, ASKED, True, b"now") == passed + b"Via: 1.1 tcp_proxy\r\nDate: now\r\n\r\n", name
        for seen in (0, 1):
            assert all(read_response(text[:n], 0, LIMITS, False, seen * (n - 1)) is None for n in range(1, len(text))), name


def test_after_a_bare_lf_a_connection_is_not_used_again():
    keeps = {name: read_response(text, 0, LIMITS, False)[0].keeps for name, text, _ in TOLERATED}
    assert {name for name, is_kept in keeps.items() if not is_kept} == {name for name in keeps if "LF" in name}


def test_the_limit_of_a_head_with_bare_lfs_is_the_same_wherever_it_is_cut():
    for more in (0, 1):
        text = b"HTTP/1.1 200 OK\nX: " + b"y" * (300 - 19 + more) + b"\n\n"
        for remembers in (0, 1):
            for size in range(1, len(text)):
                assert read_response(text[:size], 0, Limits(head=300), False, remembers * (size - 1)) is None
            for behind in (b"", b"z" * 500, b"\r\n\r\n"):
                with pytest.raises(Refused) if more else nullcontext():
                    found = read_response(text + behind + b"zzz", 0, Limits(head=300), False, remembers * (len(text) - 1))
                    assert found[1] == 302
