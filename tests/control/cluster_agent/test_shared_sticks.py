"""Stick entries of several nodes on a real etcd: one key has one target, uses keep it, it is over when nobody uses it."""

import asyncio
import base64
import contextlib
import json

import pytest

from kit.etcd import Etcd, aio, until
from tcp_proxy.control.cluster_agent.mirror import Mirror
from tcp_proxy.control.cluster_agent.shared_sticks import SharedSticks
from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.values import KeyValue, Put
from tcp_proxy.wire import shared_sticks as say

PREFIX = "/tcp-proxy/c/"
EXPIRES = 3.0


class Node:
    """One node's sticks, with a copy that follows etcd; `told` is what its tables would have."""

    def __init__(self, etcd, expires=EXPIRES):
        self.client, self.told, self.answers, self.said = Client(etcd.urls), {}, {}, []
        self.sticks = SharedSticks(self.client, PREFIX, self.hear)
        self.sticks.received([(say.APPS, {"web": expires})])
        self.mirror = Mirror(
            self.client, PREFIX, 60.0, lambda _others: self.sticks.replaced(), self.sticks.changed, self.sticks.read
        )
        self.tasks = [asyncio.create_task(self.mirror.follow()), asyncio.create_task(self.sticks.run())]
        self.numbers = 0

    def hear(self, items):
        for item in items:
            self.said.append(item)
            if item[0] == say.ANSWER:
                self.answers[item[1]] = item[2]
            elif item[0] == say.STANDS:
                self.answers[item[1]] = say.STANDS
            elif item[0] == say.BEGIN:
                self.told = {}
            elif item[0] == say.NEWS:
                self.told[item[2]] = item[3]
                if not item[3]:
                    del self.told[item[2]]

    async def ready(self):
        await until(lambda: self.mirror.is_following, "read")
        self.sticks.online(True)
        return self

    async def ask(self, kind, key, *more):
        self.numbers += 1
        number = self.numbers
        self.sticks.received([(kind, number, "web", key, *more)])
        await until(lambda: number in self.answers, "an answer")
        return self.answers[number]

    async def end(self):
        for task in self.tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.client.close()


@contextlib.asynccontextmanager
async def nodes(etcd, count, **how):
    them = [Node(etcd, **how) for _ in range(count)]
    try:
        yield [await one.ready() for one in them]
    finally:
        for one in them:
            await one.end()


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as one:
        yield one


STRANGE = [  # keys and values that are no entries
    ("web/k", b"[]"),
    ("web/k2", b'{"target": 3}'),
    ("web/k3", b'{"target": "a\\n"}'),
    ("web/k4", b'{"target": ""}'),
    ("web/k5", b'{"target": "%s"}' % (b"x" * 2000)),
    ("web/k6", b"{" * 3000),
    *((key, b'{"target": "t"}') for key in ("web/a/b", "web%2f/k", "%FF/k", "k")),
]


def stored(etcd):
    found = json.loads(etcd.ctl("get", "--prefix", f"{PREFIX}sticks/", "-w", "json")).get("kvs", [])
    return {base64.b64decode(kv["key"]).decode(): json.loads(base64.b64decode(kv["value"]))["target"] for kv in found}


def test_one_key_one_target(etcd):
    async def body():
        async with nodes(etcd, 3) as them:
            keys = [f"192.0.2.{number}" for number in range(20)]
            asked = [one.ask(say.CREATE, key, f"t{at}") for key in keys for at, one in enumerate(them)]
            found = await asyncio.gather(*asked)
            for number, key in enumerate(keys):
                assert len(set(found[3 * number : 3 * number + 3])) == 1, key
            for one in them:
                await until(lambda one=one: len(one.told) == 20, "all of them")
                assert one.told == dict(zip(keys, found[::3], strict=True))
            assert (await asyncio.to_thread(stored, etcd)) == {f"{PREFIX}sticks/web/{k}": t for k, t in them[0].told.items()}

    aio(body())


def test_names_of_any_kind(etcd):
    async def body():
        async with nodes(etcd, 2) as (one, two):
            one.sticks.received([(say.APPS, {"a b/é": 60.0, "web": 60.0})])
            one.sticks.received([(say.CREATE, 1, "a b/é", "2001:db8::/64 00ff", "t/1 ü")])
            await until(lambda: two.told == {"2001:db8::/64 00ff": "t/1 ü"}, "it is told")

    aio(body())


def test_a_move_is_made_once(etcd):
    async def body():
        async with nodes(etcd, 3) as them:
            assert await them[0].ask(say.CREATE, "k", "a") == "a"
            for one in them:
                await until(lambda one=one: one.told == {"k": "a"}, "it is told")
            found = await asyncio.gather(*[one.ask(say.MOVE, "k", f"to{at}", "a") for at, one in enumerate(them)])
            assert len(set(found)) == 1
            assert found[0].startswith("to")
            assert await them[0].ask(say.MOVE, "k", "x", "a") == found[0], "nobody has it at a any more"
            assert await them[1].ask(say.MOVE, "new", "x", "a") == "x", "it was gone"
            for one in them:
                await until(lambda one=one: one.told == {"k": found[0], "new": "x"}, "it is told")

    aio(body())


def test_an_entry_is_over_when_nobody_uses_it_and_lives_while_somebody_does(etcd):
    async def body():
        async with nodes(etcd, 2, expires=2.0) as (one, two):
            loop = asyncio.get_running_loop()
            await asyncio.gather(one.ask(say.CREATE, "left", "a"), one.ask(say.CREATE, "used", "a"))
            await until(lambda: len(two.told) == 2, "both")
            two.sticks.received([(say.OPENED, "web", "used")])  # not by the one that has made it
            began = loop.time()
            await until(lambda: "left" not in one.told and "left" not in two.told, "its end")
            assert loop.time() - began >= 2.0, "not before its time"
            end = loop.time() + 4.0
            while loop.time() < end:
                assert two.told == {"used": "a"}
                await asyncio.sleep(0.05)
            two.sticks.received([(say.IDLE, "web", "used")])
            idle = loop.time()
            await until(lambda: not one.told, "its end")
            assert loop.time() - idle >= 2.0
            assert await one.ask(say.CREATE, "used", "b") == "b"

    aio(body())


@pytest.mark.slow
def test_many_are_kept_by_few_writes(etcd):
    async def body():
        async with nodes(etcd, 2, expires=8.0) as (one, two):
            keys = [f"k{number}" for number in range(400)]
            for at in range(0, 400, 50):
                part = keys[at : at + 50]
                two.sticks.received([(say.OPENED, "web", key) for key in part])  # not the one that makes them
                await asyncio.gather(*[one.ask(say.CREATE, key, "a") for key in part])
            await until(lambda: len(two.told) == 400, "all")
            loop, made = asyncio.get_running_loop(), etcd.revision()
            began = loop.time()
            await until(lambda: loop.time() > began + 13.0, "more than their leases last", 40.0)
            assert len(two.told) == len(one.told) == 400
            writes, seconds = etcd.revision() - made, loop.time() - began
            assert 4 <= writes <= 8 * (seconds + 1), "batches of 100, each key once in an eighth of its time"

    aio(body())


def test_one_that_is_gone_does_not_keep_the_others_from_being_kept(etcd):
    async def body():
        async with nodes(etcd, 1, expires=2.0) as (one,):
            for key in "abcde":
                await one.ask(say.CREATE, key, "t")
            one.sticks.received([(say.OPENED, "web", key) for key in "abcde"])
            one.sticks._known["ghost"] = one.sticks._known["web", "a"]
            one.sticks._known["web", "ghost"] = one.sticks._known.pop("ghost")._replace(at=float("-inf"))
            one.sticks.received([(say.OPENED, "web", "ghost")])
            loop = asyncio.get_running_loop()
            end = loop.time() + 4.0
            await until(lambda: loop.time() > end, "twice their time")
            assert sorted(key for key in one.told if key != "ghost") == list("abcde")

    aio(body())


def test_an_operator_sets_and_deletes(etcd):
    async def body():
        async with nodes(etcd, 2) as (one, two):
            await one.ask(say.CREATE, "k", "a")
            one.sticks.received([(say.SET, 7, "web", "k", "b"), (say.SET, 8, "web", "new", "c")])
            await until(lambda: two.told == {"k": "b", "new": "c"}, "it is told")
            await until(lambda: one.answers.get(7) == say.STANDS == one.answers.get(8), "it is answered")
            two.sticks.received([(say.SET, 7, "web", "k", "")])
            await until(lambda: one.told == {"new": "c"}, "it is told")
            await until(lambda: two.answers == {7: say.STANDS}, "it is answered")

    aio(body())


def test_who_comes_for_a_key_that_is_being_forgotten_does_not_find_the_old_entry(etcd):
    """In whatever order etcd answers: what is ordered first is done first."""

    async def body():
        async with nodes(etcd, 2) as (one, two):
            for number in range(20):
                await one.ask(say.CREATE, "k", "a")
                one.sticks.received([(say.SET, 1000 + number, "web", "k", ""), (say.CREATE, 2000 + number, "web", "k", "b")])
                await until(lambda now=number: one.answers.get(2000 + now) == "b", "the new one")
                one.sticks.received([(say.SET, 3000 + number, "web", "k", "c"), (say.SET, 4000 + number, "web", "k", "")])
                await until(lambda now=number: one.answers.get(4000 + now) == say.STANDS, "it is gone")
            await until(lambda: one.told == two.told == {}, "all of it is told")

    aio(body())


@pytest.mark.parametrize("is_before", [False, True])
def test_what_is_changed_while_all_is_read_is_not_undone_by_what_was_read(etcd, is_before):
    """All parts are as of the revision at which reading began. `is_before`: the key's part comes before the change."""

    async def body():
        async with nodes(etcd, 1) as (one,):
            old = []
            for key in ("gone", "other", "same"):
                await one.ask(say.CREATE, key, "a")
                revision = one.sticks._known["web", key].revision
                old.append(KeyValue(f"{PREFIX}sticks/web/{key}", b'{"target": "a"}', revision, revision))
            one.sticks.read(old if is_before else [], True)
            for key, target in (("gone", ""), ("other", "b"), ("same", "a"), ("new", "c")):
                await one.ask(say.SET, key, target)
            now = {"other": "b", "same": "a", "new": "c"}
            one.sticks.read([] if is_before else old, False)
            one.sticks.replaced()
            begun = one.said[max(at for at, item in enumerate(one.said) if item == (say.BEGIN,)) :]
            told = {item[2]: item[3] for item in begun if item[0] == say.NEWS}
            assert {key: target for key, target in told.items() if target} == now
            assert is_before or (say.NEWS, "web", "gone", "a") not in begun
            assert {key: known.target for (_, key), known in one.sticks._known.items()} == now
            two = await Node(etcd).ready()
            await until(lambda: two.told == now, "as it is in etcd")
            await two.end()

    aio(body())


def test_an_order_is_not_said_to_stand_that_etcd_has_not_heard(etcd):
    async def body():
        async with nodes(etcd, 1) as (one,):
            await one.ask(say.CREATE, "k", "a")
            etcd.stop(0)
            one.sticks.received([(say.SET, 7, "web", "k", ""), (say.SET, 8, "web", "m", "b")])
            await until(lambda: {7, 8} <= one.answers.keys(), "an answer")
            etcd.go_on(0)
            assert (one.answers[7], one.answers[8]) == ("", "")

    aio(body())


def test_nobody_answers(etcd):
    async def body():
        async with nodes(etcd, 1) as (one,):
            await one.ask(say.CREATE, "k", "a")
            etcd.stop(0)
            assert await one.ask(say.CREATE, "other", "a") == ""
            assert await one.ask(say.CREATE, "k", "b") == "a", "it is known"
            etcd.go_on(0)
            assert await one.ask(say.CREATE, "third", "a") == "a"
            one.sticks.online(False)
            assert one.said[-1] == (say.OFFLINE,)

    aio(body())


def test_what_the_watch_tells_is_an_answer_and_there_is_one(etcd):
    async def body():
        async with nodes(etcd, 1) as (one,):
            transact, may_answer = one.client.transact, asyncio.Event()

            async def late(*args, **how):
                done = await transact(*args, **how)
                await may_answer.wait()
                return done

            one.client.transact = late
            assert await one.ask(say.CREATE, "k", "a") == "a"
            assert await one.ask(say.MOVE, "k", "b", "a") == "b"
            may_answer.set()
            await until(lambda: not one.sticks._tasks, "the end of all questions")
            assert [item[1:] for item in one.said if item[0] == say.ANSWER] == [(1, "a"), (2, "b")]
            assert one.sticks._asked == {}

    aio(body())


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("is_told_between", [True, False])
def test_what_is_read_in_parts_is_all_there_is_when_it_is_done(etcd, tells, is_told_between):
    """Also where the tables heard nothing of the first parts, or all that was known before in between."""
    parts = [[KeyValue(f"{PREFIX}sticks/web/k{n}", b'{"target": "t"}', 5, 5)] for n in range(3)]
    other = KeyValue(f"{PREFIX}nodes/x", b"", 5, 5)

    async def body():
        async with nodes(etcd, 1) as (one,):
            one.sticks.read([*parts[0], other], True)
            one.sticks.replaced()
            assert one.told == {"k0": "t"}
            begun = len(one.said)
            assert one.sticks.read([*parts[0], other], True, tells) == [other]
            one.sticks.read(parts[1], False)
            if is_told_between:
                one.sticks.tell_all()
            one.sticks.read(parts[2], False)
            assert (len(one.said) > begun) == (tells or is_told_between)
            one.sticks.replaced()
            assert one.said[-1] == (say.DONE,)
            assert one.told == {"k0": "t", "k1": "t", "k2": "t"}
            assert await one.ask(say.CREATE, "k2", "new") == "t"

    aio(body())


def test_a_name_that_changes_while_all_is_read_is_another_one_for_what_was_read(etcd):
    value = b'{"target": "t1", "place": "192.0.2.1:80"}'

    async def body():
        async with nodes(etcd, 1) as (one,):
            one.sticks.received([(say.PLACES, {"web": {"old": "192.0.2.1:80"}})])
            one.sticks.read([KeyValue(f"{PREFIX}sticks/web/k", value, 5, 5)], True)
            assert one.told == {"k": "old"}
            one.sticks.received([(say.PLACES, {"web": {"new": "192.0.2.1:80"}})])
            one.sticks.replaced()
            assert one.told == {"k": "new"}
            assert await one.ask(say.CREATE, "k", "x") == "new"

    aio(body())


def test_what_is_no_entry_is_left_alone(etcd):
    async def body():
        async with nodes(etcd, 1) as (one,):
            for key, value in STRANGE:
                await one.client.put(Put(f"{PREFIX}sticks/{key}", value))
            await one.ask(say.CREATE, "good", "a")
            assert one.told == {"good": "a"}
            assert await one.ask(say.CREATE, "k", "a") == "", "it is somebody else's, and nobody can say whose"

    aio(body())


def test_older_news_undo_nothing(etcd):
    async def body():
        async with nodes(etcd, 1) as (one,):
            sticks = one.sticks
            sticks._take(("web", "k"), ("new", ""), 100)
            sticks._take(("web", "k"), ("old", ""), 90)
            assert one.told == {"k": "new"}
            sticks._take(("web", "k"), ("", ""), 110)
            sticks._take(("web", "k"), ("older", ""), 105)
            assert one.told == {}
            sticks._take(("web", "k"), ("newer", ""), 120)
            assert one.told == {"k": "newer"}

    aio(body())


def test_a_target_with_another_name_is_the_same_one(etcd):
    """One node's file has been read with new names, the other one's has not: no entry goes back and forth."""

    async def body():
        async with nodes(etcd, 2) as (a, b):
            old, new = {"t0": "192.0.2.1:80", "t1": "192.0.2.2:80"}, {"u0": "192.0.2.1:80", "u1": "192.0.2.2:80"}
            for one in (a, b):
                one.sticks.received([(say.PLACES, {"web": old})])
            assert await a.ask(say.CREATE, "k", "t0") == "t0"
            await until(lambda: b.told == {"k": "t0"}, "told")
            a.sticks.received([(say.PLACES, {"web": new})])
            assert a.told == {"k": "u0"}, "known by its place at once"
            revision = await asyncio.to_thread(etcd.revision)
            assert await a.ask(say.MOVE, "k", "u0", "t0") == "u0"
            assert await a.ask(say.CREATE, "k", "u1") == "u0"
            assert await b.ask(say.CREATE, "k", "t1") == "t0"
            assert await asyncio.to_thread(etcd.revision) == revision, "nothing was written"
            assert await b.ask(say.CREATE, "l", "t1") == "t1"
            await until(lambda: a.told == {"k": "u0", "l": "u1"}, "made by the other one")
            assert await a.ask(say.MOVE, "l", "u0", "u1") == "u0"
            await until(lambda: b.told == {"k": "t0", "l": "t0"}, "moved, and known by its place")
            b.sticks.received([(say.PLACES, {"web": new})])
            assert b.told == {"k": "u0", "l": "u0"}

    aio(body())


def test_a_name_that_is_known_is_what_it_says_wherever_it_is(etcd):
    """Two files may have other addresses for one name, as with names that each machine resolves for itself."""

    async def body():
        async with nodes(etcd, 2) as (a, b):
            a.sticks.received([(say.PLACES, {"web": {"t0": "192.0.2.1:80"}})])
            b.sticks.received([(say.PLACES, {"web": {"t1": "192.0.2.1:80", "t0": "192.0.2.2:80"}})])
            assert await a.ask(say.CREATE, "k", "t0") == "t0"
            await until(lambda: b.told == {"k": "t0"}, "told")

    aio(body())
