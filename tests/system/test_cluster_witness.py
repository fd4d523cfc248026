"""A client of etcd that is not ours, and speaks gRPC, where ours speaks JSON: it reads what nodes have written, and what it
writes as a node does is what they do."""

import json

import etcd_client
import pytest

from kit.api import Api, api_config
from kit.etcd import Etcd, aio
from kit.peer import connect
from kit.waiting import wait_until

PREFIX = "/tcp-proxy/default/"
CLIENT = "127.0.6.1"


class Witness:
    def __init__(self, url):
        self._client = etcd_client.Client([url])

    def tree(self):
        """All that the cluster has written, by name."""

        async def read():
            async with self._client.connect() as asked:
                return await asked.get_prefix(PREFIX.encode())

        found = {bytes(key).decode(): json.loads(bytes(value)) for key, value in aio(read())}
        return {key.removeprefix(PREFIX): value for key, value in found.items()}

    def create(self, key, value):
        """Whether there was none."""
        name = f"{PREFIX}{key}".encode()
        is_absent = etcd_client.Compare.create_revision(name, etcd_client.CompareOp.EQUAL, 0)
        put = etcd_client.TxnOp.put(name, json.dumps(value).encode())

        async def write():
            async with self._client.connect() as asked:
                return (await asked.txn(etcd_client.Txn().when([is_absent]).and_then([put]))).succeeded()

        return aio(write())


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as one:
        yield one


@pytest.fixture
def witness(etcd):
    yield Witness(etcd.urls[0])
    etcd_client.cleanup_runtime()


@pytest.fixture
def nodes(etcd, proxy, service):
    targets = [{"name": f"t{number}", "address": service(greeting=b"t%d" % number).address} for number in range(3)]
    made = []
    for name in "ab":
        top = {"cluster": {"endpoints": etcd.urls, "node": name, "lease": 2}, "api": api_config()}
        made.append(proxy(targets=targets, top=top, sticky={"expires": 60}))
        made[-1].uncounted = None
    return made


def greeted(program):
    with connect(program.port, source=CLIENT) as client:
        return client.receive(2).decode()


def state(program, target):
    return Api.of(program).get(f"/api/v1/apps/app/targets/{target}").json["admin"]


def test_it_reads_what_nodes_have_written(nodes, witness, etcd):
    target = greeted(nodes[0])
    other = next(name for name in ("t0", "t1", "t2") if name != target)
    Api.of(nodes[1]).ask("PATCH", f"/api/v1/apps/app/targets/{other}", {"admin": "drain"})
    word = f"shared/pool/app/{other}"  # it holds at once where it is said, and on all when etcd has it
    tree = wait_until(lambda: {"nodes/a", "nodes/b", word} <= (found := witness.tree()).keys() and found, "all of it")
    assert tree[f"sticks/app/{CLIENT}"]["target"] == target
    assert tree[word]["admin"] == "drain"
    assert tree[word]["node"] == "b"
    assert {key for key in tree if key.startswith("nodes/")} == {"nodes/a", "nodes/b"}
    assert json.loads(etcd.value(f"{PREFIX}{word}")) == tree[word], "etcdctl agrees"


def test_what_it_writes_as_a_node_does_is_what_nodes_do(nodes, witness):
    assert witness.create(f"sticks/app/{CLIENT}", {"target": "t2"})
    word = {"node": "c", "admin": "drain", "admin_file": "ready"}
    assert witness.create("shared/pool/app/t1", word)
    for program in nodes:
        wait_until(lambda one=program: state(one, "t1") == "drain", "the word of a node holds here")
        assert greeted(program) == "t2"


def test_a_key_that_a_node_has_made_is_not_made_again(nodes, witness):
    target = greeted(nodes[0])
    assert not witness.create(f"sticks/app/{CLIENT}", {"target": "t9"})
    assert greeted(nodes[1]) == target


def test_what_is_no_word_of_a_node_is_not_believed(nodes, witness):
    """Nor is a script that somebody writes run: a target that comes by etcd brings none."""
    word = {"node": "c", "admin": "down", "admin_file": "ready", "command": "/bin/true"}
    assert witness.create("shared/pool/app/t1", word)
    assert witness.create("shared/pool/app/t2", {"node": "c", "admin": "drain", "admin_file": "ready"})
    for program in nodes:
        wait_until(lambda one=program: state(one, "t2") == "drain", "what came later is known")
        assert state(program, "t1") == "ready"
