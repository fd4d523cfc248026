"""The client of etcd against etcd itself: kill -9, stopped members, no majority, logins, TLS, no space. The points of
docs/cluster.md on how etcd behaves are numbered here as there."""

import asyncio
import contextlib
import json
import signal
import ssl

import pytest

from kit.certificates import Authority
from kit.etcd import Etcd, aio, until
from tcp_proxy.control.etcd.client import Client
from tcp_proxy.control.etcd.errors import NoSpace, NotAllowed, Refused, TooLarge, Unavailable
from tcp_proxy.control.etcd.values import Delete, Get, KeyValue, Put, is_absent, is_present, is_unchanged


def with_client(urls, body, **how):
    """`body(client)`, on a loop of its own."""

    async def whole():
        client = Client(urls, **how)
        try:
            return await body(client)
        finally:
            await client.close()

    return aio(whole())


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as one:
        yield one


@pytest.fixture
def three(tmp_path):
    with Etcd(tmp_path, members=3) as cluster:
        yield cluster


def test_keys(etcd):
    async def body(client):
        revision = await client.put(Put("a/\udc80é", b"\x00\xff"))
        assert etcd.revision() == revision
        found = await client.get("a/\udc80é")
        assert found.kvs == (KeyValue("a/\udc80é", b"\x00\xff", revision, revision),)
        assert (await client.get("a/none")).kvs == ()
        for number in range(23):
            await client.put(Put(f"b/{number:02}", str(number).encode()))
        all_of_b = await client.read_all("b/", page=7)
        assert [(kv.key, kv.value) for kv in all_of_b.kvs] == [(f"b/{n:02}", str(n).encode()) for n in range(23)]
        assert all_of_b.revision == etcd.revision()
        assert (await client.read_all("c/")).kvs == ()

    with_client(etcd.urls, body)


def test_a_part_is_asked_for_before_the_one_before_it_is_looked_at(etcd):
    async def body(client):
        for number in range(5):
            await client.put(Put(f"p/{number}", b"old"))
        at, asked, ask = etcd.revision(), [], client.ask

        async def noted(*question):
            answer = await ask(*question)
            asked.append(question)
            return answer

        client.ask = noted
        async with contextlib.aclosing(client.pages("p/", 2)) as pages:
            parts = [await anext(pages)]
            await until(lambda: len(asked) == 2, "the next answer")
            await asyncio.to_thread(etcd.ctl, "put", "p/4", "new")
            parts += [part async for part in pages]
        assert [[kv.key for kv in part.kvs] for part in parts] == [["p/0", "p/1"], ["p/2", "p/3"], ["p/4"]]
        assert parts[2].kvs[0].value == b"old"
        assert {part.revision for part in parts} == {at}
        async with contextlib.aclosing(client.pages("p/", 2)) as pages:
            await anext(pages)
        await until(lambda: len(asyncio.all_tasks()) == 1, "nothing is asked for nobody")

    with_client(etcd.urls, body)


def test_transactions(etcd):
    """Point 9: a key that does not exist is asked for by its revision of creation; Get says what is there instead."""

    async def body(client):
        made = await client.transact([is_absent("k")], [Put("k", b"first")], [Get("k")])
        assert (made.succeeded, made.found) == (True, ())
        lost = await client.transact([is_absent("k")], [Put("k", b"second")], [Get("k"), Get("none")])
        assert not lost.succeeded
        assert lost.found == (KeyValue("k", b"first", made.revision, made.revision), None)
        changed = await client.transact([is_unchanged("k", made.revision)], [Put("k", b"third")])
        assert changed.succeeded
        assert not (await client.transact([is_unchanged("k", made.revision)], [Put("k", b"fourth")])).succeeded
        assert etcd.value("k") == "third"
        assert (await client.transact([is_present("k")], [Delete("k")])).succeeded
        assert not (await client.transact([is_present("k")], [Put("k", b"")])).succeeded
        await client.transact([], [Put(f"p/{n}", b"") for n in range(128)])
        assert len(etcd.keys("p/")) == 128
        await client.transact([], [Delete("p/", prefix=True)])
        assert etcd.keys("p/") == []
        with pytest.raises(TooLarge, match="too many operations"):
            await client.transact([], [Put(f"p/{n}", b"") for n in range(129)])

    with_client(etcd.urls, body)


@pytest.mark.parametrize("size", [1_600_000, 2_200_000])
def test_what_is_too_large_is_refused_once(etcd, size):
    """Point 9: over 1.5 MiB it is 400, over 2 MiB 429: neither is worth another try."""

    async def body(client):
        with pytest.raises(TooLarge):
            await client.put(Put("k", b"x" * size), repeats=True)

    with_client(etcd.urls, body)


def test_a_lease_on_a_key_whose_value_stays(etcd):
    async def body(client):
        first, second = await client.grant(60), await client.grant(60)
        await client.put(Put("k", b"value", first))
        await client.put(Put("k", None, second))
        kv = (await client.get("k")).kvs[0]
        assert (kv.value, kv.lease) == (b"value", second)
        await client.revoke(first)
        assert etcd.value("k") == "value"
        await client.revoke(second)
        await client.revoke(second)
        assert etcd.keys("k") == []
        with pytest.raises(Refused, match="key not found"):
            await client.put(Put("k", None, await client.grant(60)))

    with_client(etcd.urls, body)


def test_several_leases_are_kept_in_one_request(etcd):
    """Point 8: a dead lease is no error, it has no seconds."""

    async def body(client):
        leases = [await client.grant(30) for _ in range(3)]
        await client.revoke(leases[1])
        assert await client.keep_alive(leases) == {leases[0]: 30, leases[1]: 0, leases[2]: 30}

    with_client(etcd.urls, body)


def test_a_grant_that_is_sent_again_is_one_lease(etcd, monkeypatch):
    """Point 10: that there is one already is told with different statuses."""
    monkeypatch.setattr("random.randrange", lambda first, last=None: 0 if last is None else 4711)

    async def body(client):
        assert await client.grant(60) == await client.grant(60) == 4711
        assert json.loads(etcd.ctl("lease", "list", "-w", "json"))["leases"] == [{"id": 4711}]

    with_client(etcd.urls, body)


# -- members that fail


def test_a_refused_connection_is_certain_and_the_next_member_is_asked(etcd, free_port):
    dead = f"http://127.0.0.1:{free_port()}"

    async def body(client):
        for _ in range(4):
            assert await client.put(Put("k", b"v"))
        assert client.endpoint == etcd.urls[0]

    with_client([dead, *etcd.urls], body)

    async def alone(client):
        with pytest.raises(Unavailable, match=f"{dead} cannot be connected to") as raised:
            await client.put(Put("k", b"v"), within=0.3)
        assert raised.value.is_certain

    with_client([dead], alone)


def test_a_stopped_member_is_left(three):
    three.stop(0)

    async def body(client):
        client.leave()
        while client.endpoint != three.urls[0]:
            client.leave()
        found = await client.get("k")
        assert client.endpoint != three.urls[0]
        return found

    with_client(three.urls, body, attempt=0.3)
    three.go_on(0)


def test_without_a_majority(three):
    """Points 1 and 2: whether a put was done is unknown; what one member knows by itself it tells."""
    three.ctl("put", "k", "before")
    three.stop(1)
    three.stop(2)

    async def body(client):
        with pytest.raises(Unavailable) as raised:
            await client.put(Put("k", b"after"))
        assert not raised.value.is_certain
        with pytest.raises(Unavailable):
            await client.get("k", serializable=False)
        with pytest.raises(Unavailable):
            await client.grant(10, within=0.5)
        assert (await client.get("k", serializable=True)).kvs[0].value == b"before"
        assert (await client.status())["version"].startswith("3.")

    with_client(three.urls[:1], body, attempt=0.4)
    three.go_on(1)
    three.go_on(2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_creation_outlives_any_member_and_is_done_once(three, number):
    """Point 1: through an election, what creates is sent again, and the answer says who has won."""

    async def one(client, key, who):
        done = await client.transact([is_absent(key)], [Put(key, who)], [Get(key)], repeats=True, within=30.0)
        return who if done.succeeded else done.found[0].value

    async def body(client):
        other = Client(three.urls, attempt=0.5)
        try:
            for turn in range(3):
                keys = [f"{turn}/{n}" for n in range(20)]
                asked = [one(who, key, name) for key in keys for who, name in ((client, b"ours"), (other, b"theirs"))]
                waiting = asyncio.gather(*asked)
                await asyncio.sleep(0)
                index = await asyncio.to_thread(three.leader)
                await asyncio.to_thread(three.kill, index, number)
                answers = await waiting
                stored = {kv.key: kv.value for kv in (await client.read_all(f"{turn}/")).kvs}
                assert stored.keys() == set(keys)
                # Whoever is told that his own creation has failed is told of what is there, were it his own first try.
                for key, first, second in zip(keys, answers[::2], answers[1::2], strict=True):
                    assert first == second == stored[key]
                await asyncio.to_thread(three.start, index)
        finally:
            await other.close()

    with_client(three.urls, body, attempt=0.5)


# -- logins, TLS, a full disk, strangers


def test_a_login_is_made_and_made_again_when_the_token_is_none_any_more(etcd):
    """Point 11. A restarted member knows no token of before."""
    for words in ("user add root:secret", "user grant-role root root", "user add guest:other", "auth enable"):
        etcd.ctl(*words.split(), flags=["--user", "root:secret"] if words == "auth enable" else [])

    async def body(client):
        await client.put(Put("k", b"1"))
        assert await client.grant(30)
        etcd.kill(0)
        await asyncio.to_thread(etcd.start, 0)
        await client.put(Put("k", b"2"))
        assert (await client.get("k")).kvs[0].value == b"2"

    with_client(etcd.urls, body, user="root", password="secret")

    async def refused(client):
        with pytest.raises(NotAllowed, match="authentication failed"):
            await client.put(Put("k", b"3"))

    with_client(etcd.urls, refused, user="root", password="wrong")

    async def nobody(client):
        with pytest.raises(NotAllowed, match="user name is empty"):
            await client.put(Put("k", b"3"))

    with_client(etcd.urls, nobody)

    async def guest(client):
        with pytest.raises(NotAllowed, match="permission denied"):
            await client.put(Put("k", b"3"))

    with_client(etcd.urls, guest, user="guest", password="other")


def test_a_user_where_no_login_is_wanted(etcd):
    async def body(client):
        await client.put(Put("k", b"v"))

    with_client(etcd.urls, body, user="root", password="secret")


def test_tls_both_ways(tmp_path):
    """A member that wants certificates of its clients shows its own to itself, for its gateway is one of them."""
    authority = Authority()
    server, mine = authority.issue("127.0.0.1", both=True), authority.issue("node", client=True)
    files = server.write(tmp_path, "server")
    own = mine.write(tmp_path, "client")
    (tmp_path / "ca.pem").write_text(authority.pem)
    flags = [
        "--cert-file", files["chain"], "--key-file", files["key"], "--client-cert-auth", "--trusted-ca-file",
        tmp_path / "ca.pem",
    ]  # fmt: skip
    cluster = Etcd(tmp_path, flags=flags, scheme="https")
    cluster.ctl_flags = ["--cacert", tmp_path / "ca.pem", "--cert", own["chain"], "--key", own["key"]]
    with cluster:
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))

        async def without(client):
            with pytest.raises(Unavailable):
                await client.put(Put("k", b"v"), within=0.5)

        with_client(cluster.urls, without, tls=context)
        with_client(cluster.urls, without)
        context.load_cert_chain(own["chain"], own["key"])

        async def body(client):
            await client.put(Put("k", b"v"))
            assert await asyncio.to_thread(cluster.value, "k") == "v"

        with_client(cluster.urls, body, tls=context)


def test_no_space_is_told_and_over_when_the_alarm_is_disarmed(tmp_path):
    with Etcd(tmp_path, flags=["--quota-backend-bytes", str(2 * 1024 * 1024)]) as etcd:

        async def body(client):
            with pytest.raises(NoSpace, match="database space exceeded"):
                for number in range(64):
                    await client.put(Put(f"big/{number}", b"x" * 200_000))
            with pytest.raises(NoSpace):
                await client.grant(30)
            with pytest.raises(NoSpace):
                await client.put(Put("small", b""))
            assert (await client.get("big/0")).kvs
            await asyncio.to_thread(etcd.ctl, "del", "--prefix", "big/")  # 3.5.1 takes no transaction that only deletes
            revision = (await client.get("big/0")).revision
            await client.ask("kv/compaction", {"revision": str(revision), "physical": True}, True)
            await client.ask("maintenance/defragment", {}, True)
            await asyncio.to_thread(etcd.ctl, "alarm", "disarm")
            await client.put(Put("small", b""))

        with_client(etcd.urls, body)


def test_whoever_is_no_etcd_is_named(service):
    stranger = service(answer=lambda _: b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n")

    async def body(client):
        with pytest.raises(Refused, match=f"http://{stranger.address} answers with HTTP status 404: it has no JSON gateway"):
            await client.put(Put("k", b"v"))

    with_client([f"http://{stranger.address}"], body)


def test_a_member_that_hangs_up_may_have_done_it(service):
    stranger = service(answer=lambda _: b"", hang_up=True)

    async def body(client):
        with pytest.raises(Unavailable) as raised:
            await client.put(Put("k", b"v"), within=0.2)
        assert not raised.value.is_certain

    with_client([f"http://{stranger.address}"], body)


def test_who_writes_waits_while_that_is_held_and_who_reads_does_not(etcd):
    async def body(client):
        await client.hold()
        put = asyncio.create_task(client.put(Put("k", b"v")))
        assert (await client.get("k")).kvs == ()
        assert not put.done()
        client.release()
        await put
        assert [kv.value for kv in (await client.get("k")).kvs] == [b"v"]

    with_client(etcd.urls, body)


def test_what_is_under_way_is_over_when_writes_are_held(etcd):
    async def body(client):
        puts = [asyncio.create_task(client.put(Put(f"k{number}", b"v"))) for number in range(20)]
        await asyncio.sleep(0)  # they have begun
        await client.hold()
        assert all(put.done() for put in puts)
        assert len((await client.read_all("k")).kvs) == 20

    with_client(etcd.urls, body)
