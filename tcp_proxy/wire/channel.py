"""One end of the socketpair between the supervisor and a child: messages both ways, descriptors beside them.

Owned by one loop's thread. The channel owns its socket and the descriptors that wait to be sent (its own duplicates).
Nothing is ever dropped: what the socket does not take waits in memory, in order. Received descriptors reach the message
that announced them, in order, whatever way the kernel cut the stream (test_any_cut_of_the_stream). What is sent in turn
waits without being a message yet: thousands of descriptors would not fit beside those that they are duplicates of.
"""

import array
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tcp_proxy.runtime.loop import READ, WRITE, Loop
from tcp_proxy.wire import messages
from tcp_proxy.wire.messages import Encoded, Message

_CHUNK = 65536
_MAX_FRAME = 64 * 1024 * 1024
MADE_AT_ONCE = 5  # messages that are sent in turn, in one round: 1,000 descriptors
RETRY = 0.02  # seconds until what the kernel could not take for want of something is offered again
# Too many descriptors in flight (a limit for users without privileges), no memory: the socket itself is well.
_FOR_NOW = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)


Make = Callable[[], tuple[Message, Sequence[int]] | None]


class Channel:
    """`received(message, descriptors)` for each message; `ended()` once, when the other end is gone."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        received: Callable[[Message, list[int]], Any],
        ended: Callable[[], Any],
        begun: bytes = b"",
    ) -> None:
        """`begun`: the beginning of a message, which somebody else has read, who had the channel before."""
        self._loop = loop
        self._socket = sock
        self._received = received
        self._ended = ended
        self._in = bytearray(begun)
        self._in_descriptors: deque[int] = deque()
        self._out: deque[tuple[memoryview, list[int]] | Make] = deque()
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

    def send(self, message: Message | Encoded, descriptors: Sequence[int] = ()) -> None:
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

    def send_in_turn(self, make: Make) -> None:
        """Send what `make` says, which is called in a later round, when the socket has taken everything before; None:
        nothing any more. It may be called again, if that was not taken. A few are sent in a round."""
        if not self._open:
            return
        self._out.append(make)
        if len(self._out) == 1:
            self._loop.call_again(self._flush)

    def pause(self) -> tuple[int, bytes]:
        """Read no more, until `resume`: the socket, and the beginning of a message. Nothing waits to be sent."""
        assert not self._out
        assert not self._in_descriptors
        self._loop.unwatch(self._socket.fileno())
        return self._socket.fileno(), bytes(self._in)

    def resume(self) -> None:
        self._loop.watch(self._socket.fileno(), READ, self._ready)

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
        for waiting in self._out:
            if isinstance(waiting, tuple):
                _close_all(waiting[1])
        self._out.clear()
        _close_all(self._in_descriptors)
        self._in_descriptors.clear()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self._open and events & ~WRITE:
            self._read()

    def _flush(self, _events: int = 0) -> None:
        made = 0
        while self._out:
            waiting = self._out[0]
            descriptors: Sequence[int]
            if isinstance(waiting, tuple):
                data, descriptors = waiting
            else:
                made += 1
                if made > MADE_AT_ONCE:
                    self._loop.rewatch(self._socket.fileno(), READ)  # it is writable all the time
                    self._loop.call_again(self._flush)
                    return
                told = waiting()
                if told is None:
                    self._out.popleft()
                    continue
                data, descriptors = memoryview(messages.encode(told[0])), told[1]
            sent = self._put(data, descriptors)
            if not sent:
                return
            if isinstance(waiting, tuple):
                _close_all(waiting[1])
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
