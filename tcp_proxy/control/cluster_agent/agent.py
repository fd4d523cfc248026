"""The cluster agent: this proxy as a node of a cluster. One asyncio loop, in a process of its own (server).

It owns the client, the lease, the copy of what is under the cluster's prefix, and the key nodes/NAME of this node, which is
written again and again: that is the heartbeat that has to come back by the watch (etcd.watch).

    CONNECTING ──the lease is held, the key written, and come back──> JOINED
    JOINED ──the lease is lost, or nothing of ours came back for as long as it lasts──> ALONE ──as before──> JOINED

In a take-over the node goes on, by another agent that keeps the same lease; at any time one of the two writes:

    old   JOINED ──HoldWrites: what was under way is answered──> HELD ──the end of its channel──> gone, and leaves nothing
                                                                  └──ReleaseWrites──> JOINED
    new   FOLLOWING (reads, says nothing) ──TakeLease──> ADOPTING (keeps it, writes its key, says nothing) ──a word of its
          own comes back: everything is said, as of one that has read it all, and what this node shares is written──> JOINED
          FOLLOWING ──TakeLease(0), as another instance──> CONNECTING      ADOPTING ──the lease is lost──> ALONE

Always true:
- a node's key is made only where there is none, or where it is of this instance: of two proxies with one name the second is
  told, and is no node (test_two_nodes_of_one_name);
- everything here goes by our own clock;
- what was written before a word of ours came back is told before that is, and with it how long the lease lasts for this
  node: `ClusterNews.until` (test_what_was_written_is_told_before_the_time_that_counts_behind_it).
"""

import asyncio
import contextlib
import dataclasses
import logging
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tcp_proxy import __version__
from tcp_proxy.control.cluster_agent import member
from tcp_proxy.control.cluster_agent.mirror import Mirror
from tcp_proxy.control.cluster_agent.shared_sticks import SharedSticks
from tcp_proxy.control.cluster_agent.shared_values import SharedValues
from tcp_proxy.control.cluster_agent.table_wire import TableWire
from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.errors import EtcdError
from tcp_proxy.control.etcd.lease import KeptLease
from tcp_proxy.control.etcd.values import Event, Found, Get, KeyValue, Put, is_absent, is_unchanged
from tcp_proxy.wire import shared_sticks as say
from tcp_proxy.wire.cluster import (
    ChangeShared,
    ClusterNews,
    CopyRead,
    HoldWrites,
    JoinCluster,
    Member,
    Publish,
    ReleaseWrites,
    TakeLease,
    WritesHeld,
)
from tcp_proxy.wire.datagrams import Item
from tcp_proxy.wire.messages import Message

logger = logging.getLogger(__name__)

ROOT = "/tcp-proxy"
BEATS = 6  # in the life of the lease
SILENCES = 3
SUPERVISOR_SILENT = 10.0  # seconds, at least; it says something every three (control.processes.workers)
NEWS_EVERY = 1.0  # seconds at most, while nothing happens
CONNECTING, JOINED, ALONE = "connecting", "joined", "alone"


class Agent:
    """`tell(news)` whenever something is different, and what `shared` says."""

    def __init__(self, order: JoinCluster, client: Client, tell: Callable[[Any], Any], tables: socket.socket) -> None:
        """Owns the client from now on, and `tables`, the way to this node's stick tables."""
        self.state = CONNECTING
        self.is_held = False  # another agent is about to be this node
        self._is_silent = order.waits  # until this one is
        self._order = order
        self._client = client
        self._tell = tell
        self._holding: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()
        if not order.waits:
            self._begun.set()
        self._prefix = f"{ROOT}/{quote(order.name, safe='')}/"
        self._nodes = f"{self._prefix}nodes/"
        self._key = f"{self._nodes}{quote(order.node, safe='')}"
        self._lease = KeptLease(client, order.lease, self._held, self._lost)
        self._mirror = Mirror(client, self._prefix, order.lease / SILENCES, self._replaced, self._changed, self._read)
        self._wire = TableWire(tables, lambda items: self._sticks.received(items))
        self._sticks = SharedSticks(client, self._prefix, self._say_to_tables)
        self.shared = SharedValues(client, self._prefix, self._say_shared, lambda: not self._is_silent and self._registered)
        self._answers: list[Item] = []  # to the tables, that wait for our own word
        self._members: dict[str, Member] = {}
        self._unread: set[str] = set()  # keys whose values make no sense, each told once
        self._address = ""
        self._beat = 0
        self._keys_read = 0
        self._sent: dict[int, float] = {}  # beat -> when, by the loop's clock
        self._lag = -1.0
        self._registered = 0  # the lease under which our key is
        self._came_back = float("-inf")  # when something of ours was seen last
        self._proved = float("-inf")  # when that was sent
        self._until = 0.0  # as it was told last
        self._supervisor_at = float("inf")  # when it was heard last; as long as there is none, nobody waits for its word
        self._conflict = ""
        self._why_lost = ""
        self._told: ClusterNews | None = None
        self._told_at = float("-inf")
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Agent {self._order.node} of {self._order.name}, {self.state}, {self._mirror!r}, {self._lease!r}>"

    async def run(self) -> None:
        """Until it is cancelled. The lease is left to its time, for another agent of this proxy."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._mirror.follow(), name="mirror")
                tasks.create_task(self._sticks.run(), name="sticks")
                tasks.create_task(self.shared.run(), name="shared")
                await self._begun.wait()
                tasks.create_task(self._lease.keep(), name="lease")
                tasks.create_task(self._beats(), name="beats")
        finally:
            self._wire.close()
            await self._client.close()

    async def leave(self) -> None:
        """Say good-bye: the key is gone at once, not when the lease is over. Then `run` may be cancelled."""
        self._client.release()
        with contextlib.suppress(EtcdError):
            await self._lease.give_back()

    def hear(self, message: Message) -> None:
        """What the supervisor wants to be shared, or another program is about to be this node, or was."""
        match message:
            case Publish():
                self.shared.publish(message)
            case ChangeShared():
                self.shared.change(message)
            case TakeLease():
                self._begin(message)
            case HoldWrites():
                self.is_held = True
                self._holding = asyncio.create_task(self._hold())
            case ReleaseWrites():
                self.is_held = False
                self._client.release()

    async def _hold(self) -> None:
        await self._client.hold()
        if self.is_held:
            self._tell(WritesHeld(self._lease.number if self._registered else 0, self._beat))

    def _begin(self, order: TakeLease) -> None:
        """It was another agent's, which has written its last word, and is held under its lease."""
        self._beat = order.beat
        if order.instance:
            self._order = dataclasses.replace(self._order, instance=order.instance)
        if order.lease:
            self.state = JOINED
            self._sticks.adopt()
            self._registered = order.lease
            if self._lease.adopt(order.lease, order.until):
                self._until = order.until
                self.shared.adopt(order.lease)
            else:
                self._registered = 0
        if not self._lease.number:
            self._speak()
        self._begun.set()

    def _say_to_tables(self, items: list[Item]) -> None:
        if not self._is_silent:
            self._wire.send(items)
        else:  # an answer is given once, anything else is told with all there is
            self._answers += [item for item in items if item[0] == say.ANSWER]

    def _say_shared(self, message: Any) -> None:
        if not self._is_silent:
            self._tell(message)

    def _speak(self) -> None:
        """From now on what happens is said, and before that all there is."""
        self._is_silent = False
        self._wire.send(self._answers)  # first, for later news may say otherwise
        self._answers = []
        if self._mirror.revision:
            self._sticks.tell_all()
            self._look(is_behind=True)
            self.shared.tell_all()
        self._look()
        self.shared.look()

    def heard_supervisor(self) -> None:
        """It is there."""
        self._supervisor_at = asyncio.get_running_loop().time()

    # -- the lease

    def _held(self, number: int) -> None:
        logger.debug("lease %x is held", number)
        self._why_lost = ""
        self._wake.set()

    def _lost(self, why: str) -> None:
        self._why_lost = f"the lease is lost: {why}"
        self._registered = 0
        # What is known is that of others only when something comes back of a new lease.
        self._came_back = self._proved = float("-inf")
        self._sent.clear()
        self._look()

    # -- the heartbeat

    async def _beats(self) -> None:
        every = self._order.lease / BEATS
        while True:
            silent = asyncio.get_running_loop().time() - self._supervisor_at
            # A supervisor that stands still decides nothing: its node is none until it goes on.
            self._lease.is_held_up = silent > max(SUPERVISOR_SILENT, self._order.lease)
            if self._lease.number and not self._lease.is_held_up:
                with contextlib.suppress(EtcdError):  # what it comes to is seen by what comes back
                    await self._say()
            self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._wake.wait()
            self._wake.clear()

    async def _say(self) -> None:
        loop, lease, every = asyncio.get_running_loop(), self._lease.number, self._order.lease / BEATS
        if not self._address:
            self._address = await _own_address(self._client.endpoint)
        self._beat += 1
        now = loop.time()
        self._sent = {beat: at for beat, at in self._sent.items() if now - at < self._order.lease}
        self._sent[self._beat] = now
        order = self._order
        me = Member(order.node, order.instance, __version__, self._address, order.api, now - order.started, self._lag, 0.0)
        put = Put(self._key, member.written(me, self._beat), lease)
        if self._registered == lease:
            self._mirror.answered(await self._client.put(put, within=every))
        else:
            await self._register(put, lease)

    async def _register(self, put: Put, lease: int) -> None:
        """The key is made, or taken over from an earlier lease of ours."""
        done = await self._client.transact([is_absent(self._key)], [put], [Get(self._key)], repeats=True)
        there = done.found[0] if done.found else None
        if not done.succeeded and there is not None:
            known = member.read(self._order.node, there.value, 0.0)
            if known is not None and known[0].instance != self._order.instance:
                self._conflicts(known[0])
                return
            done = await self._client.transact([is_unchanged(self._key, there.revision)], [put])
        if done.succeeded:
            self._conflict = ""
            self._registered = lease
            self.shared.look()

    def _conflicts(self, other: Member) -> None:
        text = f"another proxy, on {other.address or 'a machine that is not known'}, is node {other.node}"
        if text != self._conflict:
            self._conflict = text
            logger.warning('%s; if it is not this one of a moment ago, give one of them another "node"', text)

    # -- what others say

    def _read(self, kvs: tuple[KeyValue, ...], is_first: bool) -> list[KeyValue]:
        others = self._sticks.read(kvs, is_first, not self._is_silent)
        self._keys_read += len(kvs)
        if self.state == CONNECTING and not self._is_silent:
            self._look()  # whoever waits for it hears that it goes on
        return others

    def _replaced(self, found: Found) -> None:
        before, self._members = self._members, {}
        self._unread.clear()
        for kv in found.kvs:
            self._take(kv.key, kv.value)
        for name, known in before.items():  # what was heard of them then is not heard again by reading it again
            if name in self._members and self._members[name].instance == known.instance:
                self._members[name] = known
        self._sticks.replaced()
        if not self._begun.is_set():
            self._tell(CopyRead())
        self._look(is_behind=True)
        self.shared.replaced(found.kvs, found.revision)
        self._look()

    def _changed(self, events: tuple[Event, ...]) -> None:
        for event in events:
            self._take(event.key, event.value)
        self._sticks.changed(events)
        if self.shared.concerns(events):
            self._look(is_behind=True)
        self.shared.changed(events, events[-1].revision)
        self._look()

    def _take(self, key: str, value: bytes | None) -> None:
        if not key.startswith(self._nodes):
            return
        name = unquote(key.removeprefix(self._nodes), errors="replace")
        if value is None:
            self._members.pop(name, None)
            if key == self._key:
                self._registered = 0
                self._wake.set()
            return
        now = asyncio.get_running_loop().time()
        known = member.read(name, value, now)
        if known is None:
            if key not in self._unread:
                self._unread.add(key)
                logger.warning("%s in etcd is no node that this version knows: it is left alone", key)
            return
        self._members[name] = known[0]
        if key == self._key and known[0].instance == self._order.instance and known[1] in self._sent:
            self._came_back, self._proved = now, self._sent[known[1]]
            self._lag = now - self._sent[known[1]]

    # -- what comes of it

    def _look(self, *, is_behind: bool = False) -> None:
        """Say what is different. `is_behind`: values that were written before our last word are told only after this, so how
        long the lease lasts is what it was."""
        loop, order = asyncio.get_running_loop(), self._order
        is_joined = bool(self._lease.number) and self._registered == self._lease.number and self._mirror.is_following
        is_joined = is_joined and loop.time() - self._came_back < order.lease
        if self._is_silent:
            if self._begun.is_set() and not is_behind and (is_joined or not self._lease.number):
                self._speak()
            return
        self.state = JOINED if is_joined else CONNECTING if self.state == CONNECTING else ALONE
        if not is_behind or not is_joined:
            self._until = min(self._proved + order.lease, self._lease.until) if is_joined else 0.0
        self._sticks.online(is_joined)
        text = "" if is_joined else self._conflict or self._mirror.fault or self._lease.fault or self._why_lost
        members = tuple(self._members[name] for name in sorted(self._members))
        news = ClusterNews(
            self.state, text or ("" if is_joined else "nothing has come back from etcd so far"), self._client.endpoint,
            self._mirror.revision, self._lag, members, self._registered, self._until,
            self._keys_read if self.state == CONNECTING else 0,
        )  # fmt: skip
        if is_behind or _of_note(news) != _of_note(self._told) or loop.time() - self._told_at >= NEWS_EVERY:
            self._told, self._told_at = news, loop.time()
            self._tell(news)


def _of_note(news: ClusterNews | None) -> object:
    """What is told at once when it is different."""
    return news and (news.state, news.text, news.until, news.read, [(one.node, one.instance) for one in news.members])


async def _own_address(url: str) -> str:
    """By which this machine reaches that one; "" if it does not."""
    at = urlsplit(url)
    with contextlib.suppress(OSError):
        found = await asyncio.get_running_loop().getaddrinfo(at.hostname, at.port, type=socket.SOCK_DGRAM)
        family, kind, _, _, address = found[0]
        with socket.socket(family, kind) as sock:
            sock.connect(address)  # of datagrams: nothing is sent
            return str(sock.getsockname()[0])
    return ""
