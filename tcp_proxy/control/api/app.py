"""The FastAPI application: routers put together, errors as problems, the OpenAPI document as it is published."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.routing import Match

from tcp_proxy import __version__
from tcp_proxy.control.api import bodies, dashboard, pages, routes, schemas, weldr
from tcp_proxy.control.api.link import Link
from tcp_proxy.control.api.problems import MEDIA_TYPE, Problem
from tcp_proxy.control.api.sampler import Sampler

DESCRIPTION = """\
What an operator does to a running proxy. Names in paths are percent-encoded; times are Unix times, durations seconds.
Every error is `application/problem+json` (RFC 9457).
"""


def make_app(link: Link, sampler: Sampler | None = None) -> FastAPI:
    """With a `sampler` that is started by who serves it."""
    sampler = sampler or Sampler(link)
    app = FastAPI(
        title="tcp_proxy management API", version=__version__, openapi_url=None, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    made = (routes.make_router(link), dashboard.make_router(sampler), weldr.make_router(link), pages.make_router(app, link))
    for router in made:
        app.include_router(router)
        app.state.known = [*getattr(app.state, "known", ()), *router.routes]
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if error.status_code == 404:
        return Problem(404, f"there is nothing at {path}; /spec/v1/ says what there is").response()
    if error.status_code == 405:
        allowed = ", ".join(sorted(_methods(request)))
        return Problem(405, f"{path} takes {allowed}", headers={"Allow": allowed}).response()
    return Problem(error.status_code, str(error.detail), headers=error.headers).response()


def _methods(request: Request) -> set[str]:
    """Of all routes with this path; Starlette knows those of the first one only."""
    found: set[str] = set()
    for route in request.app.state.known:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [{"where": ".".join(map(str, one["loc"])), "what": one["msg"]} for one in error.errors()]
    is_malformed = any(one["type"] == "json_invalid" for one in error.errors())
    detail = "; ".join(f"{one['where']}: {one['what']}" for one in errors[:3])
    return Problem(400 if is_malformed else 422, detail, errors).response()


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, openapi_version="3.1.0"
        )
        parts = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            parts.pop(name, None)
        parts.update(bodies.schemas())
        parts["NewServer"] = weldr.new_server()
        parts["Problem"] = schemas.Problem.model_json_schema()
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}, {}]
        for operation in (one for path in document["paths"].values() for one in path.values()):
            operation["responses"].pop("422", None)
            schema = {"$ref": "#/components/schemas/Problem"}
            operation["responses"]["default"] = {"description": "An error", "content": {MEDIA_TYPE: {"schema": schema}}}
        app.openapi_schema = document
    return app.openapi_schema
