"""A session as it leaves for another process: may it, what is told of it, and what becomes of it here.

The worker's loop thread, but for `leave_thread`, which runs in the relay thread that has the session.

    RELAYED ──leave_thread (of a relay thread)──> RELAYED or HELD
    RELAYED ──hold──> HELD ──leave──> another process's        while HELD nobody touches it: no loop knows its sockets
       ^                └──resume──┐
       └───────────────────────────┘
"""

from typing import Any

from tcp_proxy.dataplane import session_counters
from tcp_proxy.dataplane.places import Places
from tcp_proxy.dataplane.relay.handover import let_go
from tcp_proxy.dataplane.relay.pump import Pump
from tcp_proxy.dataplane.relay.session_thread import SessionThread, is_plain
from tcp_proxy.dataplane.relay.splice import SplicePump
from tcp_proxy.dataplane.session import Session
from tcp_proxy.dataplane.session_state import RELAYING
from tcp_proxy.dataplane.sticky.session import StickySession
from tcp_proxy.wire.moved_session import TCP, Direction, MovedSession


class Departure:
    """One HELD session, and what was told of it."""

    __slots__ = ("session", "told")

    def __init__(self, session: Session, told: MovedSession) -> None:
        self.session = session
        self.told = told

    def __repr__(self) -> str:
        return f"<Departure of {self.session!r}>"

    @property
    def owner(self) -> Session:
        return self.session

    @property
    def descriptors(self) -> list[int]:
        session = self.session
        assert session.upstream is not None
        return [session.client.fileno(), session.upstream.fileno()]

    def resume(self) -> None:
        """It stays, as if nothing had been; what was ordered meanwhile is done."""
        self.session.arrive(self.session.thread)

    def leave(self) -> None:
        """It is another process's by now, which has counted it. Closing our copies says nothing to anybody."""
        session, told = self.session, self.told
        row, target, app, loop = session.thread.row, session.target, session.app, session.thread.loop
        assert target is not None
        assert session.upstream is not None
        assert session.up is not None
        assert session.down is not None
        del session.up.opposite, session.down.opposite  # no cycle is left for the collector
        target.depart(row, told.target_tokens)
        if app.places is not None:
            app.places.depart_as(session.number, row, told.app_tokens)
        if app.client_limits is not None:
            app.client_limits.release(session.number, row)
        session_counters.departed(session)
        loop.close_after_batch(session.client)
        loop.close_after_batch(session.upstream)
        session.depart()


def is_movable(session: Any) -> bool:
    """In the session's thread: whether it can be told of, as it is now. With TLS it cannot: the cipher's state stays in
    OpenSSL. Before it relays, and when one side has failed, it is over soon, or can later."""
    return (
        isinstance(session, Session)
        and session.state is RELAYING
        and session.broken is None
        and session.upstream is not None
        and is_plain(session.client)
        and is_plain(session.upstream)
    )


def leave_thread(session: Session, thread: SessionThread) -> bool:
    """In its relay thread: let go of it, for good; what it has in pipes comes along. False: it cannot move, or not now."""
    if session not in thread.members or not is_movable(session):
        return False
    for pump in (session.up, session.down):
        if isinstance(pump, SplicePump):
            pump.unpipe()
    _let_go(session)
    return True


def hold(session: Session, thread: SessionThread, foreign: bool, began_here: tuple[str, float, int]) -> Departure | None:
    """In the loop's thread, which the session has come to, or lives in; None: it cannot move now. `began_here`: this
    worker's incarnation, what makes the wall clock's time of the loop's, and our process id."""
    if session in thread.members:
        if not is_movable(session):
            return None
        _let_go(session)
    session.thread = thread
    target, app = session.target, session.app
    if target is None or target.cut != session.cut or target.unpaid or (app.places is not None and app.places.unpaid):
        session.arrive(thread)  # its target is given up, or it has perhaps no token to take along
        return None
    session_counters.moved(session)
    return Departure(session, _told(session, foreign, began_here))


def _let_go(session: Session) -> None:
    """A change of threads that is due here already does not happen any more."""
    if session.placement is not None:
        session.placement.is_over = True
        session.placement = None
    let_go(session)


def _told(session: Session, foreign: bool, began_here: tuple[str, float, int]) -> MovedSession:
    target, app, up, down, upstream = session.target, session.app, session.up, session.down, session.upstream
    assert target is not None
    assert up is not None
    assert down is not None
    assert upstream is not None
    incarnation, wall, pid = began_here
    origin, queue, limits = session.origin, app.primary_queue, app.client_limits
    return MovedSession(
        kind=TCP,
        id=f"{incarnation}-{session.number}" if origin is None else origin.id,
        processes=(pid,) if origin is None else (*origin.processes, pid),
        app=app.name,
        listener=session.listener.address,
        address=session.address,
        client_family=int(session.client.family),
        started=session.started,
        started_at=session.started + wall,
        last=session.last,
        target=target.name,
        target_family=int(upstream.family),
        tried=tuple(session.tried),
        connected_at=session.connected_at,
        half_closed=session.half_closed,
        first_end=session.first_end.value if session.first_end is not None else "",
        resets_on_close=session.armed,
        epoch=queue.epoch if queue is not None and queue.closes else 0,
        stick=session.key if isinstance(session, StickySession) else "",
        up=_direction(up, session.counted_up),
        down=_direction(down, session.counted_down),
        listener_slot=session.listener.slot,
        target_slot=target.slot,
        target_tokens=-1 if foreign else target.semaphore,
        app_tokens=-1 if foreign else semaphore_of(app.places),
        has_place=app.places is not None and session.number in app.places.holders,
        is_counted=limits is not None and session.number in limits.holders,
    )


def _direction(pump: Pump, counted: int) -> Direction:
    return Direction(pump.moved, counted, pump.ended, pump.done, pump.blocked, pump.failed, bytes(pump.pending))


def semaphore_of(places: Places | None) -> int:
    return places.semaphore if places is not None else -1
