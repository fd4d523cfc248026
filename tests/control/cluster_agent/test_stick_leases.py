"""Leases for entries: few of them, each long enough, and nobody waits for the next one."""

import asyncio
import json

import pytest

from kit.etcd import Etcd, aio
from tcp_proxy.control.cluster_agent.stick_leases import LIFE, SHARE, StickLeases
from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.errors import Unavailable


class Slow:
    """A client whose grants are answered when the test says so."""

    def __init__(self):
        self.asked = []

    async def grant(self, seconds):
        answer = asyncio.get_running_loop().create_future()
        self.asked.append((seconds, answer))
        return await answer


def test_one_for_many_and_the_next_in_time(monkeypatch):
    async def body():
        loop, client = asyncio.get_running_loop(), Slow()
        leases, now = StickLeases(client), [100.0]
        monkeypatch.setattr(loop, "time", lambda: now[0])
        first = [asyncio.ensure_future(leases.get(80.0)) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ((seconds, answer),) = client.asked
        assert seconds == LIFE * 80
        answer.set_result(1)
        assert [await one for one in first] == [1] * 5
        now[0] += SHARE * 80 - 0.1
        assert await leases.get(80.0) == 1
        assert len(client.asked) == 1
        now[0] += 0.2
        assert await leases.get(80.0) == 1, "the next one is on its way"
        await asyncio.sleep(0)
        assert len(client.asked) == 2
        now[0] += SHARE * 80
        late = asyncio.ensure_future(leases.get(80.0))
        await asyncio.sleep(0)
        assert not late.done(), "one that is too old is not given out"
        client.asked[1][1].set_result(2)
        assert await late == 2
        leases.forget(80.0)
        other = asyncio.ensure_future(leases.get(80.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        client.asked[2][1].set_exception(Unavailable("nobody"))
        with pytest.raises(Unavailable):
            await other

    asyncio.run(body())


def test_what_etcd_makes_of_it(tmp_path):
    with Etcd(tmp_path) as etcd:

        async def body():
            client = Client(etcd.urls)
            number = await StickLeases(client).get(10.0)
            said = json.loads(etcd.ctl("lease", "timetolive", f"{number:x}", "-w", "json"))
            assert said["granted-ttl"] == 15
            await client.close()

        aio(body())
