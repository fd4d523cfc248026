"""Connects that come from an address, or an interface, that the configuration says; or from the client's own address.

A worker's loop and a health thread use it, each its own; loaded with the first target that needs it. The kernel chooses the
port when it knows where the connect goes (IP_BIND_ADDRESS_NO_PORT), so each address has all its ports for each target
anew; when they have run out, or this machine has the address not, the next address has its turn.
"""

from errno import EADDRNOTAVAIL
from socket import AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, SO_BINDTODEVICE, SOCK_STREAM, SOL_SOCKET, SocketType
from typing import Any

from tcp_proxy.config.target_model import Source
from tcp_proxy.sansio.source import addresses_of

TRIES = 8  # addresses for one connect: looking for a free port among none costs the kernel a millisecond
NEEDS = "transparent needs CAP_NET_ADMIN: start it as root without `user`, or with AmbientCapabilities=CAP_NET_ADMIN"
_IP_TRANSPARENT, _IP_BIND_ADDRESS_NO_PORT = 19, 24  # linux/in.h
_IPV6_TRANSPARENT = 75  # linux/in6.h


class SourceConnect:
    def __init__(self, source: Source) -> None:
        self.source = source
        self._interface = source.interface.encode()
        found = [address for entry in source.addresses for address in addresses_of(entry)]
        self._addresses: dict[int, list[str]] = {
            AF_INET: [address for address in found if ":" not in address],
            AF_INET6: [address for address in found if ":" in address],
        }
        self._turn = 0

    def __repr__(self) -> str:
        return f"<SourceConnect {self.source}>"

    def __call__(self, sock: SocketType, address: Any, client: str = "") -> int:
        """What connect_ex() says. `client`: its IP address; "": it is no client's. Raises OSError as setsockopt() does."""
        if self._interface:
            sock.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, self._interface)
        if self.source.transparent and client:
            return _connect_as(sock, address, client)
        addresses = self._addresses[sock.family]
        if not addresses:
            return sock.connect_ex(address)
        if sock.type == SOCK_STREAM:  # a ping has no port
            sock.setsockopt(IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        code = EADDRNOTAVAIL
        for _ in range(min(len(addresses), TRIES)):
            self._turn = (self._turn + 1) % len(addresses)
            code = _connect_from(sock, addresses[self._turn], address)
            if code != EADDRNOTAVAIL:
                break
        return code


def _connect_as(sock: SocketType, address: Any, client: str) -> int:
    if (":" in client) != (sock.family == AF_INET6):
        return EADDRNOTAVAIL  # the client has no address of that kind
    _set_transparent(sock)
    sock.setsockopt(IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    return _connect_from(sock, client, address)


def _connect_from(sock: SocketType, source: str, address: Any) -> int:
    try:
        sock.bind((source, 0))
    except OSError as error:
        return error.errno or EADDRNOTAVAIL
    return sock.connect_ex(address)


def _set_transparent(sock: SocketType) -> None:
    if sock.family == AF_INET6:
        sock.setsockopt(IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(IPPROTO_IP, _IP_TRANSPARENT, 1)


def transparent_fault() -> str:
    """Why connects cannot come from clients' addresses, as a clause; "": they can."""
    sock = SocketType(AF_INET, SOCK_STREAM)
    try:
        _set_transparent(sock)
    except PermissionError:
        return NEEDS
    except OSError as error:
        return f"transparent: this kernel does not offer it ({error.strerror})"
    finally:
        sock.close()
    return ""
