"""The dashboard: its page at /, its parts under /dashboard/, and what it is shown beside the resources that all have.

The page is plain HTML, CSS and ES modules, in the folder `assets` beside this file; its content security policy lets
nothing else be loaded, asked or run, and no text become HTML. The path / is weldr's, too: a browser, which asks for
text/html, gets the page, everybody else weldr's index (control.api.weldr).
"""

from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from tcp_proxy.control.api import schemas
from tcp_proxy.control.api.problems import Problem
from tcp_proxy.control.api.sampler import Sampler

FOLDER = Path(__file__).parent / "assets"
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def wants_page(accept: str) -> bool:
    """Whether a header Accept asks for HTML by name, and for nothing of weldr's more."""
    found: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        qualities = [word[2:] for word in parameters if word.startswith("q=")]
        try:
            found[kind] = float(qualities[0]) if qualities else 1.0
        except ValueError:
            found[kind] = 0.0
    return found.get("text/html", 0.0) > found.get("application/json", 0.0)


def page() -> Response:
    headers = {"Content-Security-Policy": POLICY, "Vary": "Accept", "Cache-Control": "no-cache"}
    return HTMLResponse(_part("index.html"), headers=headers)


@cache
def _part(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


@cache
def _parts() -> dict[str, str]:
    """The names that there are, and what they are."""
    return {path.name: KINDS[path.suffix] for path in FOLDER.iterdir() if path.suffix in KINDS}


def make_router(sampler: Sampler) -> APIRouter:
    router = APIRouter()

    @router.get("/dashboard", include_in_schema=False)
    @router.get("/dashboard/", include_in_schema=False)
    async def to_the_page() -> Response:
        return RedirectResponse("/")

    @router.get("/dashboard/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        if name not in _parts():
            raise Problem(404, "there is no such part of the dashboard")
        return Response(_part(name), media_type=_parts()[name], headers={"Cache-Control": "no-cache"})

    _add_numbers(router, sampler)
    return router


def _add_numbers(router: APIRouter, sampler: Sampler) -> None:
    App = Annotated[str, Query(max_length=100, description="The app; left out: none, or the program as a whole")]

    @router.get(
        "/api/v1/rates", summary="Sessions, rates and latencies now", response_model=schemas.Rates, tags=["program"],
        responses={304: {"description": "Nothing newer than the ETag in If-None-Match"}},
    )  # fmt: skip
    async def rates(request: Request, app: App = "") -> Response:
        """Of the program and each app; with `app` of its targets, too: those that have counted anything. Since the sample
        before this one, which all who ask share: there is one at most each 2 seconds, with many targets more seldom."""
        number, text = await sampler.rates(app)
        tag = f'"{number}"'
        if request.headers.get("if-none-match") == tag:
            return Response(None, 304, headers={"ETag": tag})
        return Response(text, media_type="application/json", headers={"ETag": tag})

    @router.get("/api/v1/history", summary="The last hour", response_model=schemas.History, tags=["program"])
    async def history(
        app: App = "",
        target: Annotated[str, Query(max_length=schemas.MOST_TARGET, description="A target of the app")] = "",
        after: Annotated[float, Query(ge=0, le=2**53, description="Unix time: later points only")] = 0.0,
    ) -> Response:
        """Of the program, an app or a target, a point each 10 seconds, as far as the API's process has lived. One that has
        not counted anything has no points."""
        return Response(await sampler.points(app, target, after), media_type="application/json")
