"""The API process's end of the channel to the supervisor, on asyncio: questions, answers, events.

Questions are few at a time (MOST_ASKED), so that no storm of requests becomes a storm in the supervisor's loop. When the
channel ends, so does the process: `ended` is called, and every question that is open is answered with 503.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

from tcp_proxy.control.api.problems import Problem
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.wire import messages
from tcp_proxy.wire.frames import whole
from tcp_proxy.wire.messages import Answer, Ask, Happened, Logged, Message, Ping, Pong, ServeApi

MOST_ASKED = 32
ANSWER_WITHIN = 30.0  # seconds
MOST_WAITING = 1000  # events that a slow follower may be behind


@dataclass(frozen=True, slots=True)
class Event:
    number: int
    at: float
    kind: str
    data: str  # JSON


Follower = asyncio.Queue[Event | None]  # None: no more will come


class Link(asyncio.Protocol):
    """`serve(message)` is called with the one ServeApi, `ended()` when the supervisor is gone."""

    def __init__(self, serve: Callable[[ServeApi], Any], ended: Callable[[], Any]) -> None:
        self._serve = serve
        self._ended = ended
        self._in = bytearray()
        self._open: dict[int, asyncio.Future[Answer]] = {}
        self._parts: dict[int, list[str]] = {}  # of long answers, until the last one
        self._count = 0
        self._turn = asyncio.Semaphore(MOST_ASKED)
        self._followers: set[Follower] = set()
        self._transport: asyncio.WriteTransport | None = None

    def __repr__(self) -> str:
        return f"<Link {len(self._open)} open, {len(self._followers)} followers>"

    async def ask(self, operation: str, /, **arguments: Any) -> Any:
        """The body of the answer. Raises Problem when the supervisor refuses, or does not answer."""
        parts = await self.read(operation, **arguments)
        text = "".join(parts)
        return await asyncio.to_thread(json.loads, text) if len(parts) > 1 else json.loads(text)

    async def read(self, operation: str, /, **arguments: Any) -> list[str]:
        """The same as it was written: pieces of a JSON text."""
        async with self._turn:
            self._count += 1
            number = self._count
            answer = self._open[number] = asyncio.get_running_loop().create_future()
            try:
                self.send(Ask(number, operation, json.dumps(arguments)))
                async with asyncio.timeout(ANSWER_WITHIN):
                    found = await answer
            except TimeoutError:
                raise Problem(504, f"the supervisor did not answer within {ANSWER_WITHIN:.0f} seconds") from None
            finally:
                self._open.pop(number, None)
                parts = self._parts.pop(number, [])
        if found.status >= 400:
            body = json.loads(found.body)
            raise Problem(found.status, body["detail"], body["errors"])
        return [*parts, found.body]

    def follow(self) -> Follower:
        """Every event from now on, until `unfollow`."""
        follower: Follower = asyncio.Queue(MOST_WAITING)
        self._followers.add(follower)
        return follower

    def unfollow(self, follower: Follower) -> None:
        self._followers.discard(follower)

    def send(self, message: Message) -> None:
        if self._transport is None:
            raise Problem(503, "the supervisor is gone")
        self._transport.write(messages.encode(message))

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._in += data
        for message in map(messages.decode, whole(self._in)):
            self._received(message)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(Problem(503, "the supervisor is gone"))
        for follower in tuple(self._followers):
            self._end_of(follower)
        self._ended()

    def _received(self, message: Message) -> None:
        match message:
            case Answer():
                answer = self._open.get(message.number)
                if answer is None or answer.done():
                    return
                if message.more:
                    self._parts.setdefault(message.number, []).append(message.body)
                else:
                    answer.set_result(message)
            case Happened():
                event = Event(message.number, message.at, message.kind, message.data)
                for follower in tuple(self._followers):
                    self.tell(follower, event)
            case Ping():
                self.send(Pong(message.number))
            case ServeApi():
                self._serve(message)
            case _:
                raise AssertionError(f"not for this process: {message!r}")

    def tell(self, follower: Follower, event: Event) -> bool:
        """Whether it follows still: one that reads too slowly does not, but may come again, and ask for what it missed."""
        if follower not in self._followers:
            return False
        if follower.qsize() >= MOST_WAITING - 1:
            self._end_of(follower)
            return False
        follower.put_nowait(event)
        return True

    def _end_of(self, follower: Follower) -> None:
        self.unfollow(follower)
        follower.put_nowait(None)


class LogLink(logging.Handler):
    """What this process logs goes to the supervisor, whose log it becomes."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Problem):
            self._link.send(Logged(record.levelno, self.format(record)))
