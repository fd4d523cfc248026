"""Clients of a failover app that wait for its primary, in a worker.

The event loop's thread only. A PrimaryQueue belongs to one app and knows who is primary, since when, and in which epoch; the
supervisor says so (messages.Primary), and obeys the rule that between two primaries every worker has none.

    HOLDING     no primary, nobody is accepted: clients wait in the kernel's queue
    RECEIVING   no primary for `wait` seconds: clients are accepted, so that their own `wait` can end; they enqueue at once
    SERVING     there is a primary; a session whose connect failed waits until the supervisor has looked

In a cluster the primary counts until `until`, which is moved on again and again (`renew`). When that time is over there is
none any more (`lapse`), until it is moved on; by a timer of the worker's (leases), and for what is done before that fires,
because the process stood still, by the clock itself (`is_over`): before a connect, and before a byte is relayed.

A session is QUEUED when it has no target to go to, and is dialed for again when there is one. Before that its client is
looked at without reading: one that has gone, or has ended its direction before there was this primary, is never sent to
it (docs/rules.md, R6): perhaps it has tried elsewhere meanwhile. Its bytes are with us or in the kernel until then.
"""

from collections.abc import Callable, Iterable
from socket import AF_UNIX, IPPROTO_TCP, TCP_INFO
from typing import Any, Protocol

from tcp_proxy.dataplane.session_state import DIALING, QUEUED, State
from tcp_proxy.runtime.loop import RDHUP, this_moment
from tcp_proxy.runtime.socket_options import reset_on_close
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.reasons import Reason, is_local
from tcp_proxy.wire.views import AppView

_ESTABLISHED, _CLOSE_WAIT = 1, 8  # states of a TCP socket
_LAST_ACK = slice(56, 60)  # tcpi_last_ack_recv of struct tcp_info, linux/tcp.h: milliseconds
# The kernel's milliseconds come in jiffies. A client that ended its direction this shortly after the primary was there
# counts as one that did so before, unless it is certain that it came later (`admit`).
GRAIN = 0.012
NEVER = float("inf")


class PrimaryQueue:
    def __init__(self, view: AppView, now: float, clock: Callable[[], float] = this_moment) -> None:
        self.primary = ""  # who counts; "": nobody
        self.named = ""  # by the supervisor, whether or not the time is over
        self.until = NEVER  # when it is
        self._clock = clock
        self.epoch = -1
        self.since = now  # when this primary, or its absence, began
        self.wait = view.election_wait
        self.is_holding = True  # HOLDING, not RECEIVING
        self.has_reported = False  # a failed connect to this primary
        self._certain_from = NEVER  # sessions that began later than this came when this primary was there
        self.configure(view, now)

    def __repr__(self) -> str:
        return f"<PrimaryQueue epoch {self.epoch}, primary {self.primary or 'none'}>"

    @property
    def holds(self) -> bool:
        """Whether nobody is to be accepted."""
        return not self.primary and self.is_holding

    def configure(self, view: AppView, now: float) -> None:
        self.wait = view.election_wait
        self.refuses = view.refuses
        self.closes = view.closes
        if view.is_leased is (self.until == NEVER):
            self.until = 0.0 if view.is_leased else NEVER
            self._begin(self.named if self.until else "", now)
        if (view.epoch, view.primary) != (self.epoch, self.named):
            self.set(view.epoch, view.primary, view.since if view.primary else now)

    def set(self, epoch: int, primary: str, since: float) -> None:
        """`since` is what the supervisor says: who came after it, but before this worker heard of it, came in time."""
        if (epoch, primary) != (self.epoch, self.named):
            self._begin("" if self.is_over() else primary, since)
        self.epoch, self.named = epoch, primary
        self.has_reported = False

    def _begin(self, primary: str, since: float) -> None:
        self.primary, self.since = primary, since
        self._certain_from = NEVER
        self.is_holding = True

    def renew(self, epoch: int, until: float, now: float) -> bool:
        """Whether there is a primary again."""
        if epoch != self.epoch or self.until == NEVER:
            return False
        self.until = until
        has_lapsed = bool(self.named) and not self.primary and not self.is_over()
        if has_lapsed:
            self._begin(self.named, now)
        return has_lapsed

    def lapse(self, now: float) -> bool:
        """Whether the time is over, and there was a primary."""
        is_lost = bool(self.primary) and self.is_over()
        if is_lost:
            self._begin("", now)
        return is_lost

    def is_over(self) -> bool:
        """The time of this node: by the clock, not by the loop's idea of it."""
        return self.until != NEVER and self._clock() >= self.until

    @property
    def why_none(self) -> Reason:
        """For whoever has waited in vain."""
        return Reason.NO_QUORUM if self.is_over() else Reason.NO_TARGET

    def connected(self, session: Any, sock: StreamSocket) -> None:
        """A session is, to the primary, and has not been relayed a byte."""
        if self.closes and sock.family != AF_UNIX:
            reset_on_close(sock)  # by the kernel too, when this process is killed: what it holds is not for a former primary
            session.armed = True
        if self.is_over():  # since it was chosen: its session notices that it has been given up
            session.cut = session.target.cut - 1
            session.target.cut_reason = Reason.NO_QUORUM

    def admit(self, now: float, has_waiting: bool) -> None:
        """Before clients are accepted. If nobody waits in the kernel's queue, or the port was closed until this primary was
        there, whoever is accepted from now on came when it was there."""
        if self.primary:
            self._certain_from = min(self._certain_from, now) if self.refuses or not has_waiting else NEVER

    def receive(self, epoch: int) -> bool:
        """`wait` is over: whether clients are accepted from now on. Where ports are closed, nobody can come."""
        if self.primary or epoch != self.epoch or self.refuses:
            return False
        self.is_holding = False
        return True

    def takes(self, reason: Reason, code: int) -> bool:
        """Whether a session waits that could not be connected for this reason. An error of this machine is no matter of
        elections."""
        return reason is Reason.NO_TARGET or (reason is Reason.CONNECT_FAILED and not is_local(code))

    def welcomes(self, client: StreamSocket, began: float, now: float) -> bool:
        """Whether a client that waited, here since its session began or in the kernel's queue, is still there and may be
        sent to the primary."""
        state, heard = _ask(client)
        if state == _ESTABLISHED:
            return True
        # It has ended its direction: a client that waits for an answer, if it did so while there was this primary.
        is_certain = began > self._certain_from or heard + GRAIN < now - self.since
        return state == _CLOSE_WAIT and bool(self.primary) and is_certain

    def is_useless_to(self, early: int) -> bool:
        """Whether a client with these epoll events waits in vain: it has ended its direction, and nobody is there to be sent
        what it has said."""
        return bool(early & RDHUP) and not self.primary

    def wait_left(self, client: StreamSocket) -> float:
        """Seconds that a client may still wait here: what it has waited in the kernel's queue counts, as far as it shows."""
        if self.primary or self.is_holding:
            return self.wait
        return max(0.0, self.wait - _ask(client)[1])


def _ask(client: StreamSocket) -> tuple[int, float]:
    """The state of a TCP socket, and the seconds since it heard of its peer."""
    info = client.getsockopt(IPPROTO_TCP, TCP_INFO, 60)
    return info[0], int.from_bytes(info[_LAST_ACK], "little") / 1000


class WaiterApp(Protocol):
    """Of a waiter, as far as it matters here. No failover app (any more): `primary_queue` is None."""

    primary_queue: PrimaryQueue | None

    def elect(self, epoch: int, primary: str, since: float) -> Any: ...


class WaiterThread(Protocol):
    def guard(self, call: Callable[[], Any]) -> None:
        """A bug in this method of a session is that session's end, and nobody else's."""


class Waiter(Protocol):
    """A session, in the thread of the event loop. Each of its calls may end it."""

    number: int

    @property
    def thread(self) -> WaiterThread: ...
    @property
    def app(self) -> WaiterApp: ...
    @property
    def state(self) -> State: ...

    def enqueue(self) -> Any:
        """DIALING: give the dial up and wait for another primary; `PrimaryQueue.wait_left` says how long."""

    def recheck(self) -> Any:
        """QUEUED: end, if `PrimaryQueue.is_useless_to` says so."""

    def dequeue(self) -> Any:
        """QUEUED: dial again, if `PrimaryQueue.welcomes` the client."""

    def expire(self) -> Any:
        """QUEUED: the time to wait is over."""


def enqueue_all(app: WaiterApp, sessions: Iterable[Waiter]) -> None:
    """There is no primary: whoever is being connected to one is not, any more."""
    for session in tuple(sessions):
        if session.app is app and session.state is DIALING:
            session.thread.guard(session.enqueue)
        elif session.app is app and session.state is QUEUED:
            session.thread.guard(session.recheck)  # when it queued there was still a primary


def dequeue_all(app: WaiterApp, sessions: Iterable[Waiter]) -> None:
    """There is a primary (again): for those who wait in the order in which they came, for there may not be room for all."""
    waiting = [session for session in sessions if session.app is app and session.state is QUEUED]
    for session in sorted(waiting, key=_number):
        if session.state is QUEUED:
            session.thread.guard(session.dequeue)


def _number(session: Waiter) -> int:
    return session.number


def orphan(app: WaiterApp, sessions: Iterable[Waiter]) -> None:
    """The supervisor is gone: nobody will ever be primary here again, and a supervisor that was started since may have found
    one. Who waits, or comes, is reset, and may connect there."""
    primary_queue = app.primary_queue
    assert primary_queue is not None
    primary_queue.wait = 0.0
    app.elect(primary_queue.epoch, "", primary_queue.since)
    enqueue_all(app, sessions)
    for session in tuple(sessions):
        if session.app is app and session.state is QUEUED:
            session.thread.guard(session.expire)


def demoted(apps: Iterable[Any]) -> frozenset[Any]:
    """Of LiveApps: whom the sessions may be with that a demotion ends: they are given up."""
    closing = [app for app in apps if app.primary_queue is not None and app.primary_queue.closes]
    return frozenset().union(*(app.cut(Reason.DEMOTED) for app in closing))
