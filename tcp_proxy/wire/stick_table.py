"""What a worker and the stick tables' thread say to each other, and the way it goes: a channel of its own for each worker.

    worker -> tables   (ASK, number, app, key, proposal, seen)   answered by (number, target, version), "" for no entry
                       (ASK_BY_HASH, …)                          the same, with what every node would propose, for it was
                                                                 answered with the version BY_HASH: a cluster has no word
                       (OPENED, app, key, target)                the worker's first session of the key, by its own copy
                       (CLOSED, app, key)                        its last one has ended
    tables -> worker   (number, target, version)
                       (app, key, target, version)               an entry is another one now; "": it is gone

Batches go as datagrams of a SOCK_SEQPACKET socket, marshalled: both ends are one version of one Python, and a new client
waits for this. In order, and nothing is dropped: what the socket does not take waits in memory.

Owned by one loop's thread; the wire owns its socket.
"""

import marshal
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from tcp_proxy.runtime.loop import READ, WRITE, Loop
from tcp_proxy.wire.datagrams import FOR_NOW, PART, Item, datagrams

ASK, OPENED, CLOSED, ASK_BY_HASH = range(4)
BY_HASH = -1  # no version: propose once more, by a hash of the key
TURN = 4  # datagrams that are read in one turn of the loop: of news, each holds up a worker's sessions for a millisecond


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Wire:
    """`received(items)` for each batch; `ended()` once, when the other end is gone."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        received: Callable[[list[Item]], Any],
        ended: Callable[[], Any],
        waiting: Iterable[bytes] = (),
    ) -> None:
        """`waiting`: datagrams of who had the wire before."""
        self._loop = loop
        self._socket = sock
        self._received = received
        self._ended = ended
        self._out: deque[bytes] = deque(waiting)
        self._buffer = bytearray(2 * PART)
        self.is_open = True
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ | WRITE if self._out else READ, self._ready)

    def __repr__(self) -> str:
        return f"<Wire {'open' if self.is_open else 'ended'}, {len(self._out)} waiting>"

    def send(self, items: list[Item]) -> None:
        if not self.is_open:
            return
        waited = bool(self._out)
        self._out.extend(datagrams(items))
        if not waited and not self._flush():
            self._loop.rewatch(self._socket.fileno(), READ | WRITE)

    def pause(self) -> tuple[int, list[bytes]]:
        """Read and send no more, until `resume`: the socket, and the datagrams that wait."""
        self._loop.unwatch(self._socket.fileno())
        return self._socket.fileno(), list(self._out)

    def resume(self) -> None:
        self._loop.watch(self._socket.fileno(), READ | WRITE if self._out else READ, self._ready)

    def close(self) -> None:
        """`ended` is not called."""
        if self.is_open:
            self.is_open = False
            self._loop.unwatch(self._socket.fileno())
            self._loop.close_after_batch(self._socket)
            self._out.clear()

    def _ready(self, events: int) -> None:
        if events & WRITE and self._flush() and self.is_open:
            self._loop.rewatch(self._socket.fileno(), READ)
        if events & ~WRITE:
            for _ in range(TURN):
                if not self.is_open or not self._read():
                    return

    def _flush(self) -> bool:
        """Whether nothing waits any more."""
        out = self._out
        while out:
            try:
                self._socket.send(out[0])
            except OSError as error:
                if error.errno in FOR_NOW:
                    return False
                # The other end is gone; what it said last is still to be read.
                out.clear()
                return True
            out.popleft()
        return True

    def _read(self) -> bool:
        try:
            size = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return False
        except OSError:
            size = 0
        if not size:
            self.close()
            self._ended()
            return False
        self._received(marshal.loads(memoryview(self._buffer)[:size]))
        return True
