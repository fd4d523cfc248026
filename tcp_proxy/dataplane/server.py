"""The listening sockets of a worker: which app each belongs to, and accepting from them, fairly.

Owned by the worker's loop thread; owns its copies of the listening sockets (the supervisor has the originals).

    OPEN ──too many sessions for our descriptors──> FULL ──enough free again──> OPEN       `_full` (sansio.descriptors)
    OPEN ──far more sessions than another worker──> AHEAD ──no longer, or it does not move──> OPEN       `_ahead`
    any ── unlisten() ──> accepting for `drain` seconds more, until the queue is empty ──> closed

Without the privilege for a filter a closing listener refuses by a minimum TTL, which its last clients inherit: each client
that is accepted is freed of it (`inherits_hops`).

Listeners are level-triggered, so a client is never stranded; pausing is unregistering (docs/rules.md, R5). At most ACCEPTS
clients are taken from one listener before the running sessions have their turn again.
"""

import errno
import os
import resource
import socket
from collections.abc import Callable
from socket import SocketType
from typing import Any, Final

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.edge.arrival import Arrival, Arrivals
from tcp_proxy.dataplane.edge.key import route_of
from tcp_proxy.dataplane.edge.waiting import PlaceStage
from tcp_proxy.dataplane.relay.session_thread import SessionThread
from tcp_proxy.dataplane.session import Session
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.dataplane.sticky.session import StickySession
from tcp_proxy.runtime.descriptors import open_descriptors
from tcp_proxy.runtime.loop import READ, Loop
from tcp_proxy.runtime.socket_options import Refusal, hear_every_hop, refusal, refuse_new_connections, waiting
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.descriptors import PER_SESSION, marks
from tcp_proxy.sansio.reasons import EXHAUSTED_ERRNOS
from tcp_proxy.sansio.words import counted
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import Counters

ACCEPTS: Final = 16  # from one listener in one event
LOOK_AGAIN: Final = 0.05  # seconds between two looks whether accepting can go on
SAY_EVERY: Final = 10.0  # seconds between two pauses that are said: under load they come and go many times a second
_STREAM: Final = int(socket.SOCK_STREAM)
GIVE_WAY: Final = 0.001  # seconds that listeners are left to other workers; 5 ms cost a quarter of the short sessions


class Listener:
    """One listening socket of one app."""

    __slots__ = ("_accept", "_family", "address", "app", "fd", "id", "is_kept", "listener_counters", "server", "sock")

    def __init__(self, server: "Server", number: int, slot: int, app: LiveApp, address: str, fd: int) -> None:
        self.server = server
        self.id = number
        self.listener_counters = ListenerCounters(address, slot)
        self.app = app
        self.address = address
        self.is_kept = False
        self.sock = socket.socket(fileno=fd)
        self.sock.setblocking(False)
        # What socket.accept() is made of; it gives a descriptor without asking the kernel for its name once more.
        self._accept: Callable[[], tuple[int, Any]] = self.sock._accept  # type: ignore[attr-defined]
        self._family = int(self.sock.family)  # Python makes a member of an enum of it each time
        self.fd = fd

    def __repr__(self) -> str:
        return f"<Listener {self.address} of {self.app.name}>"

    def ready(self, _events: int) -> None:
        server, accept, family = self.server, self._accept, self._family
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
            client = SocketType(family, _STREAM, 0, fd)
            if server.inherits_hops:  # the listener may be closing, by another worker's or the supervisor's hand
                hear_every_hop(client)
            server.begin(self, client, address)


class Server:
    """`listeners` maps each listening socket to the name of its app."""

    def __init__(
        self,
        thread: SessionThread,
        memory: Counters,
        first_row: int,
        workers: int,
        pipes: Callable[[], int],
        warn: Callable[[str], Any],
        grace: float,
        close_idle_pipes: Callable[[], Any] = lambda: None,
        debug: Callable[[str], Any] = lambda _text: None,
    ) -> None:
        """`pipes()` counts the open ones; `grace`: how long a closing listener may wait for room for its last clients."""
        self.listeners: dict[socket.socket, str] = {}
        self.thread = thread
        self._loop: Loop = thread.loop
        self._rows = memory.rows
        self._mine = memory.rows[first_row : first_row + counters.ROWS_PER_WORKER]
        self._first_row = first_row
        self.workers = workers
        self._pipes = pipes
        self._close_idle_pipes = close_idle_pipes
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
        self._own = 0  # descriptors that are neither a session's nor a listener's, when the first listener came
        self._marks = marks(0)
        self.inherits_hops = refusal() is Refusal.HOP_LIMIT
        self._http_context: Any = None  # of the apps in mode http
        self._arrivals = Arrivals(thread, self._admit, debug)

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
    def may_open_pipe(self) -> bool:
        """Whether it leaves the reserve as it is; any thread may ask."""
        return self.free_descriptors >= self._marks.pause_at + 2

    def has_room_for(self, sessions: int) -> bool:
        """Whether so many sessions more leave the reserve as it is."""
        return self.free_descriptors - self._marks.pause_at >= PER_SESSION * sessions

    def next_number(self) -> int:
        """For a session that was not accepted here."""
        self._sessions_begun += 1
        return self._sessions_begun

    def listener_counters(self, app: LiveApp, address: str) -> ListenerCounters | None:
        """Those of the app's listener with this address; None: there is none now."""
        found = (one for one in self._open.values() if one.app is app and one.address == address)
        return next((one.listener_counters for one in found), None)

    def capacity(self, coming: int = 0) -> int:
        """Sessions that the descriptor limit allows at once, when `coming` more descriptors will be there for good."""
        return marks(self._usable - coming).sessions

    def numbers(self) -> tuple[int, ...]:
        """The ids of all listeners."""
        return tuple(self._open)

    def first_addresses(self) -> list[tuple[LiveApp, str]]:
        """Each app that listens, and one of its listeners: the first by name."""
        by_app: dict[LiveApp, str] = {}
        for listener in self._open.values():
            by_app[listener.app] = min(listener.address, by_app.get(listener.app, listener.address))
        return list(by_app.items())

    def count_descriptors(self) -> None:
        """Take the descriptors open now, without those of sessions and pipes, as the fixed part."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            fixed = open_descriptors() - self._moving()
        except OSError:  # no descriptor for looking: what was counted before stands
            return
        if not self._open and not self.sessions:
            self._own = fixed
        # Clients that have no target yet are counted with two descriptors and have one.
        self._usable = limit - max(fixed, self._own + len(self._open))
        self._marks = marks(self._usable)

    def _moving(self) -> int:
        """Descriptors of what comes and goes."""
        kept = self._http_context.descriptors if self._http_context is not None else 0
        return PER_SESSION * (self.sessions + self._pipes()) + int(kept)

    def serve_http(self) -> None:
        """There is an app in mode http: its code is loaded now, before a client waits for it."""
        if self._http_context is None:
            from tcp_proxy.dataplane.http.context import HttpContext

            self._http_context = HttpContext(self.thread, lambda: self.may_open_pipe)
            self._http_context.shared.stuck_session = StickySession

    @property
    def http_context(self) -> Any:
        """After `serve_http`."""
        return self._http_context

    def drain(self) -> None:
        """The worker is to end. Sessions go on; a client of mode http that has asked for nothing is let go."""
        if self._http_context is not None:
            self._http_context.drain()

    # -- accepting

    def listen(self, number: int, slot: int, app: LiveApp, address: str, fd: int, *, is_kept: bool = False) -> None:
        """Own `fd` and accept on it. `is_kept`: a service manager has it for the program's next start."""
        listener = Listener(self, number, slot, app, address, fd)
        listener.is_kept = is_kept
        self._open[number] = listener
        self.listeners[listener.sock] = app.name
        self.look_who_waits(app)
        if not self._full and not self._ahead and not app.holds:
            self._loop.watch(fd, READ, listener.ready)

    def hand_over(self, number: int, slot: int, app: LiveApp) -> None:
        """From now on the listener is that app's; it may be closed already, which whoever says so has not heard of yet."""
        listener = self._open.get(number)
        if listener is None:
            return
        listener.app, listener.listener_counters = app, ListenerCounters(listener.address, slot)
        self.listeners[listener.sock] = app.name
        self.look_who_waits(app)
        self.look_again()

    def look_who_waits(self, app: LiveApp) -> None:
        """Of a failover app, before anybody is accepted for its primary."""
        if app.primary_queue is not None:
            has_waiting = any(listener.app is app and waiting(listener.sock) for listener in self._open.values())
            app.primary_queue.admit(self._loop.now, has_waiting)

    def look_again(self) -> None:
        """An app holds its clients back from now on, or no longer."""
        for listener in self._open.values():
            if listener.app.holds and self._loop.is_watched(listener.fd):
                self._loop.unwatch(listener.fd)
        if not self._full and not self._ahead:
            self._watch()

    def begin(self, listener: Listener, client: StreamSocket, address: Any) -> None:
        self._sessions_begun += 1
        app = listener.app
        if app.places is not None and not app.places.admits(self._sessions_begun, app.row):
            arrival = Arrival(self._sessions_begun, self._arrivals, app, listener.listener_counters, client, address)
            arrival.wait_first(PlaceStage(arrival))
            self._start(arrival)
            return
        edge = app.edge
        if edge is None or (edge.only is not None and edge.only.admits(address, self.thread.row, self._sessions_begun)):
            session = self._session(self._sessions_begun, app, listener.listener_counters, client, address)
        else:
            session = Arrival(self._sessions_begun, self._arrivals, app, listener.listener_counters, client, address)
        self._start(session)
        if self._said_full:
            self._said_full = False
            self._warn(f"accepting goes on: {counted(self.sessions, 'session')}")

    def _session(self, number: int, app: LiveApp, listener: ListenerCounters, client: StreamSocket, address: Any) -> Any:
        if app.http is None:
            kind = Session if app.sticks is None else StickySession
            if app.is_paced:
                client = self.paced(client, app, number, address)
            return kind(number, self.thread, app, listener, client, address)
        return self._http_context.session(number, app, listener, client, address)

    def paced(self, client: StreamSocket, app: LiveApp, number: int, address: Any) -> StreamSocket:
        """Its session is slowed down, or meets faults on purpose."""
        if not app.has_rates and (app.faults is None or not app.faults.find(number, address)):
            return client
        from tcp_proxy.dataplane.pacing import PacedSocket, paced_pump

        self.thread.paced = paced_pump
        return PacedSocket(client.family, client.type, 0, client.detach()) if type(client) is SocketType else client

    def _admit(self, arrival: Arrival) -> None:
        """Nothing is left to be done before its session, which has its bytes and its age."""
        app = arrival.app
        session = self._session(arrival.number, app, arrival.listener, arrival.client, arrival.address)
        session.started = arrival.started
        if app.http is None:
            session.first, session.route = arrival.first, route_of(arrival.leaves, app)
        else:
            session.reader.input = arrival.first
        self._start(session)

    def _start(self, session: Any) -> None:
        try:
            session.start()
        except Exception as error:  # noqa: BLE001  one session's bug must not end the others
            self._loop.on_error(session.start, error)

    def places(self) -> int:
        """How many clients may be taken now; accepting has paused when it is none."""
        spare = self.free_descriptors - self._marks.pause_at
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
        self._make_room()
        if not self._said_full and self._loop.now - self._said_at >= SAY_EVERY:
            self._said_full = True
            self._said_at = self._loop.now
            self._warn(
                f"accepting pauses: {os.strerror(code)}; {counted(self.sessions, 'session')}, "
                f"{counted(max(0, self.free_descriptors), 'descriptor')} free (raise the limit: ulimit -n)"
            )
        self._loop.call_later(LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        if self.free_descriptors < self._marks.resume_at:
            self._make_room()
            self._loop.call_later(LOOK_AGAIN, self._look_again)
            return
        self._full = False
        if not self._ahead:
            self._watch()

    def _make_room(self) -> None:
        self._close_idle_pipes()
        if self._http_context is not None:
            self._http_context.make_room()

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

    def refuse_new(self) -> None:
        """There is no supervisor any more. Whoever connects to a listener that is kept waits for the next one."""
        for listener in self._open.values():
            if not listener.is_kept:
                refuse_new_connections(listener.sock)

    def close(self) -> None:
        """Nobody is accepted any more: who has not been is reset when the last copy of the socket closes."""
        for number in self.numbers():
            self._drop(number)

    def _drop(self, number: int) -> None:
        listener = self._open.pop(number)
        if self._loop.is_watched(listener.fd):
            self._loop.unwatch(listener.fd)
        del self.listeners[listener.sock]
        self._loop.close_after_batch(listener.sock)

    def _close(self, numbers: tuple[int, ...], done: Callable[[tuple[int, ...]], Any], at_last: float) -> None:
        for listener in [self._open[number] for number in numbers if number in self._open]:
            self._accept_rest(listener)
        if self._full and self._loop.now < at_last:  # who waits has been told that he is connected
            self._loop.call_later(LOOK_AGAIN, self._close, numbers, done, at_last)
            return
        for number in [number for number in numbers if number in self._open]:
            self._drop(number)
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
