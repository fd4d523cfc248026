"""Listening sockets that a service manager has kept for us (FDSTORE of sd_notify(3)) and passes to the next start: their
names, and which of them are used.

Main thread only, at the start. A name says the address, as the configuration writes it, behind a word that tells these
from those of socket units (activation). What comes back is used only if it is what we would have bound ourselves; the rest
is nobody's, and who waits there is reset.
"""

import contextlib
import os
import socket

from tcp_proxy.runtime.socket_options import accept_new_connections, is_listening_tcp, is_of_this_network
from tcp_proxy.sansio.address import ANY, ListenAddress

PREFIX = "listener/"


def name_of(address: ListenAddress) -> str:
    """Without colons, which stand between names in LISTEN_FDNAMES."""
    return f"{PREFIX}{address.host.replace(':', '+')}/{address.port}"


def is_stored(name: str) -> bool:
    """Whether we have given it that name; those of socket units are theirs, or an app's."""
    return name.startswith(PREFIX)


def taken_back(fd: int, name: str) -> tuple[ListenAddress, socket.socket] | None:
    """Where it listens, and the socket, as we would have bound it. None: it is another one than it is called, and closed."""
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(fd)
        return None
    if is_listening_tcp(sock) and is_of_this_network(sock) and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        address = address_of(sock)
        if name == name_of(address):
            accept_new_connections(sock)
            return address, sock
    discard(sock)
    return None


def discard(sock: socket.socket) -> None:
    """Whoever waits there is reset, and the port is free at once: the service manager closes its copy a moment later."""
    with contextlib.suppress(OSError):  # it does not listen
        sock.shutdown(socket.SHUT_RD)
    sock.close()


def address_of(sock: socket.socket) -> ListenAddress:
    """As the configuration writes it."""
    host, port, *more = sock.getsockname()
    if host == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        host = ANY
    zone = more[1] if more else 0
    return ListenAddress(f"{host}%{socket.if_indextoname(zone)}" if zone else host, port)
