"""What the supervisor and its workers say to each other: frozen values, and their form on the wire.

A frame is a 4-byte little-endian length and that many bytes of JSON: {"v": VERSION, "is": type name, ...fields}. The
types in `KINDS` are the whole language. Descriptors travel beside the frame (SCM_RIGHTS); a message that carries some
says how many in its `descriptors`. `encode` and `decode` are inverse for every value (test_every_message_round_trips).
Both ends are of one package version (dataplane.worker): VERSION guards against mistakes. What is asked about single sessions
is in `inquiries`, what is said of those that move in `moves`, what a cluster's agent hears and says in `cluster`.
"""

import json
import typing
from dataclasses import field

from tcp_proxy.config.log_model import AccessLogs
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.wire import inquiries, moves
from tcp_proxy.wire.cluster import (
    ChangeShared,
    ClusterNews,
    CopyRead,
    HoldWrites,
    JoinCluster,
    LeaveCluster,
    Publish,
    ReleaseWrites,
    Shared,
    SharedChanged,
    TakeLease,
    WritesHeld,
)
from tcp_proxy.wire.dataclass_json import fields, maker
from tcp_proxy.wire.views import AppView, Endpoint, FaultView, TargetView

VERSION = 1
MAX_DESCRIPTORS = 200  # in one message; the kernel's limit is 253 (SCM_MAX_FD)


# -- supervisor to worker


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state, first of all messages. Descriptors: the counters' memory; the bell of those who wait for places
    (dataplane.place_queue); the record pipe, if `records`."""

    worker: int  # 0 .. workers - 1
    workers: int
    incarnation: str  # unique for each worker process; session ids start with it
    rows: int
    slots: int
    first_row: int  # this worker's rows are first_row .. first_row + ROWS_PER_WORKER - 1
    records: AccessLogs | None  # None: there is no access log
    log_level: str
    grace: float  # seconds for its sessions to end when the supervisor is gone
    apps: tuple[AppView, ...]
    descriptors: int
    keeps_requests: bool = False  # of mode http, for `why`; without an API nobody can ask
    to_come: int = 0  # descriptors of listeners and semaphores that follow in other messages


@dataclass(frozen=True, slots=True)
class AppPart:
    """An app that is another one now. The targets of its view are those that are new, and come last, or different."""

    view: AppView
    left: tuple[int, ...] = ()  # targets that are none of its own any more, by slot
    order: tuple[str, ...] = ()  # the names of all its targets, where their order is another one


@dataclass(frozen=True, slots=True)
class Configure:
    """What is different from the snapshot, or from what was said since. Answered by Configured."""

    generation: int
    workers: int
    grace: float
    apps: tuple[AppView, ...]  # new ones, or those that are told as a whole
    removed: tuple[str, ...]  # apps; their listeners are closed
    parts: tuple[AppPart, ...] = ()


@dataclass(frozen=True, slots=True)
class Targets:
    """Some of the targets of an app that the next Apps, Snapshot or Configure tells of, where they are too many for one
    message: they come before those that it has itself."""

    app: str
    targets: tuple[TargetView, ...]


@dataclass(frozen=True, slots=True)
class Apps:
    """Some of the apps that the next Snapshot or Configure tells of, where they are too many for one message: they come
    before those that it has itself."""

    apps: tuple[AppView, ...]
    parts: tuple[AppPart, ...] = ()


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
    """Write the access log's lines to this pipe from now on, as this says; no descriptor: to none."""

    descriptors: int
    logs: AccessLogs | None = None


@dataclass(frozen=True, slots=True)
class TicketKey:
    """What the keys of session tickets are made from, from now on, by all workers (runtime.tls); hexadecimal. It comes
    before the first app with TLS has clients."""

    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """One semaphore for each of these slots, of targets and apps: as many tokens as sessions are allowed, less those that
    the sessions there are have taken. It takes the place of an earlier one. `numbers` tell the semaphores of one apart.
    Then come tables of clients (wire.client_table), of the apps with these slots."""

    slots: tuple[int, ...]
    descriptors: int
    numbers: tuple[int, ...] = ()  # left out: 0
    tables: tuple[int, ...] = ()
    table_numbers: tuple[int, ...] = ()
    worker: int = 0  # whose columns of a table are this worker's


@dataclass(frozen=True, slots=True)
class Listen:
    """Accept on these sockets. `slots`: the first of each one's counters (counters.LISTENER_SLOTS of them). `kept`: those of
    which a service manager has a copy, so that clients wait there when all of us are gone."""

    ids: tuple[int, ...]
    slots: tuple[int, ...]
    apps: tuple[str, ...]
    addresses: tuple[str, ...]
    descriptors: int
    kept: tuple[int, ...] = ()


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
    since: float = 0.0  # as in TargetView


@dataclass(frozen=True, slots=True)
class Primary:
    """Of a failover app. "": nobody from now on; queue its clients, end its sessions if it `closes`, and answer Paused
    when no byte can reach a target any more."""

    app: str
    epoch: int
    target: str
    since: float  # when this primary, or its absence, began; as in AppView


@dataclass(frozen=True, slots=True)
class Renewed:
    """These apps, each in this epoch, may go on sending sessions to their primary until then, by the clock that all loops of
    this machine have in common (AppView.is_leased)."""

    apps: tuple[str, ...]
    epochs: tuple[int, ...]
    until: float


@dataclass(frozen=True, slots=True)
class CloseSessions:
    """End the sessions of a target, as if it had reset them."""

    app: str
    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Faults:
    """Those of an app, from now on: of sessions that begin."""

    app: str
    faults: tuple[FaultView, ...]


@dataclass(frozen=True, slots=True)
class Drain:
    """Exit after the last session, or after `grace` seconds; below 0: whenever that will be. The newest grace counts."""

    grace: float
    moves: bool = False  # sessions are given to others meanwhile: clients of mode http between two requests are not let go


@dataclass(frozen=True, slots=True)
class Ping:
    number: int


# -- supervisor to the process of the management API; what is JSON text here, only the two ends look into


@dataclass(frozen=True, slots=True)
class ServeApi:
    """Serve the listening socket that was passed at start; first of all messages."""

    address: str
    token_file: str | None
    hosts: tuple[str, ...]
    log_level: str


@dataclass(frozen=True, slots=True)
class Answer:
    """To the Ask of that number: an HTTP status and the body as JSON text; more may come, and the last status counts."""

    number: int
    status: int
    body: str
    more: bool = False


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
    """Do `operation` (control.answers.administration knows which there are) and answer."""

    number: int
    operation: str
    arguments: str


# -- worker to supervisor


@dataclass(frozen=True, slots=True)
class Ready:
    capacity: int  # sessions that the descriptor limit allows, beside all that is to come


@dataclass(frozen=True, slots=True)
class Capacity:
    """It is another one now, with other listeners, or another limit."""

    capacity: int


@dataclass(frozen=True, slots=True)
class Configured:
    generation: int


@dataclass(frozen=True, slots=True)
class Paused:
    """No client of the app is sent to anybody, until there is a Primary; of one that `closes`, all targets are reset."""

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
    """`error` "": there was nothing to connect to, for the target's name has no address."""

    app: str
    target: str
    error: str


@dataclass(frozen=True, slots=True)
class TargetFailed:
    """`rows`: what clients met there, as sansio.outlier.Row; the last failure was `error`."""

    app: str
    target: str
    rows: tuple[tuple[int, int, int], ...]
    error: str


@dataclass(frozen=True, slots=True)
class Logged:
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Drained:
    """The last message of a worker. `cut` sessions had to be reset because the grace ran out."""

    cut: int


# -- the process that exports traces


@dataclass(frozen=True, slots=True)
class ExportTraces:
    """Send spans there. First of all messages; the lines come by a socket of their own."""

    endpoint: str
    service_name: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    timeout: float
    ca: str  # path of a file; "": the usual authorities
    log_level: str


@dataclass(frozen=True, slots=True)
class FlushTraces:
    """Nothing more comes: export what is there, in so many seconds, and end."""

    within: float


@dataclass(frozen=True, slots=True)
class SpansExported:
    """So far. `failing`: the collector has not taken the last ones."""

    exported: int
    dropped: int
    failing: bool = False


Message = (
    Snapshot | Configure | Targets | Apps | Stick | Grow | Records | TicketKey | Limits | Listen | HandOver | Unlisten
    | TargetChanged | Primary | Renewed | CloseSessions | Faults | Drain | inquiries.AskSessions | inquiries.AskSession
    | inquiries.AskRequests | inquiries.CloseSession | Ping | ServeApi | Answer | Happened | Ask | JoinCluster
    | CopyRead | TakeLease | HoldWrites | WritesHeld | ReleaseWrites
    | LeaveCluster | ClusterNews | Publish | ChangeShared | Shared | SharedChanged | Ready | Capacity | Configured
    | Paused | Pong | Unlistened | inquiries.SessionsTold | inquiries.SessionTold | inquiries.RequestsTold
    | inquiries.SessionClosed | ConnectFailed | TargetFailed | Logged | Drained | moves.ExportSessions
    | moves.ImportSessions | moves.SessionsMoved | ExportTraces | FlushTraces | SpansExported
)  # fmt: skip
KINDS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(Message)}



class Encoded:
    """A message that goes to several: its frame, made once."""

    def __init__(self, message: Message) -> None:
        self.frame = encode(message)


def encode(message: Message | Encoded) -> bytes:
    """A whole frame."""
    if isinstance(message, Encoded):
        return message.frame
    body = {"v": VERSION, "is": type(message).__name__, **fields(message)}
    text = json.dumps(body, separators=(",", ":"), default=fields).encode()
    return len(text).to_bytes(4, "little") + text


def decode(text: bytes) -> Message:
    """The value of one frame's body. Raises ValueError for another version, an unknown type and anything else."""
    try:
        body = json.loads(text)
        if body.pop("v") == VERSION:
            make = maker(KINDS[body.pop("is")])
            assert make
            message: Message = make(body)
            return message
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        pass  # JSON of another shape than a message has fails in many ways
    raise ValueError(f"not a message of version {VERSION}: {text[:80]!r}")
