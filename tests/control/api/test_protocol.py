"""What is no HTTP is answered like all else; who says nothing is let go."""

import asyncio
import contextlib
import json
import socket

import pytest
import uvicorn

from kit.api import Api, api_config
from kit.waiting import wait_until
from tcp_proxy.control.api import protocol
from tcp_proxy.control.api.protocol import HEAD_WITHIN, MOST_CONNECTIONS, Protocol


@pytest.fixture
def where(proxy, service):
    return "127.0.0.1", Api.of(proxy(targets=[service()], top={"api": api_config()})).where


def nonblocking(sock):
    sock.setblocking(False)
    return sock


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


def test_a_connection_too_many_is_answered_with_a_problem(where):
    api = Api(where[1])
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            stack.enter_context(socket.create_connection(where, timeout=20)).sendall(b"GET / HTTP/1.1\r\nHost: x")
        reply = wait_until(lambda: (found := api.ask("GET", "/healthz")).status == 503 and found, "they are all there")
        assert f"more than {MOST_CONNECTIONS} connections" in reply.detail
        assert reply.headers["connection"] == "close"
    wait_until(lambda: api.ask("GET", "/healthz").status == 200, "they have gone")


def test_who_takes_nothing_is_cut_off(monkeypatch):
    """A transport whose buffer is full, and one that gets room again in time."""

    async def run(wait):
        monkeypatch.setattr(protocol, "TAKE_WITHIN", 0.05)
        ours, theirs = socket.socketpair()
        config = uvicorn.Config(app, log_config=None)
        config.load()
        loop = asyncio.get_running_loop()
        state = uvicorn.server.ServerState()
        transport, one = await loop.create_connection(lambda: Protocol(config, state, {}), sock=ours)
        await loop.sock_sendall(nonblocking(theirs), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return await wait(transport, one, theirs)

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def takes_nothing(transport, one, theirs):
        async with asyncio.timeout(20):
            while one in one.connections:
                await asyncio.sleep(0.01)
        theirs.close()
        return transport.is_closing()

    async def takes_all(_transport, one, theirs):
        size, loop = 0, asyncio.get_running_loop()
        async with asyncio.timeout(20):
            while size < 100 * 65536:
                size += len(await loop.sock_recv(theirs, 1 << 20))
        theirs.close()
        return one._stuck is None

    assert asyncio.run(run(takes_nothing))
    assert asyncio.run(run(takes_all))


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
