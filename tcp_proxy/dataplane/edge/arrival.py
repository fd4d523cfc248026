"""A client that has been accepted and is no session yet: what comes before its own bytes is read and taken away.

Runs in a worker, owned by its loop's thread; owns the client's socket until `admit` (of the Server) makes a session of it.
Only apps with an edge (`LiveApp.edge`, see policy.py) have arrivals; to all others their clients are sessions at once.

    HEADER ──whole, or none is needed──> ACCESS ──it may──> LIMITS ──> KEY ──> HELLO ──a route──> HANDSHAKE ──> DONE: handed
      │ │                                  ^                 └──too fast──> DELAYED ──> on          over, no stage is left
      │ └──of the sender itself──> LOCAL ──┘ it speaks, or is silent for a moment
      │                              └──it ends──> DONE: a health check; no session, no record
    WAITING, where the app is at its limits.sessions: before all these, or behind ACCESS and LIMITS where these are first
      └──any stage: refused, too late, gone, killed──> DONE: reset, or closed after an alert of TLS; one record

A stage is what is done to a client before the next one; `Edge.stages` says which ones a client has, in what order. To add
one (TLS, a ClientHello that is looked at): a class with the methods of `Stage`, a member of `EdgeState` for it, a step in
STEPS, and a line in `Edge.stages`. An object for each client, if it has a state of its own; else one for all of them.
A stage is given all bytes that have come and were not taken by an earlier one, in `first`; it takes away what is its own
and leaves the rest, which the session has before all else. It may write to `client`, change `address`, put another stage
before the next one (`then`), and leave for `admit` in `leaves` what the session needs of it.

Always true:
- an arrival is in the table of its thread and in the gauge of sessions from the start until DONE, so a drain waits for it, a
  shutdown ends it, an inquiry shows it, and its descriptor is counted;
- it ends exactly once: handed over, or by `finish` with one record, or by `_leave` without any;
- a byte that the client has sent is in `first`, in the socket, or was taken by a stage; the socket is read to its end
  before an event is waited for, which is edge-triggered.
"""

from collections.abc import Callable
from enum import IntEnum
from select import EPOLLPRI
from socket import AF_UNIX, MSG_DONTWAIT
from typing import Any, ClassVar, Final, Protocol

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.counted import Counted, ended
from tcp_proxy.dataplane.relay.pump import CHUNK
from tcp_proxy.dataplane.relay.session_thread import NEVER, SessionThread
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.runtime.loop import FAILED, QUIET_EDGE, RDHUP, READ, WRITE
from tcp_proxy.runtime.socket_options import reset_on_close
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.address import client_text
from tcp_proxy.sansio.reasons import Reason, Refusal, Side
from tcp_proxy.wire.counters import ACCEPTED, LISTENER_ACCEPTED, LISTENER_ARRIVING, REFUSED, SESSIONS

_DONTWAIT: Final = int(MSG_DONTWAIT)
_UNSURE: Final = RDHUP | EPOLLPRI | FAILED  # a short read says nothing then
REFUSALS = tuple(Refusal)  # in the order of their counters
SAY_EVERY: Final = 1.0  # seconds between two lines of the log about clients that were refused


class EdgeState(IntEnum):
    """Its name in small letters is the state that an inquiry shows."""

    NEW = 0
    HEADER = 1
    LOCAL = 2
    ACCESS = 3
    HELLO = 4
    HANDSHAKE = 5
    DONE = 6
    WAITING = 7
    LIMITS = 8
    DELAYED = 9
    KEY = 10


NEW: Final[EdgeState] = EdgeState.NEW
HEADER: Final[EdgeState] = EdgeState.HEADER
LOCAL: Final[EdgeState] = EdgeState.LOCAL
ACCESS: Final[EdgeState] = EdgeState.ACCESS
HELLO: Final[EdgeState] = EdgeState.HELLO
HANDSHAKE: Final[EdgeState] = EdgeState.HANDSHAKE
DONE: Final[EdgeState] = EdgeState.DONE
WAITING: Final[EdgeState] = EdgeState.WAITING
LIMITS: Final[EdgeState] = EdgeState.LIMITS
DELAYED: Final[EdgeState] = EdgeState.DELAYED
KEY: Final[EdgeState] = EdgeState.KEY

STEPS: Final = {
    NEW: (WAITING, HEADER, ACCESS, LIMITS, KEY, HELLO, HANDSHAKE, DONE),
    WAITING: (HEADER, KEY, HELLO, HANDSHAKE, DONE),
    HEADER: (LOCAL, ACCESS, LIMITS, KEY, HELLO, HANDSHAKE, DONE),
    LOCAL: (ACCESS, LIMITS, KEY, HELLO, HANDSHAKE, DONE),
    ACCESS: (LIMITS, WAITING, KEY, HELLO, HANDSHAKE, DONE),
    LIMITS: (DELAYED, WAITING, KEY, HELLO, HANDSHAKE, DONE),
    DELAYED: (WAITING, KEY, HELLO, HANDSHAKE, DONE),
    KEY: (HELLO, HANDSHAKE, DONE),
    HELLO: (HANDSHAKE, DONE),
    HANDSHAKE: (DONE,),
    DONE: (),
}


class Refused(Exception):
    """The client is refused for what it has sent, or has not; the text says why, for its record. `is_told`: by an alert or
    an answer, which a reset could take away."""

    def __init__(self, text: str, refusal: Refusal, is_told: bool = False, reason: Reason | None = None) -> None:
        super().__init__(text)
        self.refusal = refusal
        self.reason = reason or (Reason.TLS_HANDSHAKE if refusal.is_of_tls else Reason.PROTOCOL_ERROR)
        self.by = Side.PROXY if self.reason is Reason.DENIED else Side.CLIENT
        self.is_told = is_told


class NoSession(Exception):
    """The client has gone, and nobody needs to know."""


class Stage(Protocol):
    """Called in the loop's thread. Each of these may raise Refused or NoSession."""

    state: EdgeState  # of the arrival meanwhile

    def seconds(self, arrival: "Arrival") -> float:
        """It begins: how long it may take."""

    def look(self, arrival: "Arrival") -> bool:
        """Whether it is done, with what is in `arrival.first`; nothing more will come if `arrival.is_ended`."""

    def expire(self, arrival: "Arrival") -> bool:
        """Its seconds are over: whether it is done all the same."""


class Queued(Protocol):
    """A stage that waits in a queue of the app, or for its turn."""

    def leave(self) -> Any:
        """The arrival is over."""


class Arrivals:
    """What the arrivals of a worker share."""

    def __init__(self, thread: SessionThread, admit: Callable[["Arrival"], Any], say: Callable[[str], Any]) -> None:
        """`admit` makes a session of an arrival whose stages are over; `say` writes to the log, at the level debug."""
        self.thread = thread
        self.admit = admit
        self._say = say
        self._said_at = float("-inf")
        self._unsaid = 0

    def __repr__(self) -> str:
        return f"<Arrivals of {self.thread!r}>"

    def refused(self, arrival: "Arrival", text: str) -> None:
        """A line, but not for each of many: their records and the counters tell of all."""
        now = self.thread.loop.now
        if now - self._said_at < SAY_EVERY:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more since the last such line)" if self._unsaid else ""
        self._said_at, self._unsaid = now, 0
        who = f"{client_text(arrival.peer)} at listener {arrival.listener.address} of app {arrival.app.name}"
        self._say(f"client {who} refused: {text}{more}")


class Arrival(Counted):
    """`address` is the client's, as far as it is known; `peer` whom the connection is with. `first`: bytes that were read
    and are nobody's yet."""

    # What a session has.
    up: ClassVar[None] = None
    down: ClassVar[None] = None
    dial: ClassVar[None] = None

    __slots__ = (
        "_arrivals", "_stage", "_stages", "deadline", "first", "is_empty", "is_ended", "is_held", "last", "leaves", "peer",
        "queued", "sock", "state",
    )  # fmt: skip

    def __init__(
        self, number: int, arrivals: Arrivals, app: LiveApp, listener: ListenerCounters, client: StreamSocket, address: Any
    ) -> None:
        super().__init__(number, arrivals.thread, app, listener, client, address)
        self._arrivals = arrivals
        self.sock = client  # what is read, as it comes; a stage may have put another socket in front of it
        self.peer = address
        self.state = NEW
        self.last = self.started
        self.deadline = NEVER
        self.first = b""
        self.is_ended = False  # the client sends nothing more
        self.is_empty = False  # what was read last was all that its socket had: of more an event tells (pump.py)
        self.is_held = False  # its stage waits for its turn: nothing is read until then
        self.queued: Queued | None = None  # while it waits for a place
        self.leaves: dict[str, Any] = {}
        self._stages: list[Stage] = app.edge.stages(address)[::-1] if app.edge is not None else []
        self._stage: Stage | None = None  # the one that goes on
        self.thread.row[listener.slot + LISTENER_ARRIVING] += 1  # its counters are nobody else's until it has ended

    def __repr__(self) -> str:
        return f"<Arrival {self.number} {self.app.name} {self.state.name} client={self.address} peer={self.peer}>"

    def start(self) -> None:
        thread = self.thread
        thread.members.add(self)
        thread.row[SESSIONS] += 1
        self._advance()
        if self.state is not DONE:
            thread.loop.watch(self.client.fileno(), QUIET_EDGE, self.ready)
            self.ready(READ)  # what comes later is an event: it is watched

    def then(self, stage: Stage) -> None:
        """This one comes after the stage that goes on, before those that would have."""
        self._stages.append(stage)

    def wait_first(self, stage: Stage) -> None:
        """This one comes before all others, but for a look at who the client is."""
        looks = 0
        while looks < len(self._stages) and self._stages[-1 - looks].state in (ACCESS, LIMITS):
            looks += 1
        self._stages.insert(len(self._stages) - looks, stage)

    @property
    def is_counted(self) -> bool:
        """Whether what it is a client of counts it by now: who it is, is known."""
        return self.state not in (NEW, HEADER, LOCAL) and all(stage.state is not LIMITS for stage in self._stages)

    @property
    def waits_for_place(self) -> bool:
        """Whether its place in the app (limits.sessions) is still to come."""
        return self.state is WAITING or any([stage.state is WAITING for stage in self._stages])

    # -- events

    def ready(self, events: int) -> None:
        """Read until the socket is empty, or no more is needed. Without `events` it was held, and has let some pass."""
        if self.queued is not None and events & (RDHUP | FAILED):
            self.finish(Reason.CLIENT_GONE, Side.CLIENT, 0)
            return
        if events & WRITE:  # asked for by a stage that had no room
            self._advance()
        is_sure = events != 0 and not events & _UNSURE
        while self.state is not DONE and not self.is_held and self._read(is_sure):
            self.last = self.thread.loop.now
            self._advance()
            if self.is_ended and self.state is not DONE:
                self.finish(Reason.CLIENT_GONE, Side.CLIENT, 0)
            if self.is_empty:
                return

    def _read(self, is_sure: bool) -> bool:
        """Whether something has come. `is_sure`: a short read says that it was all."""
        try:
            data = self.sock.recv(CHUNK, _DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            if self.state is LOCAL:
                self._leave()
            else:
                self.finish(Reason.CLIENT_GONE, Side.CLIENT, error.errno or 0)
            return False
        self.is_ended = not data
        self.is_empty = is_sure and len(data) < CHUNK and self.sock.family != AF_UNIX
        self.first += data
        return True

    def look_again(self) -> None:
        """The stage that goes on may do more."""
        self._advance()

    def due(self) -> float:
        return self.deadline

    def expire(self) -> None:
        self.deadline = NEVER
        self._advance(is_late=True)

    def kill(self, reason: Reason, side: Side) -> None:
        """Reset it now."""
        if self.state is not DONE:
            self.finish(reason, side, 0)

    # -- stages

    def _advance(self, is_late: bool = False) -> None:
        """As far as it goes now. `is_late`: the seconds of its stage are over."""
        if self.state is DONE:
            return
        stage = self._stage
        try:
            if stage is None or (stage.expire(self) if is_late else stage.look(self)):
                self._go_on()
        except Refused as refused:
            self._arrivals.refused(self, str(refused))
            self.thread.row[self.app.slot + REFUSED + REFUSALS.index(refused.refusal)] += 1
            self.finish(refused.reason, refused.by, 0, str(refused), reset=not refused.is_told)
        except NoSession:
            self._leave()

    def _go_on(self) -> None:
        """The next stage, and those after it that are done with what there is."""
        while self._stages:
            stage = self._stage = self._stages.pop()
            self._enter(stage.state)
            self.deadline = self.thread.loop.now + stage.seconds(self)
            if not stage.look(self):
                if self.deadline < self.thread.next_look:
                    self.thread.look_at(self.deadline)
                return
        self._hand_over()

    def _enter(self, state: EdgeState) -> None:
        assert state in STEPS[self.state], f"{self!r} cannot become {state.name}"
        self.state = state

    # -- ends

    def _hand_over(self) -> None:
        self._let_go()
        # To be watched anew tells of what is there by now; a session over TLS asks its socket itself, and goes on with the
        # registration that there is.
        is_over_tls = self.app.http is None and self.client is not self.sock
        if not is_over_tls and self.thread.loop.is_watched(self.client.fileno()):
            self.thread.loop.unwatch(self.client.fileno())
        self.thread.row[SESSIONS] -= 1
        self._arrivals.admit(self)
        self.thread.row[self.listener.slot + LISTENER_ARRIVING] -= 1

    def finish(self, reason: Reason, side: Side, code: int, error: str = "", reset: bool = True) -> None:
        """It never became a session; the record says why. `error`: in words."""
        self._let_go()
        if reset and self.client.family != AF_UNIX:
            reset_on_close(self.client)
        self.thread.loop.drop(self.client)
        row = self.thread.row
        row[ACCEPTED] += 1
        row[self.listener.slot + LISTENER_ACCEPTED] += 1
        ended(self, 0, 0, reason, side, code, error)
        row[self.listener.slot + LISTENER_ARRIVING] -= 1

    def _leave(self) -> None:
        """A health check of the sender's, which has gone."""
        self._let_go()
        self.thread.loop.drop(self.client)
        if self.app.places is not None:
            self.app.places.end(self.number, self.thread.row)
        if self.app.client_limits is not None:
            self.app.client_limits.release(self.number, self.thread.row)
        self.thread.row[SESSIONS] -= 1
        self.thread.row[self.listener.slot + LISTENER_ARRIVING] -= 1

    def _let_go(self) -> None:
        self._enter(DONE)
        if self.queued is not None:
            self.queued.leave()
        self.deadline = NEVER
        self._stage = None
        self._stages.clear()
        self.thread.members.discard(self)
