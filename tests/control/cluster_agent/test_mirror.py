"""The copy is what etcd has, whatever happens: compaction, members that die, a store that is another one."""

import asyncio
import contextlib
import functools
import gc

import pytest

from kit.etcd import Etcd, aio, until
from tcp_proxy.control.cluster_agent.mirror import Mirror
from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.errors import Unavailable
from tcp_proxy.control.etcd.values import Delete, Found, Put

SILENCE = 0.6


class Copy:
    """What the mirror says, put together."""

    def __init__(self, client):
        self.kvs = {}
        self.mirror = Mirror(client, "m/", SILENCE, self.replaced, self.changed)

    def replaced(self, found):
        self.kvs = {kv.key: kv.value for kv in found.kvs}

    def changed(self, events):
        for event in events:
            if event.value is None:
                del self.kvs[event.key]
            else:
                self.kvs[event.key] = event.value


def mirrored(etcd, body):
    async def whole():
        ours, theirs = Client(etcd.urls, attempt=0.5), Client(etcd.urls, attempt=0.5)
        copy = Copy(ours)
        task = asyncio.create_task(copy.mirror.follow())
        try:
            await body(theirs, copy)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await ours.close()
            await theirs.close()

    aio(whole())


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as one:
        yield one


def test_what_is_there_and_what_comes(etcd):
    for number in range(5):
        etcd.ctl("put", f"m/{number}", str(number))
    etcd.ctl("put", "other", "x")

    async def body(client, copy):
        await until(lambda: copy.mirror.is_following, "read")
        assert copy.kvs == {f"m/{number}": str(number).encode() for number in range(5)}
        assert copy.mirror.revision == etcd.revision()
        await client.transact([], [Put("m/0", b"new"), Put("m/9", b"9")])
        await client.transact([], [Delete("m/1")])
        await until(lambda: "m/1" not in copy.kvs, "the last of it")
        assert copy.kvs == {"m/0": b"new", "m/2": b"2", "m/3": b"3", "m/4": b"4", "m/9": b"9"}
        assert copy.mirror.reads == 1

    mirrored(etcd, body)


def test_a_history_that_is_gone_is_read_anew(etcd):
    """It stood still while etcd was compacted: what it missed is not to be had any more as events."""

    async def body(client, copy):
        await until(lambda: copy.mirror.is_following, "read")
        await client.put(Put("m/gone", b""))
        await until(lambda: copy.kvs, "the first")
        etcd.stop(0)
        before = copy.mirror.reads
        etcd.go_on(0)
        copy.mirror._stream.cancel()  # as a watch that has ended while nobody looked
        last = await client.transact([], [Delete("m/gone"), Put("m/there", b"1")])
        await client.put(Put("m/there", b"2"))
        await client.ask("kv/compaction", {"revision": str(last.revision + 1), "physical": True}, True)
        await until(lambda: copy.kvs == {"m/there": b"2"}, "what is there now")
        assert copy.mirror.reads > before

    mirrored(etcd, body)


def test_what_cannot_be_read_to_its_end_is_read_from_its_begin(etcd):
    for number in range(5):
        etcd.ctl("put", f"m/{number}", "")
    etcd.ctl("put", "m/0", "again")
    told = []

    def read(kvs, is_first):
        told.append((is_first, [kv.key for kv in kvs]))
        if len(told) == 1:
            etcd.ctl("put", "m/0", "more")
            etcd.ctl("compaction", str(etcd.revision()), "--physical")
        return kvs[:1]

    async def body():
        client = Client(etcd.urls, attempt=0.5)
        client.pages = functools.partial(client.pages, page=2)
        replaced = []
        mirror = Mirror(client, "m/", SILENCE, replaced.append, lambda _events: None, read)
        task = asyncio.create_task(mirror.follow())
        await until(lambda: mirror.is_following, "read")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await client.close()
        whole = [(True, ["m/0", "m/1"]), (False, ["m/2", "m/3"]), (False, ["m/4"])]
        assert told[-3:] == whole
        assert told[:-3] in ([whole[0]], whole[:2]), "as much as there was before the history was gone"
        assert [[kv.key for kv in found.kvs] for found in replaced] == [["m/0", "m/2", "m/4"]]
        assert gc.isenabled()

    aio(body())


@pytest.mark.parametrize("pages", [0, 1])
def test_what_attempts_to_read_in_vain_leave_behind_is_no_more_than_garbage(pages):
    """Nobody answers, or nobody any more after the first part: exceptions are cycles, made again and again while etcd is
    away."""

    class Broken:
        async def pages(self, _prefix):
            for _ in range(pages):
                yield Found((), 1, 1, more=True)
            raise Unavailable("nobody answers")

    async def body():
        mirror = Mirror(Broken(), "m/", SILENCE, None, None)
        before = gc.get_freeze_count()
        task = asyncio.create_task(mirror.follow())
        await until(lambda: mirror.fault, "an attempt")
        assert gc.get_freeze_count() <= before
        assert gc.isenabled()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    aio(body())


def test_another_store_is_read_anew(tmp_path):
    """As after a backup was restored: its revisions are lower, and a watch would be silent until they are not."""
    with Etcd(tmp_path) as etcd:

        async def body(client, copy):
            for number in range(20):
                await client.put(Put("m/old", str(number).encode()))
            await until(lambda: copy.kvs.get("m/old") == b"19", "the last")
            await asyncio.to_thread(etcd.kill, 0)
            etcd.forget(0)
            await asyncio.to_thread(etcd.start, 0)
            revision = await client.put(Put("m/new", b"1"), repeats=True, within=20.0)
            assert revision < copy.mirror.revision

            def looks():
                copy.mirror.answered(revision)
                return copy.kvs == {"m/new": b"1"}

            await until(looks, "what is there now")

        mirrored(etcd, body)


def test_what_keeps_it_from_reading_is_told(etcd):
    for words in ("user add root:secret", "user grant-role root root"):
        etcd.ctl(*words.split())
    etcd.ctl("auth", "enable", flags=["--user", "root:secret"])

    async def body(client, copy):
        await until(lambda: copy.mirror.fault, "why")
        assert "user name is empty" in copy.mirror.fault
        assert not copy.mirror.is_following
        await asyncio.to_thread(etcd.ctl, "auth", "disable", flags=["--user", "root:secret"])
        await until(lambda: copy.mirror.is_following, "read")
        assert copy.mirror.fault == ""

    mirrored(etcd, body)
