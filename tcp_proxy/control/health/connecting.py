"""What all probes that connect have in common: a stream socket, from nothing to connected, in time; and its release.

    CONNECTING ──connected──> `_established` · reset since ──> `_was_reset` · refused, unreachable, time over ──> failure
        ^  │ a UNIX socket's queue is full
        └──┘ RETRY later

Runs in a health thread, on its loop. A probe owns its socket and its timers; `cancel` is the one place that releases
them, and every end goes through it. `done(Result)` is called once, and never before `start` has returned. What has come
by the end of the time counts, though the loop may not have seen it yet.
"""

import errno
import os
import select
import socket

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.probe import Done, Result, shown
from tcp_proxy.runtime.loop import FAILED, WRITE, Loop, Timer
from tcp_proxy.sansio.proxyproto import LOCAL, build
from tcp_proxy.sansio.reasons import Attempt, attempt, errno_name, is_local, reported
from tcp_proxy.wire.views import Endpoint

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
        self._send_proxy = check.send_proxy or 0
        self._source = check.source
        self._name = name or f"{check.type} {shown((self._family, self._address))}"
        self._socket: socket.socket | None = None
        self._retry: Timer | None = None
        self._is_connecting = False
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

    def _was_reset(self, code: int) -> None:
        """The target had accepted. SO_ERROR has told of the reset, and will not do so again."""
        raise NotImplementedError

    def _silence(self) -> str:
        """What was not there when the time was over."""
        return "no answer"

    # -- connecting

    def _connect(self) -> None:
        try:
            if self._socket is None:
                self._socket = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            code = self._connect_ex(self._socket)
        except OSError as error:
            code = error.errno or errno.EIO
        if code == errno.EINPROGRESS:
            assert self._socket is not None
            self._is_connecting = True
            self._loop.watch(self._socket.fileno(), WRITE, self._ready)
        elif code == errno.EAGAIN and self._family == socket.AF_UNIX:
            # Where TCP drops a SYN and lets it come again, a UNIX socket with a full queue refuses to wait at all.
            self._retry = self._loop.call_later(RETRY, self._connect)
        else:
            self._loop.call_soon(self._end, code)

    def _connect_ex(self, sock: socket.socket) -> int:
        if self._source is None or self._family == socket.AF_UNIX:
            return sock.connect_ex(self._address)
        from tcp_proxy.runtime.source import SourceConnect  # noqa: PLC0415  for the first that needs it

        return SourceConnect(self._source)(sock, self._address)

    def _ready(self, events: int) -> None:
        assert self._socket is not None
        self._is_connecting = False
        self._end(reported(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) if events & FAILED else 0)

    def _end(self, code: int) -> None:
        if self._done is None:  # cancelled meanwhile
            return
        if code and attempt(code) is Attempt.RESET:
            self._was_reset(code)
        elif code:
            self._failed(code)
        elif self._socket is not None and _is_own_peer(self._socket):
            self._tell(False, "nobody listens, the probe met itself")
        else:
            self._introduce()

    def _introduce(self) -> None:
        """Connected. A target that wants a PROXY header logs an error without one."""
        sock = self._socket
        if self._send_proxy and sock is not None:
            try:
                header = _header(sock, self._send_proxy)
                if sock.send(header) < len(header):  # most receivers end a connection whose header is cut
                    raise OSError(errno.EMSGSIZE, "")
            except OSError as error:
                self._end(error.errno or errno.EIO)
                return
        self._established()

    # -- the result

    def _look_again(self) -> None:
        """The time is over: has something come that the loop did not have the time to look at?"""
        if self._is_connecting and self._socket is not None:
            poll = select.poll()
            poll.register(self._socket, select.POLLOUT)
            for _, events in poll.poll(0):
                self._ready(events)

    def _time_over(self, seconds: float) -> None:
        self._look_again()
        self._tell(False, f"timed out, {self._silence()} in {seconds:g} s")

    def _failed(self, code: int, so_far: str = "") -> None:
        text = f"{os.strerror(code).lower()} ({errno_name(code)}){so_far}"
        self._tell(None if is_local(code) else False, text)

    def _tell(self, success: bool | None, text: str) -> None:
        done = self._done
        self.cancel()
        if done is not None:
            done(Result(success, f"{self._name}: {text}"))


def _header(sock: socket.socket, version: int) -> bytes:
    """Of this machine's own connection: LOCAL, or in version 1, which has no such word, its true ends."""
    if version == 2:
        return LOCAL
    if sock.family == socket.AF_UNIX:
        return build(1, None, None)
    return build(1, sock.getsockname()[:2], sock.getpeername()[:2])


def _is_own_peer(sock: socket.socket) -> bool:
    """Whether the kernel drew the target's own port as ours: on loopback, TCP then connects the socket to itself."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # the target has closed again already
        return False
