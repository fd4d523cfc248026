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


ANSWER = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}


async def answers_at_once(_scope, _receive, send):
    await send(ANSWER)
    await send({"type": "http.response.body", "body": b"ok"})


async def answers_by_and_by(_scope, receive, send):
    await send(ANSWER)
    await send({"type": "http.response.body", "body": b"o", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    await send({"type": "http.response.body", "body": b"k"})


async def reads_first(scope, receive, send):
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] != "http.disconnect":
        await answers_at_once(scope, receive, send)


@pytest.mark.parametrize(
    ("app", "is_seen", "status"),
    [
        (answers_at_once, False, b"400"),
        (answers_at_once, True, b"200"),
        (answers_by_and_by, False, b"400"),
        (answers_by_and_by, True, b"200"),
        (reads_first, False, b"400"),
    ],
)
def test_a_body_that_is_none_is_answered_once_and_is_no_mistake_of_ours(caplog, app, is_seen, status):
    """Whether it comes with the head or, `is_seen`, when the answer to that is there already, or a part of it."""
    mistakes = []

    async def run():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: mistakes.append(context))
        ours, theirs = socket.socketpair()
        config = uvicorn.Config(app, log_config=None)
        config.load()
        state = uvicorn.server.ServerState()
        await loop.create_connection(lambda: Protocol(config, state, {}), sock=ours)
        head, body = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"no chunk\r\n"
        said = b""
        async with asyncio.timeout(20):
            await loop.sock_sendall(nonblocking(theirs), head if is_seen else head + body)
            if is_seen:
                while not said.endswith(b"o") and not said.endswith(b"ok"):
                    said += await loop.sock_recv(theirs, 65536)
                await loop.sock_sendall(theirs, body)
            while part := await loop.sock_recv(theirs, 65536):
                said += part
            await asyncio.gather(*state.tasks)
        theirs.close()
        return said

    said = asyncio.run(run())
    assert said.startswith(b"HTTP/1.1 " + status)
    assert said.count(b"HTTP/1.1 ") == 1
    assert not mistakes
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


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
