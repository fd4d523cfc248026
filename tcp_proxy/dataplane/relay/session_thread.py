"""The thread that owns a session, with everything a session needs of it.

A worker has one SessionThread for its main thread and one for each relay thread. It holds the event loop, the sessions
that this thread owns, its row of counters and the way to the recorder. A session is owned by exactly one thread, or on its
way between two (a queued call). Only the thread that runs `loop` may touch it; `len` alone may be asked by others.

A session has a deadline, not a timer: timers of an hour for 10,000 sessions a second would be 36 million dead timers.
Instead the thread looks at its sessions when the earliest deadline it knows of is due, and not before; sessions that got
a later deadline meanwhile are simply found not to be due.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from socket import AF_UNIX, SocketType
from typing import Any, Final, Protocol

from tcp_proxy.dataplane.record import Recorder
from tcp_proxy.dataplane.relay.pump import Pump
from tcp_proxy.dataplane.session_counters import moved
from tcp_proxy.runtime.loop import Loop, Timer
from tcp_proxy.runtime.socket_options import reset_on_close
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire.counters import Row

COUNT_EVERY: Final = 1.0  # seconds between two looks at what the sessions have moved
GRAIN: Final = 0.1  # seconds between two looks at the least: a deadline is met this late at most
SLICE = 100  # sessions that are looked at in one turn
NEVER: Final = float("inf")


class ThreadMember(Protocol):
    last: float  # when it had its last event

    def due(self) -> float: ...  # the loop's time at which `expire` is wanted; NEVER for none
    def expire(self) -> Any: ...


class SessionThread:
    """Sessions that become bulk leave by `send_away`, where there are relay threads.

    A subclass says what is special of its thread by `promotes`, `make_pump` and `send_away`, and overrides nothing else.
    """

    def __init__(self, loop: Loop, row: Row, recorder: Recorder) -> None:
        self.loop = loop
        self.row = row
        self.recorder = recorder
        self.members: set[Any] = set()
        self.paced: Callable[..., Pump] | None = None  # makes pumps of sessions that are slowed down, once there may be such
        self.closing: Reason | None = None  # whoever arrives from now on is reset for this reason
        self.next_look = NEVER
        self._timer: Timer | None = None
        self._long_lived: set[Any] = set()  # of the members, and some that are none any more
        self._is_counting = False
        self._counted_at = 0.0  # whoever had no event since has nothing new to count

    @property
    def promotes(self) -> bool:
        """Whether bulk sessions are to be sent away."""
        return False

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.loop.name}: {len(self.members)} sessions>"

    def make_pump(self, owner: Any, source: StreamSocket, dest: StreamSocket, tcp: bool) -> Pump:
        if self.paced is not None and owner.app.is_paced:
            return self.paced(self.loop, owner, source, dest, tcp, is_plain(source) and is_plain(dest))
        if is_plain(source) and is_plain(dest):
            return Pump(self.loop, owner, source, dest, tcp)
        return tls_pump(self.loop, owner, source, dest, tcp)

    def send_away(self, _session: Any) -> bool:
        """Hand the session (relay.handover.Movable) over to a better thread; False when it stays."""
        return False

    def look_at(self, when: float) -> None:
        """Some member's deadline is `when` from now on. Call only if that is before `next_look`."""
        if self._timer is not None:
            self._timer.cancel()
        self.next_look = when
        self._timer = self.loop.call_later(when - self.loop.now, self._look)

    def count_from_now(self, session: Any) -> None:
        """It lives long: let its bytes be seen in the counters while it does. Others, that wait, say, cost nothing."""
        self._long_lived.add(session)
        self._count_later()

    def _count_later(self) -> None:
        if not self._is_counting:
            self._is_counting = True
            self.loop.call_later(COUNT_EVERY, self._count)

    def _count(self) -> None:
        since, self._counted_at = self._counted_at, self.loop.now
        in_slices(self.loop, tuple(self._long_lived), partial(self._count_some, since), self._counted)

    def _count_some(self, since: float, sessions: tuple[Any, ...]) -> None:
        for session in sessions:
            if session not in self.members:
                self._long_lived.discard(session)
            elif session.last >= since and session.thread is self:
                moved(session)

    def _counted(self) -> None:
        self._is_counting = False
        if self._long_lived:
            self._count_later()

    def guard(self, call: Callable[[], Any]) -> None:
        """A bug in this method of a session is that session's end, and nobody else's."""
        try:
            call()
        except Exception as error:  # noqa: BLE001
            self.loop.on_error(call, error)

    def _look(self) -> None:
        """A look takes 20 ms for 10,000 sessions, so it goes on over many rounds. Who comes meanwhile, or gets an earlier
        deadline, has a look of its own: `next_look` is NEVER until this one is over."""
        self._timer = None
        self.next_look = NEVER
        found = _Earliest()
        in_slices(self.loop, tuple(self.members), partial(self._look_at_some, found), partial(self._looked, found))

    def _look_at_some(self, found: "_Earliest", members: tuple[Any, ...]) -> None:
        now, present, earliest = self.loop.now, self.members, found.when
        for member in members:
            if member not in present:  # it has ended since, or lives in another thread
                continue
            due = member.due()
            if due <= now:
                self.guard(member.expire)
                due = member.due() if member in present else NEVER
            earliest = min(earliest, due)
        found.when = earliest

    def _looked(self, found: "_Earliest") -> None:
        if found.when < self.next_look:  # an expiry, or a session that came, may have set an earlier one
            self.look_at(max(found.when, self.loop.now + GRAIN))


class _Earliest:
    """The first deadline that a look has found so far. Each look has its own: the next may begin before it is over."""

    __slots__ = ("when",)

    def __init__(self) -> None:
        self.when = NEVER


def is_plain(sock: StreamSocket) -> bool:
    """Whether it is a socket and nothing more; not a TlsSocket, whose `stream` is."""
    return isinstance(sock, SocketType) or getattr(sock, "stream", None) is None


def leave(sock: StreamSocket, reset: bool) -> None:
    """Before a close: a reset, or else the end, of which a peer with TLS is told, as far as there is room."""
    if reset:
        if sock.family != AF_UNIX:
            reset_on_close(sock)
    elif not is_plain(sock):
        with suppress(OSError):
            sock.say_end()  # type: ignore[attr-defined]  # of a TlsSocket


def tls_pump(loop: Loop, owner: Any, source: StreamSocket, dest: StreamSocket, tcp: bool, is_relay: bool = False) -> Pump:
    kinds = _tls_pumps()
    if is_plain(source) and not is_relay:
        pump: Pump = kinds.ToTlsPump(loop, owner, source, dest, tcp)
    else:
        pump = kinds.TlsPump(loop, owner, source, dest, tcp, is_relay)
    return pump


@cache
def _tls_pumps() -> Any:
    """Asked for once: an import of what is there takes 2 us of a session."""
    from tcp_proxy.dataplane.relay import tls_pump as kinds  # ssl is imported for the first session that needs it

    return kinds


def in_slices(
    loop: Loop, items: tuple[Any, ...], call: Callable[[tuple[Any, ...]], Any], done: Callable[[], Any], size: int = 0
) -> None:
    """Call with SLICE items a turn (or `size`), so that the sessions need not wait for all; then `done`. `loop`'s thread
    only."""
    size = size or SLICE
    if len(items) <= size:
        call(items)
        done()
        return
    call(items[:size])
    loop.call_again(lambda _events: in_slices(loop, items[size:], call, done, size))


def member_of(part: Any) -> Any:
    """The session or the client's connection that a part of it belongs to, which can be ended alone; None: neither."""
    while part is not None and not hasattr(part, "kill"):
        part = getattr(part, "owner", None)
    return part


def shut_down(thread: SessionThread) -> None:
    """The grace is over: whoever is here, or comes from now on, is reset."""
    thread.closing = Reason.SHUTDOWN
    for session in tuple(thread.members):
        session.kill(Reason.SHUTDOWN, Side.PROXY)
