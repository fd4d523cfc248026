"""What a client of mode http has sent: read from its socket, cut into heads of requests, lent to bodies.

Owned by the loop's thread; a connection holds one and says when to read. Its OSError is the caller's to tell.

Always true: what is in `input` comes before what is in the socket; a byte is handed out once.
"""

from select import EPOLLPRI
from socket import MSG_DONTWAIT, SocketType
from typing import Any, Final

from tcp_proxy.dataplane.relay.pump import CHUNK
from tcp_proxy.runtime.loop import FAILED, RDHUP, READ
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.http1.requests import Limits, Request, read_request
from tcp_proxy.sansio.reasons import TLS_TRUNCATED

URGENT: Final = EPOLLPRI  # a splice stops there, a read stops short of it, and no event tells of what lies behind
UNSURE: Final = RDHUP | FAILED | URGENT  # with these a short read does not say that there is no more
READABLE: Final = READ | UNSURE
# Said as objects: a number of C is made one for each call.
_MOST: Final[Any] = CHUNK
_FLAGS: Final[Any] = int(MSG_DONTWAIT)


class RequestReader:
    """`input`: bytes that were read and not looked at yet; `seen`: so many of them were, and are no whole head."""

    __slots__ = ("_client", "_may_have_end", "input", "is_ended", "seen", "unread")

    def __init__(self, client: StreamSocket) -> None:
        self._client: Any = client
        self._may_have_end = type(client) is not SocketType  # a TlsSocket may, or what stands before one
        self.input = b""
        self.seen = 0
        self.unread = True  # the socket may hold more, and no event will say so
        self.is_ended = False  # the client sends nothing more

    def __repr__(self) -> str:
        return f"<RequestReader {len(self.input)} bytes, {self.seen} seen>"

    def receive(self, events: int) -> None:
        """One read; `events`: those that told of it, 0 for none. Raises OSError."""
        try:
            data = self._client.recv(_MOST, _FLAGS)
        except BlockingIOError:
            self.unread = False
            return
        except OSError as error:
            if error.errno != TLS_TRUNCATED or self.input:
                raise
            self.is_ended = True  # between two requests there is nothing that can have been cut off (RFC 9112, 9.8)
            return
        if not data:
            self.is_ended = True
            return
        self.unread = len(data) == CHUNK or not events or bool(events & UNSURE)
        if self._may_have_end and getattr(self._client, "has_end", False):
            self.unread = True
        self.input = self.input + data if self.input else data

    def next_request(self, limits: Limits) -> Request | None:
        """The next head, if all of it is in `input`, which is not empty. Raises Refused."""
        found = read_request(self.input, 0, limits, self.seen)
        if found is None:
            self.seen = len(self.input)
            return None
        self.seen = 0
        request, end = found
        self.input = self.input[end:]
        return request

    def take(self) -> bytes:
        """All that was read: a body's, or a tunnel's."""
        taken, self.input = self.input, b""
        return taken

    def put_back(self, rest: bytes) -> None:
        """Not the body's. Reading has stopped there: no event will tell of what lies in the socket."""
        self.input = rest
        self.unread = True
