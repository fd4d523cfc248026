"""Listening sockets that a service manager has opened for us: socket activation, sd_listen_fds(3).

Main thread only, at the start. Each such socket takes the place of one that would be bound: that of the app which listens on
its address. So the configuration still says everything, and the same file works without a service manager.

The service manager keeps a copy. While we are not there, clients wait in its queue; so nothing that would outlive us is done
to such a socket when we end, and what an earlier life left on it is taken off at the start.

Beside them comes what an earlier life had the manager keep (listeners.stored), told apart by its names.
"""

import os
import socket
from collections.abc import Iterable, MutableMapping

from tcp_proxy.config.model import App
from tcp_proxy.control.listeners.stored import address_of, discard, is_stored, name_of, taken_back
from tcp_proxy.runtime.socket_options import accept_new_connections, is_listening_tcp
from tcp_proxy.sansio.address import ListenAddress
from tcp_proxy.sansio.frozen_dataclass import dataclass

FIRST_DESCRIPTOR = 3


class CannotTake(Exception):
    """One line for the user: which descriptor, what is wrong with it, what to do."""


@dataclass(frozen=True, slots=True)
class _Passed:
    fd: int
    name: str  # FileDescriptorName= of the socket unit; "" where nothing is said
    sock: socket.socket
    address: ListenAddress

    def __str__(self) -> str:
        named = f" ({self.name})" if self.name else ""
        return f"descriptor {self.fd}{named} of LISTEN_FDS listens on {self.address}"


class Activation:
    """Owns the sockets until `take` or `take_stored`; `close` gives back what is left. `unusable`: names of those that the
    manager has kept and that nobody can use any more."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Takes the variables out of `environment`: nobody that we start has these descriptors. Raises CannotTake."""
        pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
        names = environment.pop("LISTEN_FDNAMES", "").split(":")
        self._passed: dict[ListenAddress, _Passed] = {}
        self._stored: dict[ListenAddress, socket.socket] = {}
        self.unusable: set[str] = set()
        if pid != str(os.getpid()) or not count.isdecimal():  # they are for whoever started us
            return
        try:
            for number in range(int(count)):
                name = names[number] if number < len(names) else ""
                if is_stored(name):
                    self._take_back(FIRST_DESCRIPTOR + number, name)
                    continue
                one = _passed(FIRST_DESCRIPTOR + number, "" if name == "unknown" else name)
                self._passed[one.address] = one
        except CannotTake:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Activation {', '.join(map(str, self._passed)) or 'none'}>"

    def _take_back(self, fd: int, name: str) -> None:
        found = taken_back(fd, name)
        if found is None or found[0] in self._stored:
            self.unusable.add(name)  # all of that name
        if found is not None and found[0] in self._stored:
            found[1].close()
        elif found is not None:
            self._stored[found[0]] = found[1]

    def require(self, apps: Iterable[App]) -> None:
        """Whether each is for one of them. Raises CannotTake: a client of another would wait for ever. Of what was kept the
        rest is discarded: the configuration may have changed since."""
        apps = tuple(apps)
        wanted = {address: app.name for app in apps for address in app.listeners}
        names = set(wanted.values())
        for one in self._passed.values():
            owner = wanted.get(one.address)
            if owner is None:
                whose = f"app {one.name!r}" if one.name in names else "no app"
                verb = "does not" if one.name in names else "does"
                wanted_is = "write it in the app's ports, or take it out of the socket unit"
                raise CannotTake(f"{one}, which {whose} {verb}: {wanted_is}")
            if one.name in names and one.name != owner:
                raise CannotTake(f"{one}, which is app {owner!r}'s and not app {one.name!r}'s")

        for address in self._stored.keys() - {one for app in apps if not app.refuses for one in app.listeners}:
            self.unusable.add(name_of(address))
            discard(self._stored.pop(address))

    def take_stored(self, address: ListenAddress) -> socket.socket | None:
        """The same of those that the manager has kept; some are said to be `unusable`, and then they are kept anew."""
        return self._stored.pop(address, None)

    def take(self, address: ListenAddress) -> socket.socket | None:
        """The socket that listens there, which the caller owns from now on; None: there is none."""
        one = self._passed.pop(address, None)
        return None if one is None else one.sock

    def close(self) -> None:
        for one in self._passed.values():
            one.sock.close()
        for sock in self._stored.values():
            sock.close()
        self._passed.clear()
        self._stored.clear()


def _passed(fd: int, name: str) -> _Passed:
    said = f"descriptor {fd}{f' ({name})' if name else ''} of LISTEN_FDS"
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise CannotTake(f"{said} is no socket: {error.strerror}") from None
    if not is_listening_tcp(sock):
        sock.detach()
        raise CannotTake(f"{said} is no listening TCP socket: wanted ListenStream= with an address or a port, and Accept=no")
    accept_new_connections(sock)
    return _Passed(fd, name, sock, address_of(sock))
