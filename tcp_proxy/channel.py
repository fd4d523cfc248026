"""One end of the socketpair between the supervisor and a child: messages both ways, descriptors beside them.

Owned by one loop's thread. The channel owns its socket and the descriptors that wait to be sent (its own duplicates).
Nothing is ever dropped: what the socket does not take waits in memory, in order. Received descriptors reach the message
that announced them, in order, whatever way the kernel cut the stream (test_any_cut_of_the_stream).
"""

import array
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tcp_proxy import messages
from tcp_proxy.loop import READ, WRITE, Loop
from tcp_proxy.messages import Message

_CHUNK = 65536
_MAX_FRAME = 64 * 1024 * 1024
RETRY = 0.02  # seconds until what the kernel could not take for want of something is offered again
# Too many descriptors in flight (a limit for users without privileges), no memory: the socket itself is well.
_FOR_NOW = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)


class Channel:
    """`received(message, descriptors)` for each message; `ended()` once, when the other end is gone."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        received: Callable[[Message, list[int]], Any],
        ended: Callable[[], Any],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._received = received
        self._ended = ended
        self._in = bytearray()
        self._in_descriptors: deque[int] = deque()
        self._out: deque[tuple[memoryview, list[int]]] = deque()
        self._open = True
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ, self._ready)

    def __repr__(self) -> str:
        return f"<Channel fd={self._socket.fileno()} {'open' if self._open else 'ended'} {len(self._out)} waiting>"

    @property
    def is_open(self) -> bool:
        return self._open

    @property
    def is_waiting(self) -> bool:
        """Whether something was sent that the socket has not taken yet."""
        return bool(self._out)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send now or as soon as the socket takes it. The caller keeps its descriptors: those that wait are duplicates.

        Raises OSError, and nothing was sent, when they would have to wait and no descriptor is free for that.
        """
        assert getattr(message, "descriptors", 0) == len(descriptors) <= messages.MAX_DESCRIPTORS
        if not self._open:
            return
        data = memoryview(messages.encode(message))
        if not self._out:
            sent = self._put(data, descriptors)
            if sent == len(data) or not self._open:
                return
            if sent:
                data, descriptors = data[sent:], ()
        self._out.append((data, _duplicates(descriptors)))

    def drain(self) -> None:
        """The other end's process is gone: take what it had said."""
        while self._open and self._read():
            pass

    def close(self) -> None:
        """Release the socket and whatever waits. `ended` is not called."""
        if not self._open:
            return
        self._open = False
        self._loop.unwatch(self._socket.fileno())
        self._loop.close_after_batch(self._socket)
        for _, descriptors in self._out:
            _close_all(descriptors)
        self._out.clear()
        _close_all(self._in_descriptors)
        self._in_descriptors.clear()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self._open and events & ~WRITE:
            self._read()

    def _flush(self) -> None:
        while self._out:
            data, descriptors = self._out[0]
            sent = self._put(data, descriptors)
            if not sent:
                return
            _close_all(descriptors)
            if sent < len(data):
                self._out[0] = (data[sent:], [])
                return
            self._out.popleft()
        if self._open:
            self._loop.rewatch(self._socket.fileno(), READ)

    def _put(self, data: memoryview, descriptors: Sequence[int]) -> int:
        """How many bytes the socket took; when not all, the rest will be asked for again."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            sent = self._socket.sendmsg([data], rights)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if error.errno in _FOR_NOW:
                self._loop.rewatch(self._socket.fileno(), READ)  # it is writable all the time
                self._loop.call_later(RETRY, self._flush)
            else:
                self._end()
            return 0
        if sent < len(data):
            self._loop.rewatch(self._socket.fileno(), READ | WRITE)
        return sent

    def _read(self) -> bool:
        """Whether something came."""
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._socket, _CHUNK, messages.MAX_DESCRIPTORS + 53)
        except BlockingIOError:
            return False
        except OSError:
            data, descriptors, flags = b"", [], 0
        self._in_descriptors.extend(descriptors)
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, "Too many open files: a message's descriptors are lost")
        if not data:
            self._end()
            return False
        self._in += data
        self._deliver()
        return True

    def _deliver(self) -> None:
        while self._open and len(self._in) >= 4:
            size = int.from_bytes(self._in[:4], "little")
            assert size <= _MAX_FRAME, "the channel's stream is out of step"
            if len(self._in) < 4 + size:
                return
            message = messages.decode(bytes(self._in[4 : 4 + size]))
            del self._in[: 4 + size]
            count = getattr(message, "descriptors", 0)
            self._received(message, [self._in_descriptors.popleft() for _ in range(count)])

    def _end(self) -> None:
        self.close()
        self._ended()


def _duplicates(descriptors: Sequence[int]) -> list[int]:
    copies: list[int] = []
    try:
        for fd in descriptors:
            copies.append(os.dup(fd))
    except OSError:
        _close_all(copies)
        raise
    return copies


def _close_all(descriptors: Sequence[int] | deque[int]) -> None:
    for fd in descriptors:
        os.close(fd)
    if isinstance(descriptors, list):
        descriptors.clear()
