"""The management API of weldr, at the root: what its README describes, with its faults mended (docs/api.md).

A server is a target, written as a URL: http://HOST:PORT. With several apps `?app=NAME` says which one is meant; the
links in an answer carry it on. Answers are JSON with an indent of two, as weldr's are. Errors are problems, as
everywhere here.
"""

import json
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tcp_proxy.control.api import bodies, dashboard
from tcp_proxy.control.api.link import Link
from tcp_proxy.control.api.problems import Problem
from tcp_proxy.control.api.schemas import decode
from tcp_proxy.sansio.address import Address, parse_target

App = Annotated[str | None, Query(description="The app; may be left out where there is one app", max_length=100)]
Host = Annotated[str, Path(description="IPv6 without brackets", max_length=253), decode]
Port = Annotated[int, Path(ge=1, le=65535)]


class ServerLink(BaseModel):
    rel: str
    href: str
    method: str | None


class WeldrIndex(BaseModel):
    about: str
    links: list[ServerLink]


class Server(BaseModel):
    url: str
    links: list[ServerLink]


class Servers(BaseModel):
    servers: list[Server]
    links: list[ServerLink]


class ServerCheck(BaseModel):
    model_config = ConfigDict(strict=True)
    type: str


class NewServer(BaseModel):
    """Other keys are ignored, as weldr does."""

    model_config = ConfigDict(strict=True)
    url: str = Field(description="http://HOST:PORT", max_length=400)
    check: ServerCheck | None = Field(None, description="One that the app makes of its targets anyway")


class Outcomes(BaseModel):
    success: int
    failed: int


class WeldrStats(BaseModel):
    client: Outcomes = Field(description="Sessions that ended: done, or for another reason. Mode http: requests")
    server: Outcomes = Field(description="Connects to the servers, the sum of /stats/detail. Mode http: requests")


class ServerStats(BaseModel):
    id: str = Field(description="The target's name")
    ip: str
    port: str = Field(description="Text, as weldr has it")
    success: int
    failed: int


def new_server() -> dict[str, Any]:
    """For the OpenAPI document: it knows no body that is parsed here."""
    check = ServerCheck.model_json_schema()
    schema = NewServer.model_json_schema()
    schema.pop("$defs")
    schema["properties"]["check"] = {**schema["properties"]["check"], "anyOf": [check, {"type": "null"}]}
    return schema


def make_router(link: Link) -> APIRouter:
    router = APIRouter(tags=["weldr"])
    _index(router)
    _servers(router, link)
    _stats(router, link)
    return router


def _index(router: APIRouter) -> None:
    html: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {}}}}

    @router.get("/", summary="What there is; for a browser the dashboard", response_model=WeldrIndex, responses=html)
    async def weldr_root(accept: Annotated[str, Header(include_in_schema=False)] = "") -> Response:
        """Whoever asks for text/html rather than JSON gets a page for people."""
        return dashboard.page() if dashboard.wants_page(accept) else index()

    @router.get("/weldr", summary="What there is", response_model=WeldrIndex)
    async def weldr_index() -> Response:
        return index()

    def index() -> Response:
        links = [{"rel": rel, "href": f"/{rel}", "method": None} for rel in ("servers", "stats")]
        answer = _pretty({"about": "Weldr Management API", "links": links})
        answer.headers["Vary"] = "Accept"
        return answer


def _servers(router: APIRouter, link: Link) -> None:
    body = bodies.described("NewServer", "As weldr has it")

    @router.get("/servers", summary="All servers", response_model=Servers)
    async def weldr_servers(app: App = None) -> Response:
        return _pretty(_view(await _meant(link, app), app))

    @router.post(
        "/servers", summary="Add a server", response_model=Servers, status_code=201, openapi_extra=body,
        responses={200: {"model": Servers, "description": "It was there already"}},
    )  # fmt: skip
    async def weldr_add(request: Request, app: App = None) -> Response:
        """409 when its `check` is none that the app makes."""
        server = _parsed(await request.body())
        address = _address(server.url)
        meant = await _meant(link, app)
        if server.check is not None and all(check["type"] != server.check.type for check in meant["health"]):
            raise Problem(409, f"app {meant['name']} makes no checks of type {server.check.type}")
        if any(place == address for _, place in _servers_of(meant)):
            return _pretty(_view(meant, app))
        await link.ask("add_target", app=meant["name"], definition=str(address), assumed_up=True)
        return _pretty(_view(await _meant(link, app), app), 201)

    @router.delete("/servers/{ip}/{port}", summary="Remove a server; its sessions go on", response_model=Servers)
    async def weldr_remove(ip: Host, port: Port, app: App = None) -> Response:
        meant = await _meant(link, app)
        address = _address(f"http://{_bracketed(ip)}:{port}")
        names = [name for name, place in _servers_of(meant) if place == address]
        if not names:
            raise Problem(404, f"app {meant['name']} has no server {address}")
        for name in names:
            await link.ask("remove_target", app=meant["name"], target=name)
        return _pretty(_view(await _meant(link, app), app))


def _stats(router: APIRouter, link: Link) -> None:
    async def counted(app: str | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """What is counted of the app, and of each server."""
        meant = await _meant(link, app)
        name = meant["name"]
        found: dict[str, Any] | None = (await link.ask("statistics"))["apps"].get(name)
        if found is None:
            raise Problem(404, f"there is no app {name} any more")
        servers = [
            {"id": target, "ip": place.host, "port": str(place.port), **_outcomes_of_server(found["targets"][target])}
            for target, place in _servers_of(meant)
            if target in found["targets"]
        ]
        return found, servers

    @router.get("/stats", summary="How sessions ended and connects went", response_model=WeldrStats)
    async def weldr_stats(app: App = None) -> Response:
        found, servers = await counted(app)
        server = {key: sum(one[key] for one in servers) for key in ("success", "failed")}
        return _pretty({"client": _outcomes_of_clients(found), "server": server})

    @router.get("/stats/detail", summary="Connects to each server", response_model=list[ServerStats])
    async def weldr_stats_detail(app: App = None) -> Response:
        _, servers = await counted(app)
        return _pretty(servers)


async def _meant(link: Link, app: str | None) -> dict[str, Any]:
    """The app that is meant, as it is now."""
    if app is not None:
        found: dict[str, Any] = await link.ask("app", app=app)
        return found
    apps: list[dict[str, Any]] = await link.ask("apps")
    if len(apps) != 1:
        raise Problem(409, f"there are {len(apps)} apps; ?app=NAME says which one is meant")
    return apps[0]


# -- servers and targets


def _parsed(body: bytes) -> NewServer:
    try:
        return NewServer.model_validate(bodies.parse(body))
    except ValidationError as error:
        wrong = [{"where": ".".join(map(str, ("body", *one["loc"]))), "what": one["msg"]} for one in error.errors()]
        raise Problem(400, 'wanted {"url": "http://HOST:PORT"}', wrong) from None


def _address(url: str) -> Address:
    """The target's address of a server's URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", 80 if parts.port is None else parts.port
        is_plain = parts.scheme == "http" and parts.path in ("", "/") and url.count("/") <= 3
        if not host or not is_plain or not url.isprintable() or any(sign in url for sign in "@?#\\ "):
            raise ValueError("wanted http://HOST:PORT")
        return parse_target(f"{_bracketed(host)}:{port}")
    except ValueError as error:
        raise Problem(400, f"found the URL {url!r}: {error}") from None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _place(target: dict[str, Any]) -> Address | None:
    """None for what has no URL of weldr's: a UNIX socket, a group."""
    try:
        address = parse_target(target["address"])
    except ValueError:
        return None
    return address if address.host and address.port else None


def _servers_of(meant: dict[str, Any]) -> list[tuple[str, Address]]:
    """The name and address of each target that is one."""
    places = ((target["name"], _place(target)) for target in meant["targets"])
    return [(name, place) for name, place in places if place is not None]


def _view(meant: dict[str, Any], app: str | None) -> dict[str, Any]:
    query = "" if app is None else f"?app={quote(app, safe='')}"
    servers = []
    for _, place in _servers_of(meant):
        href = f"/servers/{quote(place.host, safe='')}/{place.port}{query}"
        servers.append({"url": f"http://{place}", "links": [{"rel": "delete", "href": href, "method": "DELETE"}]})
    return {"servers": servers, "links": [{"rel": "add", "href": f"/servers{query}", "method": "POST"}]}


def _outcomes_of_clients(counted: dict[str, Any]) -> dict[str, int]:
    """In mode http of requests, those that the proxy has answered by itself among them: an error is no success."""
    ends = counted["session_ends"]
    ways, good = (counted["requests"]["statuses"], ("1xx", "2xx", "3xx")) if "requests" in counted else (ends, ("done",))
    success = sum(ways[way] for way in good)
    return {"success": success, "failed": sum(ways.values()) - success}


def _outcomes_of_server(counted: dict[str, Any]) -> dict[str, int]:
    """In mode http of the requests that it was sent: 5xx and no answer are its failures, as weldr counts them."""
    if "requests" in counted:
        statuses = counted["requests"]["statuses"]
        failed = statuses["5xx"] + statuses["none"]
        return {"success": sum(statuses.values()) - failed, "failed": failed}
    return {"success": counted["connect_seconds"]["count"], "failed": sum(counted["connect_failures"].values())}


def _pretty(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body, indent=2), status, media_type="application/json")
