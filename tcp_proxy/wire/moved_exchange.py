"""A request of mode http and its answer, under way and between two reads, as they go from one process to another: a part of
a moved_session.MovedSession, which has the bytes and the sockets. Pure.

In a frame it is JSON, bytes in Latin-1. As there, what is not said has its default, and a field that is added needs no new
version: a program that does not know it refuses the session, whose process then finishes the request.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class MovedBody(NamedTuple):
    """One direction of it (dataplane.http.body)."""

    left: int = 0  # bytes that are still to come, where the length is known
    chunks: tuple[int, ...] = ()  # where its chunks stand (sansio.http1.chunks); (): it has none
    decodes: bool = False  # they are taken off
    until_close: bool = False  # it ends with its source
    ended: bool = False  # all of it is read
    done: bool = False  # and written
    moved: int = 0  # bytes read of it so far, framing included
    source_ended: bool = False
    was_full: bool = False  # there may be more in the socket of its source
    code: int = 0  # errno of the source
    most: int = 0  # bytes that it may be long
    copies: bool = False  # it is not to be spliced


class MovedExchange(NamedTuple):
    """Times as in a MovedSession. Its answer's head has come, and was passed on, where there is `down`."""

    request: bytes  # a head of which sansio.http1.requests makes the same one
    started: float
    processes: tuple[int, ...]  # that have answered it so far, in order
    status: int = 0  # of the answer
    answered_at: float = -1.0
    keep: bool = False  # the client's connection after it
    upgrade: bytes = b""  # the protocols that the target was asked for
    span: tuple[Any, ...] = ()  # of what is traced (sansio.trace_context)
    repeats: int = 0  # dataplane.http.repeats
    is_used: bool = False  # the target's connection has had requests before
    was_late: bool = False
    has_interim: bool = False
    up_failed: bool = False  # the target takes no more of the request
    ending: int = 0  # events that have told of an end of the target's
    reset_code: int = 0  # what sending to it has met
    bytes_down: int = 0  # where all of the answer came with its head
    up: MovedBody | None = None  # where the request has a body
    down: MovedBody | None = None


def told(exchange: MovedExchange) -> dict[str, Any]:
    """For JSON."""
    found = {name: _told(value) for name, value in exchange._asdict().items() if value != _DEFAULTS.get(name, ...)}
    for name in ("up", "down"):
        body: MovedBody | None = getattr(exchange, name)
        if body is not None:
            found[name] = {field: value for field, value in body._asdict().items() if value != _BODY_DEFAULTS[field]}
    return found


def understood(fields: Mapping[str, Any]) -> MovedExchange:
    """Raises ValueError, TypeError, LookupError or AttributeError for what is none."""
    known: dict[str, Any] = {}
    for name, value in fields.items():
        known[name] = value.encode("latin-1") if isinstance(value, str) else value
    for name in ("up", "down"):
        body = known.get(name)
        if body is not None:
            known[name] = MovedBody(**body | {"chunks": tuple(body.get("chunks", ()))})
    return MovedExchange(**known | {name: tuple(known.get(name, ())) for name in ("processes", "span")})


_DEFAULTS = MovedExchange._field_defaults
_BODY_DEFAULTS = MovedBody._field_defaults


def _told(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value
