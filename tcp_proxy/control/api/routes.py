"""The resources under /api/v1/: thin. A request is parsed, the supervisor asked, its answer described."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from tcp_proxy import __version__
from tcp_proxy.control.api import schemas, stream
from tcp_proxy.control.api.link import Link
from tcp_proxy.control.api.schemas import AppName, TargetName

LINKS = {
    "status": "the program as a whole",
    "apps": "services: listeners, targets, policy",
    "workers": "the processes that move the bytes",
    "config": "the configuration as it runs",
    "events": "what happened: state changes, reloads, workers",
    "events/stream": "the same, as it happens (server-sent events)",
}


def make_router(link: Link) -> APIRouter:
    router = APIRouter(prefix="/api/v1")
    _of_the_program(router, link)
    _of_apps(router, link)
    _of_events(router, link)
    return router


def _of_the_program(router: APIRouter, link: Link) -> None:
    @router.get("/", summary="What there is", tags=["program"])
    async def index() -> schemas.Index:
        links = [schemas.Link(href=f"/api/v1/{path}", what=what) for path, what in LINKS.items()]
        return schemas.Index(version=__version__, links=links)

    @router.get("/status", summary="The program as a whole", response_model=schemas.Status, tags=["program"])
    async def status() -> Any:
        return await link.ask("status")

    @router.get("/workers", summary="All workers", response_model=list[schemas.Worker], tags=["program"])
    async def workers() -> Any:
        return await link.ask("workers")

    @router.get("/config", summary="The configuration as it runs, every default filled in", tags=["program"])
    async def config() -> dict[str, Any]:
        found: dict[str, Any] = await link.ask("config")
        return found


def _of_apps(router: APIRouter, link: Link) -> None:
    @router.get("/apps", summary="All apps", response_model=list[schemas.App], tags=["apps"])
    async def apps() -> Any:
        return await link.ask("apps")

    @router.get("/apps/{app}", summary="One app", response_model=schemas.App, tags=["apps"])
    async def app(app: AppName) -> Any:
        return await link.ask("app", app=app)

    @router.get("/apps/{app}/targets", summary="Its targets", response_model=list[schemas.Target], tags=["targets"])
    async def targets(app: AppName) -> Any:
        return await link.ask("targets", app=app)

    @router.get("/apps/{app}/targets/{target}", summary="One target", response_model=schemas.Target, tags=["targets"])
    async def target(app: AppName, target: TargetName) -> Any:
        return await link.ask("target", app=app, target=target)


def _of_events(router: APIRouter, link: Link) -> None:
    After = Annotated[int, Query(ge=0, le=2**53, description="Those after the event of this number")]

    @router.get(
        "/events", summary="The last 1,000 events, oldest first", response_model=list[schemas.Event], tags=["events"]
    )
    async def events(after: After = 0) -> Any:
        return await link.ask("events", after=after)

    @router.get(
        "/events/stream",
        summary="Events as they happen, without end",
        description="Server-sent events. The id is the event's number, the event its kind, the data all of it as JSON. "
        "Last-Event-ID, or `after`, brings what was missed.",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
        tags=["events"],
    )
    async def events_stream(request: Request, after: After | None = None) -> StreamingResponse:
        return await stream.respond(link, stream.last_seen(request, after))
