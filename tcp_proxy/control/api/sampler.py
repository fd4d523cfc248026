"""Asks the supervisor for samples, so seldom that they cost it little, and keeps the history of them.

On the API process's loop, from its start on: an hour that is to be shown has to be kept before anybody looks. Nobody but the
Sampler asks for samples: however many look at the dashboard, the supervisor is asked as often as for one.

    nobody looks: one each EVERY seconds          somebody does: one each LIVE seconds, when it is asked for
    both no sooner than COST times the number of targets after the one before
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from tcp_proxy.control.api.history import EVERY, History
from tcp_proxy.control.api.link import Link
from tcp_proxy.control.api.problems import Problem

LIVE = 2.0  # seconds
LATER = 0.1  # seconds: who asks again so much later has a new one
COST = 0.005  # seconds for each target: a sample takes the supervisor less than 0.5 % of that


class Sampler:
    """`clock`: Unix time."""

    def __init__(self, link: Link, clock: Callable[[], float] = time.time) -> None:
        self._link = link
        self._clock = clock
        self._turn = asyncio.Lock()
        self._history = History()
        self._texts: dict[str, str] = {}  # app -> the rates of the last sample
        self._task: asyncio.Task[None] | None = None
        self._taken = float("-inf")  # by the loop's clock

    def __repr__(self) -> str:
        return f"<Sampler of {self._history!r}>"

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._sample())

    async def rates(self, app: str = "") -> tuple[int, str]:
        """Of the program, all apps, and the targets of one: the number of the sample, and JSON. Raises Problem."""
        async with self._turn:
            await self._take(LIVE)
            self._require(app)
            if app not in self._texts:
                view = await asyncio.to_thread(self._history.rates, app)
                self._texts[app] = json.dumps({**view, "every": self._least(LIVE) + LATER}, allow_nan=False)
            return self._history.number, self._texts[app]

    async def points(self, app: str = "", target: str = "", after: float = 0.0) -> str:
        """The last hour of one of them, as JSON. Raises Problem."""
        async with self._turn:
            if self._history.now is None:
                await self._take(LIVE)
            self._require(app)
            return json.dumps(self._history.points(app, target, after), allow_nan=False)

    def _require(self, app: str) -> None:
        if app and not self._history.has_app(app):
            raise Problem(404, f"there is no app named {app!r}")

    async def _sample(self) -> None:
        while True:
            try:
                async with self._turn:
                    await self._take(EVERY - 0.5)  # who looks may have been a little sooner
            except Problem:
                pass  # it is busy, or ending: there will be a gap
            await asyncio.sleep(max(EVERY, self._least(EVERY)))

    def _least(self, wanted: float) -> float:
        targets = self._history.now.targets if self._history.now is not None else 0
        return max(wanted, targets * COST)

    async def _take(self, wanted: float) -> None:
        """Unless the last one is younger."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._taken < self._least(wanted):
            return
        self._taken = loop.time()
        sample: dict[str, Any] = await self._link.ask("samples")
        await asyncio.to_thread(self._history.add, sample, self._clock())
        self._texts.clear()
