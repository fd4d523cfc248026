"""Writing to one socket: what it does not take now waits here and goes out when the loop says that there is room.

Owned by the loop's thread. Who writes looks at `blocked` and reads no more until it is False again: that is all of the
back-pressure. Errors are raised to who called, once; nothing is written after one.
"""

import os
from socket import MSG_DONTWAIT, MSG_NOSIGNAL
from typing import Any, Final

from tcp_proxy.dataplane.relay.splice import Pipe, PipePool, drain
from tcp_proxy.runtime.loop import EDGE, Loop
from tcp_proxy.runtime.stream_socket import StreamSocket

_FLAGS: Final[Any] = int(MSG_DONTWAIT | MSG_NOSIGNAL)  # an object: a number of C is made one for each call


class SocketWriter:
    """`pipe`: bytes that wait there go out first of all, those of `pending` after them."""

    __slots__ = ("_armed", "_loop", "blocked", "blocked_at", "pending", "pipe", "sock")

    def __init__(self, loop: Loop, sock: StreamSocket, armed: bool = False) -> None:
        """`armed`: the loop watches it for room already."""
        self._loop = loop
        self.sock = sock
        self._armed = armed
        self.blocked = False
        self.blocked_at = 0.0
        self.pending: memoryview | bytes = b""
        self.pipe: Pipe | None = None

    def __repr__(self) -> str:
        return f"<SocketWriter {'blocked' if self.blocked else 'free'} {len(self.pending)} bytes wait>"

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        if self.blocked:
            self.pending = bytes(self.pending) + data
            return
        try:
            sent = self.sock.send(data, _FLAGS)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self.pending = memoryview(data)[sent:]
            self.wait()

    def wait(self) -> None:
        """The socket is full."""
        self.blocked = True
        self.blocked_at = self._loop.now
        if not self._armed:
            self._armed = True
            self._loop.rewatch(self.sock.fileno(), EDGE)

    def flush(self) -> bool:
        """Write what waits; whether that is all. Raises OSError."""
        if self.pipe is not None and self.pipe.count and not drain(self.pipe, self.sock.fileno()):
            return False
        try:
            while self.pending:
                sent = self.sock.send(self.pending, _FLAGS)
                self.pending = self.pending[sent:]
        except BlockingIOError:
            return False
        self.pending = b""
        self.blocked = False
        return True

    def unpipe(self, pipes: PipePool) -> None:
        """What is in the pipe is in memory from now on, before what waits there."""
        pipe = self.pipe
        parts = []
        while pipe is not None and pipe.count:
            parts.append(os.read(pipe.read_fd, pipe.count))
            pipe.count -= len(parts[-1])
        if parts:
            self.pending = b"".join((*parts, self.pending))
        self.give_back(pipes)

    def give_back(self, pipes: PipePool) -> None:
        """No more bytes come by the pipe; one with bytes in it is closed by the pool."""
        pipe, self.pipe = self.pipe, None
        if pipe is not None:
            pipes.give(pipe)

    def give_up(self, pipes: PipePool) -> None:
        """Nothing more is written: what waits is thrown away."""
        self.pending = b""
        self.blocked = False
        self.give_back(pipes)

    def waiting(self) -> int:
        """Bytes that were given to it and not to the socket."""
        return len(self.pending) + (self.pipe.count if self.pipe is not None else 0)
