"""The check `ping`: the target's host answers an ICMP echo (RFC 792, RFC 4443) in time.

    WAITING ──echo reply with our sequence number──> success · unreachable, time over ──> failure · local error ──> no verdict

ping3 builds and sends the request. Its receiving half waits by itself and by select(), which knows no descriptor above
1023, so the answer is taken here, from the loop, and read with ping3's header reader. Each probe has a socket of its own,
connected to the target: it hears no other host, and the sequence number tells its answer from another probe's.
"""

import errno
import itertools
import os
import socket
from types import ModuleType

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.probe import Done, Result
from tcp_proxy.loop import READ, Loop
from tcp_proxy.messages import Endpoint
from tcp_proxy.sansio.reasons import errno_name, is_local

_PAYLOAD = 56  # bytes, as ping sends
_REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}
_PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_numbers = itertools.count(1)  # next() is atomic: each health thread draws its own


def ping3() -> ModuleType:
    """The library, imported when the first ping is sent and not before."""
    import ping3 as module  # noqa: PLC0415

    return module  # type: ignore[no-any-return]


def open_socket(family: int) -> socket.socket:
    """An ICMP socket: the kind that any user of ping_group_range may open, else a raw one. Raises OSError."""
    try:
        return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, _PROTOCOL[family])  # type: ignore[index]
    except PermissionError:
        return socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _PROTOCOL[family])  # type: ignore[index]


def permission_error() -> str | None:
    """Why this process may not send ICMP, and what to do; None when it may."""
    try:
        open_socket(socket.AF_INET).close()
    except PermissionError:
        return (
            'a health check is of type "ping", but this process may not send ICMP: '
            "sysctl net.ipv4.ping_group_range='0 2147483647' lets every user, CAP_NET_RAW this process; or run it as root"
        )
    return None


class PingProbe:
    """Owns its socket and its timer until it is done or cancelled."""

    def __init__(self, loop: Loop, endpoint: Endpoint, check: Check, done: Done) -> None:
        family, address = endpoint
        self._loop = loop
        self._done: Done | None = done
        self._family = family
        self._name = f"ping {address[0]}"
        self._sequence = next(_numbers) & 0xFFFF
        self._socket: socket.socket | None = None
        self._started = loop.now
        self._timer = loop.call_later(check.timeout, self._time_over, check.timeout)
        try:
            sock = self._socket = open_socket(family)
            sock.connect((address[0], 0, *address[2:]))
            identity = (os.getpid() ^ self._sequence * 31) & 0xFFFF or 1
            ping3().send_one_ping(sock, address[0], identity, self._sequence, _PAYLOAD)
        except OSError as error:
            loop.call_soon(self._failed, error.errno or errno.EIO)
            return
        loop.watch(sock.fileno(), READ, self._ready)

    def __repr__(self) -> str:
        return f"<PingProbe {self._name} {'running' if self._done else 'over'}>"

    def cancel(self) -> None:
        """Release everything; nobody is told."""
        self._done = None
        self._timer.cancel()
        sock, self._socket = self._socket, None
        if sock is not None:
            if self._loop.is_watched(sock.fileno()):
                self._loop.unwatch(sock.fileno())
            self._loop.close_after_batch(sock)

    def _ready(self, _events: int) -> None:
        assert self._socket is not None
        try:
            packet = self._socket.recv(2048)
        except BlockingIOError:
            return
        except OSError as error:  # an ICMP error that the kernel has matched to this socket
            self._failed(error.errno or errno.EIO)
            return
        if self._socket.type == socket.SOCK_RAW and self._family == socket.AF_INET:
            packet = packet[(packet[0] & 0x0F) * 4 :]  # raw IPv4 sockets show the IP header
        if len(packet) < 8:
            return
        header = ping3().read_icmp_header(packet[:8])
        if header["type"] == _REPLY[self._family] and header["seq"] == self._sequence:  # type: ignore[index]
            self._tell(Result(True, f"{self._name}: answered in {(self._loop.now - self._started) * 1000:.1f} ms"))

    def _time_over(self, seconds: float) -> None:
        self._tell(Result(False, f"{self._name}: no answer in {seconds:g} s"))

    def _failed(self, code: int) -> None:
        self._tell(Result(None if is_local(code) else False, f"{self._name}: {os.strerror(code)} ({errno_name(code)})"))

    def _tell(self, result: Result) -> None:
        done = self._done
        self.cancel()
        if done is not None:
            done(result)


def start(loop: Loop, endpoint: Endpoint, check: Check, done: Done) -> PingProbe:
    return PingProbe(loop, endpoint, check, done)
