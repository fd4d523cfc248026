"""The last wait of a session: what one peer was sent is to be acknowledged before that peer is reset.

Owned by a session in state LINGERING, in the thread of its thread. A Delivery owns nothing but its timer: the socket is the
session's, and so is the deadline, which moves on with each acknowledgement (`deadline_set`).

    ASKING ──everything acknowledged──> OVER (`owner.delivered`, once)
       └──stop()──> OVER (nobody is told)

A socket closed with SO_LINGER 0 throws away what send() had accepted, so without this wait the end of an answer is lost.
A UNIX peer can read on after our close: for it nothing is waited for.
"""

from socket import AF_UNIX
from typing import Any, Final, Protocol

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.runtime.socket_options import outstanding, push
from tcp_proxy.runtime.stream_socket import StreamSocket

# How often it is asked whether everything was acknowledged: at once, then ever more rarely.
FIRST: Final = 0.001
MOST: Final = 0.25


class DeliveryOwner(Protocol):
    app: LiveApp

    def delivered(self) -> Any: ...
    def deadline_set(self, when: float) -> Any: ...


class Delivery:
    """`sock` is the one that waits for the rest of its bytes."""

    __slots__ = ("_is_over", "_loop", "owner", "sock")

    def __init__(self, loop: Loop, owner: DeliveryOwner, sock: StreamSocket) -> None:
        self._loop = loop
        self.owner = owner
        self._is_over = False
        self.sock = sock

    def __repr__(self) -> str:
        return f"<Delivery {'over' if self._is_over else 'asking'}>"

    def begin(self) -> None:
        """The owner may be told before it returns."""
        if self.sock.family != AF_UNIX:
            push(self.sock)  # a pump that saw its end may have announced more
        self.owner.deadline_set(self._loop.now + self.owner.app.timeouts.half_closed)
        self._ask(FIRST, 0)

    def stop(self) -> None:
        self._is_over = True

    def _ask(self, wait: float, before: int) -> None:
        if self._is_over:
            return
        left = outstanding(self.sock) if self.sock.family != AF_UNIX else 0
        if left == 0:
            self._is_over = True
            self.owner.delivered()
            return
        if left != before:
            self.owner.deadline_set(self._loop.now + self.owner.app.timeouts.half_closed)
        self._loop.call_later(wait, self._ask, min(wait * 2, MOST), left)
