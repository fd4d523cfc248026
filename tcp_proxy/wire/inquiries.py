"""What is asked of the workers about single sessions, and what they answer: the part of `messages` with these values.

A question has a number, which comes back with every answer. control.answers.sessions asks, dataplane.inquiry answers.
"""

from tcp_proxy.sansio.frozen_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Tried:
    """A target that a session could not be connected to."""

    target: str
    error: str


@dataclass(frozen=True, slots=True)
class TlsView:
    """TLS with the client, as far as it has come; "" is not known, or there is none."""

    version: str
    cipher: str
    resumed: bool
    server_name: str  # that the client has asked for
    subject: str  # of its certificate


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session that goes on. `number` is unique in its worker; seconds since it began and since its last event."""

    number: int
    app: str
    listener: str
    client: str
    target: str  # the one it is being connected to, while it is; "" when it has none
    # header, local, hello, handshake; dialing, queued, relaying, lingering; mode http: reading, dialing, exchanging, closing
    state: str
    tried: tuple[Tried, ...]
    age: float
    idle: float
    connect_seconds: float  # -1.0: not connected
    bytes_up: int
    bytes_down: int
    thread: str
    peer: str = ""  # whom the connection is with, where a PROXY header gave the client
    tls: TlsView | None = None
    notes: str = ""  # what else the PROXY header has said
    id: str = ""  # of one that has moved here, which it was given where it began
    processes: tuple[int, ...] = ()  # that it has lived in, in order, where there were several


@dataclass(frozen=True, slots=True)
class EndedView:
    """A session that has ended: records.Record, field by field."""

    id: str
    app: str
    listener: str
    client: str
    target: str
    tried: tuple[Tried, ...]
    connect_seconds: float
    seconds: float
    bytes_up: int
    bytes_down: int
    ended_by: str
    reason: str
    errno: str
    ended_at: float
    peer: str = ""
    error: str = ""
    tls: TlsView | None = None
    notes: str = ""
    processes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request of mode http: one that goes on (`reason` is ""), or that has ended. Seconds count from its whole head."""

    session: int
    number: int  # in its session: 1, 2, 3 …
    app: str
    listener: str
    client: str
    line: str  # its first line, escaped, perhaps cut
    own_id: str  # X-Request-ID as the client has sent it; "": none
    target: str  # "" when it has none
    tried: tuple[Tried, ...]
    status: int  # 0: nothing was answered
    bytes_up: int  # of the bodies
    bytes_down: int
    answer_seconds: float  # to the head of the answer; -1.0: none has come
    seconds: float
    ended_at: float = 0.0  # the wall clock's
    reason: str = ""
    error: str = ""  # what was wrong, where the answer is not the target's
    session_id: str = ""  # of a session that began in another process; else its number says it


# -- supervisor to worker


@dataclass(frozen=True, slots=True)
class AskSessions:
    """Which sessions go on? At most `limit` whose ids come after that of `after_start` (of a worker) and `after`, the lowest
    first; "" leaves a filter out."""

    question: int
    app: str
    target: str
    client: str  # an IP, or one with its port
    listener: str
    after: int
    limit: int
    after_start: int = 0


@dataclass(frozen=True, slots=True)
class AskSession:
    """What of this one: with this id, if it has moved here, or with this number (-1: with none)? Or, with `since`, which
    ended after it did? -1: the newest, 0: the oldest."""

    question: int
    number: int
    since: bool = False
    id: str = ""


@dataclass(frozen=True, slots=True)
class AskRequests:
    """What of this request? In the session with this number, or with this id, if it has moved here (-1: with none). Or, with
    `own_id`, of those whose client has called them so."""

    question: int
    session: int
    number: int
    own_id: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Reset both sides. As in AskSession."""

    question: int
    number: int
    id: str = ""


# -- worker to supervisor


@dataclass(frozen=True, slots=True)
class SessionsTold:
    """A part of the answer, in the order of numbers."""

    question: int
    sessions: tuple[SessionView, ...]
    is_last: bool


@dataclass(frozen=True, slots=True)
class SessionTold:
    """One of the two, or neither: it is not known (any more)."""

    question: int
    live: tuple[SessionView, ...]
    ended: tuple[EndedView, ...]
    newest: int = 0  # the number of the one that ended last
    left_out: int = 0  # ended, too: these were too many to tell


@dataclass(frozen=True, slots=True)
class SessionClosed:
    question: int
    found: bool


@dataclass(frozen=True, slots=True)
class RequestsTold:
    """The newest of those that are known, newest first."""

    question: int
    requests: tuple[RequestView, ...]
