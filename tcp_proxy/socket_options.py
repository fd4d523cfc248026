"""The options that every TCP socket of a session has, on both sides (DESIGN 9.1, 9.13).

Both wings need them: the supervisor sets them on listening sockets, from which accepted ones inherit them; a worker sets
them on the sockets it connects. Also what the kernel is asked with numbers that Python has no names for.
"""

import array
import fcntl
import socket
import struct
from socket import SocketType

KEEPALIVE_INTERVAL = 10  # seconds between probes, after timeouts.keepalive of silence
KEEPALIVE_PROBES = 3  # unanswered ones until the peer counts as gone

_SIOCOUTQ = 0x5411  # termios.TIOCOUTQ: bytes sent and not yet acknowledged
_SO_ATTACH_FILTER = 26
_TCP_CLOSE = 7
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

# Classic BPF on a TCP socket sees the TCP header: let everything pass but a SYN without ACK.
_NO_NEW_CONNECTIONS = (
    (0x30, 0, 0, 13),  # A = byte 13, the flags
    (0x54, 0, 0, 0x12),  # A &= SYN | ACK
    (0x15, 0, 1, 0x02),  # only SYN: next; else: skip one
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)

Option = tuple[int, int, int]


# From the first byte on: no delay, urgent data in its place.
FIRST_OPTIONS: tuple[Option, ...] = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_OOBINLINE, 1),
)

# For a connect whose first bytes are at hand: the acknowledgement that ends the handshake waits for them, so both leave in
# one packet and the target wakes up once (what HAProxy calls tcp-smart-connect). The kernel is quick again from then on.
WITH_FIRST_BYTES: tuple[Option, ...] = (*FIRST_OPTIONS, (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0))

UNIX_OPTIONS: tuple[Option, ...] = ((socket.SOL_SOCKET, socket.SO_OOBINLINE, 1),)


def keepalive_options(keepalive: float) -> tuple[Option, ...]:
    """How a peer that has nothing to acknowledge is found dead; `timeouts.keepalive` in seconds."""
    tcp = socket.IPPROTO_TCP
    return (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (tcp, socket.TCP_KEEPIDLE, max(1, round(keepalive))),
        (tcp, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL),
        (tcp, socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
    )


def set_options(sock: SocketType, options: tuple[Option, ...]) -> None:
    for level, option, value in options:
        sock.setsockopt(level, option, value)


def reset_on_close(sock: SocketType) -> None:
    """A close of this TCP socket sends RST and throws away what is not acknowledged."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def push(sock: SocketType) -> None:
    """Send what a TCP socket holds back because more was announced (MSG_MORE)."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def outstanding(sock: SocketType) -> int:
    """Bytes sent that the peer has not acknowledged (TCP) or not read (UNIX); 0 when the connection is no more."""
    if sock.family != socket.AF_UNIX and sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE:
        return 0
    answer = fcntl.ioctl(sock.fileno(), _SIOCOUTQ, b"\0\0\0\0")
    return int.from_bytes(answer, "little")


def unanswered(sock: SocketType) -> float:
    """Seconds since a TCP peer's last acknowledgement, if it was sent something again and did not answer; else 0.0."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 60)  # struct tcp_info of linux/tcp.h
    retransmits, probes = info[2], info[3]
    if len(info) < 60 or (retransmits == 0 and probes < 2):
        return 0.0
    milliseconds = int.from_bytes(info[56:60], "little")  # tcpi_last_ack_recv
    return max(0.001, milliseconds / 1000)


def refuse_new_connections(sock: SocketType) -> None:
    """A listening TCP socket answers no SYN any more; handshakes under way are finished (DESIGN 9.5)."""
    code = array.array("B", b"".join(struct.pack("HBBI", *step) for step in _NO_NEW_CONNECTIONS))
    program = struct.pack("HxxxxxxP", len(_NO_NEW_CONNECTIONS), code.buffer_info()[0])
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def first_ephemeral_port() -> int:
    """From this port on the kernel chooses by itself for who does not say; so it may choose one that we connect to."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            return int(file.read().split()[0])
    except (OSError, ValueError):
        return 1024
