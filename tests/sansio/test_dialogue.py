"""Dialogues without a server: what is said, what is believed, however the answer arrives in pieces."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.dialogue import Refused, Reply, Silence, exchange, http, listening, silent
from tcp_proxy.sansio.pattern import regex, text


def play(dialogue, *answers):
    """(what was said, the reply): the server answers each thing that is said with the next of `answers`, then ends."""
    said = [next(dialogue)]
    try:
        for answer in answers:
            for piece in [answer] if isinstance(answer, bytes) else answer:
                said.append(dialogue.send(piece))
        dialogue.send(b"")
    except StopIteration as end:
        return b"".join(said), end.value
    raise AssertionError("it wanted more after the end")


def pieces(data):
    """Every way to cut some bytes."""
    cuts = st.lists(st.integers(1, max(1, len(data) - 1)), unique=True).map(sorted)
    return cuts.map(lambda at: [piece for a, b in zip([0, *at], [*at, len(data)], strict=True) if (piece := data[a:b])])


def cut(data, answers):
    return [data.draw(pieces(answer)) for answer in answers]


def test_nothing_is_said_and_nothing_is_waited_for():
    with pytest.raises(StopIteration) as end:
        next(silent("there"))
    assert end.value.value == Reply("there")


@pytest.mark.parametrize("go_on", [lambda it: it.send(b""), lambda it: it.send(b"x"), lambda it: it.throw(Silence())])
def test_whatever_comes_is_welcome_to_who_listens(go_on):
    dialogue = listening("there")
    assert next(dialogue) == b""
    with pytest.raises(StopIteration) as end:
        go_on(dialogue)
    assert end.value.value == Reply("there")


# -- exchange


def test_something_is_sent_and_the_answer_is_searched():
    assert play(exchange(b"PING\r\n", regex(r"\+PONG")), b"xx+PONG\r\n") == (b"PING\r\n", Reply('answered "+PONG"'))


def test_the_server_may_speak_first():
    assert play(exchange(b"", regex("^220 ")), b"220 hello\r\n")[1] == Reply('answered "220 "')


@given(st.data())
def test_what_is_expected_may_come_in_pieces(data):
    answer = b"noise and then 250 OK\r\nmore"
    cut = data.draw(pieces(answer))
    assert play(exchange(b"hi", regex(r"\d{3} OK")), cut)[1].text == 'answered "250 OK"'


@pytest.mark.parametrize(("answer", "said"), [([], "without an answer"), (b"-ERR\r\n", r'after "-ERR\\r\\n"')])
def test_the_end_is_a_refusal_that_says_what_was_heard(answer, said):
    with pytest.raises(Refused, match=re.escape("ended the connection ") + said):
        play(exchange(b"hi", text(b"PONG")), answer)


# -- http

HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello"


@given(st.data())
def test_a_status_in_whatever_pieces(data):
    assert play(http(b"GET", ("200",)), data.draw(pieces(HEAD))) == (b"GET", Reply("status 200 OK"))


@pytest.mark.parametrize(
    ("line", "statuses", "text"),
    [
        (b"HTTP/1.1 204 No Content", ("2xx",), "status 204 No Content"),
        (b"HTTP/1.0 302 Found", ("200", "302"), "status 302 Found"),
        (b"HTTP/1.1 503", ("5xx",), "status 503"),
        (b"HTTP/1.1 200 ", ("200",), "status 200"),
        (b"HTTP/1.1 101 Switching Protocols", ("101",), "status 101 Switching Protocols"),
    ],
)
def test_statuses(line, statuses, text):
    assert play(http(b"", statuses), line + b"\r\n\r\n")[1].text == text


def test_interim_answers_are_passed_over():
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    assert play(http(b"", ("200",)), early + HEAD)[1].text == "status 200 OK"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1/\r\n\r\n", "status 301 Moved, wanted 200 or 204"),
        (b"SSH-2.0-OpenSSH_9\r\n", 'answered "SSH-2.0-OpenSSH_9\\r\\n", which is not HTTP/1'),
        (b"HTTP/1.1  200 OK\r\n\r\n", "which is not HTTP/1"),
        (b"HTTP/1.1 700 What\r\n\r\n", "which is not HTTP/1"),
        (b"HTTP/2 200\r\n\r\n", "which is not HTTP/1"),
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n", "ended the connection"),
        (b"HTTP/1.1 20", "ended the connection"),
        ([], "ended the connection without an answer"),
    ],
)
def test_what_is_refused(answer, text):
    with pytest.raises(Refused, match=re.escape(text)):
        play(http(b"", ("200", "204")), answer)
