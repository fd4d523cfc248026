"""The listening sockets of a worker: which app each belongs to, and accepting from them, fairly.

Owned by the worker's loop thread; owns its copies of the listening sockets (the supervisor has the originals).

    OPEN ──too many sessions for our descriptors──> FULL ──RESUME_AT free again──> OPEN       `_full`
    OPEN ──far more sessions than another worker──> AHEAD ──no longer, or it does not move──> OPEN       `_ahead`
    any ── unlisten() ──> accepting for `drain` seconds more, until the queue is empty ──> closed

Listeners are level-triggered, so a client is never stranded; pausing is unregistering (DESIGN 9.5). At most ACCEPTS
clients are taken from one listener before the running sessions have their turn again.
"""

import errno
import os
import resource
import socket
from collections.abc import Callable
from socket import SocketType
from typing import Any

from tcp_proxy import counters
from tcp_proxy.counters import Counters
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.homes import Home
from tcp_proxy.dataplane.session import Session
from tcp_proxy.dataplane.sticky_session import StickySession
from tcp_proxy.dataplane.tally import Entrance
from tcp_proxy.loop import READ, Loop
from tcp_proxy.sansio.reasons import EXHAUSTED_ERRNOS

ACCEPTS = 16  # from one listener in one event
PAUSE_AT = 64  # free descriptors: fewer, and accepting pauses; logs, pipes and reloads live on these
RESUME_AT = 128
PER_SESSION = 2  # descriptors
LOOK_AGAIN = 0.05  # seconds between two looks whether accepting can go on
SAY_EVERY = 10.0  # seconds between two pauses that are said: under load they come and go many times a second
GIVE_WAY = 0.001  # seconds the listeners are left to the other workers; 5 ms cost a quarter of the rate of short sessions


class Listener:
    """One listening socket of one app."""

    __slots__ = ("_accept", "address", "app", "entrance", "fd", "id", "server", "sock")

    def __init__(self, server: "Server", number: int, slot: int, app: LiveApp, address: str, fd: int) -> None:
        self.server = server
        self.id = number
        self.entrance = Entrance(address, slot)
        self.app = app
        self.address = address
        self.sock = socket.socket(fileno=fd)
        self.sock.setblocking(False)
        # What socket.accept() is made of; it gives a descriptor without asking the kernel for its name once more.
        self._accept: Callable[[], tuple[int, Any]] = self.sock._accept  # type: ignore[attr-defined]
        self.fd = fd

    def __repr__(self) -> str:
        return f"<Listener {self.address} of {self.app.name}>"

    def ready(self, _events: int) -> None:
        server, accept, family = self.server, self._accept, self.sock.family
        for _ in range(server.places()):
            try:
                fd, address = accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in EXHAUSTED_ERRNOS:
                    server.pause(error.errno)
                    return
                continue  # that client is gone already (ECONNABORTED, a network error of its own)
            client = SocketType(family, socket.SOCK_STREAM, 0, fd)
            server.begin(self, client, address)


class Server:
    """`listeners` maps each listening socket to the name of its app."""

    def __init__(
        self,
        home: Home,
        memory: Counters,
        first_row: int,
        workers: int,
        pipes: Callable[[], int],
        warn: Callable[[str], Any],
        grace: float,
    ) -> None:
        """`pipes()` counts the open ones; `grace`: how long a closing listener may wait for room for its last clients."""
        self.listeners: dict[socket.socket, str] = {}
        self._home = home
        self._loop: Loop = home.loop
        self._rows = memory.rows
        self._mine = memory.rows[first_row : first_row + counters.ROWS_PER_WORKER]
        self._first_row = first_row
        self.workers = workers
        self._pipes = pipes
        self._warn = warn
        self._grace = grace
        self._open: dict[int, Listener] = {}
        self._sessions_begun = 0
        self._full = False
        self._said_full = False  # and has not taken anybody since
        self._said_at = float("-inf")
        self._ahead = False
        self._others_moved = 0
        self._closing = 0  # calls of unlisten() that are not done
        self._usable = 0
        self._front: Any = None  # of the apps in mode http

    def __repr__(self) -> str:
        state = "full" if self._full else "ahead" if self._ahead else "open"
        return f"<Server {state} {len(self.listeners)} listeners, {self.sessions} sessions>"

    # -- questions

    @property
    def sessions(self) -> int:
        """Sessions of this worker now, wherever they live."""
        return sum([row[counters.SESSIONS] for row in self._mine])

    @property
    def free_descriptors(self) -> int:
        """Counted, not learned from EMFILE."""
        return self._usable - self._moving()

    @property
    def capacity(self) -> int:
        """Sessions that the descriptor limit allows at once."""
        return max(0, (self._usable - PAUSE_AT) // PER_SESSION)

    def numbers(self) -> tuple[int, ...]:
        """The ids of all listeners."""
        return tuple(self._open)

    def count_descriptors(self) -> None:
        """Take the descriptors open now, without those of sessions and pipes, as the fixed part."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._usable = limit - (len(os.listdir("/proc/self/fd")) - 1 - self._moving())

    def _moving(self) -> int:
        """Descriptors of what comes and goes."""
        kept = self._front.descriptors if self._front is not None else 0
        return PER_SESSION * (self.sessions + self._pipes()) + int(kept)

    def serve_http(self) -> None:
        """There is an app in mode http: its code is loaded now, before a client waits for it."""
        if self._front is None:
            from tcp_proxy.dataplane.http.front import Front

            self._front = Front(self._home, lambda: self.free_descriptors >= PAUSE_AT + PER_SESSION)

    def drain(self) -> None:
        """The worker is to end. Sessions go on; a client of mode http that has asked for nothing is let go."""
        if self._front is not None:
            self._front.drain()

    # -- accepting

    def listen(self, number: int, slot: int, app: LiveApp, address: str, fd: int) -> None:
        """Own `fd` and accept on it."""
        listener = Listener(self, number, slot, app, address, fd)
        self._open[number] = listener
        self.listeners[listener.sock] = app.name
        if not self._full and not self._ahead and not app.holds:
            self._loop.watch(fd, READ, listener.ready)

    def hand_over(self, number: int, slot: int, app: LiveApp) -> None:
        """From now on the listener is that app's."""
        listener = self._open[number]
        listener.app, listener.entrance = app, Entrance(listener.address, slot)
        self.listeners[listener.sock] = app.name
        self.look_again()

    def look_again(self) -> None:
        """An app holds its clients back from now on, or no longer."""
        for listener in self._open.values():
            if listener.app.holds and self._loop.is_watched(listener.fd):
                self._loop.unwatch(listener.fd)
        if not self._full and not self._ahead:
            self._watch()

    def begin(self, listener: Listener, client: SocketType, address: Any) -> None:
        self._sessions_begun += 1
        app, number = listener.app, self._sessions_begun
        session: Any
        if app.http is None:
            kind = Session if app.sticks is None else StickySession
            session = kind(number, self._home, app, listener.entrance, client, address)
        else:
            session = self._front.session(number, app, listener.entrance, client, address)
        try:
            session.start()
        except Exception as error:  # noqa: BLE001  one session's bug must not end the others
            self._loop.on_error(session.start, error)
        if self._said_full:
            self._said_full = False
            self._warn(f"accepting goes on: {self.sessions} sessions")

    def places(self) -> int:
        """How many clients may be taken now; accepting has paused when it is none."""
        spare = self.free_descriptors - PAUSE_AT
        if spare < 0:
            self.pause(errno.EMFILE)
            return 0
        if self.workers > 1 and not self._closing and self._is_ahead():
            self._give_way()
            return 0
        return min(ACCEPTS, 1 + spare // PER_SESSION)

    def pause(self, code: int) -> None:
        """Out of descriptors or memory: take nobody until there is room again."""
        if self._full:
            return
        self._full = True
        self._stop_watching()
        if self._front is not None:
            self._front.make_room()
        if not self._said_full and self._loop.now - self._said_at >= SAY_EVERY:
            self._said_full = True
            self._said_at = self._loop.now
            self._warn(
                f"accepting pauses: {os.strerror(code)}; {self.sessions} sessions, "
                f"{max(0, self.free_descriptors)} descriptors free (raise the limit: ulimit -n)"
            )
        self._loop.call_later(LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        if self.free_descriptors < RESUME_AT:
            if self._front is not None:
                self._front.make_room()
            self._loop.call_later(LOOK_AGAIN, self._look_again)
            return
        self._full = False
        if not self._ahead:
            self._watch()

    # -- leaving clients to the other workers

    def _is_ahead(self) -> bool:
        least = min(self._loads(), default=None)
        if least is None:
            return False
        mine = self.sessions
        return mine - least > max(16, least * 12 // 100)

    def _loads(self) -> list[int]:
        """Sessions of each other worker that accepts now."""
        rows, size = self._rows, counters.ROWS_PER_WORKER
        return [
            sum([row[counters.SESSIONS] for row in rows[first : first + size]])
            for first in range(1, len(rows), size)
            if first != self._first_row and rows[first][counters.ACCEPTING]
        ]

    def _give_way(self) -> None:
        self._ahead = True
        self._others_moved = self._accepted_by_others()
        self._stop_watching()
        self._loop.call_later(GIVE_WAY, self._take_part)

    def _take_part(self) -> None:
        """Go on when no longer ahead, or for one round when the others have taken nobody meanwhile: they may hang."""
        moved = self._accepted_by_others()
        if self._is_ahead() and moved != self._others_moved and not self._closing:
            self._others_moved = moved
            self._loop.call_later(GIVE_WAY, self._take_part)
            return
        stalled = self._is_ahead()
        self._ahead = False
        if self._full:
            return
        self._watch()
        if stalled:
            self._accept_once()

    def _accept_once(self) -> None:
        workers, self.workers = self.workers, 1
        for listener in self._open.values():
            if not listener.app.holds:
                listener.ready(READ)
        self.workers = workers

    def _accepted_by_others(self) -> int:
        mine = sum([row[counters.ACCEPTED] for row in self._mine])
        return sum([row[counters.ACCEPTED] for row in self._rows]) - mine

    # -- closing

    def unlisten(self, numbers: tuple[int, ...], drain: float, done: Callable[[tuple[int, ...]], Any]) -> None:
        """The sockets answer no SYN any more: take those whose handshake was done or under way, then close."""
        self._closing += 1
        self._loop.call_later(drain, self._close, numbers, done, self._loop.now + drain + self._grace)

    def _close(self, numbers: tuple[int, ...], done: Callable[[tuple[int, ...]], Any], at_last: float) -> None:
        for listener in [self._open[number] for number in numbers if number in self._open]:
            self._accept_rest(listener)
        if self._full and self._loop.now < at_last:  # who waits has been told that he is connected
            self._loop.call_later(LOOK_AGAIN, self._close, numbers, done, at_last)
            return
        for listener in [self._open.pop(number) for number in numbers if number in self._open]:
            if self._loop.is_watched(listener.fd):
                self._loop.unwatch(listener.fd)
            del self.listeners[listener.sock]
            self._loop.close_after_batch(listener.sock)
        self._closing -= 1
        self._loop.call_soon(self._closed, numbers, done)  # when the batch is over, which closes them

    def _closed(self, numbers: tuple[int, ...], done: Callable[[tuple[int, ...]], Any]) -> None:
        self.count_descriptors()
        done(numbers)

    def _accept_rest(self, listener: Listener) -> None:
        before = -1
        while not self._full and before != self._sessions_begun:
            before = self._sessions_begun
            listener.ready(READ)

    def _watch(self) -> None:
        for listener in self._open.values():
            if not self._loop.is_watched(listener.fd) and not listener.app.holds:
                self._loop.watch(listener.fd, READ, listener.ready)

    def _stop_watching(self) -> None:
        for listener in self._open.values():
            if self._loop.is_watched(listener.fd):
                self._loop.unwatch(listener.fd)
