"""What is said of a request: its parts, however little came of it, and sentences for every end."""

import pytest

from tcp_proxy.control.answers import requests
from tcp_proxy.wire.inquiries import RequestView, Tried

FIELDS = {
    "session": 7, "number": 3, "app": "web", "listener": "127.0.0.1:80", "client": "198.51.100.7:4711",
    "line": "GET /x?a=b HTTP/1.1", "own_id": "", "target": "b", "tried": (), "status": 200, "bytes_up": 0,
    "bytes_down": 1234,
    "answer_seconds": 0.012, "seconds": 0.5, "ended_at": 1_700_000_000.5, "reason": "done", "error": "",
}  # fmt: skip


def view(**more):
    return requests.view("69.1", RequestView(**{**FIELDS, **more}))


def test_a_request_that_was_answered():
    found = view(tried=(Tried("a", "ECONNREFUSED"),), own_id="abc")
    assert (found["id"], found["session"], found["method"], found["path"], found["version"]) == (
        "69.1-7-3", "69.1-7", "GET", "/x?a=b", "HTTP/1.1",
    )  # fmt: skip
    assert requests.story(found).splitlines() == [
        "Request 69.1-7-3 of app web: GET /x?a=b HTTP/1.1",
        "It came at 2023-11-14T22:13:20.000Z from 198.51.100.7:4711 by listener 127.0.0.1:80, in session 69.1-7.",
        "Its client calls it abc (X-Request-ID).",
        "Target a was tried and failed: ECONNREFUSED (nothing listens there).",
        "Target b answered with the status 200 after 12 ms.",
        "0 bytes of its body went to the target, 1,234 bytes of the answer's came back.",
        "It was over at 2023-11-14T22:13:20.500Z, after 500 ms.",
        "(reason: done)",
    ]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("GET /cut" + "x" * 400, ("GET", "/cut" + "x" * 400, "")), ("GET", ("GET", "", "")), ("", ("", "", "")),
        ("CONNECT a:1 HTTP/1.1", ("CONNECT", "a:1", "HTTP/1.1")), ("A b c d", ("A", "b c", "d")),
    ],
)  # fmt: skip
def test_a_first_line_in_its_parts_whatever_came(line, parts):
    found = view(line=line)
    assert (found["method"], found["path"], found["version"]) == parts
    assert requests.story(found)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"status": 502, "error": "it ended", "answer_seconds": -1.0},
         "The proxy answered with the status 502: it ended. It had been given to target b."),
        ({"status": 404, "error": "no route", "target": ""}, "The proxy answered with the status 404: no route."),
        ({"status": 200, "target": ""}, "The proxy answered with the status 200."),
        ({"status": 0, "error": "the client left"}, "It was not answered: the client left."),
        ({"status": 0}, "Target b has not answered."),
        ({"status": 0, "target": ""}, "No target has it, and nothing was answered."),
    ],
)  # fmt: skip
def test_who_answered_if_anybody(more, sentence):
    assert sentence in requests.story(view(**more)).splitlines()


def test_one_that_goes_on():
    found = view(status=0, answer_seconds=-1.0, ended_at=0.0, reason="", seconds=3.5)
    assert (found["status"], found["answer_seconds"], found["ended_at"], found["reason"]) == (None,) * 4
    text = requests.story(found)
    assert "It came 3.5 s ago from " in text
    assert text.endswith("\nIt goes on.")
