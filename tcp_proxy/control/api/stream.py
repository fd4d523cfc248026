"""The event stream: server-sent events, with what was missed first, and a comment now and then while nothing happens."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from tcp_proxy.control.api.link import Follower, Link

ALIVE_EVERY = 15.0  # seconds between two signs of life, so that both ends notice when the other one is gone
NOW = 2**62  # as `after`: nothing that has happened


def last_seen(request: Request, after: int | None) -> int:
    """What the client says it has seen; a client that says nothing sees what happens from now on."""
    given = request.headers.get("last-event-id", "")
    if after is not None:
        return after
    return int(given) if given.isdecimal() and len(given) < 17 else NOW


async def respond(link: Link, after: int) -> StreamingResponse:
    follower = link.follow()  # before asking for the past: nothing is lost in between
    try:
        past = await link.ask("events", after=after)
    except BaseException:
        link.unfollow(follower)
        raise
    return StreamingResponse(_frames(link, follower, past), media_type="text/event-stream")


async def _frames(link: Link, follower: Follower, past: list[dict[str, Any]]) -> AsyncIterator[str]:
    seen = 0
    try:
        yield "retry: 1000\n\n"
        for event in past:
            seen = event["number"]
            yield _frame(seen, event["kind"], json.dumps(event))
        while True:
            try:
                async with asyncio.timeout(ALIVE_EVERY):
                    found = await follower.get()
            except TimeoutError:
                yield ": nothing new\n\n"
                continue
            if found is None:
                return
            if found.number > seen:
                event = {"number": found.number, "at": found.at, "kind": found.kind, "data": json.loads(found.data)}
                yield _frame(found.number, found.kind, json.dumps(event))
    finally:
        link.unfollow(follower)


def _frame(number: int, kind: str, data: str) -> str:
    """JSON has no line ends in it."""
    return f"id: {number}\nevent: {kind}\ndata: {data}\n\n"
