"""Health by vote: one node that is cut off from a target takes it from nobody, most of the nodes take it from all, and what
a target says of itself on one node holds on all."""

import json

import pytest

from kit.api import Api, api_config
from kit.ctl import Ctl
from kit.etcd import Etcd
from kit.waiting import pause, wait_until

LEASE = 2
TARGETS = "/api/v1/apps/app/targets"
BALLOT = "/tcp-proxy/default/shared/health/app/"


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as one:
        yield one


class Checked:
    """A node whose check of t0 fails while there is a file of the node's name."""

    def __init__(self, program, folder, name):
        self.program, self.name, self.file = program, name, folder / f"fails-{name}"

    def fails(self):
        self.file.touch()
        return self

    def passes(self):
        self.file.unlink()

    def state(self, target="t0"):
        found = Api.of(self.program).get(f"{TARGETS}/{target}").json
        return found["state"], found["why"]


@pytest.fixture
def node(etcd, proxy, service, tmp_path):
    """node("a"): its check is a script of its own."""
    backends = [{"name": f"t{number}", "address": service(greeting=b"t%d" % number).address} for number in range(2)]

    def start(name, cluster=(), **check):
        script = tmp_path / f"check-{name}"
        fails = f'[ "$TCP_PROXY_TARGET" != t0 ] || [ ! -e {tmp_path}/fails-{name} ]'
        script.write_text(f"#!/bin/sh\ntouch {tmp_path}/checked-by-{name}\n{fails}\n")
        script.chmod(0o755)
        # A timeout is never above its interval: a script that must not fail has time to be started on a busy machine.
        health = [{"type": "script", "command": str(script), "interval": 2, "interval_down": 0.1, **check}]
        top = {"cluster": {"endpoints": etcd.urls, "node": name, "lease": LEASE, **dict(cluster)}, "api": api_config()}
        return Checked(proxy(targets=backends, top=top, health=health), tmp_path, name)

    return start


def ballot(etcd, node):
    return json.loads(etcd.value(BALLOT + node.name) or '{"down": {}, "unproven": ["t0"]}')


def until_told(etcd, *nodes, down):
    """That is what they say of t0, in etcd, and every node has heard it."""
    for node in nodes:
        wait_until(
            lambda one=node: (t := ballot(etcd, one), "t0" in t["down"], "t0" in t["unproven"])[1:] == (down, False),
            f"{node.name} finds it {'down' if down else 'up'}",
        )


def until_known(etcd, *nodes):
    """All that is in etcd now."""
    revision = etcd.revision()
    for node in nodes:
        wait_until(lambda one=node: Api.of(one.program).get("/api/v1/cluster").json["revision"] >= revision, "heard")


def until_state(state, *nodes):
    for node in nodes:
        wait_until(lambda one=node: one.state()[0] == state, lambda one=node: f"{one.name}: {state}, not {one.state()}")


def test_most_nodes_decide_for_all(node, etcd):
    a, b, c = (node(name) for name in "abc")
    until_told(etcd, a, b, c, down=False)
    a.fails()
    until_told(etcd, a, down=True)
    until_known(etcd, a, b, c)
    assert [one.state()[0] for one in (a, b, c)] == ["up"] * 3, "one that is cut off from it takes it from nobody"
    b.fails()
    until_state("down", a, b, c)
    assert "; 2 of 3 nodes say down)" in c.state()[1]
    assert a.state("t1")[0] == "up"
    late = node("d")
    until_told(etcd, late, down=False)
    until_state("up", a, b, c, late)
    assert late.program.stop() == 0
    until_state("down", a, b, c)
    assert b.program.stop() == 0
    until_state("up", a, c)
    c.fails()
    until_state("down", a, c)
    a.passes()
    c.passes()
    until_state("up", a, c)


def test_what_a_node_finds_that_an_operator_calls_unfit_does_not_count(node, etcd):
    a, b = node("a"), node("b")
    until_told(etcd, a, b, down=False)
    a.fails()
    b.fails()
    until_state("down", a, b)
    assert Ctl.of(b.program)("unfit", "--why", "its switch is broken").status == 0
    for one in (a, b):
        wait_until(lambda one=one: unfit(one) == {"a": None, "b": "its switch is broken"}, "all have heard of it")
    assert "node b is unfit: its switch is broken" in Ctl.of(a.program)("cluster").text.splitlines()
    a.passes()
    until_state("up", a, b)
    until_told(etcd, b, down=True)
    assert Ctl.of(b.program)("fit").status == 0
    a.fails()
    until_state("down", a, b)
    assert unfit(a) == {"a": None, "b": None}
    said = [event["data"] for event in Api.of(a.program).get("/api/v1/events").json if event["kind"] == "cluster"]
    assert [one["state"] for one in said if one["state"].endswith("fit")] == ["unfit", "fit"]


def unfit(node):
    return {one["node"]: one["unfit"] for one in Api.of(node.program).get("/api/v1/cluster").json["members"]}


def test_alone_a_node_goes_by_what_it_finds_itself(node, etcd):
    a, b, c = (node(name) for name in "abc")
    until_told(etcd, a, b, c, down=False)
    a.fails()
    until_told(etcd, a, down=True)
    until_known(etcd, a, b, c)
    assert [one.state()[0] for one in (a, b, c)] == ["up"] * 3
    etcd.kill(0)
    until_state("down", a)
    assert [one.state()[0] for one in (b, c)] == ["up"] * 2
    etcd.start(0)
    until_state("up", a, b, c)


def test_a_check_of_local_scope_is_for_its_own_node(node, etcd):
    a, b = node("a", scope="local"), node("b", scope="local")
    a.fails()
    until_state("down", a)
    assert b.state()[0] == "up", b.state()
    assert etcd.keys(BALLOT) == []


def test_what_a_target_says_of_itself_holds_on_all(node, etcd):
    a, b = node("a"), node("b")
    until_told(etcd, a, b, down=False)
    Api.of(a.program).ask("POST", f"{TARGETS}/t0/unhealthy", {"for": 3600, "why": "disk"}, status=200)
    until_state("down", a, b)
    assert b.state()[1].endswith("disk, said on node a")
    c = node("c")
    until_state("down", c)
    Api.of(c.program).ask("POST", f"{TARGETS}/t0/unhealthy", {"for": 0}, status=200)
    until_state("up", a, b, c)
    Api.of(c.program).ask("POST", f"{TARGETS}/t0/unhealthy", {"for": 2}, status=200)
    until_state("down", a, b, c)
    until_state("up", a, b, c)


def test_one_of_three_checks_and_another_one_when_it_is_gone(node, etcd, tmp_path):
    programs = {name: node(name, {"checkers": 1}, interval=0.1) for name in "abc"}

    def checking():
        """Once all know of all, and after a while in which the others would have checked ten times."""
        for one in tmp_path.glob("checked-by-*"):
            one.unlink()
        pause(1.0)
        return {one.name[-1] for one in tmp_path.glob("checked-by-*")}

    wait_until(lambda: len(etcd.keys(BALLOT)) == 1, "one ballot")
    (chosen,) = etcd.keys(BALLOT)[0][-1]
    wait_until(lambda: checking() == {chosen}, "one of them checks")
    programs[chosen].fails()
    until_state("down", *programs.values())
    gone = programs.pop(chosen)
    assert gone.program.stop() == 0
    until_state("up", *programs.values())
    wait_until(lambda: len(checking()) == 1, "another one checks")
    etcd.kill(0)
    wait_until(lambda: checking() == programs.keys(), "cut off, each checks for itself")
    etcd.start(0)
    wait_until(lambda: len(checking()) == 1, "one again")
    for one in programs.values():
        one.program.baseline.clear()  # of one that checks no more: it had the pipes of a script then
