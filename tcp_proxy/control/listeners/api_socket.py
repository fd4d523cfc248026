"""The socket that the management API listens on: bound by the supervisor at start, passed to the API's process.

So that an address that cannot be had is one clear line before anything else happens, and a process that is replaced
loses no waiting request. A UNIX socket is for the program's own user only (mode 0600), and is removed at the end; one
that a killed supervisor left is taken over, one that somebody serves is not.
"""

import contextlib
import errno
import os
import select
import socket
import stat
from collections.abc import Callable

from tcp_proxy.config.model import Api
from tcp_proxy.control.api.token_file import read_token
from tcp_proxy.control.listeners.holders import listeners_at, listeners_of, who_listens
from tcp_proxy.control.listeners.sockets import IN_USE_TRIES, IN_USE_WAIT, CannotListen
from tcp_proxy.sansio.address import ANY, Address

BACKLOG = 128

GivenSocket = tuple[socket.socket, tuple[int, int]]


class ApiSocket:
    """`sock` listens. `close` gives everything back, the UNIX socket's path too."""

    def __init__(self, api: Api, given: "GivenSocket | None" = None) -> None:
        """`given`: of a program that is taken over. Raises CannotListen. The token file, if there is one, has been looked at
        as well."""
        self.api = api
        if api.token_file is not None:
            try:
                read_token(api.token_file)
            except ValueError as error:
                raise CannotListen(f"the management API cannot be served: {error}") from None
        self._identity = (0, 0)
        if given is not None:
            self.sock, self._identity = given
            return
        self.sock = _patiently(api.listen, self._unix if api.listen.path else _tcp)
        self.sock.setblocking(False)

    def __repr__(self) -> str:
        return f"<ApiSocket {self.api.listen}>"

    @property
    def url(self) -> str:
        listen = self.api.listen
        return str(listen) if listen.path else f"http://{listen}"

    @property
    def identity(self) -> tuple[int, int]:
        """Of the UNIX socket's path."""
        return self._identity

    def let_go(self) -> None:
        """It is another program's."""
        self._identity = (0, 0)

    def close(self) -> None:
        self.sock.close()
        path = self.api.listen.path
        with contextlib.suppress(OSError):
            if path and _identity(path) == self._identity:
                os.unlink(path)

    def _unix(self, listen: Address) -> socket.socket:
        sock, path = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), listen.path
        try:
            _make_way(path)
            sock.bind(path)
            os.chmod(path, 0o600)  # before listen: until then nobody can connect
            self._identity = _identity(path)
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        return sock


def _identity(path: str) -> tuple[int, int]:
    """Numbers of files are used again."""
    status = os.stat(path)
    return status.st_ino, status.st_ctime_ns


def _make_way(path: str) -> None:
    """Remove a socket that nobody serves."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, "File exists, and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    os.unlink(path)


def _patiently(listen: Address, bind: Callable[[Address], socket.socket]) -> socket.socket:
    """The API's process of a supervisor that was killed a moment ago may still be there."""
    for tries_left in reversed(range(IN_USE_TRIES)):
        try:
            return bind(listen)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not tries_left:
                raise _cannot(listen, error) from None
        select.poll().poll(IN_USE_WAIT)
    raise AssertionError("unreachable")


def _tcp(listen: Address) -> socket.socket:
    host = "::" if listen.host == ANY else listen.host
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in host:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, listen.host != ANY)
        sock.bind((host, listen.port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _cannot(listen: Address, error: OSError) -> CannotListen:
    who = ""
    if error.errno == errno.EADDRINUSE:
        who = who_listens(listeners_at(listen.path) if listen.path else listeners_of(listen.port))
    hints = {
        errno.EADDRINUSE: f"{who} (see: ss -lntxp | grep {listen.path or listen.port})",
        errno.EADDRNOTAVAIL: "this machine has no such address (see: ip address)",
        errno.EACCES: "the user of the program may not do that there",
        errno.ENOENT: "its folder does not exist",
        errno.EEXIST: "something that is no socket has this name",
    }
    hint = hints.get(error.errno or 0)
    reason = os.strerror(error.errno) if error.errno else str(error)
    return CannotListen(f"the management API cannot listen on {listen}: {reason}" + (f"; {hint}" if hint else ""))
