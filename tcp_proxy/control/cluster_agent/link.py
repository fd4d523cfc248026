"""The agent's end of the channel to the supervisor, on asyncio. Everything that it is told goes to `received`; when the
channel ends, `ended()` is called: the supervisor is gone.

For the agent's loop; it owns the transport.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from tcp_proxy.wire import messages
from tcp_proxy.wire.frames import whole
from tcp_proxy.wire.messages import Logged, Message, Ping, Pong


class Link(asyncio.Protocol):
    def __init__(self, received: Callable[[Message], Any], ended: Callable[[], Any]) -> None:
        self._received = received
        self._ended = ended
        self.heard: Callable[[], Any] = _nothing  # called whenever something comes
        self._in = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def __repr__(self) -> str:
        return f"<Link {'open' if self._transport is not None else 'ended'}>"

    def send(self, message: Message) -> None:
        """Nothing happens when the supervisor is gone."""
        if self._transport is not None:
            self._transport.write(messages.encode(message))

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._in += data
        self.heard()
        for message in map(messages.decode, whole(self._in)):
            if isinstance(message, Ping):
                self.send(Pong(message.number))
            else:
                self._received(message)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._ended()


class LogLink(logging.Handler):
    """What this process logs goes to the supervisor, whose log it becomes."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        self._link.send(Logged(record.levelno, self.format(record)))


def _nothing() -> None:
    """Nobody wants to know."""
