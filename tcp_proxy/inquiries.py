"""What is asked of the workers about single sessions, and what they answer: the part of `messages` with these values.

A question has a number, which comes back with every answer. control.questions asks, dataplane.inquiry answers.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tried:
    """A target that a session could not be connected to."""

    target: str
    error: str


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session that goes on. `number` is unique in its worker; seconds since it began and since its last event."""

    number: int
    app: str
    listener: str
    client: str
    target: str  # the one it is being connected to, while it is; "" when it has none
    state: str  # dialing, parked, relaying, lingering; in mode http reading, dialing, exchanging, closing
    tried: tuple[Tried, ...]
    age: float
    idle: float
    connect_seconds: float  # -1.0: not connected
    bytes_up: int
    bytes_down: int
    thread: str


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


# -- supervisor to worker


@dataclass(frozen=True, slots=True)
class AskSessions:
    """Which sessions go on? At most `limit` with a number above `after`, the lowest first; "" leaves a filter out."""

    question: int
    app: str
    target: str
    client: str  # an IP, or one with its port
    listener: str
    after: int
    limit: int


@dataclass(frozen=True, slots=True)
class AskSession:
    """What of this one? Or, with `since`, which ended after it did? -1: the newest, 0: the oldest."""

    question: int
    number: int
    since: bool = False


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Reset both sides."""

    question: int
    number: int


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
