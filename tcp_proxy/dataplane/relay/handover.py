"""A session changes its thread: from the event loop to a relay thread when it is bulk, and back when it is not.

A hand-over is always: the old thread lets go of everything, then queues `arrive` to the new one; between the two the
session belongs to that queued call and nobody touches it. What was read and not written travels in the session's pumps.
The whole session moves, never one direction (docs/rules.md, R3).

Another process is another thread: what leaves by dataplane.moving is let go of in the same way.

`hand_over` runs in the old thread, `attach` in the new one. A `Placement` says when: it is made when a session is bulk for
the first time, and is used by the thread that owns the session.
"""

from typing import Any, Protocol

from tcp_proxy.dataplane.relay.pump import Owner, Pump
from tcp_proxy.dataplane.relay.session_thread import SessionThread
from tcp_proxy.dataplane.session_state import RELAYING, State
from tcp_proxy.runtime.loop import EDGE, QUIET_EDGE
from tcp_proxy.runtime.stream_socket import StreamSocket

# A session in a relay thread that moved less than this many bytes in this many seconds goes back to the event loop.
CALM_BYTES, CALM_AFTER = 1 << 20, 1.0


class Movable(Owner, Protocol):
    """What a hand-over needs of a session. It reads the attributes; the session alone sets them."""

    thread: SessionThread
    state: State
    client: StreamSocket
    upstream: StreamSocket | None
    up: Pump | None
    down: Pump | None
    placement: "Placement | None"

    def relayed_by(self, up: Pump, down: Pump) -> Any:
        """These pumps have taken over from `up` and `down`."""

    def arrive(self, thread: SessionThread) -> Any:
        """The first call in the new thread: it owns the session from now on. Calls `attach`."""


def hand_over(session: Movable, to: SessionThread) -> bool:
    """From the thread that owns the session now. False, and the session stays, when `to` takes nobody any more."""
    old = session.thread
    let_go(session)
    if to.loop.call_soon(session.arrive, to):
        return True
    session.arrive(old)
    return False


def let_go(session: Movable) -> None:
    """The old owner's last touch. Calls of the old pumps that are still queued here find them done; what they had read and
    not written travels in two pumps that no loop knows."""
    thread, upstream, up, down = session.thread, session.upstream, session.up, session.down
    assert upstream is not None
    assert up is not None
    assert down is not None
    new_up, new_down = (Pump(thread.loop, session, old.source, old.dest, old.tcp).take_over(old) for old in (up, down))
    _relay_by(session, new_up, new_down)
    up.retire()
    down.retire()
    thread.loop.unwatch(session.client.fileno())
    thread.loop.unwatch(upstream.fileno())
    thread.members.discard(session)
    session.client.setblocking(False)  # a splice waits for a socket that is not non-blocking itself (docs/rules.md, R3)


def attach(session: Movable) -> None:
    """In the thread that owns the session now. Whatever can be read or written comes as a first edge of its epoll."""
    thread, upstream, up, down = session.thread, session.upstream, session.up, session.down
    assert upstream is not None
    assert up is not None
    assert down is not None
    new_up, new_down = (thread.make_pump(session, old.source, old.dest, old.tcp).take_over(old) for old in (up, down))
    _relay_by(session, new_up, new_down)
    watch(session)


def watch(session: Movable) -> None:
    """The second half of `attach`, alone where the session's pumps are of this thread already."""
    thread, upstream, up, down = session.thread, session.upstream, session.up, session.down
    assert upstream is not None
    assert up is not None
    assert down is not None
    thread.members.add(session)
    thread.loop.watch(session.client.fileno(), _events_for(down), up.ready)
    thread.loop.watch(upstream.fileno(), _events_for(up), down.ready)


def _events_for(writer: Pump) -> int:
    """Of the socket that this one writes to. One that copies asks for room when it first needs it: told at once that there
    is some, a session that is idle would look as if something had happened."""
    if type(writer) is not Pump or writer.blocked:
        return EDGE
    writer.armed = False
    return QUIET_EDGE


def _relay_by(session: Movable, up: Pump, down: Pump) -> None:
    up.opposite, down.opposite = down, up
    session.relayed_by(up, down)


class Placement:
    """Decides whether its session is relayed by the event loop or by a relay thread. `owner` is the session."""

    __slots__ = ("_calm_mark", "_calm_since", "is_due", "is_over", "owner")

    def __init__(self, owner: Movable) -> None:
        self.owner = owner
        self.is_due = False  # `move` is queued
        self.is_over = False  # its session is on its way to another process
        self._calm_since = 0.0
        self._calm_mark = 0  # bytes moved by then

    def __repr__(self) -> str:
        return f"<Placement of {self.owner!r}{', due' if self.is_due else ''}>"

    def change(self) -> None:
        """Not now: the pump that calls and its opposite may be in the middle of a turn."""
        if not self.is_due:
            self.is_due = True
            self.owner.thread.loop.call_again(self.move)

    def arrived(self) -> None:
        """The session is relayed by another thread since now."""
        self._calm_since, self._calm_mark = self.owner.thread.loop.now, self._moved()

    def emptied(self) -> None:
        """In a relay thread: a source has nothing for now. Whether this is still a bulk session?"""
        now = self.owner.thread.loop.now
        if now - self._calm_since < CALM_AFTER:
            return
        moved = self._moved()
        is_calm = moved - self._calm_mark < CALM_BYTES
        self._calm_since, self._calm_mark = now, moved
        if is_calm:
            self.change()

    def move(self, _events: int) -> None:
        """Leave this thread, unless the session has ended meanwhile or bytes in a pipe hold it here."""
        self.is_due = False
        session = self.owner
        up, down = session.up, session.down
        if self.is_over or session.state is not RELAYING or up is None or down is None or session.upstream is None:
            return
        if not (up.is_movable and down.is_movable and session.thread.send_away(session)):
            up.resume()
            if session.state is RELAYING:
                down.resume()

    def _moved(self) -> int:
        up, down = self.owner.up, self.owner.down
        assert up is not None
        assert down is not None
        return up.moved + down.moved
