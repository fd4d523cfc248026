"""The event stream: server-sent events, with what was missed first, and a comment now and then while nothing happens.

Sessions that end are no events of the supervisor's: who wants them has them asked for, a few times a second for all who do,
by the one task of Ended.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tcp_proxy.control.api.link import Event, Follower, Link
from tcp_proxy.control.api.problems import Problem

ALIVE_EVERY = 15.0  # seconds between two signs of life, so that both ends notice when the other one is gone
ASK_EVERY = 0.25  # seconds between two questions for sessions that have ended


def last_seen(request: Request, after: int | None) -> int | None:
    """What the client says it has seen; None: it says nothing, and sees what happens from now on."""
    given = request.headers.get("last-event-id", "")
    if after is not None:
        return after
    return int(given) if given.isdecimal() and len(given) < 17 else None


class Ended:
    """Asks for sessions that have ended while anybody wants them."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._followers: set[Follower] = set()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Ended for {len(self._followers)} followers>"

    async def follow(self, follower: Follower) -> None:
        """Those that end from now on."""
        if self._task is None:
            seen = (await self._link.ask("ended", seen=None))["seen"]
            if self._task is None:  # nobody else was quicker
                self._task = asyncio.create_task(self._ask(seen))
        self._followers.add(follower)

    def unfollow(self, follower: Follower) -> None:
        self._followers.discard(follower)

    async def _ask(self, seen: dict[str, int]) -> None:
        try:
            while self._followers:
                await asyncio.sleep(ASK_EVERY)
                try:
                    found = await self._link.ask("ended", seen=seen)
                except Problem:
                    continue  # it is busy; nothing is lost by asking later
                seen = found["seen"]
                for session in found["sessions"]:
                    self._tell("session", session["ended_at"], session)
                    await asyncio.sleep(0)  # so that who follows need not have room for all of them
                if found["left_out"]:
                    self._tell("left_out", found["sessions"][-1]["ended_at"], {"sessions": found["left_out"]})
        finally:
            self._task = None

    def _tell(self, kind: str, at: float, data: dict[str, Any]) -> None:
        event = Event(0, at, kind, json.dumps(data))
        for follower in tuple(self._followers):
            if not self._link.tell(follower, event):
                self._followers.discard(follower)


class Following(StreamingResponse):
    """`over()` is called when nobody reads any more: also when nobody ever began to, where no frame is asked for."""

    def __init__(self, frames: AsyncIterator[str], over: Callable[[], None]) -> None:
        super().__init__(frames, media_type="text/event-stream")
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


async def respond(link: Link, after: int | None, ended: Ended | None = None) -> StreamingResponse:
    """With sessions as they end, if `ended` is given."""
    follower = link.follow()  # before asking for the past: nothing is lost in between

    def over() -> None:
        link.unfollow(follower)
        if ended is not None:
            ended.unfollow(follower)

    try:
        past = await link.ask("events", after=after) if after is not None else []
        if ended is not None:
            await ended.follow(follower)
    except BaseException:
        over()
        raise
    return Following(_frames(follower, past), over)


async def _frames(follower: Follower, past: list[dict[str, Any]]) -> AsyncIterator[str]:
    seen = 0
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
        if not found.number:
            yield _frame(0, found.kind, json.dumps({"at": found.at, "kind": found.kind, "data": json.loads(found.data)}))
        elif found.number > seen:
            event = {"number": found.number, "at": found.at, "kind": found.kind, "data": json.loads(found.data)}
            yield _frame(found.number, found.kind, json.dumps(event))


def _frame(number: int, kind: str, data: str) -> str:
    """JSON has no line ends in it. What has no number can not be had again."""
    return (f"id: {number}\n" if number else "") + f"event: {kind}\ndata: {data}\n\n"
