"""The listening sockets: bound once, in the supervisor, and passed to every worker.

Main thread only. The supervisor owns the originals: a worker that dies takes no waiting client with it. Explicit IPv6
sockets are V6ONLY; "*" is one dual-stack socket; the backlog is the kernel's limit (docs/rules.md, R5).
"""

import errno
import os
import select
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from tcp_proxy.config.model import App
from tcp_proxy.control.listeners.activation import Activation
from tcp_proxy.control.listeners.holders import described, listeners_of, orphaned, who_listens
from tcp_proxy.runtime.socket_options import FIRST_OPTIONS, keepalive_options, refuse_new_connections, set_options
from tcp_proxy.sansio.address import ListenAddress

IN_USE_TRIES = 20  # a supervisor that was killed leaves workers that close their copies within 100 ms
IN_USE_WAIT = 50  # milliseconds between two tries
ORPHAN_TRIES = 60  # such a worker also resets its sessions with a primary, in all its threads


class CannotListen(Exception):
    """One line for the user: which address, of which app, why, and what to do."""


@dataclass(slots=True)
class Listening:
    """One bound socket; `number` names it to the workers."""

    number: int
    app: str
    address: ListenAddress
    sock: socket.socket
    is_listening: bool = True
    is_activated: bool = False  # a service manager has it too, and goes on when we end
    is_stored: bool = False  # a service manager keeps a copy for our next start (listeners.fd_store)

    @property
    def is_kept(self) -> bool:
        """It is there when we are not."""
        return self.is_activated or self.is_stored

    def listen(self) -> None:
        """Accept clients, for the first time or again. Raises OSError: somebody else may have taken the port."""
        if not self.is_listening:
            self.sock.listen(_somaxconn())
            self.is_listening = True

    def stop_listening(self) -> None:
        """The port is closed: whoever waits in its queue or comes is reset. It stays ours, so `listen` opens it again, for
        everybody who has a copy of the socket."""
        if self.is_listening:
            self.sock.shutdown(socket.SHUT_RD)
            self.is_listening = False

    def refuse_new(self) -> None:
        """Whoever connects to one that a service manager has waits for our next start."""
        if not self.is_kept:
            refuse_new_connections(self.sock)

    def leave(self) -> None:
        """No app has it any more, and no worker: nobody is to wait at a service manager's copy."""
        self.stop_listening()
        self.sock.close()

    def set_keepalive(self, keepalive: float) -> None:
        """For clients that come from now on."""
        set_options(self.sock, keepalive_options(keepalive))


def bind_all(apps: Iterable[App], activation: Activation | None = None) -> list[Listening]:
    """Bind and listen on everything that a service manager has not, or raise CannotListen with nothing left open."""
    bound: list[Listening] = []
    apps = tuple(apps)
    try:
        _wait_for_orphans(apps)
        for app in apps:
            for address in app.listeners:
                item = _passed(len(bound), app, address, activation) if activation is not None else None
                if item is None:
                    item = Listening(len(bound), app.name, address, _bind_patiently(app, address), not app.refuses)
                bound.append(item)
    except CannotListen:
        for listening in bound:
            listening.sock.close()
        raise
    return bound


def _passed(number: int, app: App, address: ListenAddress, activation: Activation) -> Listening | None:
    """What a service manager has opened, or kept, for that address."""
    sock = activation.take(address)
    item = Listening(number, app.name, address, sock, is_activated=True) if sock is not None else None
    if item is None and (sock := activation.take_stored(address)) is not None:
        sock.listen(_somaxconn())  # what the limit is now
        item = Listening(number, app.name, address, sock, is_stored=True)
    if item is not None:
        set_options(item.sock, FIRST_OPTIONS + keepalive_options(app.timeouts.keepalive))
        if app.refuses:  # its ports open when there is a primary
            item.stop_listening()
    return item


def bind_now(number: int, app: App, address: ListenAddress) -> Listening:
    """One more, while the program runs: tried once. Raises CannotListen."""
    try:
        return Listening(number, app.name, address, _bind(app, address), not app.refuses)
    except OSError as error:
        # Nobody is looked for: that reads every descriptor of the machine, and the main loop serves meanwhile.
        raise CannotListen(_explain(app, address, error, "something else")) from None


def _wait_for_orphans(apps: tuple[App, ...]) -> None:
    """Until no worker of an earlier life can reach a primary. Raises CannotListen."""
    elected = [app for app in apps if app.has_primary and app.failover.on_demotion == "close"]
    addresses = {str(address): app for app in elected for address in app.listeners}
    for tries_left in reversed(range(ORPHAN_TRIES if addresses else 0)):
        found = orphaned(addresses)
        if not found:
            return
        if not tries_left:
            app, pid = addresses[found[0].address], found[0].worker
            raise CannotListen(
                f"app {app.name!r} would have two primaries: {described(pid)} may still have sessions with the one of an "
                f"earlier life; let it go on (kill -CONT {pid}) or end it (kill -KILL {pid}), then start again"
            )
        select.poll().poll(IN_USE_WAIT)


def _bind_patiently(app: App, address: ListenAddress) -> socket.socket:
    for tries_left in reversed(range(IN_USE_TRIES)):
        try:
            return _bind(app, address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not tries_left:
                who = who_listens(listeners_of(address.port)) if error.errno == errno.EADDRINUSE else ""
                raise CannotListen(_explain(app, address, error, who)) from None
        select.poll().poll(IN_USE_WAIT)
    raise AssertionError("unreachable")


def _bind(app: App, address: ListenAddress) -> socket.socket:
    dual = address.host == "*"
    if dual and not socket.has_dualstack_ipv6():
        host, family, dual = "0.0.0.0", socket.AF_INET, False  # noqa: S104  the user wrote "*"
    else:
        host = "::" if dual else address.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        # Inherited by what it accepts.
        set_options(sock, FIRST_OPTIONS + keepalive_options(app.timeouts.keepalive))
        sock.bind(_sockaddr(family, host, address.port))
        if not app.refuses:  # its ports open when there is a primary
            sock.listen(_somaxconn())
    except OSError:
        sock.close()
        raise
    return sock


def _sockaddr(family: int, host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """What bind() takes. A link-local IPv6 address names its interface: fe80::1%eth0."""
    if family == socket.AF_INET:
        return host, port
    ip, _, zone = host.partition("%")
    return ip, port, 0, socket.if_nametoindex(zone) if zone else 0


def _somaxconn() -> int:
    try:
        with open("/proc/sys/net/core/somaxconn") as file:
            return int(file.read())
    except (OSError, ValueError):
        return socket.SOMAXCONN


def _explain(app: App, address: ListenAddress, error: OSError, who: str) -> str:
    hints = {
        errno.EADDRINUSE: f"{who} (see: ss -ltnp 'sport = :{address.port}')",
        errno.EADDRNOTAVAIL: "this machine has no such address (see: ip address)",
        errno.EACCES: "ports below 1024 need the capability CAP_NET_BIND_SERVICE, or root",
    }
    reason = os.strerror(error.errno) if error.errno else str(error)
    hint = hints.get(error.errno or 0)
    return f"cannot listen on {address} for app {app.name!r}: {reason}" + (f"; {hint}" if hint else "")
