"""The check `tcp`: the target accepts a connection in time.

    CONNECTING ──accepted──> success · refused, unreachable, reset, time over ──> failure · local error ──> no verdict
"""

import errno
import os
import socket

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.probe import Done, Result, shown
from tcp_proxy.loop import FAILED, WRITE, Loop
from tcp_proxy.messages import Endpoint
from tcp_proxy.sansio.reasons import errno_name, is_local


class TcpProbe:
    """Owns its socket and its timer until it is done or cancelled."""

    def __init__(self, loop: Loop, endpoint: Endpoint, check: Check, done: Done) -> None:
        family, address = endpoint
        if check.port is not None and family != socket.AF_UNIX:
            address = (address[0], check.port, *address[2:])
        self._loop = loop
        self._done: Done | None = done
        self._name = f"tcp {shown((family, address))}"
        self._socket: socket.socket | None = None
        self._timer = loop.call_later(check.timeout, self._time_over, check.timeout)
        try:
            sock = self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            code = sock.connect_ex(address)
        except OSError as error:
            code = error.errno or errno.EINVAL
        if code == errno.EINPROGRESS:
            assert self._socket is not None
            loop.watch(self._socket.fileno(), WRITE, self._ready)
        else:  # not from here: whoever starts a probe does not expect to be called before it has it
            loop.call_soon(self._end, code)

    def __repr__(self) -> str:
        return f"<TcpProbe {self._name} {'running' if self._done else 'over'}>"

    def cancel(self) -> None:
        """Release everything; nobody is told."""
        self._done = None
        self._timer.cancel()
        sock, self._socket = self._socket, None
        if sock is not None:
            if self._loop.is_watched(sock.fileno()):
                self._loop.unwatch(sock.fileno())
            self._loop.close_after_batch(sock)

    def _ready(self, events: int) -> None:
        assert self._socket is not None
        self._end(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & FAILED else 0)

    def _time_over(self, seconds: float) -> None:
        self._tell(Result(False, f"{self._name}: no answer in {seconds:g} s"))

    def _end(self, code: int) -> None:
        if code == 0:
            self._tell(Result(True, f"{self._name}: accepted"))
        else:
            self._tell(Result(None if is_local(code) else False, f"{self._name}: {os.strerror(code)} ({errno_name(code)})"))

    def _tell(self, result: Result) -> None:
        done = self._done
        self.cancel()
        if done is not None:
            done(result)


def start(loop: Loop, endpoint: Endpoint, check: Check, done: Done) -> TcpProbe:
    return TcpProbe(loop, endpoint, check, done)
