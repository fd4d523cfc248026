"""A node of a cluster whose program is taken over from: for the others it is the same one, and nothing happens. The witness
is etcd's own history of all that was written."""

import base64
import contextlib
import json
import os
import signal
import subprocess

import pytest

from kit.api import Api, api_config
from kit.etcd import Etcd
from kit.peer import connect
from kit.programs import need
from kit.takeover import TOP, Succession, at_step
from kit.waiting import wait_until
from tcp_proxy.control.takeover.steps import Step

LEASE = 4
PREFIX = "/tcp-proxy/default/"


class History:
    """What etcd has had since this was made, in order."""

    def __init__(self, etcd, folder):
        self._etcd, self._file = etcd, folder / "history"
        argv = [need("etcdctl"), "--endpoints", etcd.urls[0], "watch", "--prefix", "/", "-w", "json"]
        argv += ["--rev", str(etcd.revision() + 1)]
        with self._file.open("wb") as output:
            self._process = subprocess.Popen(argv, stdout=output, env={**os.environ, "ETCDCTL_API": "3"})
        self._marks = 0

    def close(self):
        self._process.kill()
        self._process.wait()

    def changes(self):
        """(key, value, lease) of each, "" and 0 for one that is gone, up to now."""
        self._marks += 1
        mark = f"/mark{self._marks}"
        self._etcd.ctl("put", mark, "x")

        def read():
            found = [one for line in self._file.read_text().splitlines() if line.endswith("}") for one in _events(line)]
            return found if mark in [key for key, _, _ in found] else None

        found = wait_until(read, "all that was written")
        return [(key.removeprefix(PREFIX), *rest) for key, *rest in found if key.startswith(PREFIX)]


def _events(line):
    for event in json.loads(line)["Events"] or ():
        kv = event["kv"]
        yield _text(kv["key"]), _text(kv.get("value", "")), kv.get("lease", 0)


def _text(text):
    return base64.b64decode(text).decode()


class Node(Succession):
    def __init__(self, program, servers):
        super().__init__(program, servers)
        self.name = program.config["cluster"]["node"]

    @property
    def api(self):
        return Api.of(self.now)

    def greeted(self, port=0, source=None):
        with connect(self.now.config["apps"][port]["ports"][0], source=source) as client:
            return client.receive(1).decode()

    def election(self):
        return self.api.get("/api/v1/apps/app/election").json

    def state(self):
        return self.api.get("/api/v1/cluster").json

    def events(self, *kinds):
        return [one for one in self.api.get("/api/v1/events").json if one["kind"] in kinds]


class Rig:
    """Nodes a, b and c: an app with one primary of p and q, and a sticky one, of the same targets, which are checked."""

    def __init__(self, etcd, proxy, service, script, servers, folder):
        self.etcd, self._proxy, self._servers, self._script = etcd, proxy, servers, script
        self.runs_file = folder / "runs"
        self.services = {name: service(greeting=name.encode()) for name in "pq"}
        self.nodes = {}

    def start(self, name, free_port):
        trigger = self._script(f'echo "{name} $TCP_PROXY_EPOCH $1" >> {self.runs_file}')
        targets = [{"name": one, "address": service.address} for one, service in self.services.items()]
        cluster = {"endpoints": self.etcd.urls, "node": name, "lease": LEASE}
        top = {"cluster": cluster, "api": api_config(), "workers": 1}
        top |= {key: f"{name}.{value}" for key, value in TOP.items()}
        check = {"type": "tcp", "interval": 1, "fall": 2, "rise": 1}
        web = {"name": "web", "bind": "127.0.0.1", "ports": [free_port()], "targets": targets, "sticky": {"expires": 60}}
        web["health"] = [check]
        failover = {"triggers": [trigger], "election_wait": 60}
        app = {"name": "app", "bind": "127.0.0.1", "ports": [free_port()], "targets": targets, "balance": "failover"}
        app |= {"failover": failover, "health": []}
        program = self._proxy({"apps": [app, web], **top}, ready=False)
        program.uncounted = None
        self.nodes[name] = Node(program, self._servers)
        return self.nodes[name]

    def runs(self):
        return self.runs_file.read_text().splitlines() if self.runs_file.exists() else []

    def leader(self):
        def agreed():
            told = {one.election()["leader"] for one in self.nodes.values()}
            return told.pop() if len(told) == 1 and "" not in told else None

        return wait_until(agreed, "a leader")

    def until_whole(self):
        for node in self.nodes.values():
            wait_until(lambda one=node: len(one.state()["members"]) == len(self.nodes), "all are joined")
            wait_until(lambda one=node: one.election()["primary"] == "p", "p is primary")
            wait_until(lambda one=node: one.api.get("/api/v1/apps/web/targets/p").json["why"] != "not checked", "checked")


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as one:
        yield one


@pytest.fixture
def rig(etcd, proxy, service, script, servers, tmp_path, free_port):
    made = Rig(etcd, proxy, service, script, servers, tmp_path)
    for name in "abc":
        made.start(name, free_port)
    for node in made.nodes.values():
        node.now.wait_ready()
    made.until_whole()
    return made


@pytest.fixture
def history(rig, etcd, tmp_path):
    one = History(etcd, tmp_path)
    with contextlib.closing(one):
        yield one


@pytest.mark.parametrize("who", ["the one that decides", "one that follows"])
def test_an_upgrade_is_nothing_that_happens_in_the_cluster(rig, history, who):
    leader = rig.leader()
    name = leader if who == "the one that decides" else next(one for one in rig.nodes if one != leader)
    node = rig.nodes[name]
    clients = [f"127.0.9.{number}" for number in range(1, 9)]
    whose = {client: node.greeted(1, client) for client in clients}
    kept = node.now.connect().send(b"x").expect(b"px")
    epoch, before = node.election()["epoch"], node.state()
    node.upgrade()
    node.now.wait_log("management API on")
    kept.send(b"y").expect(b"y")
    assert node.greeted() == "p"
    assert {client: node.greeted(1, client) for client in clients} == whose
    wait_until(lambda: node.state()["members"][0]["heard"] < 1 and node.state()["state"] == "joined", "it is heard")
    assert rig.leader() == leader
    assert node.election()["epoch"] == epoch
    after = node.state()
    assert [one["node"] for one in after["members"]] == ["a", "b", "c"]
    own = [next(one for one in state["members"] if one["self"]) for state in (before, after)]
    assert own[0]["age"] < own[1]["age"], "it is the same node"
    changes = history.changes()
    ours = [(key, value, lease) for key, value, lease in changes if key == f"nodes/{name}"]
    assert len({lease for _, _, lease in ours}) == 1, "one lease"
    assert [one for one in changes if not one[1]] == [], "nothing is gone"
    said = {key for key, _, _ in changes if not key.startswith("nodes/")}
    assert said <= {f"sticks/web/{client}" for client in clients}, "nothing that is shared is written"
    assert len(rig.runs()) == 1
    for one in rig.nodes.values():
        data = [event["data"] for event in one.events("target")]
        assert [told for told in data if told["state"] != told["was"]] == []
        states = [event["data"]["state"] for event in one.events("cluster") if event["data"]["node"] == name]
        assert "gone" not in states
        assert "alone" not in states
    kept.close()


def wrong_configuration(node):
    return node.begin(config={**node.now.config, "workers": -1}), 2


def killed_at(step):
    return lambda node: (node.begin(program=at_step(step)), -signal.SIGKILL)


def stopped_at(step):
    def begin(node):
        """It stands still for longer than the lease would last."""
        new = node.begin(program=at_step(step, "SIGSTOP"))
        node.now.wait_log("it has said nothing for .*all goes on here", 40)
        new.signal(signal.SIGCONT)
        return new, 1

    return begin


@pytest.mark.parametrize(
    "begin",
    [wrong_configuration, killed_at(Step.TOLD), killed_at(Step.READY), killed_at(Step.COMPLETE), stopped_at(Step.COMPLETE)],
    ids=["wrong configuration", "told", "ready", "complete", "stands still"],
)
def test_after_a_take_over_that_has_failed_the_old_program_is_the_node_that_it_was(rig, history, begin):
    leader = rig.leader()
    node = rig.nodes[leader]
    new, status = begin(node)
    assert new.process.wait(30) == status, new.log
    if status < 0:
        node.now.wait_log("all goes on here")
    seen = len(history.changes())
    beats = lambda: [one for one in history.changes()[seen:] if one[0] == f"nodes/{leader}"]  # noqa: E731
    wait_until(lambda: len(beats()) > 2, "it says that it lives")
    assert rig.leader() == leader
    client = "127.0.9.1"
    whose = node.greeted(1, client)
    wait_until(lambda: any(key == f"sticks/web/{client}" for key, _, _ in history.changes()), "it may write")
    changes = history.changes()
    assert [one for one in changes if not one[1]] == []
    assert len({lease for key, _, lease in changes if key == f"nodes/{leader}"}) == 1
    assert {one.greeted(1, client) for one in rig.nodes.values()} == {whose}
    order = node.api.ask("POST", "/api/v1/apps/app/targets/q/promote", status=202)
    assert order.status == 202
    for one in rig.nodes.values():
        wait_until(lambda one=one: one.greeted() == "q", "it decides")
    assert [line.split()[0] for line in rig.runs()] == [leader, leader]
    assert node.state()["state"] == "joined"


def test_a_new_program_that_is_killed_right_after_is_a_node_that_was_killed(rig):
    leader = rig.leader()
    node = rig.nodes.pop(leader)
    new = node.begin(program=at_step(Step.OWNING))
    assert new.process.wait(30) == -signal.SIGKILL, new.log
    node.now.wait_log("has taken over")
    others = list(rig.nodes.values())
    for one in others:
        wait_until(lambda one=one: [each["node"] for each in one.state()["members"]] == sorted(rig.nodes), "gone", 60.0)
        assert one.greeted() == "p"
    assert rig.leader() in rig.nodes
    assert len(rig.runs()) == 1, "no election was held"


def test_what_an_operator_has_said_of_the_node_outlives_an_upgrade(rig, history):
    node = rig.nodes["b"]
    node.api.ask("PUT", "/api/v1/cluster/unfit", {"why": "its links"}, status=202)
    unfit = lambda one: {each["node"]: each["unfit"] for each in one.state()["members"]}  # noqa: E731
    for one in rig.nodes.values():
        wait_until(lambda one=one: unfit(one)["b"] == "its links", "it is unfit")
    rig.leader()
    node.upgrade()
    node.now.wait_log("management API on")
    assert [one for one in history.changes() if not one[1] and one[0].startswith("shared/unfit/")] == []
    for one in rig.nodes.values():
        wait_until(lambda one=one: unfit(one) == {"a": None, "b": "its links", "c": None}, "it still is")
    node.api.ask("DELETE", "/api/v1/cluster/unfit", status=202)
    for one in rig.nodes.values():
        wait_until(lambda one=one: unfit(one)["b"] is None, "and that can be taken back")


def test_with_another_name_it_is_another_node(rig, history):
    node = rig.nodes["b"]
    config = {**node.now.config, "cluster": {**node.now.config["cluster"], "node": "d"}}
    node.upgrade(config=config)
    for one in rig.nodes.values():
        wait_until(lambda one=one: [each["node"] for each in one.state()["members"]] == ["a", "c", "d"], "d for b")
    assert ("nodes/b", "", 0) in history.changes()


def test_one_that_decides_and_has_found_nobody_can_be_upgraded(rig):
    """There is no primary to go on with: the new program looks for one, or leaves that to another node, as any does."""
    leader = rig.leader()
    node = rig.nodes[leader]
    admin = lambda target, said: node.api.ask("PATCH", f"/api/v1/apps/app/targets/{target}", {"admin": said}, status=200)  # noqa: E731
    admin("q", "drain")
    admin("p", "drain")
    wait_until(lambda: node.election()["phase"] == "waiting", lambda: f"nobody is found: {node.election()}")
    assert rig.leader() == leader
    node.upgrade()
    node.now.wait_log("management API on")
    admin("q", "ready")
    for one in rig.nodes.values():
        wait_until(lambda one=one: one.election()["primary"] == "q", "q is found")
        assert one.greeted() == "q"
    assert len(rig.runs()) == 2
