"""The check `tcp`: the target accepts a connection in time.

    CONNECTING ──accepted──> success · refused, unreachable, time over ──> failure · local error ──> no verdict
        ^  │ a UNIX socket's queue is full
        └──┘ RETRY later

Runs in a health thread, on its loop. A probe owns its socket and its timers; `cancel` is the one place that releases
them, and every end goes through it.
"""

import errno
import os
import socket

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.probe import Done, Result, shown
from tcp_proxy.loop import FAILED, WRITE, Loop, Timer
from tcp_proxy.messages import Endpoint
from tcp_proxy.sansio.reasons import errno_name, is_local

RETRY = 0.05  # seconds: the kernel does not tell when a full queue has room again


class TcpProbe:
    """Of one address; `done(Result)` is called once, and never before `start` has returned."""

    def __init__(self, loop: Loop, endpoint: Endpoint, check: Check, done: Done) -> None:
        self._family, self._address = endpoint
        if check.port is not None and self._family != socket.AF_UNIX:
            self._address = (self._address[0], check.port, *self._address[2:])
        self._loop = loop
        self._done: Done | None = done
        self._name = f"tcp {shown((self._family, self._address))}"
        self._socket: socket.socket | None = None
        self._retry: Timer | None = None
        self._timer = loop.call_later(check.timeout, self._time_over, check.timeout)
        self._connect()

    def __repr__(self) -> str:
        return f"<TcpProbe {self._name} {'running' if self._done else 'over'}>"

    def cancel(self) -> None:
        """Release everything; nobody is told."""
        self._done = None
        self._timer.cancel()
        if self._retry is not None:
            self._retry.cancel()
        sock, self._socket = self._socket, None
        if sock is not None:
            if self._loop.is_watched(sock.fileno()):
                self._loop.unwatch(sock.fileno())
            self._loop.close_after_batch(sock)

    def _connect(self) -> None:
        try:
            if self._socket is None:
                self._socket = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            code = self._socket.connect_ex(self._address)
        except OSError as error:
            code = error.errno or errno.EIO
        if code == errno.EINPROGRESS:
            assert self._socket is not None
            self._loop.watch(self._socket.fileno(), WRITE, self._ready)
        elif code == errno.EAGAIN and self._family == socket.AF_UNIX:
            # Where TCP drops a SYN and lets it come again, a UNIX socket with a full queue refuses to wait at all.
            self._retry = self._loop.call_later(RETRY, self._connect)
        else:
            self._loop.call_soon(self._end, code)

    def _ready(self, events: int) -> None:
        assert self._socket is not None
        self._end(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & FAILED else 0)

    def _time_over(self, seconds: float) -> None:
        self._tell(Result(False, f"{self._name}: timed out, no answer in {seconds:g} s"))

    def _end(self, code: int) -> None:
        if self._socket is not None and code == 0 and _is_own_peer(self._socket):
            self._tell(Result(False, f"{self._name}: nobody listens, the probe met itself"))
        elif code in (0, errno.ECONNRESET):  # a reset, unlike a refusal, comes after the target had accepted
            self._tell(Result(True, f"{self._name}: accepted"))
        else:
            text = f"{self._name}: {os.strerror(code).lower()} ({errno_name(code)})"
            self._tell(Result(None if is_local(code) else False, text))

    def _tell(self, result: Result) -> None:
        done = self._done
        self.cancel()
        if done is not None:
            done(result)


def _is_own_peer(sock: socket.socket) -> bool:
    """Whether the kernel drew the target's own port as ours: on loopback, TCP then connects the socket to itself."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # the target has closed again already
        return False


def start(loop: Loop, endpoint: Endpoint, check: Check, done: Done) -> TcpProbe:
    return TcpProbe(loop, endpoint, check, done)
