"""How a client of mode http is left: softly after the last answer, or by a reset where an answer broke off.

A part of HttpSession (session.py), apart only for its size; owned by the loop's thread.

A close with bytes unread would reset the connection and could take the answer away that is still on its way. So after
the last word nothing more is written, what still comes is read and thrown away, and the client's end is waited for, but
not long; longer for one that goes on sending: many clients send the whole of an upload before they read that it was
refused. Where an answer broke off, what was written of it is delivered first, then the client is reset: nobody must take
it for the whole (DESIGN 9.2).
"""

from contextlib import suppress
from enum import IntEnum
from socket import AF_UNIX, MSG_DONTWAIT, SHUT_WR, SocketType
from typing import Any

from tcp_proxy.dataplane.homes import Home
from tcp_proxy.dataplane.http.outlet import Outlet
from tcp_proxy.dataplane.http.site import Site
from tcp_proxy.dataplane.pump import CHUNK
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.socket_options import outstanding

CLOSE_WITHIN = 2.0  # seconds that a client may take to notice that we have said our last word
DISCARD_MOST = 30.0  # seconds in all, for one that goes on with its upload and does not listen
LINGER_FIRST, LINGER_MOST = 0.001, 0.25  # between two looks whether everything was acknowledged
DISCARDS = 8  # reads of CHUNK in a turn, for nothing


class State(IntEnum):
    READING = 0
    DIALING = 1
    EXCHANGING = 2
    CLOSING = 3
    DONE = 4


READING, DIALING, EXCHANGING, CLOSING, DONE = State


class Leaving:
    """`broken`: why and by whom an answer broke off."""

    home: Home
    client: SocketType
    outlet: Outlet
    site: Site
    state: State
    exchange: Any
    deadline: float
    broken: tuple[Reason, Side] | None = None
    discards_until = 0.0

    def break_off(self, reason: Reason, side: Side) -> None:
        """What was written is delivered; then the client is reset, so that nobody takes it for the whole answer."""
        self.exchange = None
        self.state = CLOSING
        self.broken = (reason, side)
        self._wait(self.site.timeouts.half_closed)
        self._ask_acknowledged(LINGER_FIRST)

    def _ask_acknowledged(self, wait: float) -> None:
        if self.state is not CLOSING or self.broken is None:
            return
        if not self.outlet.waiting() and (self.client.family == AF_UNIX or not outstanding(self.client)):
            reason, side = self.broken
            self._finish(reason, side, 0, reset=True)
        else:
            self.home.loop.call_later(wait, self._ask_acknowledged, min(2 * wait, LINGER_MOST))

    def _close(self) -> None:
        """The last word is said."""
        self.state = CLOSING
        self.discards_until = self.home.loop.now + DISCARD_MOST
        self._wait(CLOSE_WITHIN)
        if not self.outlet.blocked:
            self._say_end()

    def _say_end(self) -> None:
        if self.broken is not None:
            return
        with suppress(OSError):  # it is gone: the discarding will tell
            self.client.shutdown(SHUT_WR)
        self._discard()

    def _discard(self) -> None:
        """Read what nobody wants, until the client ends: what lies unread would make our close a reset."""
        for _ in range(DISCARDS):
            try:
                data = self.client.recv(CHUNK, MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data and self.broken is None and not self.outlet.blocked:
                self._finish(Reason.DONE, Side.PROXY, 0, reset=False)
            if not data:
                return
            if self.broken is None:
                self.deadline = min(self.home.loop.now + CLOSE_WITHIN, self.discards_until)
        self.home.loop.call_again(self._discard_more)

    def _discard_more(self, _events: int) -> None:
        if self.state is CLOSING:
            self._discard()

    def _wait(self, seconds: float) -> None:
        raise NotImplementedError

    def _finish(self, reason: Reason, side: Side, code: int, reset: bool) -> None:
        raise NotImplementedError
