"""The check `ping`: the target's host answers an ICMP echo (RFC 792, RFC 4443) in time.

    WAITING ──our echo reply──> success · unreachable, time over ──> failure · local error ──> no verdict

Runs in a health thread, on its loop. A probe owns its socket and its timer; `cancel` is the one place that releases
them, and every end goes through it.

ping3 builds and sends the request. Its receiving half waits by itself, and by select(), which knows no descriptor above
1023; so the answer is taken here, when the loop says that there is one, and read with ping3's header reader.
Whose answer it is: a probe's socket is connected, so it hears its target alone; of the kernel's ICMP sockets the kernel
gives each only the answers with its own id; a raw socket hears everybody's, and the 32 bits of id and sequence number,
counted from a random start, tell ours from other probes' and other programs' (test_no_probe_takes_anothers_answer).
"""

import errno
import itertools
import os
import random
import socket
from types import ModuleType

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.probe import Done, Result
from tcp_proxy.runtime.loop import READ, Loop
from tcp_proxy.sansio.reasons import errno_name, is_local, reported
from tcp_proxy.wire.views import Endpoint

_PAYLOAD = 56  # bytes, as ping sends
_REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}
_PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_numbers = itertools.count(random.getrandbits(32))  # next() is atomic: each health thread draws its own


def ping3() -> ModuleType:
    """The library, imported when the first ping is sent and not before: it costs a start time that few need."""
    import ping3 as module  # noqa: PLC0415

    return module  # type: ignore[no-any-return]


def open_socket(family: int) -> socket.socket:
    """The kernel's ICMP socket, which sorts the answers and needs no privilege, or else a raw one. Raises OSError."""
    protocol = _PROTOCOL[socket.AddressFamily(family)]
    try:
        return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, protocol)
    except OSError:  # EACCES: not in ping_group_range (as a rule not even root); EPROTONOSUPPORT: a kernel without
        return socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)


def permission_error() -> str | None:
    """Why this process may not send ICMP, and what to do; None when it may."""
    try:
        open_socket(socket.AF_INET).close()
    except PermissionError:
        return (
            'a health check is of type "ping", but this process may not send ICMP: allow it to every user with '
            "sysctl -w net.ipv4.ping_group_range='0 2147483647', or give this process CAP_NET_RAW, or run it as root"
        )
    return None


class PingProbe:
    """Of one address; `done(Result)` is called once, and never before `start` has returned."""

    def __init__(self, loop: Loop, endpoint: Endpoint, check: Check, done: Done) -> None:
        self._family, address = endpoint
        self._loop = loop
        self._done: Done | None = done
        zone = f"%{address[3]}" if len(address) > 3 and address[3] else ""
        self._host = address[0] + zone
        self._source = check.source
        number = next(_numbers)
        self._id, self._sequence = number >> 16 & 0xFFFF, number & 0xFFFF
        self._socket: socket.socket | None = None
        self._started = loop.now
        self._timer = loop.call_later(check.timeout, self._time_over, check.timeout)
        try:
            self._send((address[0], 0, *address[2:]))
        except OSError as error:
            loop.call_soon(self._failed, error.errno or errno.EIO)

    def __repr__(self) -> str:
        return f"<PingProbe {self._host} {'running' if self._done else 'over'}>"

    def cancel(self) -> None:
        """Release everything; nobody is told."""
        self._done = None
        self._timer.cancel()
        sock, self._socket = self._socket, None
        if sock is not None:
            if self._loop.is_watched(sock.fileno()):
                self._loop.unwatch(sock.fileno())
            self._loop.close_after_batch(sock)

    def _send(self, address: tuple[object, ...]) -> None:
        sock = self._socket = open_socket(self._family)
        if self._source is None:
            sock.connect(address)
        else:
            from tcp_proxy.runtime.source import SourceConnect  # noqa: PLC0415  for the first that needs it

            code = SourceConnect(self._source)(sock, address)
            if code:
                raise OSError(code, os.strerror(code))
        if sock.type == socket.SOCK_DGRAM:
            self._id = sock.getsockname()[1]  # whatever is sent, the kernel writes its own id over it
        ping3().send_one_ping(sock, self._host, self._id, self._sequence, _PAYLOAD)
        self._loop.watch(sock.fileno(), READ, self._ready)

    def _ready(self, _events: int) -> None:
        assert self._socket is not None
        self._take(self._socket)

    def _take(self, sock: socket.socket) -> bool:
        """Whether something had come."""
        try:
            self._hear(sock, sock.recv(2048))
        except BlockingIOError:
            return False
        except OSError as error:  # an ICMP error that the kernel has matched to this socket
            self._failed(reported(error.errno or errno.EIO))
        return True

    def _hear(self, sock: socket.socket, packet: bytes) -> None:
        if sock.type == socket.SOCK_RAW and self._family == socket.AF_INET:
            packet = packet[(packet[0] & 0x0F) * 4 :]  # raw IPv4 sockets show the IP header
        if len(packet) < 8:
            return
        header = ping3().read_icmp_header(packet[:8])
        expected = (_REPLY[socket.AddressFamily(self._family)], self._id, self._sequence)
        if (header["type"], header["id"], header["seq"]) == expected:
            milliseconds = (self._loop.now - self._started) * 1000
            self._tell(Result(True, f"ping {self._host}: answered in {milliseconds:.1f} ms"))

    def _time_over(self, seconds: float) -> None:
        """What has come by now counts, though the loop may not have seen it yet."""
        while self._socket is not None and self._take(self._socket):
            pass
        self._tell(Result(False, f"ping {self._host}: timed out, no answer in {seconds:g} s"))

    def _failed(self, code: int) -> None:
        text = f"ping {self._host}: {os.strerror(code).lower()} ({errno_name(code)})"
        self._tell(Result(None if is_local(code) else False, text))

    def _tell(self, result: Result) -> None:
        done = self._done
        self.cancel()
        if done is not None:
            done(result)


def start(loop: Loop, endpoint: Endpoint, check: Check, done: Done) -> PingProbe:
    return PingProbe(loop, endpoint, check, done)
