"""HTTP/1.1 of one connection, by uvicorn, with some things more: what is no HTTP, and a connection too many, are answered
with a problem like all else; a client that does not finish the head of a request (or begins none), or does not take what
it has asked for, is let go.

    WAITING ──a head──> ANSWERING ──the answer is out──> WAITING …
       └──HEAD_WITHIN──> closed   └──takes nothing for TAKE_WITHIN──> cut off
"""

import asyncio
from typing import Any

from h11 import IDLE, SEND_RESPONSE, Data, EndOfMessage, Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from tcp_proxy.control.api.problems import MEDIA_TYPE, Problem

MOST_CONNECTIONS = 500
HEAD_WITHIN = 10  # seconds
TAKE_WITHIN = 30  # seconds that an answer may wait for its client


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:
    detail = f"more than {MOST_CONNECTIONS} connections at once; come again when others have gone"
    await Problem(503, detail, headers={"Connection": "close", "Retry-After": "1"}).response()(scope, receive, send)


class Protocol(H11Protocol):
    _waiting: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self.app = _too_many
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unwatch()
        self._unstick()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(TAKE_WITHIN, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unstick()

    def send_400_response(self, msg: str) -> None:
        """Also when a body turns out to be none: whoever was going to answer that request answers no more, and where an
        answer has begun, or is out, there is room for no other."""
        del msg
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (IDLE, SEND_RESPONSE):
            self.transport.close()
            return
        body = bytes(Problem(400, "this is no HTTP/1.1, or its head is too long").response().body)
        head: list[tuple[bytes, bytes]] = [
            (b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body)), (b"connection", b"close"),
        ]  # fmt: skip
        events: tuple[Any, ...] = (
            Response(status_code=400, headers=head, reason=b"Bad Request"), Data(data=body), EndOfMessage(),
        )  # fmt: skip
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch(self) -> None:
        if self.transport.is_closing() or not (self.cycle is None or self.cycle.response_complete):
            self._unwatch()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_WITHIN, self.transport.close)

    def _unwatch(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _unstick(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
