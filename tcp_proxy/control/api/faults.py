"""Faults on purpose under /api/v1: what is to go wrong with sessions of an app, for a while."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from tcp_proxy.control.api.link import Link
from tcp_proxy.control.api.schemas import AppName, Body

Number = Annotated[int, Path(alias="fault", ge=1, le=2**31)]


class NewFault(Body):
    latency: float = Field(0, ge=0, le=3600, description="Seconds that what comes waits before it is passed on")
    jitter: float = Field(0, ge=0, le=3600, description="Seconds that the latency is more, or less, by lot")
    bandwidth: int = Field(0, ge=0, le=10**12, description="Bytes a second, of each session; 0: as many as there are")
    reset: float = Field(0, ge=0, le=100, description="Per cent of the sessions that are reset after their first bytes")
    timeout: bool = Field(False, description="Nothing is passed on")
    slicer: int = Field(0, ge=0, le=65536, description="Bytes that are passed on at once at most; 0: as many as come")
    slow_close: float = Field(0, ge=0, le=3600, description="Seconds that an end waits before it is passed on")
    direction: Literal["both", "up", "down"] = Field("both", description="up: to the target")
    share: float = Field(100, gt=0, le=100, description="Per cent of the sessions that meet it")
    networks: list[Annotated[str, Field(max_length=50)]] = Field([], max_length=100, description="Of clients; []: all")
    seconds: float = Field(600, gt=0, le=86400, description="Then it ends by itself")


class Fault(BaseModel):
    app: str
    number: int
    text: str = Field(description="All of it, for people")
    latency: float
    jitter: float
    bandwidth: int
    reset: float
    timeout: bool
    slicer: int
    slow_close: float
    direction: str
    share: float
    networks: list[str]
    seconds: float = Field(description="Until it ends by itself")


class Removed(BaseModel):
    removed: int


def add_routes(router: APIRouter, link: Link) -> None:
    @router.get("/faults", summary="The faults on purpose of all apps", response_model=list[Fault], tags=["faults"])
    async def faults() -> Any:
        return await link.ask("faults")

    @router.post("/apps/{app}/faults", summary="Make one", response_model=Fault, status_code=201, tags=["faults"])
    async def add(app: AppName, what: NewFault) -> Any:
        """Sessions that begin meet it, until its seconds are over. 409 without `faults` in the configuration."""
        return await link.ask("add_fault", app=app, **what.model_dump())

    @router.delete("/faults/{fault}", summary="End a fault on purpose", response_model=Removed, tags=["faults"])
    async def remove(number: Number) -> Any:
        """Whoever waits because of it goes on."""
        return await link.ask("remove_fault", fault=number)
