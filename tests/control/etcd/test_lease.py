"""A lease that is kept, and lost by our own clock. Point 8 of docs/cluster.md on how etcd behaves."""

import asyncio
import contextlib
import json

import pytest

from kit.etcd import Etcd, aio, until
from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.lease import KeptLease
from tcp_proxy.control.etcd.values import Put

SECONDS = 2


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path, members=3) as cluster:
        yield cluster


def kept(etcd, body):
    """`body(client, lease, said)`: what the lease has said, in order."""

    async def whole():
        client = Client(etcd.urls, attempt=0.4)
        said = []
        lease = KeptLease(client, SECONDS, lambda number: said.append(number), lambda why: said.append(why))
        task = asyncio.create_task(lease.keep())
        try:
            await until(lambda: said, "a lease")
            await body(client, lease, said)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await client.close()

    aio(whole())


def test_it_outlives_its_time_and_the_leader(etcd):
    async def body(client, lease, said):
        await client.put(Put("mine", b"", lease.number))
        loop = asyncio.get_running_loop()
        await until(lambda: lease.until > loop.time() - 0.01 + SECONDS, "kept once more")
        index = await asyncio.to_thread(etcd.leader)
        await asyncio.to_thread(etcd.kill, index)
        end = loop.time() + 2 * SECONDS
        await until(lambda: loop.time() > end and lease.until > loop.time(), "kept after its time is over")
        assert said == [lease.number]
        assert await asyncio.to_thread(etcd.keys, "mine") == ["mine"]

    kept(etcd, body)


def test_a_lease_is_lost_by_our_own_clock(etcd):
    """Nobody answers; with etcd it has not expired, and when a leader is there again it begins anew."""

    async def body(client, lease, said):
        number, loop = lease.number, asyncio.get_running_loop()
        await client.put(Put("mine", b"", number))
        for index in range(3):
            etcd.stop(index)
        until_then = lease.until
        await until(lambda: len(said) == 2, "lost")
        assert until_then <= loop.time()
        assert "could not be renewed" in said[1]
        assert lease.number == 0
        for index in range(3):
            etcd.go_on(index)
        await until(lambda: len(said) == 3, "another one")
        assert said[2] == lease.number != number, "the old one is left to its time, whatever etcd thinks of it"

    kept(etcd, body)


def test_one_that_was_revoked_is_lost_and_another_one_taken(etcd):
    async def body(client, lease, said):
        number = lease.number
        await asyncio.to_thread(etcd.ctl, "lease", "revoke", f"{number:x}")
        await until(lambda: len(said) == 3, "another one")
        assert said == [number, "etcd has let it expire", lease.number]

    kept(etcd, body)


def test_it_is_given_back_with_its_keys(etcd):
    async def body(client, lease, said):
        await client.put(Put("mine", b"", lease.number))
        await lease.give_back()
        assert (await client.get("mine")).kvs == ()
        assert lease.number == 0

    kept(etcd, body)


def test_a_lease_that_is_left_expires_with_its_keys(etcd):
    """What etcd grants is at least its own least time, 2 seconds with the times it comes with."""

    async def whole():
        client = Client(etcd.urls)
        try:
            number = await client.grant(1)
            said = json.loads(await asyncio.to_thread(etcd.ctl, "lease", "timetolive", f"{number:x}", "-w", "json"))
            assert said["granted-ttl"] >= 1
            await client.put(Put("mine", b"", number))
            gone = asyncio.create_task(watched_away(client))
            await gone
        finally:
            await client.close()

    async def watched_away(client):
        while (await client.get("mine")).kvs:
            await asyncio.sleep(0.02)

    aio(whole())


def test_a_lease_that_another_one_has_kept_is_kept_on(etcd):
    async def body():
        client, said = Client(etcd.urls, attempt=0.4), []
        loop = asyncio.get_running_loop()
        try:
            number = await client.grant(SECONDS)
            lease = KeptLease(client, SECONDS, said.append, said.append)
            assert not lease.adopt(number, loop.time() - 0.1), "its time is over"
            assert lease.adopt(number, loop.time() + SECONDS)
            until_then = lease.until
            task = asyncio.create_task(lease.keep())
            await until(lambda: lease.until > until_then + SECONDS, "it is kept")
            assert (said, lease.number) == ([number], number)
            task.cancel()
        finally:
            await client.close()

    aio(body())
