"""A watch that goes on from its own place, whichever member tells it. For one event loop's thread; it owns its stream.

    FOLLOWING ──an error, the end, nothing for `silence` seconds──> the next member, from `revision` ──> FOLLOWING
              ──the history is gone there──> Compacted          ──not permitted──> Refused

Always true:
- `revision` is the first one that is not known yet. It comes from events only: the one in a header is the store's, and a
  member that says it has seen it has not told us of what happened before;
- no event is told twice, and none is left out: those of one revision come in one batch (test_no_event_is_lost);
- a member that says nothing is left. Somebody has to make it speak: nothing else tells a stopped member, or one of 3.4 cut
  off from the others, from a quiet one. So whoever watches puts a key of his own there, well before `silence` is over.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator

import aiohttp

from tcp_proxy.control.etcd.client import ATTEMPT, CONNECT, MOST_BYTES, Client, understood
from tcp_proxy.control.etcd.errors import Compacted, EtcdError, NotAllowed, TooLarge, Unavailable, of_answer
from tcp_proxy.control.etcd.values import Event, encoded, event, range_end

PAUSE_FIRST, PAUSE_MOST = 0.05, 1.0  # seconds between two streams that told nothing


class Watch:
    def __init__(self, client: Client, prefix: str, revision: int, silence: float) -> None:
        """Of every key that begins so, from `revision` on."""
        self.revision = revision
        self.streams = 0  # that were begun
        self.told_by = ""  # the member
        self._client = client
        self._prefix = prefix
        self._silence = silence

    def __repr__(self) -> str:
        return f"<Watch {self._prefix!r} from revision {self.revision}, told by {self.told_by}>"

    async def batches(self) -> AsyncGenerator[tuple[Event, ...], None]:
        """The events, in order, of at least one whole revision each time. Raises Compacted and Refused."""
        pause, asked_for = 0.0, -1  # the revision at which the last login was made
        while True:
            before, endpoint = self.revision, self._client.endpoint
            try:
                async for batch in self._stream(endpoint):
                    yield batch
            except Unavailable:
                pass
            except NotAllowed as error:
                if not self._client.is_login_needed(error) or self.revision == asked_for:
                    raise
                asked_for = self.revision
                await self._login(endpoint)
                continue
            if endpoint == self._client.endpoint:
                self._client.leave()
            pause = 0.0 if self.revision > before else min(PAUSE_MOST, max(PAUSE_FIRST, pause * 2))
            await asyncio.sleep(pause)
            asked_for = -1

    async def _login(self, endpoint: str) -> None:
        with contextlib.suppress(Unavailable):
            await self._client.login(endpoint, aiohttp.ClientTimeout(total=ATTEMPT))

    async def _stream(self, endpoint: str) -> AsyncGenerator[tuple[Event, ...], None]:
        """One stream of one member, to its end."""
        begin = {"key": encoded(self._prefix), "range_end": range_end(self._prefix), "start_revision": str(self.revision)}
        body = json.dumps({"create_request": begin}).encode()
        limit = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=self._silence)
        self.streams += 1
        async with self._client.request(endpoint, "watch", body, limit) as answer:
            if answer.status != 200:
                raise await _not_begun(endpoint, answer)
            self.told_by = endpoint
            async for line in _lines(answer):
                events = understood(endpoint, self._events, endpoint, line)
                if events:
                    self.revision = events[-1].revision + 1
                    yield events

    def _events(self, endpoint: str, line: bytes) -> tuple[Event, ...]:
        said = json.loads(line)
        if "error" in said:  # inside a 200: the member ends, or has no leader
            raise of_answer(endpoint, 200, said)
        result = said.get("result", {})
        if result.get("canceled"):
            if int(result.get("compact_revision", 0)):
                raise Compacted(int(result["compact_revision"]))
            reason = result.get("cancel_reason", "no reason given")
            error = of_answer(endpoint, 200, {"message": f"the watch has ended: {reason}"})
            raise error if isinstance(error, NotAllowed) else Unavailable(str(error))
        events = tuple(map(event, result.get("events", ())))
        return tuple(one for one in events if one.revision >= self.revision)


async def _not_begun(endpoint: str, answer: aiohttp.ClientResponse) -> EtcdError:
    try:
        return of_answer(endpoint, answer.status, json.loads(await answer.read()))
    except ValueError:
        return of_answer(endpoint, answer.status, None)


async def _lines(answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """A value of a megabyte is a line of 1.3; aiohttp's own lines end at half a megabyte."""
    rest: list[bytes] = []
    size = 0
    async for chunk in answer.content.iter_any():
        *whole, last = chunk.split(b"\n")
        if whole:
            whole[0] = b"".join([*rest, whole[0]])
            rest, size = [], 0
        for line in whole:
            if line:
                yield line
        rest.append(last)
        size += len(last)
        if size > MOST_BYTES:
            raise TooLarge(f"a watch tells more than {MOST_BYTES} bytes at once")
