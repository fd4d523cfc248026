"""A watch loses no event, whoever dies under it. Points 3 to 7 of docs/cluster.md on how etcd behaves."""

import asyncio
import contextlib
import itertools
import json
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.etcd import Etcd, aio, until
from tcp_proxy.control.etcd import watch
from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.errors import Compacted, Refused
from tcp_proxy.control.etcd.values import Delete, Put
from tcp_proxy.control.etcd.watch import Watch

END = "w/end"
SILENCE = 0.6  # seconds


def followed(etcd, body, prefix="w/", first=1, urls=None, attempt=0.4):
    """Every event of the prefix until that of END, which comes when `body(client, watch)` has ended."""

    async def whole():
        ours, theirs = Client(urls or etcd.urls, attempt=0.4), Client(etcd.urls, attempt=attempt)
        following = Watch(ours, prefix, first, SILENCE)
        heart = asyncio.create_task(beating(theirs, f"{prefix}beat"))
        telling = asyncio.create_task(body(theirs, following))
        try:
            found = []
            async with contextlib.aclosing(following.batches()) as batches:
                async for batch in batches:
                    found += batch
                    if any(event.key == END for event in batch):
                        break
            await telling
            return [event for event in found if not event.key.endswith("beat")], following
        finally:
            heart.cancel()
            telling.cancel()
            await ours.close()
            await theirs.close()

    return aio(whole())


async def beating(client, key):
    """What makes a member speak that has nothing else to say."""
    while True:
        with contextlib.suppress(Exception):
            await client.put(Put(key, b""), repeats=True)
        await asyncio.sleep(SILENCE / 4)


def test_events(tmp_path):
    with Etcd(tmp_path) as etcd:

        async def body(client, _following):
            lease = await client.grant(60)
            await client.transact([], [Put("w/a", b"1"), Put("w/b", b"2", lease), Put("x", b"outside")])
            await client.put(Put("w/a", b"3"))
            await client.revoke(lease)
            await client.transact([], [Delete("w/a"), Put(END, b"")])

        events, _ = followed(etcd, body)
        assert [(event.key, event.value) for event in events] == [
            ("w/a", b"1"), ("w/b", b"2"), ("w/a", b"3"), ("w/b", None), ("w/a", None), (END, b""),
        ]  # fmt: skip
        assert events[1].lease
        assert events[0].revision == events[1].revision < events[2].revision
        assert events[2].created == events[0].revision


async def killed(etcd, index, following):
    await asyncio.to_thread(etcd.kill, index)


async def terminated(etcd, index, following):
    await asyncio.to_thread(etcd.kill, index, signal.SIGTERM)


async def stopped(etcd, index, following):
    etcd.stop(index)


async def left_alone(etcd, index, following):
    """The others are stopped until it says that it has no leader, or has said nothing for too long."""
    others = {0, 1, 2} - {index}
    for one in others:
        etcd.stop(one)
    await until(lambda: following.streams > 1, "the watch leaves it")
    for one in others:
        etcd.go_on(one)


@pytest.mark.parametrize("fault", [killed, terminated, stopped, left_alone])
@pytest.mark.parametrize("whom", ["whoever tells", "the leader"])
def test_no_event_is_lost(tmp_path, fault, whom):
    """Points 3 and 5."""
    with Etcd(tmp_path, members=3) as etcd:

        async def body(client, following):
            async def puts(numbers):
                for number in numbers:
                    await client.put(Put("w/n", str(number).encode()), repeats=True, within=30)

            await puts(range(20))
            await until(lambda: following.told_by, "a stream")
            if whom == "the leader":
                await asyncio.to_thread(etcd.lead, etcd.urls.index(following.told_by))
            index, before = etcd.urls.index(following.told_by), following.streams
            await fault(etcd, index, following)
            await puts(range(20, 40))
            await until(lambda: following.streams > before, "another member tells")
            await client.put(Put(END, b""), repeats=True, within=30)

        events, _ = followed(etcd, body)
        seen = [int(event.value) for event in events if event.key == "w/n"]
        assert sorted(set(seen)) == list(range(40)), "each of them came"
        assert seen == sorted(seen), "in order"
        revisions = [event.revision for event in events]
        assert len(set(revisions)) == len(revisions), "none came twice"


def test_compaction(tmp_path):
    """Point 4: the history is gone, which is an error; a start at the very revision of the compaction is none."""
    with Etcd(tmp_path) as etcd:
        for number in range(10):
            etcd.ctl("put", "w/a", str(number))
        last = etcd.revision()
        etcd.ctl("compact", str(last - 2))

        async def nothing(client, _following):
            await client.put(Put(END, b""))

        with pytest.raises(Compacted) as raised:
            followed(etcd, nothing, first=last - 5)
        assert raised.value.revision == last - 2
        events, _ = followed(etcd, nothing, first=last - 2)
        assert [event.value for event in events if event.key == "w/a"] == [b"7", b"8", b"9"]


def test_values_of_a_megabyte(tmp_path):
    """Point 7."""
    with Etcd(tmp_path) as etcd:
        value = b"\x00x" * 500_000

        async def body(client, _following):
            await client.put(Put("w/a", value))
            await client.put(Put(END, b""))

        events, following = followed(etcd, body, attempt=20)
        assert [event.value for event in events] == [value, b""]
        assert following.streams == 1


def test_a_watch_that_is_not_permitted_is_refused(tmp_path):
    with Etcd(tmp_path) as etcd:
        for words in ("user add root:secret", "user grant-role root root", "user add guest:other"):
            etcd.ctl(*words.split())
        etcd.ctl("auth", "enable", flags=["--user", "root:secret"])

        async def whole():
            client = Client(etcd.urls, user="guest", password="other")
            try:
                async with contextlib.aclosing(Watch(client, "w/", 1, SILENCE).batches()) as batches:
                    async for _ in batches:
                        pass
            finally:
                await client.close()

        with pytest.raises(Refused, match="permission denied"):
            aio(whole())


def test_what_is_asked_is_whole_and_wants_a_leader():
    """Points 3 and 6: of a body in open chunks etcd does not read a byte."""
    heads = []

    async def whole():
        asked = asyncio.Event()

        async def serve(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))[16:])
            heads.append((head, json.loads(await reader.readexactly(size))))
            writer.close()
            asked.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = Client([f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])

        async def follow():
            async with contextlib.aclosing(Watch(client, "w/", 7, SILENCE).batches()) as batches:
                async for _ in batches:
                    pass

        task = asyncio.create_task(follow())
        await asked.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await client.close()
        server.close()
        await server.wait_closed()

    aio(whole())
    head, body = heads[0]
    assert b"Grpc-Metadata-hasleader: true\r\n" in head
    assert b"Transfer-Encoding" not in head
    assert body == {"create_request": {"key": "dy8=", "range_end": "dzA=", "start_revision": "7"}}


class Answer:
    """An answer whose body comes in these chunks."""

    def __init__(self, chunks):
        self.content, self._chunks = self, chunks

    async def iter_any(self):
        for chunk in self._chunks:
            yield chunk


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"n"))), st.lists(st.integers(0, 400)))
def test_any_cut_of_the_stream(lines, cuts):
    whole = b"".join(line + b"\n" for line in lines)
    places = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    chunks = [whole[i:j] for i, j in itertools.pairwise(places)]

    async def read():
        return [line async for line in watch._lines(Answer(chunks))]

    assert asyncio.run(read()) == [line for line in lines if line]
