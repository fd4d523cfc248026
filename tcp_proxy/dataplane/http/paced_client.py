"""A client's socket in mode http whose bytes are slowed down (limits.bytes_per_second): `recv` and `send` say that there is
nothing, or no room, for as long as its buckets have no tokens.

Owned by the loop's thread, as the connection that has it in the place of the socket; loaded with the first such app. All
that is read of the client and written to it passes here, heads too, with TLS or without, so nothing else of mode http
knows of it. What was moved is paid for at once; then nothing more moves until that is made up for. Epoll tells of an edge
once, so when it may go on, or when less was moved than there was, it is asked anew (`_look`); what TLS has read ahead epoll
does not know of.

    OPEN ──more was moved than there are tokens──> PAUSED ──they are there: _look──> OPEN       (of each direction)

Always true:
- where less was moved than asked for, for our sake, an event follows
  (test_every_byte_of_an_answer_comes_no_faster_than_it_may);
- nothing is spliced past it: a body asks for the type of its sockets.
"""

from collections.abc import Callable
from socket import MSG_PEEK
from typing import Any, Final

from tcp_proxy.dataplane.http.reader import URGENT
from tcp_proxy.dataplane.pacing import Pacing
from tcp_proxy.dataplane.relay.paced_pump import chunk_of
from tcp_proxy.runtime.loop import EDGE, READ, Loop
from tcp_proxy.runtime.stream_socket import StreamSocket

_PEEK: Final = int(MSG_PEEK)


class PacedClient:
    """`number` and `app`: of its connection. Whatever else is asked of a socket, `sock` is asked."""

    def __init__(self, loop: Loop, sock: StreamSocket, number: int, app: Any) -> None:
        self.number, self.app = number, app
        limits = app.limits
        rate = min(rate for rate in (limits.bytes_per_second, limits.bytes_per_second_per_client) if rate)
        self._loop = loop
        self._sock: StreamSocket | None = sock
        self._chunk = chunk_of(rate)
        self._up, self._down = Pacing(loop, self, False), Pacing(loop, self, True)
        self._up_until = self._down_until = 0.0  # loop's time: nothing moves before
        self._looks = False  # epoll is asked in the next round
        self.ready: Callable[[int], Any] = _nobody  # the connection's

    def __repr__(self) -> str:
        return f"<PacedClient of {self._sock!r}{', paused' if self.paused_until > self._loop.now else ''}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    @property
    def paused_until(self) -> float:
        """When the last pause ends, or has ended."""
        return max(self._up_until, self._down_until)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        sock = self._sock
        assert sock is not None
        if flags & _PEEK:
            return sock.recv(size, flags)
        if self._loop.now < self._up_until:
            raise BlockingIOError
        wanted = min(size, self._chunk)
        data = sock.recv(wanted, flags)
        wait = self._up(len(data))
        if wait > 0:
            self._up_until = self._loop.now + wait
            self._loop.call_later(wait, self._look, 0)
        elif len(data) == wanted < size:
            self._look_soon()
        return data

    def send(self, data: Any, flags: int = 0, /) -> int:
        sock = self._sock
        assert sock is not None
        if self._loop.now < self._down_until:
            raise BlockingIOError
        size = len(data)
        sent = sock.send(data if size <= self._chunk else memoryview(data)[: self._chunk], flags)
        wait = self._down(sent)
        if wait > 0:
            self._down_until = self._loop.now + wait
            self._loop.call_later(wait, self._look, 0)
        elif sent < size:
            self._look_soon()
        return sent

    def release(self) -> StreamSocket:
        """The socket, which is somebody else's from now on, and no slower than that one says."""
        sock, self._sock = self._sock, None
        assert sock is not None
        return sock

    def _look_soon(self) -> None:
        if not self._looks:
            self._looks = True
            self._loop.call_again(self._look)

    def _look(self, _events: int) -> None:
        """Have epoll tell of what there is, if anybody still wants to hear of it."""
        self._looks = False
        sock = self._sock
        if sock is not None and self._loop.is_watched(sock.fileno()):
            self._loop.rewatch(sock.fileno(), EDGE)
            if getattr(sock, "has_unread", False) or getattr(sock, "has_end", False):
                self.ready(READ | URGENT)


def _nobody(_events: int) -> None:
    """Hears of it: the connection has not begun."""
