"""The stick tables under /api/v1/apps/{app}/sticks: which client belongs to which target."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from tcp_proxy.control.api.link import Link
from tcp_proxy.control.api.schemas import MOST_TARGET, AppName, Body, decode

StickKey = Annotated[
    str,
    Path(
        alias="key", description="An address, one and a slice in hex (192.0.2.7 48454c4f), or what a header says",
        max_length=10_000,
    ),
    decode,
]  # fmt: skip


class Stick(BaseModel):
    key: str
    target: str
    version: int = Field(description="Another one with each change")
    in_use: bool = Field(description="Whether the key has sessions")
    seconds: float = Field(description="For how long that has been so")
    expires_in: float | None = Field(description="Seconds; null while it is in use")


class Sticks(BaseModel):
    entries: list[Stick]
    next: str | None = Field(description="What to ask for as `after`; null: that was all")
    size: int = Field(description="Keys there is room for")
    expires: float = Field(description="Seconds after the last session of a key")
    known: int = Field(description="Keys there are")
    in_use: int
    evicted: int = Field(description="Keys that had to go since the start because the table was full")
    by_target: dict[str, int] = Field(description="How many keys each target has")
    fallbacks: int = Field(description="Clients that said nothing in time and are known by their address alone")


class StickFilters(BaseModel):
    """Left out or empty: any."""

    model_config = ConfigDict(extra="forbid")
    after: str = Field("", max_length=10_000, description="A key: the page after it")
    limit: int = Field(100, ge=1, le=1000)
    target: str = Field("", max_length=MOST_TARGET)
    contains: str = Field("", max_length=1000, description="A part of the key")
    in_use: bool | None = None


class StickTarget(Body):
    target: str = Field(max_length=MOST_TARGET)


class Deleted(BaseModel):
    deleted: int


def add_routes(router: APIRouter, link: Link) -> None:
    all_of_it, one = "/apps/{app}/sticks", "/apps/{app}/sticks/{key}"

    @router.get(all_of_it, summary="Who belongs to which target, by key", response_model=Sticks, tags=["sticks"])
    async def sticks(app: AppName, filters: Annotated[StickFilters, Query()]) -> Any:
        """409 for an app that is not sticky."""
        return await link.ask("sticks", app=app, **filters.model_dump())

    @router.delete(all_of_it, summary="Forget all keys, or those of one target", response_model=Deleted, tags=["sticks"])
    async def clear(app: AppName, target: Annotated[str, Query(max_length=MOST_TARGET)] = "") -> Any:
        """Their sessions go on; the next ones begin anew."""
        return await link.ask("clear_sticks", app=app, target=target)

    @router.get(one, summary="One key", response_model=Stick, tags=["sticks"])
    async def look_up(app: AppName, key: StickKey) -> Any:
        return await link.ask("stick", app=app, key=key)

    @router.put(one, summary="Give a key to a target", response_model=Stick, tags=["sticks"])
    async def assign(app: AppName, key: StickKey, what: StickTarget) -> Any:
        """From its next session on."""
        return await link.ask("set_stick", app=app, key=key, target=what.target)

    @router.delete(one, summary="Forget a key; its sessions go on", response_model=Deleted, tags=["sticks"])
    async def delete(app: AppName, key: StickKey) -> Any:
        return await link.ask("delete_stick", app=app, key=key)
