"""Gives sessions away to another process, one by one, by a socketpair: the exporter's end.

Owned by the worker's loop thread; an Exporter owns its end of the socketpair and the sessions that are HELD. A session is
its exporter's until the importer has said that it takes it:

    RELAYED ──hold──> HELD ──the frame is written──> TOLD ──"taken" is read──> the importer's: our copies are closed
       ^               │                              │
       └───────────────┴── refused, or break_off ─────┘        break_off: the importer is gone or silent, or an order came

    importer: READ ──it could take it──> "taken" is written ──> RELAYED there        (moving.importer)
                └──it cannot──> "refused" is written, its copies are closed

A session is never relayed by two, and by none only while it is HELD or TOLD, some milliseconds: the importer owns it from
the moment in which its answer is in our socket, which the kernel makes one step; `break_off` first shuts the socketpair
down, so that no answer can come any more, and then reads those that had. What is taken by then is theirs, all else ours:
nothing is uncertain between two that live. When one is killed (test_steps):

    the importer, before its answer     the session goes on here: nobody has touched it
    the importer, after its answer      the session has ended with it, as all of its sessions have
    the exporter, before the answer     the session has ended with it: the importer's answer finds nobody, and it lets go
    the exporter, after the answer      the session goes on there

At most WINDOW sessions are on their way at a time, and PER_TURN begin theirs in one turn of the loop, in one message, so
that none waits long, and no other for them. Orders that end sessions come after a `break_off` (moving.moves), and find each
in one place.
"""

import array
import errno
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any, Protocol

from tcp_proxy.dataplane.moving.departure import hold, leave_thread
from tcp_proxy.dataplane.relay.pool import RelayPool
from tcp_proxy.dataplane.relay.session_thread import SessionThread
from tcp_proxy.runtime.loop import READ, WRITE, Loop, Timer
from tcp_proxy.wire.moved_session import MovedSession, answers, encode
from tcp_proxy.wire.moves import ExportSessions, SessionsMoved

# Sessions on their way at a time: the pause of each is as long as the way of all of them. With 16 and 32 it was three and
# five times as long at the median, and no more moved in a second; with 4 half as many did.
WINDOW = 8
PER_TURN = 4  # of those that begin their way in one turn
TOGETHER = 8  # descriptors in one message at the most: programs of version 0.2.0 have room for no more
SILENT = 2.0  # seconds without an answer: the importer hangs, and its sessions wait
RETRY = 0.01  # seconds until what the kernel could not take for want of something is offered again
_FOR_NOW = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)
READ_MOST = 1 << 16
_DONTWAIT = int(socket.MSG_DONTWAIT)
GONE = "the importer is gone"
_started = attrgetter("started")


class Leaving(Protocol):
    """A HELD session."""

    told: MovedSession

    @property
    def descriptors(self) -> list[int]: ...
    def resume(self) -> Any: ...
    def leave(self) -> Any: ...


Hold = Callable[[Any], Leaving | None]


class Exporter:
    """Of one ExportSessions. `done(what became of it)` once. `began_here` is for moving.departure."""

    def __init__(
        self,
        thread: SessionThread,
        relays: RelayPool,
        order: ExportSessions,
        sock: socket.socket,
        began_here: tuple[str, float, int],
        hold_http: Hold,
        done: Callable[["Exporter", SessionsMoved], Any],
    ) -> None:
        """Owns `sock`."""
        self._thread = thread
        self._loop: Loop = thread.loop
        self._relays = relays
        self._order = order
        self._socket = sock
        self._began_here = began_here
        self._hold_http = hold_http
        self._done = done
        self._waiting: deque[Any] = deque()  # sessions, wherever they are
        self._coming = 0  # from relay threads
        self._held: dict[int, Leaving] = {}  # by the number of their frames: on their way
        self._numbers = 0
        self._out: deque[tuple[memoryview, Sequence[int]]] = deque()  # frames, of the first perhaps the rest
        self._is_full = False  # the socket; we hear when it has room
        self._in = bytearray()
        self._counts = {"moved": 0, "refused": 0, "left": 0}
        self._why = ""
        self._is_over = self._is_due = False
        self._heard_at = self._loop.now
        self._timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<Exporter {self._counts} {len(self._held)} on their way, {len(self._waiting)} wait>"

    def start(self) -> None:
        """`done` may have been called when it returns."""
        self._socket.setblocking(False)
        self._loop.watch(self._socket.fileno(), READ, self._ready)
        self._find()

    # -- which

    def _find(self) -> None:
        """All that there are, in each thread; those that end or come meanwhile are found to be gone, or are not missed."""
        found = list(self._thread.members)
        waiting = 1 + len(self._relays.threads)

        def told(members: tuple[Any, ...]) -> None:
            nonlocal waiting
            found.extend(members)
            waiting -= 1
            if not waiting and not self._is_over:
                self._choose(found)

        for thread in self._relays.threads:
            thread.loop.call_soon(lambda thread: self._loop.call_soon(told, tuple(thread.members)), thread)
        told(())

    def _choose(self, found: list[Any]) -> None:
        order, incarnation = self._order, self._began_here[0]
        if order.ids:
            wanted = set(order.ids)
            found = [one for one in found if id_of(one, incarnation) in wanted]
        self._waiting.extend(sorted(found, key=_started))
        self._timer = self._loop.call_later(SILENT, self._look)
        self._go_on()

    # -- the way there

    def _go_on(self, _events: int = 0) -> None:
        self._is_due = False
        if self._out:
            return  # room in the socket calls again
        for _ in range(PER_TURN):
            if self._is_over or len(self._held) + self._coming >= WINDOW:
                break  # an answer calls again
            if not self._waiting or self._has_enough():
                if not self._held and not self._coming:
                    self._counts["left"] += len(self._waiting)
                    self._end()
                break
            self._begin(self._waiting.popleft())
        else:
            self._go_on_later()
        self._flush()

    def _go_on_later(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_again(self._go_on)

    def _has_enough(self) -> bool:
        return bool(self._order.most) and self._counts["moved"] + len(self._held) + self._coming >= self._order.most

    def _begin(self, session: Any) -> None:
        thread = session.thread
        if thread is self._thread:
            if session in thread.members:  # else it has ended meanwhile
                self._hold(session)
        elif thread.loop.call_soon(self._fetch, session, thread):
            self._coming += 1
        else:
            self._counts["left"] += 1

    def _fetch(self, session: Any, thread: SessionThread) -> None:
        """In the relay thread where it was."""
        self._loop.call_soon(self._has_come, session, leave_thread(session, thread))

    def _has_come(self, session: Any, is_here: bool) -> None:
        self._coming -= 1
        if is_here and self._is_over:
            session.arrive(self._thread)
        elif is_here:
            self._hold(session)
            self._flush()
        else:
            self._counts["left"] += 1
        self._go_on_later()

    def _hold(self, session: Any) -> None:
        if hasattr(session, "exchange"):  # of mode http
            held = self._hold_http(session)
        else:
            held = hold(session, self._thread, self._order.is_foreign, self._began_here)
        if held is None:
            self._counts["left"] += 1
            return
        if not self._held:
            self._heard_at = self._loop.now
        self._numbers += 1
        self._held[self._numbers] = held
        self._out.append((memoryview(encode(self._numbers, held.told)), held.descriptors))

    def _flush(self) -> None:
        while self._out and not self._is_over:
            parts, descriptors = self._next()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            try:
                sent = self._socket.sendmsg(parts, rights)
            except BlockingIOError:
                self._ask_for_room(True)
                return
            except OSError as error:
                if error.errno in _FOR_NOW:
                    self._ask_for_room(False)  # it is writable all the time
                    self._loop.call_later(RETRY, self._flush)
                else:
                    self.break_off(GONE)
                return
            self._were_sent(parts, sent)
        if not self._is_over:
            self._ask_for_room(False)

    def _next(self) -> tuple[list[memoryview], list[int]]:
        """What waits, as much of it as goes into one message."""
        parts: list[memoryview] = []
        descriptors: list[int] = []
        for data, some in self._out:
            if len(descriptors) + len(some) > TOGETHER:
                break
            parts.append(data)
            descriptors.extend(some)
        return parts, descriptors

    def _were_sent(self, parts: Sequence[memoryview], sent: int) -> None:
        """Of these so many bytes, and all descriptors: they go with the first byte."""
        rest = []
        for data in parts:
            self._out.popleft()
            if sent < len(data):
                rest.append((data[sent:], ()))
            sent = max(0, sent - len(data))
        self._out.extendleft(reversed(rest))

    def _ask_for_room(self, is_full: bool) -> None:
        if self._is_full is not is_full:
            self._is_full = is_full
            self._loop.rewatch(self._socket.fileno(), READ | WRITE if is_full else READ)

    # -- what the importer says

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self._is_over:
            return
        is_open = self._read()
        self._obey()
        if not is_open:
            self.break_off(GONE)
        elif not self._out:
            self._go_on()

    def _read(self) -> bool:
        """Whether the importer may say more."""
        while True:
            try:
                data = self._socket.recv(READ_MOST, _DONTWAIT)
            except BlockingIOError:
                return True
            except OSError:  # it was closed with frames unread; what it had said before has been read
                return False
            if not data:
                return False
            self._in += data
            if len(data) < READ_MOST and not self._is_over:
                return True

    def _obey(self) -> None:
        for answer in answers(self._in):
            self._heard_at = self._loop.now
            held = self._held.pop(answer.number, None)
            if held is None:  # it answers what nobody has asked
                continue
            if answer.refusal:
                self._counts["refused"] += 1
                self._why = self._why or answer.refusal
                self._call(held.resume)
            else:
                self._counts["moved"] += 1
                self._call(held.leave)

    def _call(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001  one session's bug must not end the others
            self._loop.on_error(call, error)

    def _look(self) -> None:
        if self._held and self._loop.now - self._heard_at >= SILENT:
            self.break_off("the importer does not answer")
        if not self._is_over:
            self._timer = self._loop.call_later(SILENT, self._look)

    # -- the end

    def break_off(self, why: str) -> None:
        """Nobody is on the way any more when this returns, but for those that come from relay threads, which stay."""
        if self._is_over:
            return
        self._is_over = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # from here on no answer can come
        self._read()
        self._obey()
        held, self._held = self._held, {}
        self._counts["left"] += len(held) + len(self._waiting) + self._coming
        for one in held.values():
            self._call(one.resume)
        self._end(why)

    def _end(self, why: str = "") -> None:
        self._is_over = True
        self._out.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._loop.unwatch(self._socket.fileno())
        self._loop.close_after_batch(self._socket)
        counts = self._counts
        told = SessionsMoved(self._order.order, counts["moved"], counts["refused"], counts["left"], why or self._why)
        self._waiting.clear()
        self._done(self, told)


def id_of(session: Any, incarnation: str) -> str:
    return session.origin.id if session.origin is not None else f"{incarnation}-{session.number}"
