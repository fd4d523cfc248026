"""Sessions with both ends here, so that every byte is known: what one end sent is what the other got, by length and SHA-256.

    python -m benchmarks.helpers.checked_sessions '{"port": 1, "target": 2, "redis": 3, "idle": 1000, "waiting": 67108864}'

`target` is listened on, `port` leads there through what is tested, `redis` to a Redis. It writes "ready" once every session
is there, and goes on until a line comes; then each stream is sent to its end, and one line of JSON says what was found.

    bulk, messages    streams both ways, as fast as they are asked to, in pieces of changing size
    half-closed       one end has said its FIN at once, the other goes on sending
    stopped reader    `waiting` bytes are sent at once, and nobody reads before the end
    ping              a question and its echo, again and again, with the time that each takes
    idle              say nothing before the end, and then something to each other
    publish           Redis: one publishes numbers, two subscribers must get each, in order
"""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import resource
import socket
import sys
import time
from collections.abc import Coroutine
from typing import Any

END_WITHIN = 120.0  # seconds for all that is on its way when the line has come
NAME = 8  # bytes by which a client says which one it is
PIECE = 1 << 18
SUBSCRIBERS = 2


class Wrong(Exception):
    """What arrived is not what was sent."""


class Sent:
    """One direction, as one of its ends saw it."""

    def __init__(self) -> None:
        self.bytes = 0
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        self.bytes += len(data)
        self._hash.update(data)

    def __str__(self) -> str:
        return f"{self.bytes} bytes, SHA-256 {self._hash.hexdigest()}"


def compared(what: str, sent: Sent, got: Sent) -> int:
    """How many bytes. Raises Wrong."""
    if str(sent) != str(got):
        raise Wrong(f"{what}: {sent} were sent, {got} arrived")
    return sent.bytes


class Sessions:
    def __init__(self, port: int, redis: int) -> None:
        self.port, self.redis = port, redis
        self.loop = asyncio.get_running_loop()
        self.is_over = asyncio.Event()
        self.made = self.up = self.down = 0
        self.compared = self.compared_bytes = 0
        self.pings: list[float] = []
        self.published = 0
        self._waiting: dict[bytes, asyncio.Future[socket.socket]] = {}
        self._tasks: set[asyncio.Future[None]] = set()  # nobody else keeps them

    # -- connections

    async def listen(self, sock: socket.socket) -> None:
        while True:
            peer, _ = await self.loop.sock_accept(sock)
            peer.setblocking(False)
            self.begin(self._met(peer))

    def begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Future[None]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        return task

    async def _met(self, peer: socket.socket) -> None:
        name = b""
        while len(name) < NAME:
            data = await self.loop.sock_recv(peer, NAME - len(name))
            if not data:
                peer.close()
                return
            name += data
        self._waiting.pop(name).set_result(peer)

    async def pair(self) -> tuple[socket.socket, socket.socket]:
        """A client, and its other end."""
        self.made += 1
        name = b"%08d" % self.made
        met = self._waiting[name] = self.loop.create_future()
        client = await self._connect(self.port)
        await self._send(client, name)
        self.up += NAME
        return client, await asyncio.wait_for(met, 30)

    async def _connect(self, port: int) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        await self.loop.sock_connect(sock, ("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def _send(self, sock: socket.socket, data: bytes) -> None:
        await self.loop.sock_sendall(sock, data)

    # -- one direction

    async def produce(self, sock: socket.socket, most: int, pause: float) -> Sent:
        """Until the end, in pieces of at most `most` bytes."""
        sent = Sent()
        while not self.is_over.is_set():
            data = os.urandom(random.randrange(1, most + 1))
            await self._send(sock, data)
            sent.add(data)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.is_over.wait(), pause)
        sock.shutdown(socket.SHUT_WR)
        return sent

    async def produce_all(self, sock: socket.socket, size: int) -> Sent:
        """At once."""
        sent = Sent()
        while sent.bytes < size:
            data = os.urandom(min(PIECE, size - sent.bytes))
            await self._send(sock, data)
            sent.add(data)
        sock.shutdown(socket.SHUT_WR)
        return sent

    async def consume(self, sock: socket.socket) -> Sent:
        """To the end of the stream."""
        got = Sent()
        while data := await self.loop.sock_recv(sock, PIECE):
            got.add(data)
        return got

    async def consume_at_the_end(self, sock: socket.socket) -> Sent:
        await self.is_over.wait()
        return await self.consume(sock)

    # -- kinds of sessions: each is whole when it returns

    async def both_ways(self, ends: tuple[socket.socket, socket.socket], most: int, pause: float) -> None:
        client, server = ends
        up, at_server, down, at_client = await asyncio.gather(
            self.produce(client, most, pause), self.consume(server), self.produce(server, most, pause), self.consume(client)
        )
        self._end(ends, up, at_server, down, at_client)

    async def half_closed(self, ends: tuple[socket.socket, socket.socket], first: int) -> None:
        """`first`: which of them says FIN at once."""
        said, says = ends[first], ends[1 - first]
        said.shutdown(socket.SHUT_WR)
        nothing, sent, got = await asyncio.gather(self.consume(says), self.produce(says, 20_000, 0.02), self.consume(said))
        self._end(ends, *((Sent(), nothing, sent, got) if first == 0 else (sent, got, Sent(), nothing)))

    async def stopped(self, ends: tuple[socket.socket, socket.socket], reader: int, size: int) -> None:
        """`reader`: which of them does not read; what it sends itself goes on."""
        writes, stops = ends[1 - reader], ends[reader]
        sent, got, other, at_other = await asyncio.gather(
            self.produce_all(writes, size), self.consume_at_the_end(stops),
            self.produce(stops, 500, 0.05), self.consume(writes),
        )  # fmt: skip
        self._end(ends, *((other, at_other, sent, got) if reader == 0 else (sent, got, other, at_other)))

    async def ping(self, ends: tuple[socket.socket, socket.socket]) -> None:
        up, down = Sent(), Sent()
        while not self.is_over.is_set():
            began = time.monotonic()
            await self._echo(ends, os.urandom(random.randrange(1, 65)), up, down)
            self.pings.append(time.monotonic() - began)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.is_over.wait(), 0.02)
        await self._close(ends, up, down)

    async def idle(self, ends: tuple[socket.socket, socket.socket]) -> None:
        await self.is_over.wait()
        up, down = Sent(), Sent()
        await self._echo(ends, os.urandom(64), up, down)
        await self._close(ends, up, down)

    async def _echo(self, ends: tuple[socket.socket, socket.socket], data: bytes, up: Sent, down: Sent) -> None:
        client, server = ends
        await self._pass(client, server, data, up)
        await self._pass(server, client, data, down)

    async def _pass(self, source: socket.socket, dest: socket.socket, data: bytes, counts: Sent) -> None:
        await self._send(source, data)
        got = b""
        while len(got) < len(data):
            more = await self.loop.sock_recv(dest, len(data) - len(got))
            if not more:
                raise Wrong(f"a stream has ended after {counts.bytes + len(got)} bytes")
            got += more
        if got != data:
            raise Wrong(f"byte {counts.bytes} and those after it are others")
        counts.add(data)

    async def _close(self, ends: tuple[socket.socket, socket.socket], up: Sent, down: Sent) -> None:
        client, server = ends
        for source, dest in ((client, server), (server, client)):
            source.shutdown(socket.SHUT_WR)
            if await self.loop.sock_recv(dest, 1):
                raise Wrong("more has come than was sent")
        self._end(ends, up, up, down, down)

    def _end(
        self, ends: tuple[socket.socket, socket.socket], up: Sent, at_server: Sent, down: Sent, at_client: Sent
    ) -> None:
        self.up += up.bytes
        self.down += down.bytes
        for sock in ends:
            sock.close()
        self.compared_bytes += compared("to the target", up, at_server) + compared("to the client", down, at_client)
        self.compared += 2

    # -- Redis

    async def publish(self, sock: socket.socket) -> None:
        reader = _Lines(self.loop, sock)
        number = 0
        while not self.is_over.is_set():
            await self._send(sock, b"PUBLISH numbers %d\r\n" % number)
            answer = await reader.line()
            if answer != b":%d" % SUBSCRIBERS:
                raise Wrong(f"message {number} went to {answer!r} subscribers, not to {SUBSCRIBERS}")
            number += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.is_over.wait(), 0.005)
        await self._send(sock, b"PUBLISH numbers end\r\n")
        await reader.line()
        sock.close()
        self.published = number

    async def subscribe(self, sock: socket.socket, reader: "_Lines") -> None:
        wanted = 0
        while (said := (await reader.array())[2]) != b"end":
            if said != b"%d" % wanted:
                raise Wrong(f"message {said!r} was published after {wanted - 1}")
            wanted += 1
        sock.close()

    async def redis_sessions(self) -> dict[str, Coroutine[Any, Any, None]]:
        found: dict[str, Coroutine[Any, Any, None]] = {}
        for number in range(SUBSCRIBERS):
            sock = await self._connect(self.redis)
            await self._send(sock, b"SUBSCRIBE numbers\r\n")
            reader = _Lines(self.loop, sock)
            await reader.array()
            found[f"subscriber {number}"] = self.subscribe(sock, reader)
        found["publisher"] = self.publish(await self._connect(self.redis))
        return found


class _Lines:
    """Redis's answers, of the kinds that are asked for here."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop, self._sock, self._buffer = loop, sock, b""

    async def line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            data = await self._loop.sock_recv(self._sock, 65536)
            if not data:
                raise Wrong("Redis's connection has ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    async def array(self) -> list[bytes]:
        count, found = int((await self.line())[1:]), []
        for _ in range(count):
            line = await self.line()
            found.append(await self.line() if line.startswith(b"$") else line)
        return found


async def run(told: dict[str, int]) -> dict[str, Any]:
    listening = socket.create_server(("127.0.0.1", told["target"]), backlog=4096)
    listening.setblocking(False)
    sessions = Sessions(told["port"], told["redis"])
    sessions.begin(sessions.listen(listening))
    work: dict[str, Coroutine[Any, Any, None]] = {}
    for number in range(2):
        work[f"bulk {number}"] = sessions.both_ways(await sessions.pair(), PIECE, 0.02)
        work[f"half-closed {number}"] = sessions.half_closed(await sessions.pair(), number)
        work[f"stopped reader {number}"] = sessions.stopped(await sessions.pair(), number, told["waiting"])
    for number in range(10):
        work[f"messages {number}"] = sessions.both_ways(await sessions.pair(), 2000, 0.02)
        work[f"ping {number}"] = sessions.ping(await sessions.pair())
    for number in range(told["idle"]):
        work[f"idle {number}"] = sessions.idle(await sessions.pair())
    work |= await sessions.redis_sessions()
    running = {sessions.begin(one): name for name, one in work.items()}
    say("ready")
    await sessions.loop.run_in_executor(None, sys.stdin.readline)
    sessions.is_over.set()
    _, late = await asyncio.wait(running, timeout=END_WITHIN)
    problems = [f"{running[one]}: it does not come to its end" for one in late]
    for task, name in running.items():
        if task not in late and (error := task.exception()) is not None:
            problems.append(f"{name}: {type(error).__name__}: {error}")
    times = sorted(sessions.pings) or [0.0]
    return {
        "problems": problems, "sessions": sessions.made, "up": sessions.up, "down": sessions.down,
        "streams": sessions.compared, "bytes": sessions.compared_bytes, "published": sessions.published,
        "redis_sessions": SUBSCRIBERS + 1, "pings": len(times),
        "ping_ms": [round(1000 * times[int(share * (len(times) - 1))], 1) for share in (0.5, 0.99, 0.999, 1)],
    }  # fmt: skip


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    say(json.dumps(asyncio.run(run(json.loads(sys.argv[1])))))
    os._exit(0)  # what has not come to its end does not hold us up
