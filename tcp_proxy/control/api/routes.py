"""The resources under /api/v1/: thin. A request is parsed, the supervisor asked, its answer described.

To add one: an operation by name (control.answers.lists, control.answers.orders), its view (control.answers.views), the
shape of that (schemas), a route here; then make docs, and a test beside tests/control/api/test_routes.py.
"""

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from tcp_proxy import __version__
from tcp_proxy.control.api import bodies, faults, schemas, sticks, stream
from tcp_proxy.control.api.link import Link
from tcp_proxy.control.api.schemas import AppName, SessionFilters, SessionId, TargetName

LINKS = {
    "status": "the program as a whole",
    "apps": "services: listeners, targets, policy",
    "workers": "the processes that move the bytes",
    "certificates": "those of TLS, and when they expire",
    "discoveries": "where targets are listed that the file does not have itself",
    "config": "the configuration as it runs",
    "rates": "sessions, rates and latencies now",
    "history": "the same of the last hour",
    "upgrade": "what a new program would take over, and what became of the last try",
    "overrides": "what was said of targets at run time, and stands in the place of the file's values",
    "sessions": "those that go on",
    "statistics": "everything that is counted: sessions, bytes, failures, ends, times, checks",
    "limits": "what there is room for, and how much of it is used",
    "events": "what happened: state changes, reloads, workers",
    "events/stream": "the same, as it happens (server-sent events)",
}


async def as_written(link: Link, operation: str, **arguments: Any) -> Response:
    """Of what may be long, the supervisor's own text: to read it and write it again takes twice as long as to make it."""
    return Response("".join(await link.read(operation, **arguments)), media_type="application/json")


def make_router(link: Link) -> APIRouter:
    router = APIRouter(prefix="/api/v1")
    _of_the_program(router, link)
    _of_all_that_there_is(router, link)
    _of_reloads(router, link)
    _of_workers(router, link)
    _of_overrides(router, link)
    _of_apps(router, link)
    _of_elections(router, link)
    _of_targets(router, link)
    sticks.add_routes(router, link)
    faults.add_routes(router, link)
    _of_sessions(router, link)
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

    @router.get("/certificates", summary="Those of TLS", response_model=list[schemas.Certificate], tags=["program"])
    async def certificates() -> Any:
        return await link.ask("certificates")

    @router.get(
        "/discoveries", summary="Where targets are listed", response_model=list[schemas.Discovery], tags=["program"]
    )
    async def discoveries() -> Any:
        return await link.ask("discoveries")

    @router.get("/limits", summary="What there is room for, and its use", response_model=schemas.Limits, tags=["program"])
    async def limits() -> Any:
        return await link.ask("limits")

    @router.get("/cluster", summary="This node, and the others", response_model=schemas.Cluster, tags=["program"])
    async def cluster() -> Any:
        """404 for a proxy that is in no cluster."""
        return await link.ask("cluster")

    @router.put("/cluster/unfit", summary="This node is unfit", status_code=202, tags=["program"])
    async def unfit(word: schemas.Unfit) -> dict[str, str]:
        """What it finds counts in no vote, and it decides on no primary, as long as there is another node; its clients are
        served. It counts when all nodes have heard of it, and until the program ends."""
        await link.ask("declare", why=word.why)
        return {"unfit": "on its way"}

    @router.delete("/cluster/unfit", summary="It is fit again", status_code=202, tags=["program"])
    async def fit() -> dict[str, str]:
        await link.ask("declare", why=None)
        return {"fit": "on its way"}


def _of_all_that_there_is(router: APIRouter, link: Link) -> None:
    @router.get(
        "/statistics", summary="Everything that is counted, and peaks", response_model=dict[str, Any], tags=["program"]
    )
    async def statistics(
        brief: Annotated[bool, Query(description="Of targets that have counted nothing not what all such have")] = False,
    ) -> Any:
        """Of the program, and of each app, listener and target. /metrics has the same for Prometheus. With `brief` a target
        that has counted nothing has its state, and what else is its own; what it has not is in `nothing`, by mode."""
        return await as_written(link, "statistics", brief=brief)

    @router.get(
        "/config",
        summary="The configuration as it runs, every default filled in",
        response_model=dict[str, Any],
        tags=["program"],
    )
    async def config() -> Any:
        return await as_written(link, "config")


def _of_reloads(router: APIRouter, link: Link) -> None:
    reloads, plans = asyncio.Lock(), asyncio.Lock()  # one at a time: those that wait keep no other question out

    @router.post("/reload", summary="Read the configuration file again", response_model=schemas.Reload, tags=["program"])
    async def reload() -> Any:
        """All of it is applied, or nothing. 422 with every error of the file; 409 when the machine refuses a part of it, as
        a port that another program has."""
        async with reloads:
            return await link.ask("reload")

    @router.get("/plan", summary="What a reload would do now", response_model=schemas.Plan, tags=["program"])
    async def plan_of_the_file() -> Any:
        """The file is read, checked and compared with what runs; nothing is applied. 422 with every error of it."""
        async with plans:
            return await link.ask("plan", text=None)

    @router.get("/upgrade", summary="What a take-over would move", response_model=schemas.Upgrade, tags=["program"])
    async def what_an_upgrade_moves() -> Any:
        """And what became of the last one."""
        return await link.ask("upgrade")

    @router.post(
        "/upgrade", summary="Start the new program", response_model=schemas.Upgrade, status_code=202, tags=["program"]
    )
    async def upgrade() -> Any:
        """With the same arguments and environment; it takes over when its workers are ready, and this program ends. Whoever
        asks again is answered by the new one, or with the reason why there is none. 409: it cannot be begun."""
        return await link.ask("start_upgrade")

    body = bodies.described("Configuration", "As it would stand in the file")

    @router.post(
        "/plan", summary="What a reload would do", response_model=schemas.Plan, openapi_extra=body, tags=["program"]
    )
    async def plan(request: Request) -> Any:
        """It is checked as the file is, and compared with what runs; nothing is applied. 422 with every error, with its line
        and column."""
        text = (await request.body()).decode("utf-8", "surrogateescape")
        async with plans:
            return await link.ask("plan", text=text)


def _of_workers(router: APIRouter, link: Link) -> None:
    @router.post("/rebalance", summary="Even out sessions", response_model=schemas.Rebalanced, tags=["program"])
    async def rebalance() -> Any:
        """Workers that have more sessions than the mean give some, the longest first, to those that have less: they go on
        there, and their clients notice nothing but a short pause."""
        return await link.ask("rebalance", empty=None)

    @router.post(
        "/workers/{worker}/empty",
        summary="Empty a worker, which is replaced",
        response_model=schemas.Rebalanced,
        status_code=202,
        tags=["program"],
    )
    async def empty(worker: Annotated[int, Path(ge=0, le=9999, description="As the program lists it")]) -> Any:
        """It takes no new clients, its sessions go on in the other workers, and it ends with its last one; another one takes
        its place at once."""
        return await link.ask("rebalance", empty=worker)


def _of_overrides(router: APIRouter, link: Link) -> None:
    @router.get(
        "/overrides", summary="What was said at run time and stands", response_model=list[schemas.Said], tags=["program"]
    )
    async def overrides() -> Any:
        return await link.ask("overrides")

    @router.delete("/overrides", summary="Back to the file", response_model=schemas.Reset, tags=["program"])
    async def reset(
        app: Annotated[str, Query(max_length=100, description="Of this app; left out: of all")] = "",
        target: Annotated[str, Query(max_length=schemas.MOST_TARGET, description="Of this target of the app")] = "",
    ) -> Any:
        """All of it is applied, or nothing: targets that were added leave, those that were removed come back, weights and
        what was drained, disabled or made ready are the file's, as it was read last."""
        return await link.ask("reset", app=app, target=target)


def _of_apps(router: APIRouter, link: Link) -> None:
    @router.get("/apps", summary="All apps", response_model=list[schemas.App], tags=["apps"])
    async def apps() -> Any:
        return await as_written(link, "apps")

    @router.get("/apps/{app}", summary="One app", response_model=schemas.App, tags=["apps"])
    async def app(app: AppName) -> Any:
        return await as_written(link, "app", app=app)


def _of_elections(router: APIRouter, link: Link) -> None:
    @router.get("/apps/{app}/election", summary="Who is primary", response_model=schemas.Election, tags=["apps"])
    async def election(app: AppName) -> Any:
        """Of an app with the balance failover; 404 for others."""
        return await link.ask("election", app=app)

    @router.post(
        "/apps/{app}/targets/{target}/promote",
        summary="Make it primary",
        response_model=schemas.Election,
        status_code=202,
        tags=["targets"],
    )
    async def promote(app: AppName, target: TargetName) -> Any:
        """It is tried first, with its check and the triggers; if it cannot be primary, the others are, in their order. What
        comes of it is seen at the app's election a moment later, and as an event."""
        return await link.ask("promote", app=app, target=target)


def _of_targets(router: APIRouter, link: Link) -> None:
    targets, one = "/apps/{app}/targets", "/apps/{app}/targets/{target}"

    @router.get(targets, summary="Its targets", response_model=list[schemas.Target], tags=["targets"])
    async def all_targets(app: AppName) -> Any:
        return await as_written(link, "targets", app=app)

    body = bodies.described("NewTarget", "As in the configuration file")

    @router.post(
        targets, summary="Add a target", response_model=schemas.Target, status_code=201, openapi_extra=body, tags=["targets"]
    )
    async def add_target(app: AppName, request: Request, response: Response) -> Any:
        """It stays over reloads, until the file has one of its name. 409 when there is one."""
        found = await link.ask("add_target", app=app, definition=bodies.parse(await request.body()))
        response.headers["Location"] = f"/api/v1/apps/{quote(app, safe='')}/targets/{quote(found['name'], safe='')}"
        return found

    @router.get(one, summary="One target", response_model=schemas.Target, tags=["targets"])
    async def one_target(app: AppName, target: TargetName) -> Any:
        return await link.ask("target", app=app, target=target)

    @router.patch(one, summary="Drain, disable, make ready, or weigh it", response_model=schemas.Target, tags=["targets"])
    async def change_target(app: AppName, target: TargetName, change: schemas.TargetChange) -> Any:
        return await link.ask("set_target", app=app, target=target, **change.model_dump())

    @router.delete(one, summary="Remove it; its sessions go on", status_code=204, tags=["targets"])
    async def remove_target(app: AppName, target: TargetName) -> None:
        await link.ask("remove_target", app=app, target=target)

    @router.post(f"{one}/probe", summary="Check it now", status_code=202, tags=["targets"])
    async def probe(app: AppName, target: TargetName) -> dict[str, str]:
        """What comes of it is the target's state a moment later, and an event if that changes."""
        await link.ask("probe", app=app, target=target)
        return {"probe": "on its way"}

    @router.post(f"{one}/unhealthy", summary="It says that it is not well", response_model=schemas.Target, tags=["targets"])
    async def unhealthy(app: AppName, target: TargetName, word: schemas.Unhealthy) -> Any:
        """No sessions for so long, whatever its checks find; 0 takes it back. Forgotten when the program ends."""
        return await link.ask("unhealthy", app=app, target=target, **word.model_dump(by_alias=True))

    @router.delete(f"{one}/sessions", summary="End all its sessions", status_code=204, tags=["targets"])
    async def close_sessions(app: AppName, target: TargetName) -> None:
        """Clients are reset. New ones may come, unless the target is drained or disabled."""
        await link.ask("close_sessions", app=app, target=target)

    @router.get(
        f"{one}/health", summary="Its changes of state, oldest first", response_model=list[schemas.Event], tags=["targets"]
    )
    async def health(app: AppName, target: TargetName) -> Any:
        """Those among the last 1,000 events."""
        return await link.ask("health", app=app, target=target)

    @router.get(
        f"{one}/probes", summary="Last results of its checks", response_model=list[schemas.CheckHistory], tags=["targets"]
    )
    async def probes(app: AppName, target: TargetName) -> Any:
        """Of each check the last 20, oldest first; [] for a target that is not checked."""
        return await link.ask("probes", app=app, target=target)


def _of_sessions(router: APIRouter, link: Link) -> None:
    @router.get("/sessions", summary="Sessions that go on", response_model=schemas.Sessions, tags=["sessions"])
    async def sessions(filters: Annotated[SessionFilters, Query()]) -> Any:
        return await link.ask("sessions", **filters.model_dump())

    @router.get("/sessions/{id}", summary="One that goes on", response_model=schemas.Session, tags=["sessions"])
    async def session(id: SessionId) -> Any:
        return await link.ask("session", id=id)

    @router.get(
        "/sessions/{id}/why",
        summary="What became of one, also when it has ended",
        response_model=schemas.Why,
        tags=["sessions"],
    )
    async def why(id: SessionId) -> Any:
        """The last 10,000 records of each worker are kept. A session that nobody knows has the state `unknown`."""
        return await link.ask("why", id=id)

    @router.get(
        "/requests/{id}/why", summary="What became of a request in mode http", response_model=schemas.WhyRequest,
        tags=["sessions"],
    )  # fmt: skip
    async def why_request(id: schemas.RequestId) -> Any:
        """By its id in the access log, or by the X-Request-ID that its client has sent. The last 10,000 of each worker are
        kept; one that nobody knows has the state `unknown`."""
        return await link.ask("requests", id=id)

    @router.delete("/sessions/{id}", summary="End it: both sides are reset", status_code=204, tags=["sessions"])
    async def close_session(id: SessionId) -> None:
        await link.ask("close_session", id=id)


def _of_events(router: APIRouter, link: Link) -> None:
    ended = stream.Ended(link)
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
        "Last-Event-ID, or `after`, brings what was missed. With `sessions` each session that ends is told too, by "
        "its record and without an id; of more than 200 a second and worker the newest, and `left_out` counts the others.",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
        tags=["events"],
    )
    async def events_stream(request: Request, after: After | None = None, sessions: bool = False) -> StreamingResponse:
        return await stream.respond(link, stream.last_seen(request, after), ended if sessions else None)
