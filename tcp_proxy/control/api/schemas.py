"""The shapes of what goes in and out, for validation and for the OpenAPI document. control.views makes the answers."""

from typing import Annotated, Any, Literal
from urllib.parse import unquote

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# Guard leaves paths percent-encoded; a name is decoded when it has been cut out.
AppName = Annotated[str, Path(alias="app", description="The app's name", max_length=400), AfterValidator(unquote)]
TargetName = Annotated[str, Path(alias="target", description="The target's name", max_length=2000), AfterValidator(unquote)]
State = Literal["up", "draining", "down"]


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
    disabled: bool


class App(BaseModel):
    name: str
    balance: str
    on_down: Literal["keep", "close"]
    retries: int
    timeouts: dict[str, float] = Field(description="Seconds")
    health: list[dict[str, Any]] = Field(description="The checks, as in the configuration")
    listeners: list[str]
    targets: list[Target]


class Worker(BaseModel):
    index: int
    pid: int
    state: Literal["starting", "serving", "draining"]


class Event(BaseModel):
    number: int = Field(description="1, 2, 3 …; never again while the supervisor runs")
    at: float = Field(description="Unix time")
    kind: str
    data: dict[str, Any]
