"""The pool of a cluster is one: what is said of targets on one node holds on all, on those that join later, and over
restarts; files that differ are named."""

import json
import os
import re
import signal

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.ctl import Ctl
from kit.etcd import Etcd
from kit.ports import free_port
from kit.waiting import wait_until

LEASE = 2
TARGETS = "/api/v1/apps/app/targets"


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as one:
        yield one


@pytest.fixture
def backends(service):
    return [{"name": f"t{number}", "address": service(greeting=b"t%d" % number).address} for number in range(3)]


@pytest.fixture
def node(etcd, proxy, backends):
    """node("a"): one whose app has three targets, or those that are given."""

    def start(name, targets=None, state=None, **app):
        top = {"cluster": {"endpoints": etcd.urls, "node": name, "lease": LEASE}, "api": api_config(), "workers": 1}
        return proxy(targets=targets or backends, top={**top, **({"state": str(state)} if state else {})}, **app)

    return start


def pool(program):
    """Each target, its admin state and weight."""
    return {one["name"]: (one["admin"], one["weight"]) for one in Api.of(program).get(TARGETS).json}


def until_pool(programs, **wanted):
    """Beside what is not named, which is ready with weight 1."""
    for program in programs:

        def differs(one=program):
            return {name: said for name, said in pool(one).items() if said != ("ready", 1)}

        wait_until(lambda: differs() == wanted, lambda: f"{wanted}, not {differs()}")


def patch(program, target, **what):
    Api.of(program).ask("PATCH", f"{TARGETS}/{target}", what, status=200)


def reload(program, **app):
    """With these keys of its first app, if any; until that is done."""
    program.config["apps"][0] |= app
    (program.folder / f"config-{id(program):x}.json").write_text(json.dumps(program.config))
    since = len(program.lines)
    program.signal(signal.SIGHUP)
    program.wait_log("SIGHUP: (done|nothing is different)", since=since)


def greetings(program, count=6):
    return {program.connect().read_first().decode() for _ in range(count)}


def test_what_is_said_on_one_node_holds_on_all(node, etcd):
    a, b = node("a"), node("b")
    patch(a, "t0", admin="drain")
    patch(b, "t1", weight=7)
    patch(b, "t0", weight=5)
    until_pool((a, b), t0=("drain", 5), t1=("ready", 7))
    b.wait_log("cluster: app app: target t0: drain, said at run time; the file says ready, says node a")
    said = [event["data"] for event in Api.of(b).get("/api/v1/events").json if event["kind"] == "administration"]
    assert {"app": "app", "target": "t0", "what": "cluster"}.items() <= said[0].items()
    c = node("c")
    assert pool(c)["t0"] == ("drain", 5), "it knows before it serves"
    assert greetings(c) <= {"t1", "t2"}
    assert Api.of(c).ask("DELETE", "/api/v1/overrides?app=app&target=t0", status=200)
    until_pool((a, b, c), t1=("ready", 7))
    assert etcd.keys("/tcp-proxy/default/shared/pool/") == ["/tcp-proxy/default/shared/pool/app/t1"]
    Api.of(a).ask("DELETE", "/api/v1/overrides", status=200)
    until_pool((a, b, c))


def test_targets_come_and_leave_on_all(node, service):
    a, b = node("a"), node("b")
    new = service(greeting=b"new")
    Api.of(a).ask("POST", TARGETS, {"name": "new", "address": new.address, "weight": 3}, status=201)
    wait_until(lambda: "new" in pool(b), "added")
    assert pool(b)["new"] == ("ready", 3)
    wait_until(lambda: "new" in greetings(b), "it serves there too")
    patch(b, "new", weight=9)
    wait_until(lambda: pool(a)["new"] == ("ready", 9), "its weight")
    Api.of(b).ask("DELETE", f"{TARGETS}/t0", status=204)
    wait_until(lambda: "t0" not in pool(a), "removed")
    c = node("c")
    assert pool(c).keys() == {"t1", "t2", "new"}
    Api.of(c).ask("DELETE", f"{TARGETS}/new", status=204)
    for program in (a, b, c):
        wait_until(lambda one=program: pool(one).keys() == {"t1", "t2"}, "gone again")
    other = service(greeting=b"other")
    Api.of(c).ask("POST", TARGETS, {"name": "t0", "address": other.address}, status=201)
    for program in (a, b, c):
        wait_until(lambda one=program: pool(one).keys() == {"t0", "t1", "t2"}, "another one under its name")
        wait_until(lambda one=program: "other" in greetings(one), "which serves")


def test_what_is_said_while_etcd_is_gone_holds_there_and_on_all_later(node, etcd):
    a, b = node("a"), node("b")
    patch(a, "t0", admin="drain")
    until_pool((a, b), t0=("drain", 1))
    etcd.kill(0)
    for program in (a, b):
        program.wait_log("is cut off, traffic goes on with what is known")
    patch(a, "t1", admin="disabled")
    patch(b, "t2", weight=4)
    until_pool((a,), t0=("drain", 1), t1=("disabled", 1))
    until_pool((b,), t0=("drain", 1), t2=("ready", 4))
    etcd.start(0)
    until_pool((a, b), t0=("drain", 1), t1=("disabled", 1), t2=("ready", 4))


def test_a_cluster_that_is_new_takes_over_what_a_proxy_says_and_one_that_is_not_does_not(node, tmp_path, etcd):
    state = tmp_path / "state.db"
    a = node("a", state=state)
    patch(a, "t0", admin="drain")
    wait_until(lambda: etcd.keys("/tcp-proxy/default/shared/pool/"), "in etcd")
    assert a.stop() == 0
    b = node("b")
    until_pool((b,), t0=("drain", 1))
    Api.of(b).ask("DELETE", "/api/v1/overrides", status=200)
    again = node("a", state=state)
    until_pool((again, b))
    patch(b, "t1", admin="drain")
    until_pool((again, b), t1=("drain", 1))


def test_a_file_that_was_changed_has_the_newer_word_on_every_node(node, backends):
    a, b = node("a"), node("b")
    patch(a, "t0", weight=5, admin="drain")
    until_pool((a, b), t0=("drain", 5))
    a.config["apps"][0]["targets"] = [{**backends[0], "weight": 3}, *backends[1:]]
    reload(a)
    wait_until(lambda: pool(a)["t0"] == ("drain", 3), "the file's weight, and what was said of the rest")
    assert pool(b)["t0"] == ("drain", 5)
    b.config["apps"][0]["targets"] = a.config["apps"][0]["targets"]
    reload(b)
    wait_until(lambda: pool(b)["t0"] == ("drain", 3), "there too")
    a.config["apps"][0]["targets"] = [{**backends[0], "name": "renamed", "weight": 3}, *backends[1:]]
    reload(a)
    wait_until(lambda: pool(a).get("renamed") == ("drain", 3), "it is the same one, at its place")
    patch(a, "renamed", weight=8)
    wait_until(lambda: pool(a)["renamed"] == ("drain", 8), "both")


def test_nothing_in_etcd_is_believed(node, etcd, service, tmp_path):
    a, b = node("a"), node("b")
    key = "/tcp-proxy/default/shared/pool/app/"
    wrong = [
        "[]",
        "no JSON",
        '{"admin": "up"}',
        '{"weight": 1000}',
        '{"weight": true}',
        '{"added": 5}',
        '{"node": "\\u0000"}',
    ]
    for number, text in enumerate(wrong):
        etcd.ctl("put", f"{key}x{number}", text)
    script = tmp_path / "script"
    entry = {"name": "evil", "address": service().address, "health": [{"type": "script", "path": str(script)}]}
    etcd.ctl("put", f"{key}evil", json.dumps({"added": entry}))
    etcd.ctl("put", f"{key}other", json.dumps({"added": {**entry, "health": []}}))
    etcd.ctl("put", f"{key}unknown", json.dumps({"added": {"name": "unknown", "address": "127.0.0.1:1", "wat": 1}}))
    etcd.ctl("put", "/tcp-proxy/default/shared/pool/nowhere/t0", '{"admin": "drain"}')
    etcd.ctl("put", "/tcp-proxy/default/shared/pool/%FF/%zz/%2F", '{"admin": "drain"}')
    etcd.ctl("put", f"{key}t1", json.dumps({"admin": "drain", "admin_file": "ready"}))
    until_pool((a, b), t1=("drain", 1))
    for program in (a, b):
        assert pool(program).keys() == {"t0", "t1", "t2"}
        program.wait_log(
            'pool/app/evil does not count here: added, and can be none here: a check of type ."script." can be said'
        )
        program.wait_log("pool/app/other does not count here: added, and calls itself evil")
        program.wait_log("pool/app/unknown does not count here: added, and can be none here: .*wat")
        assert program.count_log("this is no entry that this version knows") >= len(wrong)


def test_one_that_cannot_run_here_does_not_hold_up_the_others(node, service):
    """On b it would lead back to itself."""
    port = free_port()
    a, b = node("a"), node("b", ports=[port])
    Api.of(a).ask("POST", TARGETS, {"name": "circle", "address": f"127.0.0.1:{port}"}, status=201)
    patch(a, "t0", admin="drain")
    wait_until(lambda: pool(b).get("t0") == ("drain", 1), "the rest counts")


def test_files_that_differ_are_named(node, backends):
    a, b = node("a"), node("b")
    assert [one["differs"] for one in Api.of(a).get("/api/v1/cluster").json["members"]] == [[], []]
    assert a.count_log("has another configuration") == 0
    b.config["apps"][0] |= {"retries": 1, "targets": backends[:2], "balance": "least_connections"}
    extra = {"name": "extra", "ports": [free_port()], "targets": []}
    b.config["apps"].append(extra)
    reload(b)
    lines = ["app app: balance, retries, targets", "app extra: only there"]
    a.wait_log(f"cluster: node b has another configuration: {re.escape('; '.join(lines))}")
    b.wait_log("cluster: node a has another configuration: .*app extra: only here")
    found = Api.of(a).get("/api/v1/cluster").json["members"]
    assert [one["differs"] for one in found] == [[], lines]
    assert "\ntcp_proxy_cluster_different_nodes 1.0\n" in Api.of(a).get("/metrics").text
    assert "node b has another configuration: app extra: only there" in Ctl.of(a)("cluster").text
    events = [event["data"] for event in Api.of(a).get("/api/v1/events").json if event["kind"] == "cluster"]
    assert {"node": "b", "state": "differs", "text": "; ".join(lines)} in events
    patch(a, "t0", admin="drain")
    wait_until(lambda: pool(b)["t0"] == ("drain", 1), "what is said holds all the same")
    a.config["apps"] = [{**b.config["apps"][0], "ports": a.config["apps"][0]["ports"]}, {**extra, "ports": [free_port()]}]
    reload(a)
    for program in (a, b):
        program.wait_log("has the same configuration again")
        program.baseline.clear()  # another listener has come


def test_an_agent_that_is_replaced_goes_on(node):
    """What was said while there was none arrives."""
    a, b = node("a"), node("b")
    for number in range(3):
        pid = next(pid for pid, line in procfs.children(a.pid).items() if b"cluster_agent" in line)
        os.kill(pid, signal.SIGKILL)
        patch(a, f"t{number}", weight=number + 2)
        until_pool((a, b), **{f"t{one}": ("ready", one + 2) for one in range(number + 1)})
    assert [one["differs"] for one in Api.of(b).get("/api/v1/cluster").json["members"]] == [[], []]
