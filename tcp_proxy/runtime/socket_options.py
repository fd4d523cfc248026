"""The options that every TCP socket of a session has, on both sides (docs/rules.md, R1, R13).

Control and dataplane need them: the supervisor sets them on listening sockets, from which accepted ones inherit them; a
worker sets them on the sockets it connects. Also what the kernel is asked with numbers that Python has no names for.
"""

import array
import contextlib
import fcntl
import select
import socket
import struct
from enum import Enum
from socket import SocketType

from tcp_proxy.runtime.stream_socket import StreamSocket

KEEPALIVE_INTERVAL = 10  # seconds between probes, after timeouts.keepalive of silence
KEEPALIVE_PROBES = 3  # unanswered ones until the peer counts as gone

_SIOCOUTQ = 0x5411  # termios.TIOCOUTQ: bytes sent and not yet acknowledged
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h, Linux 5.14
_IP_MINTTL, _IPV6_MINHOPCOUNT = 21, 73  # linux/in.h, linux/in6.h
_TCP_CLOSE = 7
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_DELIVER_ON_CLOSE = struct.pack("ii", 0, 0)

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


def set_options(sock: StreamSocket, options: tuple[Option, ...]) -> None:
    for level, option, value in options:
        sock.setsockopt(level, option, value)


def reset_on_close(sock: StreamSocket) -> None:
    """A close of this TCP socket sends RST and throws away what is not acknowledged."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def deliver_on_close(sock: StreamSocket) -> None:
    """Takes `reset_on_close` back."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DELIVER_ON_CLOSE)


def push(sock: StreamSocket) -> None:
    """Send what a TCP socket holds back because more was announced (MSG_MORE)."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def outstanding(sock: StreamSocket) -> int:
    """Bytes sent that the peer has not acknowledged (TCP) or not read (UNIX); 0 when the connection is no more."""
    if sock.family != socket.AF_UNIX and sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE:
        return 0
    answer = fcntl.ioctl(sock.fileno(), _SIOCOUTQ, b"\0\0\0\0")
    return int.from_bytes(answer, "little")


def waiting(sock: SocketType) -> int:
    """Clients in the queue of a listening TCP socket, whose handshake is done and whom nobody has accepted."""
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)[24:], "little")  # tcpi_unacked


def unanswered(sock: StreamSocket) -> float:
    """Seconds since a TCP peer's last acknowledgement, if it was sent something again and did not answer; else 0.0."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 60)  # struct tcp_info of linux/tcp.h
    retransmits, probes = info[2], info[3]
    if len(info) < 60 or (retransmits == 0 and probes < 2):
        return 0.0
    milliseconds = int.from_bytes(info[56:60], "little")  # tcpi_last_ack_recv
    return max(0.001, milliseconds / 1000)


class Refusal(Enum):
    """How a listening TCP socket of this process can be told to answer no SYN any more."""

    FILTER = "a filter that drops every SYN"  # SO_ATTACH_FILTER: with CAP_NET_ADMIN only, since Linux 6.18
    HOP_LIMIT = "a minimum TTL that no packet has"  # IP_MINTTL: without any privilege
    NONE = "not at all"  # neither is to be had (a sandbox, another kernel)


def refusal() -> Refusal:
    """What `refuse_new_connections` can do here, found out on a socket that nobody uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        return refuse_new_connections(sock)


def refuse_new_connections(sock: SocketType) -> Refusal:
    """A listening TCP socket answers no SYN any more; handshakes under way are finished (docs/rules.md, R5). Never
    raises."""
    if refuse_by_filter(sock):
        return Refusal.FILTER
    return Refusal.HOP_LIMIT if refuse_by_hop_limit(sock) else Refusal.NONE


def refuse_by_filter(sock: SocketType) -> bool:
    """Whether the kernel lets us; what is accepted is not affected."""
    code = array.array("B", b"".join(struct.pack("HBBI", *step) for step in _NO_NEW_CONNECTIONS))
    program = struct.pack("HxxxxxxP", len(_NO_NEW_CONNECTIONS), code.buffer_info()[0])
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        return False
    return True


def refuse_by_hop_limit(sock: SocketType) -> bool:
    """Whether the kernel lets us (ip(7), IP_MINTTL; ipv6(7)). Handshakes under way are finished.

    What is accepted from then on inherits the minimum and receives nothing before `hear_every_hop`; what its peer sends
    meanwhile is sent again. A SYN whose TTL is 255, from a neighbour that begins there, is still answered.
    """
    return _set_least_hops(sock, 255)


def hear_every_hop(sock: SocketType) -> None:
    """For a socket that was accepted from one that refuses by HOP_LIMIT."""
    _set_least_hops(sock, 0)


def accept_new_connections(sock: SocketType) -> None:
    """Takes back what `refuse_new_connections` may have done to a listening socket that outlived whoever did it."""
    with contextlib.suppress(OSError):  # there is no filter
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    hear_every_hop(sock)


def _set_least_hops(sock: SocketType, hops: int) -> bool:
    """Packets that come with a lower TTL or hop limit are dropped. Whether the kernel does that. A dual-stack socket needs
    both."""
    try:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, hops)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, hops)
    except OSError:
        return False
    return True


def is_listening_tcp(sock: SocketType) -> bool:
    is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    if not is_tcp or sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) != socket.IPPROTO_TCP:
        return False
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def is_of_this_network(sock: SocketType) -> bool:
    """Whether it was made in the network namespace that we are in; a kernel that cannot say has us believe so."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as ours:
            return sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8) == ours.getsockopt(
                socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8
            )
    except OSError:
        return True


def first_ephemeral_port() -> int:
    """From this port on the kernel chooses by itself for who does not say; so it may choose one that we connect to."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            return int(file.read().split()[0])
    except (OSError, ValueError):
        return 1024


def has_ended(sock: StreamSocket) -> bool:
    """Whether the peer has said that it sends no more, or has reset, as far as the kernel knows. Nothing is read."""
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    return bool(poller.poll(0))
