"""What all probes that connect have in common: a stream socket, from nothing to connected, in time; and its release.

    CONNECTING ──connected──> `_established` · refused, unreachable ──> `_not_connected` · time over ──> failure
        ^  │ a UNIX socket's queue is full
        └──┘ RETRY later

Runs in a health thread, on its loop. A probe owns its socket and its timers; `cancel` is the one place that releases
them, and every end goes through it. `done(Result)` is called once, and never before `start` has returned.
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


def with_port(endpoint: Endpoint, port: int | None) -> Endpoint:
    """The endpoint that is checked: perhaps another port of the same host."""
    family, address = endpoint
    if port is None or family == socket.AF_UNIX:
        return endpoint
    return family, (address[0], port, *address[2:])


class Connecting:
    """Of one address. `name` is what its results begin with: what was asked, and where."""

    def __init__(self, loop: Loop, endpoint: Endpoint, check: Check, done: Done, name: str = "") -> None:
        self._family, self._address = with_port(endpoint, check.port)
        self._loop = loop
        self._done: Done | None = done
        self._name = name or f"{check.type} {shown((self._family, self._address))}"
        self._socket: socket.socket | None = None
        self._retry: Timer | None = None
        self._timer = loop.call_later(check.timeout, self._time_over, check.timeout)
        self._connect()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name} {'running' if self._done else 'over'}>"

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

    # -- what a kind of probe makes of it

    def _established(self) -> None:
        raise NotImplementedError

    def _not_connected(self, code: int) -> None:
        self._failed(code)

    def _silence(self) -> str:
        """What was not there when the time was over."""
        return "no answer"

    # -- connecting

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

    def _end(self, code: int) -> None:
        if self._done is None:  # cancelled meanwhile
            return
        if code:
            self._not_connected(code)
        elif self._socket is not None and _is_own_peer(self._socket):
            self._tell(False, "nobody listens, the probe met itself")
        else:
            self._established()

    # -- the result

    def _time_over(self, seconds: float) -> None:
        self._tell(False, f"timed out, {self._silence()} in {seconds:g} s")

    def _failed(self, code: int) -> None:
        self._tell(None if is_local(code) else False, f"{os.strerror(code).lower()} ({errno_name(code)})")

    def _tell(self, success: bool | None, text: str) -> None:
        done = self._done
        self.cancel()
        if done is not None:
            done(Result(success, f"{self._name}: {text}"))


def _is_own_peer(sock: socket.socket) -> bool:
    """Whether the kernel drew the target's own port as ours: on loopback, TCP then connects the socket to itself."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # the target has closed again already
        return False
