"""Shared values on a real etcd: published while a node is one, merged without losing a word, guarded by a lock."""

import asyncio
import contextlib
import json

import pytest

from kit.etcd import Etcd, aio, until
from tcp_proxy.control.cluster_agent.mirror import Mirror
from tcp_proxy.control.cluster_agent.shared_values import NOT_HELD, SharedValues
from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.values import Put
from tcp_proxy.wire.cluster import CREATE, DELETE, MERGE, REPLACE, ChangeShared, Publish, Shared, SharedChanged

PREFIX = "/tcp-proxy/c/"


class Node:
    def __init__(self, etcd):
        self.client, self.lease, self.answers, self.known, self.parts = Client(etcd.urls), 0, {}, {}, []
        self.shared = SharedValues(self.client, PREFIX, self.hear, lambda: self.lease)
        self.mirror = Mirror(self.client, PREFIX, 60.0, self.replaced, self.changed)
        self.tasks = [asyncio.create_task(self.mirror.follow()), asyncio.create_task(self.shared.run())]
        self.numbers = 0

    def replaced(self, found):
        self.shared.replaced(found.kvs, found.revision)

    def changed(self, events):
        self.shared.changed(events, events[-1].revision)

    def hear(self, message):
        if isinstance(message, SharedChanged):
            self.answers[message.number] = message.fault
            return
        assert isinstance(message, Shared)
        self.parts.append(message)
        if message.begins:
            self.known = {}
        for one in message.values:
            self.known[one.key] = one
            if not one.value:
                del self.known[one.key]

    async def ready(self):
        await until(lambda: self.mirror.is_following, "read")
        self.lease = await self.client.grant(60)
        self.shared.look()
        return self

    def ask(self, key, how, value="", **more):
        self.numbers += 1
        self.shared.change(ChangeShared(self.numbers, key, how, value, **more))
        return self.numbers

    async def answer(self, *args, **more):
        number = self.ask(*args, **more)
        await until(lambda: number in self.answers, "an answer")
        return self.answers[number]

    def text(self, key):
        return self.known[key].value if key in self.known else ""

    async def end(self):
        for task in self.tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.client.close()


@contextlib.asynccontextmanager
async def nodes(etcd, count):
    them = [Node(etcd) for _ in range(count)]
    try:
        yield [await one.ready() for one in them]
    finally:
        for one in them:
            await one.end()


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as one:
        yield one


def test_what_is_published_is_there_while_the_node_is_one(etcd):
    async def body():
        async with nodes(etcd, 2) as (a, b):
            said = lambda: [one.value for part in b.parts for one in part.values]  # noqa: E731
            a.shared.publish(Publish("config/a", "1"))
            await until(lambda: b.text("config/a") == "1", "published")
            a.shared.publish(Publish("config/a", "2"))
            await until(lambda: b.text("config/a") == "2", "another one")
            await asyncio.to_thread(etcd.ctl, "del", f"{PREFIX}shared/config/a")
            await until(lambda: "" in said() and b.text("config/a") == "2", "it was gone, and is back")
            await asyncio.to_thread(etcd.ctl, "put", f"{PREFIX}shared/config/a", "wrong")
            await until(lambda: "wrong" in said(), "somebody changed it")
            await until(lambda: b.text("config/a") == "2", "it is what a says")
            old, a.lease = a.lease, await a.client.grant(60)
            a.shared.look()
            await a.client.revoke(old)
            await until(lambda: b.text("config/a") == "2", "under another lease")
            a.shared.publish(Publish("config/a", ""))
            await until(lambda: not b.text("config/a"), "nothing any more")

    aio(body())


def test_nothing_is_written_without_a_lease_and_all_of_it_later(etcd):
    async def body():
        async with nodes(etcd, 2) as (a, b):
            lease, a.lease = a.lease, 0
            a.shared.publish(Publish("config/a", "1"))
            number = a.ask("pool/x", REPLACE, "5")
            assert await b.answer("pool/y", REPLACE, "6") == ""
            assert (b.text("config/a"), a.answers) == ("", {})
            a.lease = lease
            a.shared.look()
            await until(lambda: number in a.answers and b.text("config/a") == "1" and b.text("pool/x") == "5", "both")

    aio(body())


def test_two_nodes_merge_into_one_value(etcd):
    async def body():
        async with nodes(etcd, 3) as them:
            asked = [
                (one, one.ask("pool/x", MERGE, json.dumps({f"{at}.{turn}": turn})))
                for turn in range(20)
                for at, one in enumerate(them)
            ]
            await until(lambda: all(number in one.answers for one, number in asked), "all answers")
            wanted = {f"{at}.{turn}": turn for turn in range(20) for at in range(3)}
            for one in them:
                await until(lambda one=one: json.loads(one.text("pool/x")) == wanted, "all of them")

    aio(body())


def test_an_answer_comes_after_its_event(etcd):
    """Whoever is answered knows what he has changed: also of what was taken away."""

    async def body():
        async with nodes(etcd, 1) as (a,):
            for turn in range(30):
                assert await a.answer("pool/x", REPLACE, str(turn)) == ""
                assert a.text("pool/x") == str(turn)
                assert await a.answer("pool/", DELETE) == ""
                assert a.text("pool/x") == ""

    aio(body())


def test_one_of_many_creates(etcd):
    async def body():
        async with nodes(etcd, 3) as them:
            for round in range(5):
                key = f"lead/{round}"
                asked = [(one, one.ask(key, CREATE, str(at), is_leased=True)) for at, one in enumerate(them)]
                await until(lambda asked=asked: all(number in one.answers for one, number in asked), "all answers")
                assert len({one.text(key) for one in them}) == 1
            holder = them[int(them[0].text("lead/0"))]
            await holder.client.revoke(holder.lease)
            rest = next(one for one in them if one is not holder)
            await until(lambda: not rest.text("lead/0"), "with the lease of who made it")

    aio(body())


def test_only_who_holds_the_lock_writes(etcd):
    async def body():
        async with nodes(etcd, 2) as (a, b):
            assert await a.answer("lead/web", CREATE, "a") == ""
            lock = {"guard": "lead/web", "guarded": a.known["lead/web"].revision}
            assert await a.answer("primary/web", REPLACE, "1", **lock) == ""
            assert await a.answer("primary/web", REPLACE, "2", **lock) == ""
            assert await b.answer("lead/web", DELETE) == ""
            assert NOT_HELD in await a.answer("primary/web", REPLACE, "3", **lock)
            assert await b.answer("lead/web", CREATE, "b") == ""
            assert NOT_HELD in await a.answer("primary/web", REPLACE, "4", **lock)
            assert NOT_HELD in await a.answer("lead/web", DELETE, **lock)
            assert b.text("primary/web") == "2"

    aio(body())


def test_a_lock_is_taken_over_by_one_of_two_and_only_as_it_is_known(etcd):
    async def body():
        async with nodes(etcd, 3) as (a, b, c):
            none = {"guard": "lead/web", "guarded": 0, "is_leased": True}
            claims = [one.answer("lead/web", REPLACE, name, **none) for one, name in ((a, "a"), (b, "b"))]
            told = await asyncio.gather(*claims)
            assert sorted(told) == ["", NOT_HELD]
            await until(lambda: c.text("lead/web"), "it is told")
            lock = {"guard": "lead/web", "guarded": c.known["lead/web"].revision}
            assert await c.answer("lead/web", REPLACE, "c", is_leased=True, **lock) == ""
            for one in (a, b):
                assert NOT_HELD in await one.answer("primary/web", REPLACE, "1", **lock)
            await c.client.revoke(c.lease)
            await until(lambda: not a.text("lead/web"), "with the lease of who took it over")

    aio(body())


def test_what_lasts_for_a_while_ends_by_itself(etcd):
    async def body():
        async with nodes(etcd, 2) as (a, b):
            assert await a.answer("unhealthy/x", REPLACE, "1", seconds=2) == ""
            await until(lambda: b.text("unhealthy/x") == "1", "it is there")
            await until(lambda: not b.text("unhealthy/x"), "it is over")

    aio(body())


def test_it_goes_on_when_etcd_comes_back(etcd):
    async def body():
        async with nodes(etcd, 1) as (a,):
            await asyncio.to_thread(etcd.kill, 0)
            number = a.ask("pool/x", MERGE, '{"a": 1}')
            a.shared.publish(Publish("config/a", "1"))
            await asyncio.to_thread(etcd.start, 0)
            await until(lambda: number in a.answers and a.text("config/a"), "both")
            assert json.loads(a.text("pool/x")) == {"a": 1}

    aio(body())


def test_many_values_come_in_parts_and_what_is_no_text_is_nothing(etcd):
    async def body():
        async with nodes(etcd, 1) as (a,):
            for number in range(5):
                await a.client.put(Put(f"{PREFIX}shared/pool/{number}", b"x" * 100_000))
            await a.client.put(Put(f"{PREFIX}shared/pool/no", b"\xff"))
            await a.client.put(Put(f"{PREFIX}shared/pool/long", b"x" * 600_000))
            async with nodes(etcd, 1) as (b,):
                assert len(b.parts) > 2
                assert [(one.begins, one.ends) for one in (b.parts[0], b.parts[1], b.parts[-1])] == [
                    (True, False), (False, False), (False, True),
                ]  # fmt: skip
                texts = {key.removeprefix("pool/"): len(one.value) for part in b.parts for key, one in
                         ((one.key, one) for one in part.values)}  # fmt: skip
                assert texts == {**{str(number): 100_000 for number in range(5)}, "no": 0, "long": 0}

    aio(body())
