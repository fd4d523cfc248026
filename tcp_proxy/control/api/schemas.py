"""The shapes of what goes in and out, for validation and for the OpenAPI document. control.views makes the answers."""

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
    errors: list[dict[str, Any]] = Field(default_factory=list, description="The single complaints, if there are several")


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
    pid: int = Field(description="The supervisor's process id")
    state: Literal["starting", "serving", "stopping"]
    started: float = Field(description="Unix time")
    apps: int
    targets: TargetCounts = Field(description="How many are in each state")
    workers: int


class Target(BaseModel):
    app: str
    name: str
    address: str
    endpoints: list[str] = Field(description="What the address is now: several, or none, for a name")
    state: State
    why: str = Field(description="The evidence for the state")
    weight: int
    backup: bool
    max_connections: int = Field(description="0: no limit")
    admin: Admin = Field(description="What an operator, or the configuration, says of it")


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


class Election(BaseModel):
    app: str
    primary: str = Field(description="\"\": it is looked for")
    phase: Literal["idle", "pausing", "connecting", "checking", "triggering", "waiting", "serving"]
    epoch: int = Field(description="1, 2, 3 …: each search has its own")
    elections: int = Field(description="Those that found a primary")
    fruitless_rounds: int = Field(description="Rounds in which no target could be primary")
    last_seconds: float = Field(description="How long the last one took")
    total_seconds: float = Field(description="How long all took")
    seconds: float = Field(description="Since the primary was found, or lost")


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


class Plan(BaseModel):
    changes: list[Change] = Field(description="What a reload of this configuration would do; [] when nothing is different")


class Unhealthy(Body):
    model_config = ConfigDict(extra="forbid", strict=True)
    seconds: float = Field(alias="for", ge=0, le=86400, description="How long, in seconds; 0: it is well again")
    why: str = Field("", max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$", description="For the log, and beside its state")


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


class Session(BaseModel):
    """One that goes on."""

    id: str
    app: str
    listener: str
    client: str
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


class Limits(BaseModel):
    workers: list[dict[str, Any]] = Field(description="Of each: room for sessions, and open descriptors")
    targets: list[dict[str, Any]] = Field(description="Of each that has max_connections: that, and the sessions now")
    descriptors: dict[str, int] = Field(description="Of the supervisor: open, limit")
    events_kept: int
    records_kept: int = Field(description="For `why`, of each worker")
