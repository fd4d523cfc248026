"""A connection to a syslog server, for whoever may wait for it: a thread that does nothing else.

It is connected when there is something to say, so a server that is not there keeps nobody from starting. For a
connection, or a server that takes nothing, it waits WAIT seconds at the most.

Of datagrams that no server takes, and of a connection that breaks, nobody can say which were the last that arrived: what
`send` counts is what this machine has taken.
"""

import contextlib
import errno
import os
import select
import socket
from collections.abc import Sequence

from tcp_proxy.sansio import syslog
from tcp_proxy.sansio.syslog import Receiver

WAIT = 1.0  # seconds
AGAIN = 1.0  # seconds until a server that was not there is tried again


class SyslogConnection:
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.host = socket.gethostname()
        self._socket: socket.socket | None = None

    def __repr__(self) -> str:
        return f"<SyslogConnection {self.receiver.transport} {self.receiver.address}>"

    def send(self, messages: Sequence[bytes]) -> tuple[int, OSError | None]:
        """How many were taken, and why not all."""
        sent = 0
        try:
            sock = self._connected()
            for one in messages:
                self._send(sock, one)
                sent += 1
        except OSError as error:
            self.close()
            if error.strerror is None:  # of a timeout
                return sent, OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            return sent, error
        return sent, None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is not None and self._has_ended(self._socket):
            self.close()
        if self._socket is None:
            self._socket = self._connect()
        return self._socket

    def _has_ended(self, sock: socket.socket) -> bool:
        """A server that has closed its end would take what is sent for a moment more, and throw it away."""
        if self.receiver.transport != "tcp":
            return False
        events = select.poll()
        events.register(sock, select.POLLRDHUP)
        return bool(events.poll(0))

    def _connect(self) -> socket.socket:
        host, port, path = self.receiver.address.host, self.receiver.address.port, self.receiver.address.path
        family = socket.AF_UNIX if path else socket.AF_INET6 if ":" in host else socket.AF_INET
        kind = socket.SOCK_STREAM if self.receiver.transport == "tcp" else socket.SOCK_DGRAM
        sock = socket.socket(family, kind)
        try:
            sock.settimeout(WAIT)
            sock.connect(path or (host, port))
        except OSError:
            sock.close()
            raise
        return sock

    def _send(self, sock: socket.socket, whole: bytes) -> None:
        if self.receiver.transport == "tcp":
            sock.sendall(syslog.counted(whole))
            return
        try:
            sock.send(whole)
        except ConnectionRefusedError:  # by UDP: nobody took the one before; this one has not been sent
            if self.receiver.transport == "unix":
                raise
            with contextlib.suppress(BlockingIOError):
                sock.send(whole)
