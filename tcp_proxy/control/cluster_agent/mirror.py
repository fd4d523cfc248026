"""A copy of every key under a prefix, as it is in etcd, in order, from one revision on. For the agent's loop.

    READING ──all keys, at one revision: replaced()──> FOLLOWING ──events: changed()──> FOLLOWING
    FOLLOWING ──the history is gone, the store is another one──> READING
    any ──not permitted, nobody answers──> `fault`, and READING again after AGAIN

Always true: what `replaced` and `changed` have said, in order, is what etcd had at `revision`, for a member of etcd that is
behind tells later, and never otherwise.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.errors import Compacted, EtcdError
from tcp_proxy.control.etcd.values import Event, Found
from tcp_proxy.control.etcd.watch import Watch

AGAIN = 0.5  # seconds after a failure


class Mirror:
    def __init__(
        self,
        client: Client,
        prefix: str,
        silence: float,
        replaced: Callable[[Found], Any],
        changed: Callable[[tuple[Event, ...]], Any],
    ) -> None:
        """`silence`: seconds without a word after which another member is asked (etcd.watch)."""
        self.revision = 0  # what happened up to it is known; 0: nothing
        self.is_following = False
        self.reads = 0  # of the whole
        self.fault = ""  # why it could not be read
        self._client = client
        self._prefix = prefix
        self._silence = silence
        self._replaced, self._changed = replaced, changed
        self._stream: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "following" if self.is_following else "reading"
        return f"<Mirror of {self._prefix!r}, {state}, at revision {self.revision}>"

    async def follow(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                found = await self._client.read_all(self._prefix)
                self.reads += 1
                self.revision, self.is_following, self.fault = found.revision, True, ""
                self._replaced(found)
                await self._follow_on()
            except Compacted:
                pass  # read again at once
            except EtcdError as error:
                self.fault = str(error)
                self.is_following = False
                await asyncio.sleep(AGAIN)
            self.is_following = False

    def answered(self, revision: int) -> None:
        """A majority has said that the store is at this revision. If we know of later ones it is another store, as after a
        backup was restored: whatever we know is worth nothing, and a watch from here would be silent for ever."""
        if self.is_following and revision < self.revision and self._stream is not None:
            self._stream.cancel()

    async def _follow_on(self) -> None:
        self._stream = asyncio.create_task(self._tell())
        try:
            await asyncio.wait([self._stream])
        finally:
            self._stream.cancel()
        if not self._stream.cancelled():
            await self._stream  # raises what has ended it

    async def _tell(self) -> None:
        watch = Watch(self._client, self._prefix, self.revision + 1, self._silence)
        async with contextlib.aclosing(watch.batches()) as batches:
            async for events in batches:
                self.revision = events[-1].revision
                self._changed(events)
