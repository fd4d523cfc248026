"""Names become addresses, again and again, outside of every loop. The only user of getaddrinfo.

The thread of `loop` (the supervisor's main) owns the schedule: it alone calls the methods; `report` is called in it.
Up to THREADS daemon threads `resolver-<n>` make the look-ups, which may block for minutes: they take names from the
queue and give answers back by call_soon. A thread is started only when all others are busy; one that is blocked holds
up no other name while there are threads left, nor leave().

    a name:  WAITING ──about INTERVAL, or refresh()──> ASKED ──answered──> WAITING      forget(): its answer is dropped

Always true: one look-up at a time of a wanted name; while look-ups fail the last good answer is kept, with the error
beside it (docs/rules.md, R9); nothing is reported twice; nothing wakes up while nothing is due.
"""

import ipaddress
import queue
import random
import socket
import threading
from collections.abc import Callable, Collection
from typing import Any

from tcp_proxy.runtime.loop import Loop, Timer
from tcp_proxy.sansio.address import IPV4, Address
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.wire.views import Endpoint

INTERVAL = 30.0  # seconds, ±10 %
JITTER = 0.1
REFRESH_EVERY = 1.0  # seconds between two look-ups of a name that failed connects asked for
THREADS = 8
AF_INET = int(socket.AF_INET)  # a number, not the member of an enum
STOP_WAIT = 0.2  # seconds that stop() waits at most for threads that are blocked

Addresses = tuple[tuple[int, str], ...]  # (family, IP); a scope as fe80::1%2


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
        self.answer: Answer | None = None  # as last reported
        self.addresses: Addresses = ()
        self.asked_at = float("-inf")
        self.is_asked = False
        self.is_wanted = True
        self.timer: Timer | None = None


def look_up(host: str) -> Addresses:
    """All addresses of a name, in the resolver's order, each once. Raises OSError (gaierror) or UnicodeError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    known = (socket.AF_INET, socket.AF_INET6)
    return tuple(dict.fromkeys((int(family), _shown(sockaddr)) for family, *_, sockaddr in found if family in known))


def _shown(sockaddr: tuple[Any, ...]) -> str:
    zone = f"%{sockaddr[3]}" if len(sockaddr) > 3 and sockaddr[3] else ""  # link-local: which interface
    return f"{sockaddr[0]}{zone}"


class Resolver:
    """All methods but the look-ups themselves belong to the thread of `loop`."""

    def __init__(
        self,
        loop: Loop,
        report: Callable[[Answer], Any],
        lookup: Callable[[str], Addresses] = look_up,
        draw: Callable[[], float] = random.random,
        interval: Callable[[str], float] = lambda _host: INTERVAL,
        name: str = "resolver",
    ) -> None:
        """`interval(host)`: seconds until it is asked for again; `name`: of the threads."""
        self._loop = loop
        self._report = report
        self._lookup = lookup
        self._draw = draw
        self._interval = interval
        self._name = name
        self._names: dict[str, _Name] = {}
        self._queue: queue.SimpleQueue[_Name | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._pending = 0  # look-ups that are queued or under way

    def __repr__(self) -> str:
        return f"<Resolver {len(self._names)} names, {self._pending} look-ups, {len(self._threads)} threads>"

    def want(self, host: str) -> None:
        """Look it up now and from time to time; nothing new if it is wanted already."""
        if host not in self._names:
            self._names[host] = _Name(host)
            self._ask(self._names[host])

    def want_only(self, hosts: Collection[str]) -> None:
        for host in self._names.keys() - set(hosts):
            self.forget(host)
        for host in hosts:
            self.want(host)

    def answer(self, host: str) -> Answer | None:
        """The last one; None if there was none yet, or it is not wanted."""
        name = self._names.get(host)
        return name.answer if name is not None else None

    def forget(self, host: str) -> None:
        name = self._names.pop(host, None)
        if name is None:
            return
        name.is_wanted = False
        if name.timer is not None:
            name.timer.cancel()

    def refresh(self, host: str) -> None:
        """A connect to it failed: look it up now, but not more than once a second."""
        name = self._names.get(host)
        if name is not None and self._loop.now - name.asked_at >= REFRESH_EVERY:
            self._ask(name)

    def stop(self) -> None:
        """The program ends: wait for the threads; one that is blocked in a look-up is a daemon and is left behind."""
        threads = self._threads
        self.leave()
        for thread in threads:
            thread.join(STOP_WAIT / len(threads))

    def leave(self) -> None:
        """Nothing is wanted any more: the threads end by themselves, and nobody waits for them."""
        for host in tuple(self._names):
            self.forget(host)
        for _ in self._threads:
            self._queue.put(None)
        self._threads = []

    def _ask(self, name: _Name) -> None:
        if name.is_asked:
            return
        name.is_asked = True
        name.asked_at = self._loop.now
        self._pending += 1
        if len(self._threads) < min(THREADS, self._pending):
            self._start_thread()
        if self._threads:
            self._queue.put(name)
        else:
            self._loop.call_soon(self._looked_up, name, (), "no thread could be started for the look-up")

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the limit on threads: those that there are do the work, or the next turn tries again
            return
        self._threads.append(thread)

    def _serve(self) -> None:
        """A resolver thread. Of a name it reads the host, which never changes, and whether it is wanted still."""
        while (name := self._queue.get()) is not None:
            addresses: Addresses = ()
            error = ""
            if name.is_wanted:
                try:
                    addresses = self._lookup(name.host)
                except (OSError, ValueError) as problem:  # gaierror; UnicodeError of a name that IDNA refuses
                    error = _explained(problem)
            self._loop.call_soon(self._looked_up, name, addresses, error)

    def _looked_up(self, name: _Name, addresses: Addresses, error: str) -> None:
        self._pending -= 1
        if not name.is_wanted:
            return
        name.is_asked = False
        if name.timer is not None:
            name.timer.cancel()
        interval = self._interval(name.host) * (1 + JITTER * (2 * self._draw() - 1))
        name.timer = self._loop.call_later(interval, self._ask, name)
        if addresses:
            name.addresses = addresses
        elif not error:
            error = "the name has no address"
        answer = Answer(name.host, name.addresses, error)
        # A round-robin DNS gives the same addresses in another order each time: that is no news.
        known = name.answer
        if known is None or known.error != error or set(known.addresses) != set(answer.addresses):
            name.answer = answer
            self._report(answer)


def _explained(problem: Exception) -> str:
    if isinstance(problem, socket.gaierror) and problem.errno == socket.EAI_SYSTEM:
        return "the resolver failed: a system error, such as too many open files"
    return getattr(problem, "strerror", None) or str(problem)


def endpoints(address: Address, addresses: Addresses) -> tuple[Endpoint, ...]:
    """Where to connect to: a UNIX path, an IP literal, or each address of the name, with the target's port.

    A literal with the name of an interface is left to the resolver: that may come later, and come back with another number.
    """
    if address.path:
        return ((int(socket.AF_UNIX), address.path),)
    literal = _literal(address.host, address.port)
    if literal is not None:
        return (literal,)
    return tuple(_endpoint(family, ip, address.port) for family, ip in addresses)


def _literal(host: str, port: int) -> Endpoint | None:
    if IPV4.fullmatch(host):
        return AF_INET, (host, port)
    try:
        ip = ipaddress.ip_address(host)
        return _endpoint(socket.AF_INET if ip.version == 4 else socket.AF_INET6, host, port)
    except ValueError:  # a name, or that of an interface
        return None


def _endpoint(family: int, ip: str, port: int) -> Endpoint:
    """`ip` with the number of an interface, if with any: another word is a ValueError."""
    if family == socket.AF_INET:
        return int(family), (ip, port)
    ip, _, zone = ip.partition("%")
    if zone and not zone.isdigit():
        raise ValueError(zone)
    return int(family), (ip, port, 0, int(zone or 0))
