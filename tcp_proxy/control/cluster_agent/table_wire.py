"""The agent's end of the socket to the stick tables' thread: batches of items, in order, nothing dropped. For the agent's
loop; it owns the socket.
"""

import asyncio
import marshal
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from tcp_proxy.wire.datagrams import FOR_NOW, PART, Item, datagrams


class TableWire:
    """`received(items)` for each batch. What the socket does not take waits in memory."""

    def __init__(self, sock: socket.socket, received: Callable[[list[Item]], Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._received = received
        self._out: deque[bytes] = deque()
        self._is_open = True
        sock.setblocking(False)
        self._loop.add_reader(sock, self._read)

    def __repr__(self) -> str:
        return f"<TableWire {'open' if self._is_open else 'ended'}, {len(self._out)} waiting>"

    def send(self, items: list[Item]) -> None:
        if self._is_open and items:
            waited = bool(self._out)
            self._out.extend(datagrams(items))
            if not waited and not self._flush():
                self._loop.add_writer(self._socket, self._go_on)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()

    def _go_on(self) -> None:
        if self._flush():
            self._loop.remove_writer(self._socket)

    def _flush(self) -> bool:
        """Whether nothing waits any more."""
        while self._out:
            try:
                self._socket.send(self._out[0])
            except OSError as error:
                if error.errno in FOR_NOW:
                    return False
                self._out.clear()  # the other end is gone, and with it the supervisor
                return True
            self._out.popleft()
        return True

    def _read(self) -> None:
        try:
            data = self._socket.recv(2 * PART)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._received(marshal.loads(data))
        else:
            self.close()
