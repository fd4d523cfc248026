"""What the supervisor and its workers say to each other: frozen values, and their form on the wire.

A frame is a 4-byte little-endian length and that many bytes of JSON: {"v": VERSION, "is": type name, ...fields}. The
types in `KINDS` are the whole language. Descriptors travel beside the frame (SCM_RIGHTS); a message that carries some
says how many in its `descriptors`. `encode` and `decode` are inverse for every value (test_every_message_round_trips).
Both ends are always of one package version (a worker of another one exits at once, see dataplane.worker), so VERSION
guards against mistakes, not against history. What is asked about single sessions is in `inquiries`.
"""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from typing import Any

from tcp_proxy.config.model import Http, Sticky, Timeouts
from tcp_proxy.inquiries import AskSession, AskSessions, CloseSession, SessionClosed, SessionsTold, SessionTold

VERSION = 1
MAX_DESCRIPTORS = 200  # in one message; the kernel's limit is 253 (SCM_MAX_FD)

# An address family and what socket.connect() takes for it: (AF_INET, ("127.0.0.1", 80)), (AF_UNIX, "/run/x.sock").
Endpoint = tuple[int, Any]


@dataclass(frozen=True, slots=True)
class TargetView:
    """A target as a worker needs it. `slot` is the first of its counters (counters.TARGET_SLOTS of them)."""

    name: str
    slot: int
    weight: int
    backup: bool
    limited: bool  # max_connections is set: its semaphore comes with a Limits message
    state: str  # sansio.verdict.State
    endpoints: tuple[Endpoint, ...]
    servers: tuple[tuple[int, tuple[Endpoint, ...]], ...] = ()  # of a group: by listening port; `endpoints` are of all


@dataclass(frozen=True, slots=True)
class AppView:
    """`slot` is the first of its counters (counters.APP_SLOTS of them)."""

    name: str
    slot: int
    balance: str
    retries: int
    timeouts: Timeouts
    targets: tuple[TargetView, ...]
    primary: str = ""  # of a failover app; "": there is none now
    epoch: int = 0
    election_wait: float = 0.0
    refuses: bool = False  # its ports are closed while there is no primary
    since: float = 0.0  # when the primary was found, by the clock that all loops of this machine have in common
    http: Http | None = None  # None: mode tcp
    sticky: Sticky | None = None


# -- supervisor to worker


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state, first of all messages. Descriptors: the counters' memory; the record pipe, if `records`."""

    worker: int  # 0 .. workers - 1
    workers: int
    incarnation: str  # unique for each worker process; session ids start with it
    rows: int
    slots: int
    first_row: int  # this worker's rows are first_row .. first_row + ROWS_PER_WORKER - 1
    records: bool
    log_level: str
    grace: float  # seconds for its sessions to end when the supervisor is gone
    apps: tuple[AppView, ...]
    descriptors: int


@dataclass(frozen=True, slots=True)
class Configure:
    """What is different from the snapshot, or from what was said since. Answered by Configured."""

    generation: int
    workers: int
    grace: float
    apps: tuple[AppView, ...]  # new ones, and those that changed
    removed: tuple[str, ...]  # apps; their listeners are closed


@dataclass(frozen=True, slots=True)
class Stick:
    """Here is the way to the stick tables (stick_wire). It comes before the first sticky app has clients."""

    descriptors: int


@dataclass(frozen=True, slots=True)
class Grow:
    """The counters' memory has this many rows now. Its descriptor comes along."""

    rows: int
    descriptors: int


@dataclass(frozen=True, slots=True)
class Records:
    """Write session records to this pipe from now on; no descriptor: to none."""

    descriptors: int


@dataclass(frozen=True, slots=True)
class Limits:
    """One semaphore for each of these target slots: as many tokens as connections are allowed, less those that the
    sessions there are have taken. It takes the place of an earlier one. `numbers` tell a target's semaphores apart."""

    slots: tuple[int, ...]
    descriptors: int
    numbers: tuple[int, ...] = ()  # left out: 0


@dataclass(frozen=True, slots=True)
class Listen:
    """Accept on these sockets. `slots`: the first of each one's counters (counters.LISTENER_SLOTS of them)."""

    ids: tuple[int, ...]
    slots: tuple[int, ...]
    apps: tuple[str, ...]
    addresses: tuple[str, ...]
    descriptors: int


@dataclass(frozen=True, slots=True)
class HandOver:
    """These listeners belong to other apps from now on."""

    ids: tuple[int, ...]
    slots: tuple[int, ...]
    apps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unlisten:
    """Accept for `drain` seconds more, until the queue is empty; close the copies; answer Unlistened."""

    ids: tuple[int, ...]
    drain: float


@dataclass(frozen=True, slots=True)
class TargetChanged:
    app: str
    target: str
    state: str
    endpoints: tuple[Endpoint, ...]
    servers: tuple[tuple[int, tuple[Endpoint, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Primary:
    """Of a failover app. "": nobody from now on; park its clients and answer Paused."""

    app: str
    epoch: int
    target: str
    since: float  # when this primary, or its absence, began; as in AppView


@dataclass(frozen=True, slots=True)
class CloseSessions:
    """End the sessions of a target, as if it had reset them."""

    app: str
    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Exit when the last session has ended, or after `grace` seconds; below 0: whenever that will be. Said again, the
    newer grace counts."""

    grace: float


@dataclass(frozen=True, slots=True)
class Ping:
    number: int


# -- supervisor to the process of the management API; what is JSON text here, only the two ends look into


@dataclass(frozen=True, slots=True)
class ServeApi:
    """Serve the listening socket that was lent at start; first of all messages."""

    address: str
    token_file: str | None
    hosts: tuple[str, ...]
    log_level: str


@dataclass(frozen=True, slots=True)
class Answer:
    """To the Ask of that number: an HTTP status, and the body as JSON text."""

    number: int
    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Happened:
    """An event, to everybody who follows them."""

    number: int
    at: float
    kind: str
    data: str


# -- the process of the management API to the supervisor


@dataclass(frozen=True, slots=True)
class Ask:
    """Do `operation` (control.administration knows which there are) and answer."""

    number: int
    operation: str
    arguments: str


# -- worker to supervisor


@dataclass(frozen=True, slots=True)
class Ready:
    capacity: int  # sessions that the descriptor limit allows


@dataclass(frozen=True, slots=True)
class Configured:
    generation: int


@dataclass(frozen=True, slots=True)
class Paused:
    """No client of the app is sent to anybody, until there is a Primary."""

    app: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Pong:
    number: int


@dataclass(frozen=True, slots=True)
class Unlistened:
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    app: str
    target: str
    error: str


@dataclass(frozen=True, slots=True)
class Logged:
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Drained:
    """The last word of a worker. `cut` sessions had to be reset because the grace ran out."""

    cut: int


Message = (
    Snapshot | Configure | Stick | Grow | Records | Limits | Listen | HandOver | Unlisten | TargetChanged | Primary
    | CloseSessions | Drain | AskSessions | AskSession | CloseSession | Ping
    | ServeApi | Answer | Happened | Ask
    | Ready | Configured | Paused | Pong | Unlistened | SessionsTold | SessionTold | SessionClosed | ConnectFailed
    | Logged | Drained
)  # fmt: skip
KINDS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(Message)}

_PLAIN = (str, int, float, bool)


def encode(message: Message) -> bytes:
    """A whole frame."""
    body = {"v": VERSION, "is": type(message).__name__, **_fields(message)}
    text = json.dumps(body, separators=(",", ":"), default=_fields).encode()
    return len(text).to_bytes(4, "little") + text


def decode(text: bytes) -> Message:
    """The value of one frame's body. Raises ValueError for another version, an unknown type and anything else."""
    try:
        body = json.loads(text)
        if body.pop("v") == VERSION:
            message: Message = _build(KINDS[body.pop("is")], body)
            return message
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        pass  # JSON of another shape than a message has fails in many ways
    raise ValueError(f"not a message of version {VERSION}: {text[:80]!r}")


def _fields(value: Any) -> dict[str, Any]:
    """Of a dataclass; json goes on with what is in them. dataclasses.asdict is six times as slow."""
    return {name: getattr(value, name) for name in _hints(type(value))}


def _build(kind: Any, value: Any) -> Any:
    """JSON to the annotated type: dataclasses, tuples and unions with None; anything else is taken as it is."""
    if dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        plain = _PLAIN
        built = {name: item if hints[name] in plain else _build(hints[name], item) for name, item in value.items()}
        return kind(**built)  # type: ignore[operator]
    if kind is Any:
        return tuple(value) if isinstance(value, list) else value  # a sockaddr
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is no list")
        inner = typing.get_args(kind)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_build(inner[0], item) for item in value)
        return tuple(_build(part, item) for part, item in zip(inner, value, strict=True))
    if isinstance(kind, types.UnionType):
        return None if value is None else _build(typing.get_args(kind)[0], value)
    return value


def _hints(kind: Any, known: dict[Any, dict[str, Any]] = {}) -> dict[str, Any]:  # noqa: B006  a cache for ever
    if kind not in known:
        known[kind] = typing.get_type_hints(kind)
    return known[kind]
