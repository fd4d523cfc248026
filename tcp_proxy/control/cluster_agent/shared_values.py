"""What the nodes of a cluster share beside stick entries: small texts in etcd under shared/, told to the supervisor and
changed for it. What they mean is not known here.

For the agent's loop. It owns the copy of these keys, what this node says of itself (`published`, under its lease), and the
changes that the supervisor wants, which are made one after another.

    a change: WAITING ──its turn, this node has a lease──> ASKED ──done, and its event has come, or refused: SharedChanged
                                                             └──nobody has answered──> ASKED again

Always true: what was published is there while this node is one, whatever happened to it in etcd; a merge is never made into
a value that somebody has changed meanwhile (test_two_nodes_merge_into_one_value).
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.errors import EtcdError, NoSpace, Refused, Unavailable
from tcp_proxy.control.etcd.values import Compare, Delete, Event, Get, KeyValue, Put, is_unchanged
from tcp_proxy.wire.cluster import (
    CREATE,
    DELETE,
    MOST_OF_A_VALUE,
    ChangeShared,
    Publish,
    Shared,
    SharedChanged,
    SharedValue,
    changed,
    supersedes,
)

logger = logging.getLogger(__name__)

AGAIN = 0.25  # seconds after a failure
PART = 128 * 1024  # characters of values in one message to the supervisor
NOT_HELD = "somebody else has changed it"


class SharedValues:
    """`tell(message)` to the supervisor; `lease()`: the number under which this node's key is, 0: it is no node now."""

    def __init__(self, client: Client, prefix: str, tell: Callable[[Any], Any], lease: Callable[[], int]) -> None:
        self._client = client
        self._prefix = f"{prefix}shared/"
        self._tell = tell
        self._lease = lease
        self._known: dict[str, SharedValue] = {}
        self._published: dict[str, str] = {}
        self._stored: dict[str, tuple[str, int]] = {}  # of these, what etcd has: value and lease
        self._changes: deque[ChangeShared] = deque()
        self._done: deque[tuple[int, int]] = deque()  # of changes: revisions whose events have not come, and numbers
        self._revision = 0
        self._wake = asyncio.Event()
        self._warned = ""

    def __repr__(self) -> str:
        return f"<SharedValues: {len(self._known)} known, {len(self._published)} published, {len(self._changes)} waiting>"

    # -- what the supervisor says

    def publish(self, message: Publish) -> None:
        self._published[message.key] = message.value
        self._wake.set()

    def change(self, message: ChangeShared) -> None:
        first = [self._changes.popleft()] if self._changes else []  # it may be under way
        self._changes = deque([*first, *(one for one in self._changes if not supersedes(message, one)), message])
        self._wake.set()

    def look(self) -> None:
        """The lease may be another one."""
        self._wake.set()

    # -- what etcd says

    def replaced(self, found: Iterable[KeyValue], revision: int) -> None:
        """All there is."""
        read = (self._value(kv.key, kv.value, kv.revision, kv.created) for kv in found)
        self._known = {one.key: one for one in read if one is not None}
        self._stored = {
            key: stored for key, stored in self._stored.items() if key in self._known and self._known[key].value == stored[0]
        }
        self._revision = revision
        self.tell_all()
        self._answer(1 << 63)  # after a backup was restored some numbers are never reached
        self._wake.set()

    def tell_all(self) -> None:
        revision = self._revision
        some: list[SharedValue] = []
        size, begins = 0, True
        for one in self._known.values():
            some.append(one)
            size += len(one.value)
            if size > PART:
                self._tell(Shared(tuple(some), revision, begins))
                some, size, begins = [], 0, False
        self._tell(Shared(tuple(some), revision, begins, ends=True))

    def adopt(self, lease: int) -> None:
        """What is published has been there under this lease before there was this agent."""
        for key, value in self._published.items():
            if value and key in self._known and self._known[key].value == value:
                self._stored[key] = value, lease
        self._wake.set()

    def changed(self, events: Iterable[Event], revision: int) -> None:
        found = (self._value(one.key, one.value, one.revision, one.created) for one in events)
        news = tuple(one for one in found if one is not None)
        for one in news:
            if one.value:
                self._known[one.key] = one
            else:
                self._known.pop(one.key, None)
            if one.key in self._stored and one.value != self._stored[one.key][0]:
                del self._stored[one.key]
                self._wake.set()
        if news:
            self._tell(Shared(news, revision))
        self._revision = revision
        self._answer(revision)

    def concerns(self, events: Iterable[Event]) -> bool:
        return any(event.key.startswith(self._prefix) for event in events)

    def _answer(self, revision: int) -> None:
        """What happened up to it has been told."""
        while self._done and self._done[0][0] <= revision:
            self._tell(SharedChanged(self._done.popleft()[1], ""))

    def _value(self, key: str, value: bytes | None, revision: int, created: int) -> SharedValue | None:
        """None for what is not ours; one that is no text is as if it were gone."""
        if not key.startswith(self._prefix):
            return None
        text = ""
        if value is not None and len(value) <= MOST_OF_A_VALUE:
            with contextlib.suppress(UnicodeDecodeError):
                text = value.decode()
        return SharedValue(key.removeprefix(self._prefix), text, revision, created)

    # -- what is done

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._publish_all()
                await self._change_all()
            except EtcdError as error:
                if not isinstance(error, Unavailable) and str(error) != self._warned:
                    self._warned = str(error)
                    logger.warning("what this node shares cannot be written: %s", error)
                await asyncio.sleep(AGAIN)
                self._wake.set()

    async def _publish_all(self) -> None:
        for key, value in tuple(self._published.items()):
            lease = self._lease()
            if not lease:
                return  # `look` is called when there is one
            if self._stored.get(key) == (value, lease) or (not value and key not in self._stored):
                continue
            if value:
                await self._client.put(Put(self._prefix + key, value.encode(), lease), repeats=True)
                self._stored[key] = value, lease
            else:
                await self._client.transact([], [Delete(self._prefix + key)], repeats=True)
                self._stored.pop(key, None)
            if not value and not self._published[key]:
                del self._published[key]

    async def _change_all(self) -> None:
        while self._changes:
            change = self._changes[0]
            if not self._lease():
                return
            fault, revision = "", 0
            try:
                revision = await self._changed(change)
            except NoSpace:
                raise  # until an operator has made room
            except Refused as error:
                fault = str(error)
            self._changes.popleft()
            if fault:
                self._tell(SharedChanged(change.number, fault))
            else:
                self._done.append((revision, change.number))
                self._answer(self._revision)

    async def _changed(self, change: ChangeShared) -> int:
        """The revision at which it is done. Raises EtcdError."""
        key = self._prefix + change.key
        guard = [Compare(self._prefix + change.guard, "MOD", "EQUAL", change.guarded)] if change.guard else []
        if change.how == DELETE:
            done = await self._client.transact(guard, [Delete(key, prefix=key.endswith("/"))], repeats=True)
            if not done.succeeded:
                raise Refused(NOT_HELD)
            return done.revision
        lease = self._lease() if change.is_leased else await self._client.grant(change.seconds) if change.seconds else 0
        known = self._known.get(change.key)
        before, revision = (known.value, known.revision) if known is not None else ("", 0)
        while change.how != CREATE or not before:
            put = Put(key, changed(before, change).encode(), lease)
            done = await self._client.transact([is_unchanged(key, revision), *guard], [put], [Get(key)])
            if done.succeeded:
                return done.revision
            there = done.found[0] if done.found else None
            if (there.revision if there is not None else 0) == revision:
                raise Refused(NOT_HELD)
            found = self._value(key, there.value, there.revision, there.created) if there is not None else None
            before, revision = (found.value, found.revision) if found is not None else ("", 0)
        return revision
