"""What is neither a resource nor weldr's: the specification, the Swagger page, /metrics, /healthz and /readyz.

The page and everything it loads come from here: nothing is loaded from anywhere else, and its content security policy
lets nothing be.
"""

from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from swagger_ui_bundle import swagger_ui_path

from tcp_proxy.control.api.link import Link
from tcp_proxy.control.api.problems import Problem
from tcp_proxy.control.statistics import prometheus
from tcp_proxy.sansio.words import counted

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>tcp_proxy management API</title>
<link rel="icon" href="favicon-32x32.png">
<link rel="stylesheet" href="swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="swagger-ui-bundle.js"></script>
<script src="start.js"></script>
</body>
</html>
"""
START = """\
SwaggerUIBundle({
  url: "/spec/v1/",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
ASSETS = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "favicon-32x32.png": "image/png"}
DAY = {"Cache-Control": "max-age=86400"}


def make_router(app: FastAPI, link: Link) -> APIRouter:
    router = APIRouter()
    _specification(router, app)
    _swagger(router)
    _metrics(router, link)
    _health(router, link)
    return router


def _specification(router: APIRouter, app: FastAPI) -> None:
    @router.get("/spec/v1/", include_in_schema=False)
    async def specification() -> Response:
        return JSONResponse(app.openapi())

    @router.get("/spec/v1", include_in_schema=False)
    async def specification_without_slash() -> Response:
        return RedirectResponse("/spec/v1/")


def _swagger(router: APIRouter) -> None:
    @router.get("/ui/v1/", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})

    @router.get("/ui/v1", include_in_schema=False)
    async def page_without_slash() -> Response:
        return RedirectResponse("/ui/v1/")

    @router.get("/ui/v1/start.js", include_in_schema=False)
    async def start() -> Response:
        return Response(START, media_type="text/javascript")

    @router.get("/ui/v1/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if name not in ASSETS:
            raise Problem(404, "there is no such page")
        return Response(_asset(name), media_type=ASSETS[name], headers=DAY)


@cache
def _asset(name: str) -> bytes:
    """Whole and at once: an answer in parts brings errors that are no problems (RFC 9457) along."""
    data: bytes = (swagger_ui_path / name).read_bytes()
    return data


def _metrics(router: APIRouter, link: Link) -> None:
    formats: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}}

    @router.get("/metrics", summary="For Prometheus", response_class=PlainTextResponse, responses=formats, tags=["health"])
    async def all_metrics(request: Request) -> Response:
        """The statistics, in the text format or, if that is preferred, in OpenMetrics'."""
        statistics = await link.ask("statistics", brief=True)
        text, content_type = prometheus.render(statistics, request.headers.get("accept", ""))
        return StreamingResponse(text, headers={"Content-Type": content_type})  # made in threads, as it is sent


def _health(router: APIRouter, link: Link) -> None:
    plain: dict[int | str, dict[str, Any]] = {503: {"description": "No", "content": {"text/plain": {}}}}

    @router.get("/healthz", summary="Alive?", response_class=PlainTextResponse, responses=plain, tags=["health"])
    async def healthz() -> Response:
        """200 while the supervisor answers. Needs no token."""
        await link.ask("status")
        return PlainTextResponse("ok\n")

    @router.get("/readyz", summary="Ready?", response_class=PlainTextResponse, responses=plain, tags=["health"])
    async def readyz() -> Response:
        """200 while the program serves and every app has a target that takes new sessions. Of a cluster, a node that is cut
        off is ready and says "degraded", one that is joining is not ready yet. Needs no token."""
        found = await link.ask("ready")
        if found["ready"]:
            return PlainTextResponse(f"ready, degraded: {found['degraded']}\n" if found["degraded"] else "ready\n")
        text = f"not ready: {found['state']}, {counted(found['lacking'], 'app')} without a target that takes new sessions\n"
        return PlainTextResponse(text, 503)
