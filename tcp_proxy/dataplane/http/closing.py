"""How a client of mode http is left: softly after the last answer, or by a reset where an answer broke off.

Owned by the loop's thread; a connection makes one when it begins to close, tells it of events, and is told the end by
`finish`. It writes nothing of its own.

A close with bytes unread would reset the connection and could take the answer away that is still on its way. So after
the last word nothing more is written, what still comes is read and thrown away, and the client's end is waited for, but
not long; longer for one that goes on sending: many clients send the whole of an upload before they read that it was
refused. Where an answer broke off, what was written of it is delivered first, then the client is reset: nobody must take
it for the whole (docs/rules.md, R2).
"""

from socket import AF_UNIX, MSG_DONTWAIT, SHUT_WR
from typing import Any, Final, Protocol

from tcp_proxy.dataplane.http.socket_writer import SocketWriter
from tcp_proxy.dataplane.http.timers import Timers
from tcp_proxy.dataplane.relay.pump import CHUNK
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.runtime.socket_options import outstanding
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.reasons import Reason, Side

CLOSE_WITHIN: Final = 2.0  # seconds that a client may take to notice that we have said our last word
DISCARD_MOST: Final = 30.0  # seconds in all, for one that goes on with its upload and does not listen
LINGER_FIRST, LINGER_MOST = 0.001, 0.25  # between two looks whether everything was acknowledged
DISCARDS: Final = 8  # reads of CHUNK in a turn, for nothing


class ClosingOwner(Protocol):
    """Whose client it is; the times and the writer stay its own and are lent."""

    client: StreamSocket
    writer: SocketWriter
    timers: Timers

    def finish(self, reason: Reason, side: Side, code: int, reset: bool) -> Any: ...


class Closing:
    """`broken`: why and by whom an answer broke off; None after a whole one."""

    __slots__ = ("_client", "_is_over", "_loop", "_timers", "_writer", "broken", "discards_until", "owner")
    __deletable__ = ("owner",)

    def __init__(self, owner: ClosingOwner, loop: Loop, broken: tuple[Reason, Side] | None = None) -> None:
        self.owner = owner
        self._loop = loop
        self._client = owner.client
        self._writer = owner.writer
        self._timers = owner.timers
        self._is_over = False
        self.broken = broken
        self.discards_until = loop.now + DISCARD_MOST

    def __repr__(self) -> str:
        return f"<Closing {'softly' if self.broken is None else self.broken[0].value}>"

    @property
    def waits_for_reader(self) -> bool:
        """Whether what is written whole waits for a slow client; a broken answer has its time in all."""
        return self._writer.blocked and self.broken is None

    def softly(self) -> None:
        """The last word is said."""
        self._timers.wait(CLOSE_WITHIN)
        if not self._writer.blocked:
            self._say_end()

    def after_delivery(self, seconds: float) -> None:
        """What was written is delivered, but not waited for longer than that; then the client is reset."""
        self._timers.wait(seconds)
        self._ask_acknowledged(LINGER_FIRST)

    def flushed(self) -> None:
        if self.broken is None:
            self._say_end()

    def discard(self) -> None:
        """Read what nobody wants, until the client ends: what lies unread would make our close a reset."""
        for _ in range(DISCARDS):
            try:
                data = self._client.recv(CHUNK, MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data and self.broken is None and not self._writer.blocked:
                self.owner.finish(Reason.DONE, Side.PROXY, 0, reset=False)
            if not data:
                return
            if self.broken is None:
                self._timers.deadline = min(self._loop.now + CLOSE_WITHIN, self.discards_until)
        self._loop.call_again(self._discard_more)

    def expire(self) -> None:
        """The deadline is over. As long as the client takes of our last word, what it sends is still read, for nothing."""
        if self.broken is not None:
            self.owner.finish(*self.broken, 0, reset=True)
        elif self._timers.client_takes(outstanding(self._client)):
            self._timers.wait(CLOSE_WITHIN)
        else:
            self.owner.finish(Reason.DONE, Side.PROXY, 0, reset=False)

    def stop(self) -> None:
        """The client is released. No cycle is left for the collector."""
        self._is_over = True
        del self.owner

    def _ask_acknowledged(self, wait: float) -> None:
        if self._is_over or self.broken is None:
            return
        if not self._writer.waiting() and (self._client.family == AF_UNIX or not outstanding(self._client)):
            self.owner.finish(*self.broken, 0, reset=True)
        else:
            self._loop.call_later(wait, self._ask_acknowledged, min(2 * wait, LINGER_MOST))

    def _say_end(self) -> None:
        try:
            self._client.shutdown(SHUT_WR)
        except BlockingIOError:  # of TLS, whose end has bytes: when there is room, `flushed` comes back here
            self._writer.wait()
        except OSError:  # it is gone: the discarding will tell
            pass
        self.discard()

    def _discard_more(self, _events: int) -> None:
        if not self._is_over:
            self.discard()
