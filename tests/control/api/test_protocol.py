"""What is no HTTP is answered like all else; who says nothing is let go."""

import json
import socket

import pytest

from kit.api import Api, api_config
from tcp_proxy.control.api.protocol import HEAD_WITHIN


@pytest.fixture
def where(proxy, service):
    return "127.0.0.1", Api.of(proxy(targets=[service()], top={"api": api_config()})).where


def read_to_end(sock):
    return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /servers HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_problem_and_no_line_of_the_log(proxy, service, said):
    program = proxy(targets=[service()], top={"api": api_config()})
    with socket.create_connection(("127.0.0.1", Api.of(program).where), timeout=20) as sock:
        sock.sendall(said)
        head, _, body = read_to_end(sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head.lower()
    assert json.loads(body)["status"] == 400
    assert program.count_log("Invalid HTTP") == 0


def test_who_does_not_finish_a_head_is_let_go(where):
    """At once, after a request, and in the midst of a head; who follows a stream stays."""
    answered = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    stream = b"GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
    socks = []
    for said in (b"", b"GET / HTTP/1.1\r\nHost: loc", answered, answered + b"GET /hea", stream):
        socks.append(socket.create_connection(where, timeout=HEAD_WITHIN + 20))
        socks[-1].sendall(said)
    *gone, stays = socks
    assert [read_to_end(sock)[:15] for sock in gone] == [b"", b"", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK"]
    assert stays.recv(15) == b"HTTP/1.1 200 OK"
    stays.settimeout(0.2)
    with pytest.raises(TimeoutError):
        while stays.recv(65536):
            pass
    for sock in socks:
        sock.close()
