"""Names become addresses, again and again, outside of every loop. The only user of getaddrinfo.

The supervisor's main loop owns the schedule; up to THREADS daemon threads `resolver-<n>` make the look-ups, which may
block for minutes; their answers come back by call_soon. `report(Answer)` is called in the main loop.

    a name:  WAITING ──about INTERVAL, or refresh()──> ASKED (at most one look-up of a name at a time) ──> WAITING

While a look-up fails the last good answer is kept, with the error beside it (DESIGN 9.9). Nothing is reported twice.
"""

import queue
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tcp_proxy.loop import Loop, Timer
from tcp_proxy.messages import Endpoint
from tcp_proxy.sansio.address import Address

INTERVAL = 30.0  # seconds, ±10 %
JITTER = 0.1
REFRESH_EVERY = 1.0  # seconds between two look-ups of a name that failed connects asked for
THREADS = 8
STOP_WAIT = 0.2  # seconds that stop() waits for threads that are not blocked

Addresses = tuple[tuple[int, str], ...]  # (family, IP)


@dataclass(frozen=True, slots=True)
class Answer:
    """`addresses` is the last good answer; `error` is "" when that is also the latest."""

    host: str
    addresses: Addresses
    error: str


class _Name:
    """One host name that is wanted."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.answer: Answer | None = None
        self.addresses: Addresses = ()
        self.asked_at = float("-inf")
        self.is_asked = False
        self.timer: Timer | None = None


def look_up(host: str) -> Addresses:
    """All addresses of a name, in the resolver's order, each once. Raises OSError (gaierror) or UnicodeError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys((int(family), str(sockaddr[0])) for family, _, _, _, sockaddr in found))


class Resolver:
    """All methods but the look-ups themselves belong to the thread of `loop`."""

    def __init__(
        self,
        loop: Loop,
        report: Callable[[Answer], Any],
        lookup: Callable[[str], Addresses] = look_up,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._loop = loop
        self._report = report
        self._lookup = lookup
        self._draw = draw
        self._names: dict[str, _Name] = {}
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def __repr__(self) -> str:
        return f"<Resolver {len(self._names)} names, {len(self._threads)} threads>"

    def want(self, host: str) -> None:
        """Look it up now and from time to time; nothing new if it is wanted already."""
        if host not in self._names:
            self._names[host] = _Name(host)
            self._ask(self._names[host])

    def forget(self, host: str) -> None:
        name = self._names.pop(host, None)
        if name is not None and name.timer is not None:
            name.timer.cancel()

    def refresh(self, host: str) -> None:
        """A connect to it failed: look it up now, but not more than once a second."""
        name = self._names.get(host)
        if name is not None and self._loop.now - name.asked_at >= REFRESH_EVERY:
            self._ask(name)

    def stop(self) -> None:
        """End the threads; one that is blocked in a look-up is a daemon and is left behind."""
        for host in tuple(self._names):
            self.forget(host)
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(STOP_WAIT)

    def _ask(self, name: _Name) -> None:
        if name.is_asked:
            return
        name.is_asked = True
        name.asked_at = self._loop.now
        if len(self._threads) < min(THREADS, len(self._names)):
            number = len(self._threads)
            thread = threading.Thread(target=self._serve, name=f"resolver-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put(name.host)

    def _serve(self) -> None:
        while (host := self._queue.get()) is not None:
            try:
                addresses, error = self._lookup(host), ""
            except (OSError, UnicodeError) as problem:
                addresses, error = (), getattr(problem, "strerror", None) or str(problem)
            self._loop.call_soon(self._looked_up, host, addresses, error)

    def _looked_up(self, host: str, addresses: Addresses, error: str) -> None:
        name = self._names.get(host)
        if name is None:
            return
        name.is_asked = False
        if name.timer is not None:
            name.timer.cancel()
        interval = INTERVAL * (1 + JITTER * (2 * self._draw() - 1))
        name.timer = self._loop.call_later(interval, self._ask, name)
        if addresses:
            name.addresses = addresses
        elif not error:
            error = "the name has no address"
        answer = Answer(host, name.addresses, error)
        # A round-robin DNS gives the same addresses in another order each time: that is no news.
        known = name.answer
        if known is None or known.error != error or set(known.addresses) != set(answer.addresses):
            name.answer = answer
            self._report(answer)


def endpoints(address: Address, addresses: Addresses) -> tuple[Endpoint, ...]:
    """Where to connect to: a UNIX path, an IP literal, or each address of the name, with the target's port."""
    if address.path:
        return ((int(socket.AF_UNIX), address.path),)
    literal = _literal(address.host)
    return tuple(_endpoint(family, ip, address.port) for family, ip in ([literal] if literal else addresses))


def _literal(host: str) -> tuple[int, str] | None:
    ip, _, _ = host.partition("%")
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, ip)
        except OSError:
            continue
        return int(family), host
    return None


def _endpoint(family: int, ip: str, port: int) -> Endpoint:
    if family == socket.AF_INET:
        return family, (ip, port)
    ip, _, zone = ip.partition("%")
    return family, (ip, port, 0, socket.if_nametoindex(zone) if zone and not zone.isdigit() else int(zone or 0))
