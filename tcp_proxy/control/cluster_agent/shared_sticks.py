"""The stick entries of the cluster: what is in etcd under sticks/APP/KEY, and what this node's tables want of it.

For the agent's loop. It owns the copy of these keys, the leases that entries get (stick_leases), and the questions that are
under way. The tables (control.sticky) are at the other end of a wire (wire.shared_sticks).

    CREATE: one transaction that succeeds only where there is none; else it says whose it is
    MOVE:   one that succeeds only where nobody has changed it since; else that one's is the answer, if it is another target
    both:   what the watch tells of the key, often before the transaction is answered, is an answer as good
    an entry that this node has sessions of, and whose lease is old, gets another lease: BATCH in one transaction

Always true:
- of two nodes that make an entry of one key, the second is answered with the target of the first (test_one_key_one_target);
- a change is told once, and none is undone by an older one: each has its revision, from the answer or from the watch;
- what is no entry is left alone: nothing that etcd says gets to the tables but names of targets;
- a target that has another name on this node than on the one that made the entry, and is at the same place, is the same
  one: neither node moves its clients (test_a_target_with_another_name_is_the_same_one).
"""

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Callable, Coroutine, Iterable
from functools import lru_cache, partial
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from tcp_proxy.control.cluster_agent.stick_leases import SLACK, StickLeases
from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.errors import EtcdError, NoSpace, Refused
from tcp_proxy.control.etcd.values import Delete, Done, Event, Get, KeyValue, Put, is_absent, is_present, is_unchanged
from tcp_proxy.wire import shared_sticks as say
from tcp_proxy.wire.datagrams import Item

logger = logging.getLogger(__name__)

WITHIN = 2.0  # seconds for a question; a client waits for it
BATCH = 100  # entries that get another lease in one transaction
WRITES_EVERY = 0.01  # seconds between two of these: at most 100 a second
AT_ONCE = 500  # entries of all there is, in a batch
LOOKS = 4  # for old leases, in the time in which one gets old
MOST = 1024  # characters of a target's name
TRIES = 3  # to move an entry that others change meanwhile

PLAIN_PAIR = re.compile(r"[A-Za-z0-9_.~-]+/[A-Za-z0-9_.~-]+").fullmatch  # what is quoted by itself

Name = tuple[str, str]  # app and key
NOBODY = ("", "")


class Known(NamedTuple):
    """`target`: as this node calls it; `said`: its name and place in etcd; `at`: when it got its lease, at the latest, by
    the loop's clock."""

    target: str
    revision: int
    at: float
    said: tuple[str, str] = ("", "")


class SharedSticks:
    """`send(items)` to the tables."""

    def __init__(self, client: Client, prefix: str, send: Callable[[list[Item]], Any]) -> None:
        self._client = client
        self._prefix = f"{prefix}sticks/"
        self._send = send
        self._leases = StickLeases(client)
        self._expires: dict[str, float] = {}  # of each app that is shared
        self._places: dict[str, dict[str, str]] = {}  # of each app: where its targets are
        self._by_place: dict[str, dict[str, str]] = {}
        self._known: dict[Name, Known] = {}
        self._coming: dict[Name, Known] = {}  # what will be known when all is read
        self._since: dict[Name, int] = {}  # revisions of what transactions have changed since its first part came
        self._is_reading = False  # from its first part to its last
        self._is_telling = False  # the tables hear of that as it comes
        self._gone: dict[Name, int] = {}  # revisions of entries that are gone, for as long as older news may come
        self._in_use: set[Name] = set()
        self._left: set[Name] = set()  # of those that were in use since the last look
        self._tasks: set[asyncio.Task[None]] = set()
        self._orders: dict[Name, asyncio.Task[None]] = {}  # of these the last order for each
        self._asked: dict[Name, dict[int, str]] = {}  # questions that are not answered: number -> whose it is to be no more
        self._is_online = self._was_told = False
        self._is_unsaid = False  # the tables know it, from another agent
        self._warned = ""

    def __repr__(self) -> str:
        return f"<SharedSticks: {len(self._known)} known, {len(self._in_use)} in use, {len(self._tasks)} asked>"

    # -- what the tables say

    def received(self, items: list[Item]) -> None:
        for item in items:
            match item:
                case (say.APPS, expires):
                    self._expires = dict(expires)
                case (say.PLACES, places):
                    self._take_places(places)
                case (say.CREATE, number, app, key, target):
                    self._ask(number, (app, key), self._create((app, key), target), "")
                case (say.MOVE, number, app, key, target, seen):
                    self._ask(number, (app, key), self._move((app, key), target, seen), seen)
                case (say.SET, number, app, key, target):
                    order = self._ask(number, (app, key), self._set((app, key), target))
                    self._orders[app, key] = order
                    order.add_done_callback(partial(self._is_done, (app, key)))
                case (say.OPENED, app, key):
                    self._in_use.add((app, key))
                case (say.IDLE, app, key):
                    self._in_use.discard((app, key))
                    self._left.add((app, key))
                case _:
                    raise AssertionError(f"not for the agent: {item!r}")

    def _ask(
        self, number: int, name: Name, question: Coroutine[Any, Any, str | None], seen: str | None = None
    ) -> asyncio.Task[None]:
        """`seen`: an entry of any other target is an answer. None: nothing but what the question comes to."""
        task = asyncio.create_task(self._answer(number, name, self._orders.get(name), question, seen))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _is_done(self, name: Name, order: asyncio.Task[None]) -> None:
        if self._orders.get(name) is order:
            del self._orders[name]

    async def _answer(
        self,
        number: int,
        name: Name,
        order: asyncio.Task[None] | None,
        question: Coroutine[Any, Any, str | None],
        seen: str | None,
    ) -> None:
        """Once what was ordered before it has been done: until then the old entry is there."""
        target: str | None = ""
        if order is not None:
            await asyncio.wait((order,))
        if seen is not None:
            self._asked.setdefault(name, {})[number] = seen
        try:
            target = await question
            self._warned = ""
        except EtcdError as error:
            kind = type(error).__name__
            if kind != self._warned and isinstance(error, NoSpace | Refused):
                self._warned = kind
                logger.warning("a stick entry cannot be shared: %s", error)
        if seen is None or number in self._asked.get(name, ()):
            self._send([self._answered(number, name, target)])

    def _answered(self, number: int, name: Name, target: str | None) -> Item:
        asked = self._asked.get(name, {})
        if asked.pop(number, None) is not None and not asked:
            del self._asked[name]
        return (say.ANSWER, number, target) if target is not None else (say.STANDS, number)

    async def _create(self, name: Name, target: str) -> str:
        known = self._known.get(name)
        if known is not None and self._is_online:
            return known.target
        key = self._key(name)
        done = await self._leased(name, partial(self._make, key, target))
        return self._settled(name, target, done)

    async def _move(self, name: Name, target: str, seen: str) -> str:
        key, known = self._key(name), self._known.get(name)
        for _ in range(TRIES):
            if known is None:
                return await self._create(name, target)
            if known.target != seen:
                return known.target
            done = await self._leased(name, partial(self._change, key, target, known.revision))
            found = self._settled(name, target, done)
            if found != seen:
                return found
            known = self._known.get(name)
        return ""

    async def _set(self, name: Name, target: str) -> None:
        key = self._key(name)
        if target:
            self._settled(name, target, await self._leased(name, partial(self._put, key, target)))
        else:
            done = await self._client.transact([], [Delete(key)], repeats=True, within=WITHIN)
            self._take(name, NOBODY, done.revision)

    async def _put(self, key: str, target: str, lease: int) -> Done:
        return await self._client.transact([], [Put(key, self._value(key, target), lease)], repeats=True, within=WITHIN)

    async def _make(self, key: str, target: str, lease: int) -> Done:
        put = Put(key, self._value(key, target), lease)
        return await self._client.transact([is_absent(key)], [put], [Get(key)], repeats=True, within=WITHIN)

    async def _change(self, key: str, target: str, revision: int, lease: int) -> Done:
        put = Put(key, self._value(key, target), lease)
        return await self._client.transact([is_unchanged(key, revision)], [put], [Get(key)], repeats=True, within=WITHIN)

    async def _leased(self, name: Name, call: Callable[[int], Coroutine[Any, Any, Done]]) -> Done:
        """A lease may be gone before its time: etcd was restored, somebody has revoked it."""
        expires = self._expires.get(name[0], 0.0)
        if not expires:
            raise EtcdError(f"app {name[0]} is not shared any more")
        try:
            return await call(await self._leases.get(expires))
        except Refused as error:
            if "lease not found" not in str(error):
                raise
        self._leases.forget(expires)
        return await call(await self._leases.get(expires))

    def _settled(self, name: Name, target: str, done: Done) -> str:
        """Whose it is after a transaction; what was found is news like any other. "" if that is nothing."""
        if done.succeeded:
            self._take(name, (target, self._places.get(name[0], {}).get(target, "")), done.revision)
            return target
        kv = done.found[0] if done.found else None
        found = _said(kv.value) if kv is not None else None
        if kv is None:
            if self._known.get(name) is not None and self._known[name].revision < done.revision:
                self._take(name, NOBODY, done.revision)
            return ""
        if found is None:
            return ""
        self._take(name, found, kv.revision)
        return self._local(name[0], found)

    # -- what etcd says

    def read(self, kvs: Iterable[KeyValue], is_first: bool, tells: bool = True) -> list[KeyValue]:
        """A part of all there is; what is another's is returned. How old their leases are nobody knows, so entries that are
        used get another one soon. `tells`: the tables hear of it at once."""
        if is_first:
            self._coming, self._since, self._is_reading = {}, {}, True
            self._is_telling = tells
            if tells:
                self._send([(say.BEGIN,)])
        prefix, coming, never = self._prefix, self._coming, float("-inf")
        others: list[KeyValue] = []
        news: list[Item] = []
        for kv in kvs:
            key, value, revision, _, _ = kv
            if not key.startswith(prefix):
                others.append(kv)
                continue
            name, said = self._name(key), _said(value)
            if name is not None and said is not None and revision >= self._since.get(name, 0):
                target = self._local(name[0], said)
                coming[name] = Known(target, revision, never, said)
                news.append((say.NEWS, *name, target))
        if self._is_telling:
            self._send_in_parts(news)
        return others

    def replaced(self) -> None:
        """What was read is all there is, but for what is newer by now."""
        before, self._known, self._coming = self._known, self._coming, {}
        self._gone.clear()
        news: list[Item] = []
        for name, revision in self._since.items():
            if name in self._known and self._known[name].revision >= revision:
                continue
            if name in before:
                self._known[name] = before[name]
            else:
                self._known.pop(name, None)
                self._gone[name] = revision
            news.append((say.NEWS, *name, before[name].target if name in before else ""))
        if self._is_telling:
            self._is_telling = False
            self._send_in_parts(news)
            self._send([(say.DONE,)])
            self._was_told = True
        else:
            self.tell_all()
        self._since, self._is_reading = {}, False

    def tell_all(self) -> None:
        self._is_telling = False  # this is another BEGIN
        self._send([(say.BEGIN,)])
        self._send_in_parts([(say.NEWS, app, key, known.target) for (app, key), known in self._known.items()])
        self._send([(say.DONE,)])
        self._was_told = True

    def _send_in_parts(self, items: list[Item]) -> None:
        for begin in range(0, len(items), AT_ONCE):
            self._send(items[begin : begin + AT_ONCE])

    def adopt(self) -> None:
        """The tables go on as those of a node that is joined, until they hear whether it still is."""
        self._is_online = self._is_unsaid = True

    def changed(self, events: Iterable[Event]) -> None:
        for event in events:
            name = self._name(event.key)
            said = NOBODY if event.value is None else _said(event.value)
            if name is not None and said is not None:
                self._take(name, said, event.revision)

    def online(self, is_online: bool) -> None:
        """Whether this node is joined."""
        if (is_online != self._is_online or self._is_unsaid) and (self._was_told or not is_online):
            self._is_online, self._is_unsaid = is_online, False
            self._send([(say.ONLINE if is_online else say.OFFLINE,)])

    def _take(self, name: Name, said: tuple[str, str], revision: int) -> None:
        """From this revision on it is so, if nothing later is known. NOBODY: it is gone."""
        known, target = self._known.get(name), self._local(name[0], said)
        if revision <= (known.revision if known is not None else self._gone.get(name, 0)):
            return
        if self._is_reading:
            self._since[name] = revision
        if not target:
            self._known.pop(name, None)
            self._gone[name] = revision
        else:
            self._gone.pop(name, None)
            self._known[name] = Known(target, revision, asyncio.get_running_loop().time(), said)
        news: list[Item] = []
        if target != (known.target if known is not None else ""):
            news.append((say.NEWS, *name, target))
        if target and self._is_online and name in self._asked:
            asked = [number for number, seen in self._asked[name].items() if seen != target]
            news += [self._answered(number, name, target) for number in asked]
        self._send(news)

    # -- who is who

    def _take_places(self, places: dict[str, dict[str, str]]) -> None:
        """Names are others now: so are those of entries."""
        if places == self._places:
            return
        self._places = places
        self._by_place = {app: {place: name for name, place in reversed(found.items())} for app, found in places.items()}
        news: list[Item] = []
        for entries in (self._known, self._coming):
            for name, known in entries.items():
                target = self._local(name[0], known.said)
                if target != known.target:
                    entries[name] = known._replace(target=target)
                    news.append((say.NEWS, *name, target))
        self._send_in_parts(news)

    def _local(self, app: str, said: tuple[str, str]) -> str:
        """What this node calls a target: by its name, failing that by its place."""
        target, place = said
        if not place or target in self._places.get(app, ()):
            return target
        return self._by_place.get(app, {}).get(place, target)

    def _value(self, key: str, target: str) -> bytes:
        name = self._name(key)
        place = self._places.get(name[0], {}).get(target, "") if name is not None else ""
        return json.dumps({"target": target, **({"place": place} if place else {})}).encode()

    # -- leases of entries that are used

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                soonest = min(self._expires.values(), default=4.0) * SLACK / LOOKS
                await asyncio.sleep(min(max(soonest, 0.1), 10.0))
                self._gone = dict(list(self._gone.items())[-10_000:])
                with contextlib.suppress(EtcdError):  # the next look finds them again
                    await self._renew()
        finally:
            for task in tuple(self._tasks):
                task.cancel()

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        left, self._left = self._left, set()
        old: dict[float, list[Name]] = {}
        for name in (*self._in_use, *(left - self._in_use)):
            known, expires = self._known.get(name), self._expires.get(name[0])
            if known is not None and expires and now - known.at >= expires * SLACK / 2:
                old.setdefault(expires, []).append(name)
        try:
            for expires, names in old.items():
                while names:
                    await self._renew_some(expires, names[-BATCH:])
                    del names[-BATCH:]
                    await asyncio.sleep(WRITES_EVERY)
        except EtcdError:
            self._left |= {name for names in old.values() for name in names} - self._in_use
            raise

    async def _renew_some(self, expires: float, names: list[Name]) -> None:
        """All in one; if one of them is gone, one by one."""
        lease, keys = await self._leases.get(expires), [self._key(name) for name in names]
        try:
            puts = [Put(key, None, lease) for key in keys]
            done = await self._client.transact([is_present(key) for key in keys], puts, repeats=True)
        except Refused as error:
            if "lease not found" in str(error):
                self._leases.forget(expires)
            raise
        if done.succeeded or len(names) == 1:
            return
        middle = len(names) // 2
        await self._renew_some(expires, names[:middle])
        await self._renew_some(expires, names[middle:])

    # -- names

    def _key(self, name: Name) -> str:
        return f"{self._prefix}{quote(name[0], safe='')}/{quote(name[1], safe='')}"

    def _name(self, key: str) -> Name | None:
        if not key.startswith(self._prefix):
            return None
        inner = key[len(self._prefix) :]
        app, slash, rest = inner.partition("/")
        if slash and PLAIN_PAIR(inner):
            return app, rest
        if not slash:
            return None
        name = unquote(app, errors="replace"), unquote(rest, errors="replace")
        return name if self._key(name) == key else None


@lru_cache(32_768)
def _said(value: bytes) -> tuple[str, str] | None:
    """The target and where it is, "" for not known. None: this is no entry."""
    try:
        said: Any = json.loads(value) if len(value) <= 8 * MOST else None
        target, place = said["target"], said.get("place", "")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    if not all(type(text) is str and len(text) <= MOST and text.isprintable() for text in (target, place)):
        return None
    return (target, place) if target else None
