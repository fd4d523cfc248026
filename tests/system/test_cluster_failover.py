"""One primary in a cluster: an election is held once, all nodes follow, and whoever is cut off sends nobody anywhere."""

import contextlib
import os
import signal
import threading
import time

import pytest

from benchmarks.history import Election, Seen, primary_fault
from kit import procfs
from kit.api import Api, api_config
from kit.ctl import Ctl
from kit.etcd import Etcd
from kit.peer import connect
from kit.servers import Service
from kit.waiting import wait_until

LEASE = 2


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as one:
        yield one


class Rig:
    """Nodes a, b and c, whose app has one primary of p, q, r and s, each of which greets with its name. Each run of a
    trigger leaves a line in the file `runs`: node, epoch, target, and when."""

    def __init__(self, etcd, proxy, service, script, folder):
        self._etcd, self._proxy, self._script = etcd, proxy, script
        self.file = folder / "runs"
        self.services = {name: service(greeting=name.encode()) for name in "pqrs"}
        self.nodes = {}

    def start(self, node, on_demotion="keep", workers=1, check=None, more="", ready=True, lease=LEASE, **app):
        trigger = self._script(f'read -r up _ </proc/uptime; echo "{node} $TCP_PROXY_EPOCH $1 $up" >> {self.file}; {more}')
        targets = [{"name": name, "address": one.address} for name, one in self.services.items()]
        cluster = {"endpoints": self._etcd.urls, "node": node, "lease": lease}
        top = {"cluster": cluster, "api": api_config(), "workers": workers}
        failover = {"triggers": [trigger], "on_demotion": on_demotion, "election_wait": 60, "max_backoff": 1}
        failover |= {"script_timeout": 300}
        if check is not None:
            failover["check"] = check
        app |= {"balance": "failover", "failover": failover, "health": [], "timeouts": {"connect": 1}}
        made = self._proxy(targets=targets, top=top, ready=ready, **app)
        made.uncounted = None
        self.nodes[node] = made
        return made

    def all(self, **how):
        return [self.start(node, **how) for node in "abc"]

    def runs(self):
        """(node, epoch, target) of each."""
        return [(node, int(epoch), target) for node, epoch, target, _ in self._lines()]

    def elections(self):
        """When, by the clock of the clients: the trigger's shows hundredths of a second."""
        ahead = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        times = [(epoch, target, float(up) - ahead) for _, epoch, target, up in self._lines()]
        return [Election(int(epoch), target, at, at + 0.01) for epoch, target, at in times]

    def _lines(self):
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        names = {one.address: name for name, one in self.services.items()}
        return [(node, epoch, names[address], up) for node, epoch, address, up in map(str.split, lines)]

    def leader(self):
        """Its name, as soon as all nodes say the same."""

        def agreed():
            told = {election(one)["leader"] for one in self.nodes.values()}
            return told.pop() if len(told) == 1 and "" not in told else None

        return wait_until(agreed, "a leader")

    def until_served_by(self, target, *programs):
        for program in programs or self.nodes.values():
            wait_until(lambda one=program: greeted(one) == target, f"{target} is primary", 30.0)

    def end(self, node, number=signal.SIGKILL):
        """The program and all its children, at once."""
        program = self.nodes.pop(node)
        program.workers()
        os.killpg(program.process.pid, number)
        return program


@pytest.fixture
def rig(etcd, proxy, service, script, tmp_path):
    return Rig(etcd, proxy, service, script, tmp_path)


def election(program):
    return Api.of(program).get("/api/v1/apps/app/election").json


def greeted(program):
    with connect(program.port) as client:
        return client.receive(1).decode()


def test_an_election_is_held_once_and_all_follow(rig):
    rig.all()
    rig.until_served_by("p")
    leader = rig.leader()
    epoch = election(rig.nodes["a"])["epoch"]
    assert rig.runs() == [(leader, epoch, "p")]
    rig.services["p"].stop_listening()
    for program in rig.nodes.values():
        assert greeted(program) == "q"
    (first, second) = rig.runs()
    assert second[1:] == (election(rig.nodes["a"])["epoch"], "q")
    assert second[1] > first[1]
    assert {election(one)["epoch"] for one in rig.nodes.values()} == {second[1]}
    decides, node = rig.leader(), rig.nodes["a"]
    members = Api.of(node).get("/api/v1/cluster").json["members"]
    assert {one["node"]: one["leads"] for one in members} == {name: ["app"] * (name == decides) for name in "abc"}
    rows = [line.split() for line in Ctl.of(node)("cluster").text.splitlines()[2:6]]
    assert rows[0][-1] == "leads"
    assert {row[0]: row[-1] for row in rows[1:]} == {name: "app" if name == decides else "-" for name in "abc"}


def test_the_node_that_decides_is_killed_and_another_one_goes_on_without_an_election(rig):
    rig.all()
    rig.until_served_by("p")
    leader = rig.leader()
    rig.end(leader)
    assert all(greeted(one) == "p" for one in rig.nodes.values()), "nothing of the primary has changed"
    wait_until(lambda: rig.leader() != leader, "another node decides")
    assert len(rig.runs()) == 1
    rig.services["p"].stop_listening()
    rig.until_served_by("q")
    assert [target for _, _, target in rig.runs()] == ["p", "q"]


def test_a_node_that_dies_in_the_middle_of_an_election_leaves_it_to_another_one(rig, tmp_path):
    """Its triggers run for long; the election is held anew, with an epoch of its own, and nobody is served before."""
    stuck = tmp_path / "stuck"
    rig.all(more=f"while [ -e {stuck} ]; do sleep 0.01; done")
    rig.until_served_by("p")
    stuck.touch()
    leader = rig.leader()
    Api.of(rig.nodes[leader]).ask("POST", "/api/v1/apps/app/targets/q/promote", status=202)
    wait_until(lambda: len(rig.runs()) == 2, "the trigger runs")
    rig.end(leader)
    wait_until(lambda: len(rig.runs()) == 3, "it runs elsewhere", 30.0)
    stuck.unlink()
    _, second, third = rig.runs()
    assert second[0] == leader
    assert third[0] != leader
    assert third[1] > second[1]
    rig.until_served_by(third[2])
    assert len(rig.runs()) == 3


@contextlib.contextmanager
def standing_still(*pids):
    """They go on at the end, or when that is said."""

    def go_on():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield go_on
    finally:
        go_on()


def test_a_node_that_stands_still_for_longer_than_its_lease_serves_nobody_until_it_knows_who_is_primary(rig):
    """All its processes. Clients that came meanwhile are served when it goes on: by the new primary."""
    rig.all()
    rig.until_served_by("p")
    leader = rig.leader()
    stopped = rig.nodes[leader]
    others = [one for name, one in rig.nodes.items() if name != leader]
    with standing_still(stopped.pid, *procfs.children(stopped.pid)) as go_on:
        wait_until(lambda: {election(one)["leader"] for one in others} not in ({leader}, {""}), "another node decides", 30.0)
        rig.services["p"].stop_listening()
        rig.until_served_by("q", *others)
        with Service(b"p", port=rig.services["p"].port), connect(stopped.port) as client:
            go_on()
            assert client.receive(1) == b"q", "p listens, and is not primary any more"
    rig.until_served_by("q")
    assert [target for _, _, target in rig.runs()] == ["p", "q"]


def test_a_supervisor_that_stands_still_cannot_keep_its_workers_sending(rig):
    rig.all()
    rig.until_served_by("p")
    leader = rig.leader()
    stopped = rig.nodes.pop(leader)
    with standing_still(stopped.pid):
        wait_until(lambda: is_refused(stopped), "its time is over", 30.0)
        wait_until(lambda: election(rig.nodes[min(rig.nodes)])["leader"] not in (leader, ""), "another node decides", 60.0)
        assert is_refused(stopped)
    rig.nodes[leader] = stopped
    rig.until_served_by("p")


def is_refused(program):
    """A client waits."""
    with connect(program.port) as client:
        try:
            client.expect_silence(0.2)
        except AssertionError:
            return False
        return True


def test_without_etcd_nobody_is_sent_to_a_primary_and_with_keep_all_are(rig, etcd):
    stops, keeps = rig.start("a"), rig.start("b", without_quorum="keep")
    rig.until_served_by("p")
    etcd.kill(0)
    for program in (stops, keeps):
        program.wait_log("is cut off, traffic goes on with what is known")
    wait_until(lambda: is_refused(stops), "its time is over", 30.0)
    assert greeted(keeps) == "p"
    answer = Api.of(stops).ask("POST", "/api/v1/apps/app/targets/q/promote", status=409)
    assert "this node is cut off from its cluster" in answer.text, "it would be carried out when nobody expects it any more"
    etcd.start(0)
    rig.until_served_by("p")
    assert len(rig.runs()) == 1


def test_a_target_is_promoted_on_any_node(rig):
    rig.all()
    rig.until_served_by("p")
    leader = rig.leader()
    follower = next(one for name, one in rig.nodes.items() if name != leader)
    Api.of(follower).ask("POST", "/api/v1/apps/app/targets/r/promote", status=202)
    rig.until_served_by("r")
    assert Ctl.of(rig.nodes[leader])("promote", "app", "q").status == 0
    rig.until_served_by("q")
    assert [target for _, _, target in rig.runs()] == ["p", "r", "q"]
    assert {node for node, _, _ in rig.runs()} == {leader}


def agent_of(program):
    return next(pid for pid, line in procfs.children(program.pid).items() if b"cluster_agent" in line)


def test_an_order_outlives_the_lead_of_a_node_that_has_it_again(rig):
    one = rig.start("a", lease=5)
    rig.until_served_by("p")
    with standing_still(agent_of(one)):
        promote(one, "q")
        one.wait_log("this node does not decide any more")
    rig.until_served_by("q")
    assert [target for _, _, target in rig.runs()] == ["p", "q"]


def test_an_order_outlives_the_lead_of_the_node_that_has_taken_it_up(rig):
    """Its agent stands still, so nothing of the election is written; whoever decides then carries it out."""
    rig.all(lease=5)  # so that the order comes before it is over
    rig.until_served_by("p")
    leader = rig.leader()
    others = [one for name, one in rig.nodes.items() if name != leader]
    with standing_still(agent_of(rig.nodes[leader])):
        promote(rig.nodes[leader], "q")
        rig.nodes[leader].wait_log("app app: a primary is looked for: q is to be promoted")
        rig.nodes[leader].wait_log("this node does not decide any more")
        wait_until(lambda: {election(one)["leader"] for one in others} not in ({leader}, {""}), "another node decides")
        assert {greeted(one) for one in others} == {"p"}
    rig.until_served_by("q")
    assert [target for _, _, target in rig.runs()] == ["p", "q"]


def test_sessions_with_a_former_primary_end_on_all_nodes_before_another_one_is_asked(rig):
    rig.all(on_demotion="close")
    rig.until_served_by("p")
    clients = [connect(one.port) for one in rig.nodes.values()]
    for client in clients:
        client.expect(b"p")
    Api.of(rig.nodes["a"]).ask("POST", "/api/v1/apps/app/targets/q/promote", status=202)
    for client in clients:
        client.expect_rst()
        client.close()
    rig.until_served_by("q")


def test_a_node_that_ends_gives_the_decision_to_another_one(rig):
    rig.all()
    rig.until_served_by("p")
    leader = rig.leader()
    ended = rig.nodes.pop(leader)
    assert ended.stop() == 0
    assert rig.leader() != leader
    rig.until_served_by("p")
    assert len(rig.runs()) == 1


def test_a_node_that_an_operator_calls_unfit_gives_the_decision_to_another_one(rig):
    rig.all()
    rig.until_served_by("p")
    leader = rig.leader()
    assert Ctl.of(rig.nodes[leader])("unfit").status == 0
    wait_until(lambda: rig.leader() != leader, "another node decides")
    assert {greeted(one) for one in rig.nodes.values()} == {"p"}
    assert len(rig.runs()) == 1


class Clients:
    """One after another at each of these ports; what they have seen is in `seen`."""

    def __init__(self, ports):
        self.seen = []
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(port,), name=f"at {port}", daemon=True) for port in ports]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, port):
        while not self._is_over.wait(0.01):
            asked = time.monotonic()
            with contextlib.suppress(OSError, AssertionError), connect(port, seconds=1.0) as client:
                target = client.receive(1, seconds=1.0).decode()
                if target:
                    self.seen.append(Seen(asked, time.monotonic(), target))


def promote(program, target):
    """As soon as a node decides: on a machine that has much to do none may for a moment."""
    path = f"/api/v1/apps/app/targets/{target}/promote"

    def is_taken():
        answer = Api.of(program).ask("POST", path)
        assert answer.status in (202, 409), answer.text
        assert answer.status == 202 or "no node of the cluster decides" in answer.text, answer.text
        return answer.status == 202

    wait_until(is_taken, "the order is taken")


def test_the_history_of_all_clients_is_that_of_one_primary(rig):
    """While it is changed by an order, while the node that decides stands still, and after that one is killed."""
    rig.all()
    rig.until_served_by("p")
    with Clients([one.port for one in rig.nodes.values()]) as clients:
        leader = rig.leader()
        promote(next(one for name, one in rig.nodes.items() if name != leader), "q")
        rig.until_served_by("q")
        leader = rig.leader()
        stopped = rig.nodes[leader]
        others = [one for name, one in rig.nodes.items() if name != leader]
        with standing_still(stopped.pid, *procfs.children(stopped.pid)):
            wait_until(lambda: {election(one)["leader"] for one in others} not in ({leader}, {""}), "another decides", 30.0)
            promote(others[0], "r")
            rig.until_served_by("r", *others)
        rig.until_served_by("r")
        leader = rig.leader()
        rig.end(leader)
        wait_until(lambda: rig.leader() != leader, "another node decides")
        promote(rig.nodes[min(rig.nodes)], "s")
        rig.until_served_by("s")
    assert primary_fault(clients.seen, rig.elections()) is None
    assert {one.target for one in clients.seen} == set("pqrs")
    assert [target for _, _, target in rig.runs()] == list("pqrs"), "triggers once an election"
    epochs = [epoch for _, epoch, _ in rig.runs()]
    assert epochs == sorted(set(epochs))
