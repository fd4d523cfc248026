"""Several proxies as one: they see each other, one is cut off and traffic goes on, one is killed, one comes back."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.ctl import Ctl
from kit.etcd import Etcd
from kit.peer import connect
from kit.waiting import pause, wait_until

LEASE = 2


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as one:
        yield one


@pytest.fixture
def node(etcd, proxy, service):
    """node("a"): a proxy of the cluster."""

    def start(node, **more):
        top = {"cluster": {"endpoints": etcd.urls, "node": node, "lease": LEASE, **more}, "api": api_config()}
        return proxy(targets=[service()], top=top)

    return start


def members(program):
    found = Api.of(program).get("/api/v1/cluster").json
    return [one["node"] for one in found["members"]] if found["state"] == "joined" else found["state"]


def test_three_proxies_see_each_other(node):
    programs = {name: node(name) for name in "abc"}
    for program in programs.values():
        wait_until(lambda one=program: members(one) == ["a", "b", "c"], "all three")
    text = Ctl.of(programs["b"])("cluster").text
    assert text.splitlines()[0].startswith("cluster default: node b is joined for ")
    assert [line.split()[0] for line in text.splitlines()[3:6]] == ["a", "b", "c"]
    assert text.splitlines()[6] == "node a has another configuration: app app: targets"
    assert "b (this one)" in text
    assert programs["a"].stop() == 0
    wait_until(lambda: members(programs["b"]) == ["b", "c"], "it says good-bye")
    programs["c"].workers()
    os.killpg(programs["c"].process.pid, signal.SIGKILL)
    wait_until(lambda: members(programs["b"]) == ["b"], "its lease is over")
    programs["c"].kill()
    programs["b"].wait_log("cluster default: node c is gone")


def test_two_clusters_on_one_etcd_do_not_meet(node):
    one, other = node("a", name="x/y"), node("a", name="x")
    for program in (one, other):
        wait_until(lambda one=program: members(one) == ["a"], "joined")


def test_when_etcd_is_gone_traffic_goes_on(node, etcd):
    program = node("a")
    wait_until(lambda: members(program) == ["a"], "joined")
    client = program.connect().send(b"x").expect(b"x")
    wait_until(lambda: Api.of(program).get("/readyz").text == "ready\n", "ready")
    etcd.kill(0)
    degraded = "ready, degraded: cut off from its cluster: "
    wait_until(lambda: Api.of(program).get("/readyz").text.startswith(degraded), "it says so")
    program.wait_log("node a is cut off, traffic goes on with what is known")
    client.send(b"y").expect(b"y")
    program.connect().send(b"z").expect(b"z")
    assert "\ntcp_proxy_cluster_joined 0.0\n" in Api.of(program).get("/metrics").text
    etcd.start(0)
    wait_until(lambda: members(program) == ["a"], "joined again")
    wait_until(lambda: Api.of(program).get("/readyz").text == "ready\n", "ready")
    metrics = Api.of(program).get("/metrics").text
    assert "\ntcp_proxy_cluster_joined 1.0\n" in metrics
    assert "\ntcp_proxy_cluster_cut_off_total 0.0\n" not in metrics
    events = [event["data"]["state"] for event in Api.of(program).get("/api/v1/events").json if event["kind"] == "cluster"]
    assert (events[0], events[-1]) == ("joined", "joined")
    assert "alone" in events


def test_a_start_without_etcd_serves_and_says_so(node, etcd):
    etcd.kill(0)
    program = node("a")
    program.wait_log("node a is cut off, traffic goes on with what is known")
    program.connect().send(b"x").expect(b"x")
    assert Api.of(program).get("/readyz").text.startswith("ready, degraded")
    etcd.start(0)
    wait_until(lambda: members(program) == ["a"], "joined")


# -- the stick table


def addresses(count):
    return [f"127.0.{number // 200 + 1}.{number % 200 + 1}" for number in range(count)]


@pytest.fixture
def sticky(etcd, proxy):
    """sticky("a", targets): a node whose app is sticky, by the client's address."""

    def start(node, targets, expires=60, **more):
        top = {"cluster": {"endpoints": etcd.urls, "node": node, "lease": LEASE}, "api": api_config(), "workers": 2}
        made = proxy(targets=targets, top=top, sticky={"expires": expires}, **more)
        made.uncounted = None
        return made

    return start


@pytest.fixture
def targets(service):
    """Three, each of which greets with its name."""
    made = [service(greeting=b"t%d" % number) for number in range(3)]
    return [{"name": f"t{number}", "address": one.address} for number, one in enumerate(made)]


def greeted(program, source):
    """By whom a client of that address is greeted."""
    with connect(program.port, source=source) as client:
        return client.receive(2).decode()


def keys_of(program):
    found = Api.of(program).get("/api/v1/apps/app/sticks?limit=1000").json
    return {entry["key"]: entry["target"] for entry in found["entries"]}


def in_use(program):
    found = Api.of(program).get("/api/v1/apps/app/sticks?limit=1000").json
    return [entry["key"] for entry in found["entries"] if entry["in_use"]]


def test_a_client_has_one_target_on_all_nodes(sticky, targets):
    a, b, c = (sticky(name, targets) for name in "abc")
    clients = addresses(60)
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda at: greeted((a, b, c)[at % 3], clients[at // 3]), range(180)))
    for number, client in enumerate(clients):
        assert len(set(found[3 * number : 3 * number + 3])) == 1, f"{client} at the same time on three nodes"
    whose = dict(zip(clients, found[::3], strict=True))
    assert set(whose.values()) == {"t0", "t1", "t2"}
    for program in (a, b, c):
        wait_until(lambda one=program: keys_of(one) == whose, "every node has the table")


def test_a_node_that_starts_has_the_table_before_it_serves(sticky, targets):
    a = sticky("a", targets)
    whose = {client: greeted(a, client) for client in addresses(40)}
    b = sticky("b", targets)
    assert {client: greeted(b, client) for client in whose} == whose
    assert a.stop() == 0
    assert {client: greeted(b, client) for client in whose} == whose


def test_without_etcd_nodes_agree_by_hash_and_what_they_made_is_shared_later(sticky, targets, etcd):
    a, b = sticky("a", targets), sticky("b", targets)
    before = {client: greeted(a, client) for client in addresses(20)}
    wait_until(lambda: keys_of(b) == before, "both know")
    etcd.kill(0)
    for program in (a, b):
        program.wait_log("is cut off, traffic goes on with what is known")
    assert {client: greeted(b, client) for client in before} == before
    new = {client: greeted(a, client) for client in addresses(60)[20:]}
    assert {client: greeted(b, client) for client in new} == new, "a hash of the key"
    assert len(set(new.values())) == 3
    etcd.start(0)
    everything = {**before, **new}
    for program in (a, b):
        wait_until(lambda one=program: members(one) == ["a", "b"], "joined again")
    prefix = "/tcp-proxy/default/sticks/app/"
    wait_until(lambda: {key.removeprefix(prefix) for key in etcd.keys(prefix)} == everything.keys(), "all of it in etcd")
    c = sticky("c", targets)
    assert {client: greeted(c, client) for client in everything} == everything


def test_what_two_nodes_made_apart_is_settled_and_sessions_live_on(sticky, targets, etcd):
    """They know other targets, so their hashes differ; the one whose entry gets to etcd first has the key."""
    a, b = sticky("a", targets[:1]), sticky("b", targets[1:])
    client = addresses(1)[0]
    etcd.kill(0)
    for program in (a, b):
        program.wait_log("is cut off, traffic goes on with what is known")
    with connect(a.port, source=client) as one, connect(b.port, source=client) as two:
        assert (one.receive(2), two.receive(2)[:1]) == (b"t0", b"t")
        etcd.start(0)
        for program in (a, b):
            wait_until(lambda one=program: members(one) == ["a", "b"], "joined again")
        wait_until(lambda: keys_of(a) == keys_of(b) and len(keys_of(a)) == 1, "one of them counts")
        one.send(b"x").expect(b"x")
        two.send(b"y").expect(b"y")


def test_when_a_target_is_down_its_clients_move_together(sticky, targets, service):
    a, b = sticky("a", targets, on_down="keep"), sticky("b", targets)
    whose = {client: greeted(a, client) for client in addresses(30)}
    wait_until(lambda: keys_of(b) == whose, "both know")
    for program in (a, b):
        Api.of(program).ask("PATCH", "/api/v1/apps/app/targets/t0", {"admin": "disabled"}, status=200)
    moved = {client: greeted((a, b)[at % 2], client) for at, client in enumerate(whose)}
    again = {client: greeted((b, a)[at % 2], client) for at, client in enumerate(whose)}
    assert moved == again
    assert {client: target for client, target in moved.items() if whose[client] != "t0"} == {
        client: target for client, target in whose.items() if target != "t0"
    }
    assert "t0" not in moved.values()


def test_an_agent_that_is_killed_is_not_noticed_by_clients(sticky, targets):
    a, b = sticky("a", targets), sticky("b", targets)
    whose = {}
    for round in range(3):
        pid = next(pid for pid, line in procfs.children(a.pid).items() if b"cluster_agent" in line)
        for client in addresses(90)[30 * round : 30 * round + 30]:
            if client.endswith(".15"):
                os.kill(pid, signal.SIGKILL)
            whose[client] = greeted(a, client)
        wait_until(lambda: keys_of(b) == keys_of(a) == whose, "it is shared")


def test_what_an_operator_says_of_a_key_holds_on_all(sticky, targets):
    a, b = sticky("a", targets), sticky("b", targets)
    client = addresses(1)[0]
    first = greeted(a, client)
    other = next(name for name in ("t0", "t1", "t2") if name != first)
    wait_until(lambda: keys_of(b), "both know")
    Api.of(b).ask("PUT", f"/api/v1/apps/app/sticks/{client}", {"target": other}, status=200)
    wait_until(lambda: keys_of(a) == {client: other}, "it is told")
    with connect(a.port, source=client) as session:
        assert session.receive(2).decode() == other
        wait_until(lambda: in_use(a) == [client], "its use is told, which may be later than it is served")
    wait_until(lambda: in_use(a) == [], "its end, too: what is told after the order would make the entry anew")
    Api.of(a).ask("DELETE", f"/api/v1/apps/app/sticks/{client}", status=200)
    wait_until(lambda: keys_of(b) == {}, "it is told")


def test_a_session_on_one_node_keeps_what_another_has_made(sticky, targets):
    a, b = sticky("a", targets, expires=2), sticky("b", targets, expires=2)
    used, left = addresses(2)
    whose = {client: greeted(a, client) for client in (used, left)}
    wait_until(lambda: keys_of(b) == whose, "both know")
    with connect(b.port, source=used) as client:
        assert client.receive(2).decode() == whose[used]
        wait_until(lambda: left not in keys_of(b) and left not in keys_of(a), "nobody uses the other one")
        pause(2.0)
        assert keys_of(a) == keys_of(b) == {used: whose[used]}
    wait_until(lambda: keys_of(a) == keys_of(b) == {}, "nobody uses it any more")


def test_nodes_whose_files_name_a_target_differently_do_not_move_its_clients(sticky, targets, etcd):
    a, b = sticky("a", targets), sticky("b", targets)
    whose = {client: greeted(a, client) for client in addresses(30)}
    wait_until(lambda: keys_of(b) == whose, "both know")
    renamed = [{**one, "name": f"other-{one['name']}"} for one in targets]
    for program in (a, b):
        program.config["apps"][0]["targets"] = renamed
        (program.folder / f"config-{id(program):x}.json").write_text(json.dumps(program.config))
        program.signal(signal.SIGHUP)
        program.wait_log("SIGHUP: done")
        wanted = {key: f"other-{name}" for key, name in whose.items()}
        wait_until(lambda one=program, wanted=wanted: keys_of(one) == wanted, "its own names")
        for _ in range(2):
            assert {client: greeted(a, client) for client in whose} == whose
            assert {client: greeted(b, client) for client in whose} == whose
