"""Three members of etcd and three proxies on this machine, under load, while faults come: from the clients' side one key has
one target, as long as that target is up. The short form, on loopback; what each does to one agent is in tests/control."""

import http.client
import json
import os
import signal
import threading

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.etcd import Etcd
from kit.peer import connect
from kit.waiting import wait_until

LEASE = 2
KEYS = 40


class Clients:
    """Clients of a few addresses, again and again, at all nodes; who has greeted each of them, in order."""

    def __init__(self, programs):
        self.programs = programs
        self.greeted = {f"127.0.5.{number + 1}": [] for number in range(KEYS)}
        self.failures = []
        self.rounds = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clients", daemon=True)
        self._thread.start()

    def _run(self):
        while not self._is_over.is_set():
            for at, source in enumerate(self.greeted):
                for other in range(2):
                    self._come(source, self.programs[(at + self.rounds + other) % 3])
            self.rounds += 1

    def _come(self, source, program):
        try:
            with connect(program.port, source=source) as client:
                self.greeted[source].append(client.receive(2).decode())
        except OSError as error:
            self.failures.append((source, repr(error)))

    def more(self, rounds=2):
        """Until each has come so often from now on."""
        wanted = self.rounds + rounds + 1
        wait_until(lambda: self.rounds >= wanted or not self._thread.is_alive(), "more rounds", 60.0)

    def end(self):
        self._is_over.set()
        self._thread.join()


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path, members=3) as one:
        yield one


@pytest.fixture
def nodes(etcd, proxy, service):
    targets = [{"name": f"t{number}", "address": service(greeting=b"t%d" % number).address} for number in range(3)]
    made = []
    for name in "abc":
        top = {"cluster": {"endpoints": etcd.urls, "node": name, "lease": LEASE}, "api": api_config()}
        made.append(proxy(targets=targets, top=top, sticky={"expires": 60}))
        made[-1].uncounted = None
    return made


@pytest.fixture
def clients(nodes):
    made = Clients(nodes)
    yield made
    made.end()
    assert made.failures == []
    moved = {source: greeted for source, greeted in made.greeted.items() if len(set(greeted)) != 1}
    assert moved == {}, "one key, one target"


def until_joined(*programs):
    for program in programs:
        wait_until(lambda one=program: Api.of(one).get("/api/v1/cluster").json["state"] == "joined", "joined", 60.0)


def agent_of(program):
    return next(pid for pid, line in procfs.children(program.pid).items() if b"cluster_agent" in line)


def test_every_member_of_etcd_is_killed_in_turn(etcd, nodes, clients):
    clients.more()  # all keys are known: a new one may be settled by its hash while nobody answers
    for member in range(3):
        etcd.kill(member)
        clients.more()
        etcd.start(member)
        etcd.leader()
    until_joined(*nodes)


def test_a_majority_of_etcd_stands_still_for_longer_than_the_lease(etcd, nodes, clients):
    clients.more()
    for member in (0, 1):
        etcd.stop(member)
    for program in nodes:
        program.wait_log("is cut off, traffic goes on with what is known")
    clients.more()
    for member in (0, 1):
        etcd.go_on(member)
    until_joined(*nodes)
    clients.more()


def test_agents_are_killed_and_stand_still(nodes, clients):
    """Of keys that are known: a node whose agent is gone would take another target for a new one than the others do."""
    clients.more()
    os.kill(agent_of(nodes[0]), signal.SIGKILL)
    os.kill(agent_of(nodes[1]), signal.SIGSTOP)
    nodes[2].wait_log("cluster default: node b is gone")
    clients.more()
    nodes[1].wait_log("cluster agent .* has been silent", seconds=60.0)
    until_joined(*nodes)
    clients.more()


def test_history_is_compacted(etcd, nodes, clients):
    clients.more(1)
    for number in range(3):
        etcd.ctl("put", "compacted", str(number))  # known keys write nothing, and one revision can be compacted only once
        etcd.ctl("compact", str(etcd.revision()))
        clients.more(1)
    until_joined(*nodes)


def test_etcds_disk_is_full(etcd, nodes, clients):
    """The alarm NOSPACE: etcd takes nothing new, so every node is cut off; what is known stays."""
    clients.more()
    member = etcd.ctl("member", "list").split(",")[0]
    # The alarm as a member raises it itself, by the maintenance service of its gateway.
    ask = http.client.HTTPConnection(etcd.urls[0].removeprefix("http://"))
    ask.request("POST", "/v3/maintenance/alarm", json.dumps({"action": 1, "memberID": str(int(member, 16)), "alarm": 1}))
    assert ask.getresponse().status == 200
    ask.close()
    assert "NOSPACE" in etcd.ctl("alarm", "list")
    for program in nodes:
        program.wait_log("is cut off, traffic goes on with what is known")
    clients.more()
    etcd.ctl("alarm", "disarm")
    until_joined(*nodes)
    clients.more()
