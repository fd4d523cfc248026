"""The shapes of what goes in and out, for validation and the OpenAPI document. control.answers.views makes the answers."""

from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MOST_TARGET = 300  # characters of a target's name, which may be its address

# Guard leaves paths percent-encoded; a name is decoded when it has been cut out, and then measured.
decode = BeforeValidator(unquote)
AppName = Annotated[str, Path(alias="app", description="The app's name", max_length=100), decode]
TargetName = Annotated[str, Path(alias="target", description="The target's name", max_length=MOST_TARGET), decode]
SessionId = Annotated[str, Path(alias="id", description="As in the access log", max_length=100), decode]
State = Literal["up", "draining", "down"]
Admin = Literal["ready", "drain", "disabled"]


def _integral(value: Any) -> Any:
    """7.0 is an integer in JSON Schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Body(BaseModel):
    """What comes in: unknown keys are errors, and a string is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] = Field(default_factory=list, description="The single self_reports, if there are several")


class Link(BaseModel):
    href: str
    what: str


class Index(BaseModel):
    version: str
    links: list[Link]


class TargetCounts(BaseModel):
    up: int
    draining: int
    down: int


class Status(BaseModel):
    version: str
    build: Literal["compiled", "pure Python"] = Field(description="What its data plane is made of")
    pid: int = Field(description="The supervisor's process id")
    state: Literal["starting", "serving", "stopping"]
    started: float = Field(description="Unix time")
    apps: int
    targets: TargetCounts = Field(description="How many are in each state")
    workers: int
    first_expiry: float | None = Field(description="When the first certificate expires, Unix time; null: there is none")
    first_list_end: float | None = Field(description="The same of lists of revoked certificates")


class Moves(BaseModel):
    listeners: int
    workers: int
    primaries: dict[str, str] = Field(description="By app: the same target goes on, without an election")
    overrides: int = Field(description="Targets of which something was said at run time")
    sticky: int = Field(description="Apps whose stick tables go over")


class Drains(BaseModel):
    worker: int
    pid: int
    sessions: int = Field(description="That it has. They move, or end there (`stays`); it ends with the last one")


class Stays(BaseModel):
    app: str
    why: str = Field(description="Why its sessions do not move: TLS with its clients, with its targets, or both")


class Upgrade(BaseModel):
    pid: int = Field(description="The program that answers")
    version: str
    state: Literal["idle", "starting", "failed"] = Field(description="Of the program that was started to take over")
    successor: int | None = Field(description="Its process id, while it is starting")
    error: str = Field(description="Why it has failed, in its own words")
    refusal: str = Field(description="Why no other could be started now; empty: nothing is in the way")
    taken_over_from: str = Field(description="The program before this one, if this one has taken over")
    moves: Moves
    drains: list[Drains]
    stays: list[Stays] = Field(description="Apps whose sessions end in the old workers, none of them moves")


class Certificate(BaseModel):
    app: str
    target: str | None = Field(description="Whom it is shown to; null: the clients of the app")
    file: str
    names: list[str] = Field(description="DNS names, also with a wildcard")
    addresses: list[str]
    not_before: float = Field(description="Unix time")
    not_after: float = Field(description="Unix time")
    algorithm: str = Field(description="Of its key: RSA 2048, EC secp256r1")
    fingerprint: str = Field(description="SHA-256, hexadecimal")


class Discovery(BaseModel):
    source: str = Field(description="srv:NAME, file:PATH")
    apps: list[str]
    targets: int = Field(description="That it lists")
    changes: int = Field(description="That were applied")
    failures: int = Field(description="Answers that were none, or wrong, or could not be applied")
    error: str = Field(description="What is wrong now; what was known before stays")
    is_answered: bool = Field(description="Whether it has said anything yet")


class Override(BaseModel):
    """A value that was said at run time, and stands in the place of the file's."""

    key: Literal["admin", "weight", "added", "removed"]
    value: str | int | bool
    file: str | int | bool = Field(description="What the file has in its place")


class Said(Override):
    app: str
    target: str
    text: str = Field(description="All of it, for people")


class Target(BaseModel):
    app: str
    name: str
    address: str
    endpoints: list[str] = Field(description="What the address is now: several, or none, for a name")
    state: State
    why: str = Field(description="The evidence for the state")
    forced: bool = Field(description="It has clients although it may not be up, for its app is panicking")
    ejected: str | None = Field(description="Why, and for how long, by what clients met there; null: it is not")
    weight: int
    backup: bool
    priority: int = Field(description="Its level, the lowest number first; backups come after all levels")
    zone: str
    max_connections: int = Field(description="0: no limit")
    admin: Admin = Field(description="What an operator, or the configuration, says of it")
    overrides: list[Override] = Field(description="Which of these values were said at run time, and what the file says")


class App(BaseModel):
    name: str
    mode: Literal["tcp", "http"]
    balance: str
    sticky: dict[str, Any] | None = Field(description="As in the configuration; null: clients have no target of their own")
    primary: str | None = Field(description="The target that gets all sessions; \"\": it is looked for; null: no failover")
    on_down: Literal["keep", "close"]
    retries: int
    timeouts: dict[str, float] = Field(description="Seconds")
    health: list[dict[str, Any]] = Field(description="The checks, as in the configuration")
    listeners: list[str]
    targets: list[Target]
    removed: list[str] = Field(description="Targets of the file that were removed at run time")
    panicking: bool = Field(description="Fewer targets than `panic` per cent are up: all are used")


class Election(BaseModel):
    app: str
    primary: str = Field(description="\"\": it is looked for")
    phase: Literal["idle", "pausing", "connecting", "checking", "triggering", "waiting", "serving", "following"]
    epoch: int = Field(description="1, 2, 3 …: each search has its own")
    elections: int = Field(description="Those that found a primary")
    fruitless_rounds: int = Field(description="Rounds in which no target could be primary")
    last_seconds: float = Field(description="How long the last one took")
    total_seconds: float = Field(description="How long all took")
    seconds: float = Field(description="Since the primary was found, or lost")
    leader: str = Field(description="The node of the cluster that decides; empty: none, or there is no cluster")


class Worker(BaseModel):
    index: int
    pid: int
    state: Literal["starting", "serving", "draining"]


class Event(BaseModel):
    number: int = Field(description="1, 2, 3 …; never again while the supervisor runs")
    at: float = Field(description="Unix time")
    kind: str
    data: dict[str, Any]


class Change(BaseModel):
    kind: str = Field(description="app, target, listener or setting, and _added, _removed, _changed or _moved")
    text: str = Field(description="All of it, for people")
    app: str
    subject: str = Field(description="The name of the target, or the listener's address")
    key: str = Field(description="Of a setting")
    needs_restart: bool = Field(description="It is not applied while the program runs")
    closes: bool = Field(description="A listener that is closed for a moment: what takes its place overlaps with it")


class Probed(BaseModel):
    at: float = Field(description="Unix time of its end")
    seconds: float = Field(description="How long it took")
    success: bool | None = Field(description="null: an error of the proxy's machine, which says nothing of the target")
    text: str


class CheckHistory(BaseModel):
    check: dict[str, Any] = Field(description="The check, as in the configuration")
    port: int | None = Field(description="Of a group: the listening port whose server this is about")
    verdict: str = Field(description="What its results come to: up 2/3 has two failures to go until it is down")
    probes: list[Probed] = Field(description="Its last 20 results, oldest first")


class Reload(BaseModel):
    changes: list[Change] = Field(description="What was applied; [] when nothing was different")
    overrides: list[Said] = Field(description="What was said at run time and stands, the file notwithstanding")


class Plan(BaseModel):
    changes: list[Change] = Field(description="What a reload of this configuration would do; [] when nothing is different")
    overrides: list[Said] = Field(description="What was said at run time and would stand")


class MovedSessions(BaseModel):
    from_worker: int = Field(alias="from", description="The worker that gave")
    to: int
    moved: int
    refused: int = Field(description="Those that the other worker could not take; they stay")
    why: str = Field(description="The first refusal, or what broke it off; empty: nothing was wrong")


class WorkerSessions(BaseModel):
    worker: int
    pid: int
    sessions: int = Field(description="That it has now")


class Rebalanced(BaseModel):
    moves: list[MovedSessions] = Field(description="Who gave to whom; [] when none has too many")
    workers: list[WorkerSessions]
    replaced: WorkerSessions | None = Field(description="The worker that is emptied, and replaced")


class Reset(BaseModel):
    reset: list[Said] = Field(description="What stands no longer; [] when nothing did")


class Unfit(Body):
    model_config = ConfigDict(extra="forbid", strict=True)
    why: str = Field("", max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$", description="For the log, and beside its state")


class Unhealthy(Unfit):
    seconds: float = Field(alias="for", ge=0, le=86400, description="How long, in seconds; 0: it is well again")


class TargetChange(Body):
    """What is said here holds over reloads, until the file's own value changes. null: as it is."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"minProperties": 1})
    admin: Admin | None = Field(None, description="drain: no new sessions; disabled: no checks either")
    weight: Annotated[int | None, BeforeValidator(_integral)] = Field(None, ge=0, le=256)

    @model_validator(mode="after")
    def says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("wanted admin, weight, or both")
        return self


class Tried(BaseModel):
    target: str
    error: str = Field(description="The system's name of the error")


class Tls(BaseModel):
    """As far as it has come; "": not known, or none."""

    version: str
    cipher: str
    resumed: bool
    server_name: str = Field(description="That the client has asked for")
    subject: str = Field(description="Of the client's certificate")


class Session(BaseModel):
    """One that goes on."""

    id: str
    app: str
    listener: str
    client: str
    peer: str | None = Field(description="Whom the connection is with, where a PROXY header says who the client is")
    tls: Tls | None = Field(description="With the client; null: in clear, or passed through")
    notes: str | None = Field(description="What else is known of it, in words")
    processes: list[int] | None = Field(description="Of one that has moved: all that it has lived in, in order")
    target: str | None
    state: str
    tried: list[Tried] = Field(description="Targets that could not be connected to")
    seconds: float
    idle_seconds: float
    connect_seconds: float | None
    bytes_up: int
    bytes_down: int
    worker: int
    thread: str


class SessionFilters(BaseModel):
    """Left out or empty: any."""

    model_config = ConfigDict(extra="forbid")
    app: str = Field("", max_length=100)
    target: str = Field("", max_length=MOST_TARGET)
    client: str = Field("", max_length=100, description="An IP address, or one with its port")
    listener: str = Field("", max_length=100)
    after: str = Field("", max_length=100, description="A session's id: the page after it")
    limit: int = Field(100, ge=1, le=1000)


class Sessions(BaseModel):
    sessions: list[Session]
    next: str | None = Field(description="Ask with after=this for the next page; null: this was the last one")
    silent: list[int] = Field(description="Workers that did not answer in time: their sessions are missing")


class Why(BaseModel):
    id: str
    state: Literal["live", "ended", "unknown"]
    story: str = Field(description="What became of it, in plain sentences")
    session: dict[str, Any] | None = Field(description="The session, or its record when it has ended")
    silent: list[int]


RequestId = Annotated[
    str, Path(alias="id", description="As in the access log, or an X-Request-ID", min_length=1, max_length=200), decode,
]  # fmt: skip


class Request(BaseModel):
    """Of mode http: one that goes on, or has ended. Seconds count from its whole head."""

    id: str
    session: str
    own_id: str | None = Field(description="X-Request-ID, where the client has sent one")
    app: str
    listener: str
    client: str
    method: str
    path: str
    version: str
    target: str | None
    tried: list[Tried] = Field(description="Targets that could not be connected to, or did not answer")
    status: int | None = Field(description="null: nothing was answered, as yet")
    error: str | None = Field(description="What was wrong, where the answer is not the target's")
    answer_seconds: float | None = Field(description="To the head of the answer")
    seconds: float
    bytes_up: int = Field(description="Of the bodies")
    bytes_down: int
    ended_at: float | None = Field(description="Unix time; null: it goes on")
    reason: str | None


class WhyRequest(BaseModel):
    id: str
    state: Literal["live", "ended", "unknown"]
    story: str = Field(description="What became of it, in plain sentences")
    requests: list[Request] = Field(description="Of a client's own id perhaps several, 20 of a worker; the newest first")
    silent: list[int]


class Member(BaseModel):
    node: str
    version: str
    address: str = Field(description='By which it reaches etcd; "": that is not known')
    api: str = Field(description='Where its management API listens; "": nowhere')
    age: float = Field(description="Seconds since it was started")
    lag: float | None = Field(description="Seconds that what it says takes to come back to it by etcd; null: not known")
    heard: float = Field(description="Seconds since it was heard last")
    self: bool = Field(description="Whether it is the proxy that answers")
    unfit: str | None = Field(description="Why it is, as its operator has said; null: it is not")
    leads: list[str] = Field(description="Apps on whose primary it decides, as the node that answers knows it")
    differs: list[str] = Field(description="How its configuration is another one: apps, with the keys that differ")


class Cluster(BaseModel):
    name: str
    node: str
    state: Literal["joining", "joined", "alone", "leaving"] = Field(description="alone: cut off from etcd")
    text: str = Field(description='Why it is not joined; "" when it is')
    since: float = Field(description="Seconds that it has been in this state")
    endpoints: list[str] = Field(description="The members of etcd")
    endpoint: str = Field(description="The one that was asked last")
    revision: int = Field(description="Of etcd's store: what happened up to it is known here")
    lag: float | None = Field(description="As of a member")
    members: list[Member] = Field(description="As this node knows them: as it knew them, when it is alone")


class Limits(BaseModel):
    workers: list[dict[str, Any]] = Field(description="Of each: room for sessions, and open descriptors")
    apps: list[dict[str, Any]] = Field(description="Of each that has limits.sessions: that, and the sessions now")
    rates: list[dict[str, Any]] = Field(
        description="Of each app, its limits of rates and by client: how many were above each so far"
    )
    targets: list[dict[str, Any]] = Field(description="Of each that has max_connections: that, and the sessions now")
    descriptors: dict[str, int] = Field(description="Of the supervisor: open, limit")
    events_kept: int
    records_kept: int = Field(description="For `why`, of each worker")


RateRow = list[float | None]


class AppRates(BaseModel):
    mode: Literal["tcp", "http"]
    states: TargetCounts = Field(description="How many of its targets are in each state")
    queue: int | None = Field(description="Clients that wait for a place; null: there is no queue")
    refused: int = Field(description="Clients that were refused before they were sessions, in all")
    statuses: dict[str, int] | None = Field(description="Answers in all, by kind; none: no answer. null in mode tcp")
    listeners: dict[str, list[int]] = Field(description="Sessions now, and in all; of those that somebody has come by")
    row: RateRow


class Rates(BaseModel):
    number: int = Field(description="Of the sample")
    at: float = Field(description="Unix time")
    seconds: float = Field(description="Since the sample before: what the rates are over")
    every: float = Field(description="Seconds until there can be another one")
    columns: list[str] = Field(
        description="What stands in each row; p50, p90 and p99 are seconds: of connects, in mode http of answers"
    )
    program: RateRow
    apps: dict[str, AppRates]
    targets: dict[str, RateRow] = Field(description="Of the app that was asked for")


class History(BaseModel):
    every: float = Field(description="Seconds between two points, where there is no gap")
    mode: Literal["tcp", "http"] | None = Field(description="Of the app")
    kept: bool = Field(description="Whether there is room for it: 1,500 series are kept")
    at: list[float] = Field(description="Unix times of the points, oldest first")
    series: dict[str, list[float | None]] = Field(description="The columns of the rates, a value for each point")
