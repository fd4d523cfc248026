"""Clients of a failover app that wait for its primary, in a worker.

The event loop's thread only. A Parking belongs to one app and knows who is primary, since when, and in which epoch; the
supervisor says so (messages.Primary), and obeys the rule that between two primaries every worker has none.

    HOLDING     no primary, nobody is accepted: clients wait in the kernel's queue
    RECEIVING   no primary for `wait` seconds: clients are accepted, so that their own `wait` can end; they park at once
    SERVING     there is a primary; a session whose connect failed parks until the supervisor has looked

A session parks when it has no target to go to, and is dialed for again when there is one. Before that its client is
looked at without reading: one that has gone, or has ended its direction before there was this primary, is never sent to
it (DESIGN 9.6): perhaps it has tried elsewhere meanwhile. Its bytes are with us or in the kernel until then.
"""

from collections.abc import Iterable
from socket import IPPROTO_TCP, TCP_INFO, SocketType
from typing import Any

from tcp_proxy.dataplane.session_state import DIALING, PARKED
from tcp_proxy.loop import RDHUP
from tcp_proxy.messages import AppView
from tcp_proxy.sansio.reasons import Reason, Side, is_local

_ESTABLISHED, _CLOSE_WAIT = 1, 8  # states of a TCP socket
_LAST_ACK = slice(56, 60)  # tcpi_last_ack_recv of struct tcp_info, linux/tcp.h: milliseconds
# The kernel's milliseconds come in jiffies. A client that ended its direction this shortly after the primary was there
# counts as one that did so before.
GRAIN = 0.012
NEVER = float("inf")


class Parking:
    def __init__(self, view: AppView, now: float) -> None:
        self.primary = ""
        self.epoch = -1
        self.since = now  # when this primary, or its absence, began
        self.wait = view.election_wait
        self.is_patient = True  # HOLDING, not RECEIVING
        self.has_reported = False  # a failed connect to this primary
        self.configure(view, now)

    def __repr__(self) -> str:
        return f"<Parking epoch {self.epoch}, primary {self.primary or 'none'}>"

    @property
    def holds(self) -> bool:
        """Whether nobody is to be accepted."""
        return not self.primary and self.is_patient

    def configure(self, view: AppView, now: float) -> None:
        self.wait = view.election_wait
        self.refuses = view.refuses
        if (view.epoch, view.primary) != (self.epoch, self.primary):
            self.set(view.epoch, view.primary, view.since if view.primary else now)

    def set(self, epoch: int, primary: str, since: float) -> None:
        """`since` is the supervisor's word: who came after it, but before this worker heard of it, came in time."""
        if (epoch, primary) != (self.epoch, self.primary):
            self.since = since
            self.is_patient = True
        self.epoch, self.primary = epoch, primary
        self.has_reported = False

    def receive(self, epoch: int) -> bool:
        """`wait` is over: whether clients are accepted from now on. Where ports are closed, nobody can come."""
        if self.primary or epoch != self.epoch or self.refuses:
            return False
        self.is_patient = False
        return True

    def takes(self, reason: Reason, code: int) -> bool:
        """Whether a session waits that could not be connected for this reason. An error of this machine is no matter of
        elections."""
        return reason is Reason.NO_TARGET or (reason is Reason.CONNECT_FAILED and not is_local(code))

    def welcomes(self, client: SocketType, now: float) -> bool:
        """Whether a client that waited, here or in the kernel's queue, is still there and may be sent to the primary."""
        state, heard = _ask(client)
        if state == _ESTABLISHED:
            return True
        # It has ended its direction: a client that waits for an answer, if it did so while there was this primary.
        return state == _CLOSE_WAIT and bool(self.primary) and heard + GRAIN < now - self.since

    def patience_of(self, client: SocketType) -> float:
        """Seconds that a client may still wait here: what it has waited in the kernel's queue counts, as far as it shows."""
        if self.primary or self.is_patient:
            return self.wait
        return max(0.0, self.wait - _ask(client)[1])


def _ask(client: SocketType) -> tuple[int, float]:
    """The state of a TCP socket, and the seconds since it heard of its peer."""
    info = client.getsockopt(IPPROTO_TCP, TCP_INFO, 60)
    return info[0], int.from_bytes(info[_LAST_ACK], "little") / 1000


class Parkable:
    """What a session does here; the rest of it is in dataplane.session."""

    __slots__ = ()

    def park(self) -> None:
        """Wait for another primary."""
        session: Any = self
        dial, session.dial = session.dial, None
        dial.cancel()
        session.tried = dial.tried
        session._enter(PARKED)
        if session.waits_until == NEVER:
            session.waits_until = session.home.loop.now + session.app.parking.patience_of(session.client)
        session.deadline_set(session.waits_until)
        self.look_who_waits()

    def look_who_waits(self) -> None:
        """The client has ended its direction, and nobody is there to be sent what it has said: it is as good as gone."""
        session: Any = self
        parking = session.app.parking
        if session.early & RDHUP and not parking.primary:
            session._finish(Reason.CLIENT_GONE, Side.CLIENT, 0, reset=True)

    def unpark(self) -> None:
        """There is a primary (again); for a client that has gone there is nothing to be done any more."""
        session: Any = self
        session.deadline = NEVER
        parking = session.app.parking
        if parking is None or parking.welcomes(session.client, session.home.loop.now):
            session._enter(DIALING)
            session._dial()
        else:
            session._finish(Reason.CLIENT_GONE, Side.CLIENT, 0, reset=True)


def park_all(app: Any, sessions: Iterable[Any]) -> None:
    """There is no primary: whoever is being connected to one is not, any more."""
    for session in tuple(sessions):
        if session.app is app and session.state is DIALING:
            session.park()
        elif session.app is app and session.state is PARKED:
            session.look_who_waits()  # when it parked there was still a primary


def unpark_all(app: Any, sessions: Iterable[Any]) -> None:
    for session in tuple(sessions):
        if session.app is app and session.state is PARKED:
            session.unpark()
