"""A copy of every key under a prefix, as it is in etcd, in order, from one revision on. For the agent's loop.

    READING ──all keys, at one revision: read() …, replaced()──> FOLLOWING ──events: changed()──> FOLLOWING
    FOLLOWING ──the history is gone, the store is another one──> READING
    any ──not permitted, nobody answers──> `fault`, and READING again after AGAIN

Always true: what `read` (from the last first page on), `replaced` and `changed` have said, in order, is what etcd had at
`revision`, for a member of etcd that is behind tells later, and never otherwise.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.errors import Compacted, EtcdError
from tcp_proxy.control.etcd.values import Event, Found, KeyValue
from tcp_proxy.control.etcd.watch import Watch
from tcp_proxy.runtime import memory

AGAIN = 0.5  # seconds after a failure


def _all(kvs: tuple[KeyValue, ...], _is_first: bool) -> tuple[KeyValue, ...]:
    return kvs


class Mirror:
    def __init__(
        self,
        client: Client,
        prefix: str,
        silence: float,
        replaced: Callable[[Found], Any],
        changed: Callable[[tuple[Event, ...]], Any],
        read: Callable[[tuple[KeyValue, ...], bool], Iterable[KeyValue]] = _all,
    ) -> None:
        """`silence`: seconds without a word after which another member is asked (etcd.watch). `read(kvs, is_first)` hears of
        each page as it comes, of all pages once more if not all can be read, and returns what `replaced` is to be told."""
        self.revision = 0  # what happened up to it is known; 0: nothing
        self.is_following = False
        self.reads = 0  # of the whole
        self.fault = ""  # why it could not be read
        self._client = client
        self._prefix = prefix
        self._silence = silence
        self._replaced, self._changed, self._read = replaced, changed, read
        self._stream: asyncio.Task[None] | None = None
        self._is_much = False  # what is read: garbage is not searched for meanwhile

    def __repr__(self) -> str:
        state = "following" if self.is_following else "reading"
        return f"<Mirror of {self._prefix!r}, {state}, at revision {self.revision}>"

    async def follow(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self._begin_anew()
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

    async def _begin_anew(self) -> None:
        self._is_much = False
        try:
            found = await self._read_all()
            self.reads += 1
            self.revision, self.is_following, self.fault = found.revision, True, ""
            self._replaced(found)
        finally:
            if self._is_much:
                memory.release_collection(is_kept=self.is_following)

    async def _read_all(self) -> Found:
        kvs: list[KeyValue] = []
        is_first = True
        async with contextlib.aclosing(self._client.pages(self._prefix)) as pages:
            async for found in pages:
                if is_first and found.more:  # 100,000 keys make no cycles: a quarter of the time would go into a search
                    self._is_much = True
                    memory.hold_collection()
                kvs += self._read(found.kvs, is_first)
                is_first = False
        return Found(tuple(kvs), found.revision, found.cluster)

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
