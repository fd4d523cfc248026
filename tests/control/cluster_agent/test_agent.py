"""Agents as nodes of a cluster, on a real etcd: they meet, are cut off, come back, leave, and never share a name."""

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import logging
import marshal

import pytest

from kit.etcd import Etcd, aio, until
from tcp_proxy.control.cluster_agent import agent
from tcp_proxy.control.cluster_agent.agent import Agent
from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.values import Put
from tcp_proxy.wire import shared_sticks as say
from tcp_proxy.wire.cluster import (
    REPLACE,
    ChangeShared,
    ClusterNews,
    CopyRead,
    HoldWrites,
    JoinCluster,
    Publish,
    ReleaseWrites,
    Shared,
    SharedChanged,
    TakeLease,
    WritesHeld,
)
from tcp_proxy.wire.stick_table import pair

LEASE = 2


class Node:
    """One agent, running; `news` is what it has said last."""

    def __init__(self, etcd, node, instance="", urls=None, order=None):
        urls = tuple(urls or etcd.urls)
        usual = JoinCluster("a cluster/1", node, instance or node, urls, LEASE, "", ("", ""), "", "", "", 0.0, "info")
        order = order or usual
        self.states, self.shared, self.news = [], [], ClusterNews("", "", "", 0, 0.0)
        self.told = []  # everything, in order
        self.tables, theirs = pair()
        self.agent = Agent(order, Client(order.endpoints, attempt=0.5), self.heard, theirs)
        self.task = asyncio.create_task(self.agent.run())

    def heard(self, news):
        self.told.append(news)
        if not isinstance(news, ClusterNews):
            self.shared.append(news)
            return
        self.news = news
        if self.states[-1:] != [news.state]:
            self.states.append(news.state)

    def sees(self, *names):
        return self.agent.state == "joined" and [one.node for one in self.news.members] == list(names)

    async def end(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        self.tables.close()


@contextlib.asynccontextmanager
async def nodes(*them):
    try:
        yield them
    finally:
        for one in them:
            await one.end()


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as one:
        yield one


def test_nodes_meet_and_leave(etcd):
    async def body():
        async with nodes(Node(etcd, "a"), Node(etcd, "b"), Node(etcd, "c")) as (a, b, c):
            for one in (a, b, c):
                await until(lambda one=one: one.sees("a", "b", "c"), "all three")
            assert sorted(await asyncio.to_thread(etcd.keys, "/tcp-proxy/")) == [
                f"/tcp-proxy/a%20cluster%2F1/nodes/{name}" for name in "abc"
            ]
            me = next(one for one in a.news.members if one.node == "a")
            assert me.address == "127.0.0.1"
            assert a.news.revision > 0
            await until(lambda: 0 <= next(one for one in b.news.members if one.node == "a").lag < LEASE, "its lag")
            await b.agent.leave()
            await until(lambda: a.sees("a", "c"), "that it has left")
            await c.end()  # as one that is killed: it has nobody to say it
            assert a.sees("a", "c")
            await until(lambda: a.sees("a"), "the end of its lease")
            assert a.states == ["connecting", "joined"]

    aio(body())


def test_a_node_that_is_cut_off_says_so_and_comes_back(etcd):
    async def body():
        async with nodes(Node(etcd, "a")) as (a,):
            await until(lambda: a.sees("a"), "joined")
            etcd.stop(0)
            await until(lambda: a.agent.state == "alone", "that it is cut off")
            assert a.news.text
            assert [one.node for one in a.news.members] == ["a"], "what it knew"
            etcd.go_on(0)
            await until(lambda: a.sees("a"), "joined again")
            await asyncio.to_thread(etcd.kill, 0)
            await until(lambda: a.agent.state == "alone", "that it is cut off")
            await asyncio.to_thread(etcd.start, 0)
            await until(lambda: a.sees("a"), "joined again")
            assert a.states == ["connecting", "joined", "alone", "joined", "alone", "joined"]
            assert a.news.text == ""

    aio(body())


def test_a_node_that_loses_one_member_of_etcd_is_not_cut_off(tmp_path):
    with Etcd(tmp_path, members=3) as etcd:

        async def body():
            async with nodes(Node(etcd, "a")) as (a,):
                await until(lambda: a.sees("a"), "joined")
                at = etcd.urls.index(a.agent._client.endpoint)
                etcd.stop(at)
                beat = a.agent._beat
                await until(lambda: a.agent._beat > beat + 20, "so many beats")
                assert a.sees("a")
                etcd.go_on(at)
                assert a.states == ["connecting", "joined"]

        aio(body())


def test_two_nodes_of_one_name(etcd, caplog):
    async def body():
        async with nodes(Node(etcd, "a", "first")) as (first,):
            await until(lambda: first.sees("a"), "joined")
            async with nodes(Node(etcd, "a", "second"), Node(etcd, "b")) as (second, _):
                await until(lambda: "another proxy" in second.news.text, "that the name is taken")
                beat = first.agent._beat
                await until(lambda: first.agent._beat > beat + 6, "a whole lease")
                assert second.agent.state == "connecting"
                assert first.sees("a", "b")
                await first.agent.leave()
                await until(lambda: second.sees("a", "b"), "that it gets the name")
                assert [one.instance for one in second.news.members] == ["second", "b"]
        assert caplog.text.count('give one of them another "node"') == 1

    with caplog.at_level(logging.WARNING):
        aio(body())


def test_another_agent_of_the_same_proxy_goes_on(etcd):
    async def body():
        async with nodes(Node(etcd, "a", "one"), Node(etcd, "b")) as (a, b):
            await until(lambda: b.sees("a", "b"), "both")
            await a.end()
            again = Node(etcd, "a", "one")
            async with nodes(again):
                await until(lambda: again.sees("a", "b"), "joined at once")
                revision = b.news.revision
                await until(lambda: b.news.revision > revision + 30, "more than a lease")
                assert b.sees("a", "b")
            assert b.states == ["connecting", "joined"]

    aio(body())


def test_what_it_reads_before_it_is_joined_is_said_part_by_part(etcd):
    for number in range(3):
        etcd.ctl("put", f"/tcp-proxy/a%20cluster%2F1/sticks/web/{number}", '{"target": "t"}')

    async def body():
        async with nodes(Node(etcd, "a")) as (a,):
            a.agent._client.pages = functools.partial(a.agent._client.pages, page=2)
            await until(lambda: a.sees("a"), "joined")
            news = [one for one in a.told if isinstance(one, ClusterNews)]
            begun = [one.read for one in news if one.state == "connecting" and one.read]
            assert begun == sorted(begun)
            assert begun[0] == 2
            assert begun[-1] in (3, 4), "its own key may be there already"
            assert {one.read for one in news if one.state == "joined"} == {0}

    aio(body())


def test_its_tables_hear_all_there_is_before_it_is_joined_and_when_it_is_not(etcd):
    async def body():
        async with nodes(Node(etcd, "a")) as (a,):
            a.tables.setblocking(False)
            loop, heard = asyncio.get_running_loop(), []

            async def hear(kind):
                while not any(item[0] == kind for item in heard):
                    heard.extend(marshal.loads(await loop.sock_recv(a.tables, 65536)))

            await hear(say.ONLINE)
            assert heard == [(say.BEGIN,), (say.DONE,), (say.ONLINE,)]
            await until(lambda: a.sees("a"), "joined")
            a.tables.send(marshal.dumps([(say.APPS, {"web": 60.0}), (say.CREATE, 5, "web", "k", "t")]))
            await hear(say.ANSWER)
            assert heard[3:] == [(say.NEWS, "web", "k", "t"), (say.ANSWER, 5, "t")]
            etcd.stop(0)
            await hear(say.OFFLINE)
            del heard[:3]
            etcd.go_on(0)
            await hear(say.ONLINE)

    aio(body())


def test_what_is_no_node_is_left_alone(etcd, caplog):
    key = "/tcp-proxy/a%20cluster%2F1/nodes/x"
    etcd.ctl("put", key, "what")

    async def body():
        async with nodes(Node(etcd, "a")) as (a,):
            await until(lambda: a.sees("a"), "joined")
            client = Client(etcd.urls)
            await client.put(Put(key, b'{"instance": 3}'))
            await client.put(Put(f"{key}/%FF%zz", b"[]"))
            await client.close()
            revision = a.news.revision
            await until(lambda: a.news.revision > revision + 10, "more")
            assert a.sees("a")
        assert caplog.text.count("is no node that this version knows") == 2

    with caplog.at_level(logging.WARNING):
        aio(body())
    assert etcd.value(key) == '{"instance": 3}'


def test_it_is_not_moved_by_any_clock_of_the_wall(etcd):
    """What is said has no time of day in it."""

    async def body():
        async with nodes(Node(etcd, "a")) as (a,):
            await until(lambda: a.sees("a"), "joined")
            fields = {field.name for field in dataclasses.fields(a.news.members[0])}
            assert fields == {"node", "instance", "version", "address", "api", "age", "lag", "heard"}
            said = await asyncio.to_thread(etcd.value, "/tcp-proxy/a%20cluster%2F1/nodes/a")
            assert "at" not in said.split('"')

    aio(body())


def test_what_was_written_is_told_before_the_time_that_counts_behind_it(etcd):
    """Node b writes, again and again; a's time moves only with a word of its own that came later than what it was told."""

    async def body():
        async with nodes(Node(etcd, "a"), Node(etcd, "b")) as (a, b):
            await until(lambda: a.sees("a", "b") and b.sees("a", "b"), "both")
            for number in range(60):
                b.agent.hear(ChangeShared(number, "x", REPLACE, str(number)))
                await until(lambda number=number: SharedChanged(number, "") in b.shared, "it is written")
                await asyncio.sleep(LEASE / 100)
            await until(lambda: a.shared[-1].values[-1:] == b.shared[-2].values, "all")
            assert a.news.lease > 0
            times = [one.until for one in a.told if isinstance(one, ClusterNews) and one.until]
            assert times == sorted(times)
            assert len(set(times)) >= 3
            now = asyncio.get_running_loop().time()
            assert now < times[-1] <= now + LEASE
            for before, news, shared in zip(a.told, a.told[1:], a.told[2:], strict=False):
                if isinstance(shared, Shared) and isinstance(news, ClusterNews) and isinstance(before, ClusterNews):
                    assert news.until == before.until, "what counts behind the values comes behind them"
            for before, shared in itertools.pairwise(a.told):
                assert not isinstance(shared, Shared) or isinstance(before, ClusterNews), "who was heard when is told first"

    aio(body())


def test_a_node_whose_supervisor_stands_still_is_none_until_it_goes_on(etcd, monkeypatch):
    monkeypatch.setattr(agent, "SUPERVISOR_SILENT", 0.0)

    async def body():
        async with nodes(Node(etcd, "a"), Node(etcd, "b")) as (a, b):
            await until(lambda: b.sees("a", "b"), "both")
            a.agent.heard_supervisor()
            await until(lambda: b.sees("b"), "it is none")
            assert a.news.until == 0.0
            assert a.agent.state == "alone"
            a.agent.heard_supervisor()
            await until(lambda: b.sees("a", "b"), "it is one again")

    aio(body())


def successor(etcd, before):
    """An agent that waits to be the node that another one is."""
    order = dataclasses.replace(before.agent._order, waits=True)
    return Node(etcd, order.node, order=order)


async def held(node):
    """It writes no more: what it has told then."""
    node.agent.hear(HoldWrites())
    return await until(lambda: next((one for one in node.told if isinstance(one, WritesHeld)), None), "held")


async def said(node, kind):
    """What its tables hear, until that comes."""
    loop, heard = asyncio.get_running_loop(), []
    node.tables.setblocking(False)
    while not any(item[0] == kind for item in heard):
        heard.extend(marshal.loads(await asyncio.wait_for(loop.sock_recv(node.tables, 65536), 30.0)))
    return heard


@contextlib.asynccontextmanager
async def adopting(etcd, monkeypatch):
    """An agent that has begun to follow another one, and has not said a word of its own; set the event, and it does."""
    goes_on = asyncio.Event()

    async def address(_url):
        await goes_on.wait()
        return "127.0.0.1"

    async with nodes(Node(etcd, "a")) as (a,):
        await until(lambda: a.sees("a"), "joined")
        new = successor(etcd, a)
        async with nodes(new):
            await until(lambda: new.told == [CopyRead()], "it has read all")
            word = await held(a)
            monkeypatch.setattr(agent, "_own_address", address)

            def take():
                new.agent.hear(TakeLease(word.lease, a.news.until, word.beat))

            yield new, take, goes_on


def test_another_agent_goes_on_with_the_lease_and_says_all_when_its_own_word_has_come_back(etcd):
    async def body():
        async with nodes(Node(etcd, "a"), Node(etcd, "b")) as (a, b):
            await until(lambda: a.sees("a", "b") and b.sees("a", "b"), "both")
            a.agent.hear(Publish("health/app/a", "1"))
            a.agent.hear(ChangeShared(1, "pool/app/t", REPLACE, "{}"))
            await until(lambda: len(b.agent.shared._known) == 2, "that is there")
            new = successor(etcd, a)
            async with nodes(new):
                await until(lambda: new.told == [CopyRead()], "it has read all")
                word = await held(a)
                beat = a.agent._beat
                assert word == WritesHeld(a.news.lease, beat)
                new.agent.hear(Publish("health/app/a", "1"))
                at = await new.agent._client.get("x")
                new.agent.hear(TakeLease(word.lease, a.news.until, word.beat))
                await until(lambda: new.sees("a", "b"), "it is joined")
                assert new.states == ["joined"]
                kinds = [type(one) for one in new.told]
                assert kinds[:4] == [CopyRead, ClusterNews, Shared, ClusterNews], "how long it lasts is said behind the rest"
                assert new.told[1].until == a.news.until < new.told[3].until
                assert {one.key for one in new.told[2].values} == {"health/app/a", "pool/app/t"}
                assert (new.news.lease, a.agent._beat) == (word.lease, beat)
                assert all(one.revision <= at.revision for one in new.told[2].values), "nothing was written once more"
                beat = new.agent._beat
                await until(lambda: new.agent._beat > beat + 12, "two leases")
                assert b.states == ["connecting", "joined"]
                assert [one.node for one in b.news.members] == ["a", "b"]

    aio(body())


def test_one_that_was_held_goes_on_when_nobody_has_taken_its_place(etcd):
    async def body():
        async with nodes(Node(etcd, "a")) as (a,):
            await until(lambda: a.sees("a"), "joined")
            new = successor(etcd, a)
            async with nodes(new):
                await until(lambda: new.told == [CopyRead()], "it has read all")
                word = await held(a)
                a.agent.hear(ReleaseWrites())
                await until(lambda: a.agent._beat > word.beat + 3, "it writes")
            assert new.told == [CopyRead()], "and the other one has said nothing else"
            assert a.states == ["connecting", "joined"]
            assert a.news.lease == word.lease

    aio(body())


def test_one_whose_lease_is_over_when_it_is_taken_up_has_another_one(etcd):
    async def body():
        async with nodes(Node(etcd, "a")) as (a,):
            await until(lambda: a.sees("a"), "joined")
            new = successor(etcd, a)
            async with nodes(new):
                await until(lambda: new.told == [CopyRead()], "it has read all")
                word = await held(a)
                new.agent.hear(TakeLease(word.lease, asyncio.get_running_loop().time() - 1.0, word.beat))
                await until(lambda: new.sees("a"), "joined")
                assert new.states == ["alone", "joined"], "it was a member: its elections have to know that it is none"
                assert new.news.lease not in (0, word.lease)
                heard = await said(new, say.ONLINE)
                states = [item for item in heard if item[0] in (say.DONE, say.ONLINE, say.OFFLINE)]
                assert states == [(say.DONE,), (say.OFFLINE,), (say.ONLINE,)], "the tables were those of a member"

    aio(body())


def test_one_that_waits_for_a_lease_of_nobody_joins_as_any_other(etcd):
    async def body():
        async with nodes(Node(etcd, "a")) as (a,):
            await until(lambda: a.sees("a"), "joined")
            new = successor(etcd, a)
            async with nodes(new):
                await until(lambda: new.told == [CopyRead()], "it has read all")
                await a.agent.leave()
                new.agent.hear(TakeLease())
                await until(lambda: new.sees("a"), "joined")
                assert new.states == ["connecting", "joined"]

    aio(body())


GUARDED = ChangeShared(1, "pool/app/t", REPLACE, "{}", guard="nothing", guarded=5)


@pytest.mark.parametrize("change", [ChangeShared(1, "pool/app/t", REPLACE, "{}"), GUARDED])
def test_a_change_that_comes_before_a_word_of_its_own_is_made_then_and_answered_once(etcd, monkeypatch, change):
    async def body():
        async with adopting(etcd, monkeypatch) as (new, take, goes_on):
            new.agent.hear(change)
            new.agent.hear(Publish("health/app/a", "1"))
            take()
            for _ in range(20):
                await new.agent._client.get("as often as a change would ask")
            assert await asyncio.to_thread(etcd.keys, "/tcp-proxy/a%20cluster%2F1/shared/") == []
            goes_on.set()
            await until(lambda: any(isinstance(one, SharedChanged) for one in new.told), "it is answered")
            await until(lambda: "health/app/a" in new.agent.shared._known, "that is there")
            found = [one for one in new.told if isinstance(one, SharedChanged)]
            assert [(one.number, bool(one.fault)) for one in found] == [(1, change is GUARDED)]
            assert new.agent.state == "joined"

    aio(body())


def test_what_its_tables_ask_before_a_word_of_its_own_is_answered(etcd, monkeypatch):
    async def body():
        async with adopting(etcd, monkeypatch) as (new, take, goes_on):
            take()
            new.tables.send(marshal.dumps([(say.APPS, {"web": 60.0}), (say.CREATE, 5, "web", "k", "t")]))
            await until(lambda: etcd.keys("/tcp-proxy/a%20cluster%2F1/sticks/"), "it is asked")
            await until(lambda: not new.agent._sticks._tasks, "it is answered")
            goes_on.set()
            heard = await said(new, say.ONLINE)
            assert heard == [(say.ANSWER, 5, "t"), (say.BEGIN,), (say.NEWS, "web", "k", "t"), (say.DONE,), (say.ONLINE,)]

    aio(body())


def test_one_that_goes_on_without_the_old_ones_word_waits_until_that_one_has_left(etcd):
    """It is another instance: two that write one key as one and the same would take it from each other again and again."""

    async def body():
        async with nodes(Node(etcd, "a"), Node(etcd, "b")) as (a, b):
            await until(lambda: b.sees("a", "b"), "both")
            new = successor(etcd, a)
            async with nodes(new):
                await until(lambda: new.told == [CopyRead()], "it has read all")
                new.agent.hear(TakeLease(instance="another"))
                await until(lambda: "another proxy" in new.news.text, "that the other one is there")
                beat = a.agent._beat
                await until(lambda: a.agent._beat > beat + 6, "a whole lease")
                assert (new.agent.state, new.agent._registered) == ("connecting", 0)
                assert a.states == ["connecting", "joined"]
                await a.agent.leave()
                await until(lambda: new.sees("a", "b"), "it is the node")
                assert [one.instance for one in new.news.members] == ["another", "b"]

    aio(body())
