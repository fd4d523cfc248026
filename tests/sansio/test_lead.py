"""Elections of a cluster, simulated: nodes, their workers and etcd, with every message late, clocks that run differently,
nodes that stand still and die, leases that live too long. What must never be is looked for after each step."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.sansio.lead import (
    Abandon,
    Announce,
    Answer,
    Ask,
    Claim,
    Lead,
    LeadMachine,
    Pause,
    Publish,
    Release,
    Renew,
    Role,
    Serve,
    Written,
)

LEASE = 10.0
NAMES = ("a", "b", "c")


class Store:
    """etcd: one order of all that is written, told to each node in that order."""

    def __init__(self):
        self.revision = 0
        self.lead, self.lead_revision = ("", 0), 0  # node and lease
        self.written = Written(0, "")
        self.answers = {}
        self.leases = {}  # node -> number and time of the last renewal
        self.log = []

    def tell(self, kind, *about):
        self.revision += 1
        self.log.append((self.revision, kind, *about))

    def expire(self, node):
        number, _ = self.leases.pop(node)
        self.answers.pop(node, None)
        if self.lead == (node, number):
            self.lead, self.lead_revision = ("", 0), self.revision + 1
            self.tell("lead", "", 0)
        self.tell("answers", dict(self.answers))
        self.tell("gone", node)


class Worker:
    def __init__(self):
        self.inbox, self.is_stopped = [], False
        self.epoch, self.primary, self.until = 0, "", 0.0


class Node:
    def __init__(self, world, name, life):
        self.world, self.name, self.life = world, name, life
        self.rate, self.offset = world.random.uniform(1.0, 1.04), world.random.uniform(1000, 100_000)
        self.machine = LeadMachine(name, LEASE)
        self.worker = Worker()
        self.place = len(world.store.log)  # of the log, that is read from here on
        self.outbox = []
        self.lease = 0
        self.heard = {}
        self.is_stopped = False
        self.triggers = 0  # the epoch for which they run
        self.lead_revision = world.store.lead_revision
        for other in world.store.leases:  # as it reads everything
            self.heard[other] = self.now
        store = world.store
        self.do(self.machine.members(self.heard, self.now))
        self.do(self.machine.answers(dict(store.answers), self.now))
        self.do(self.machine.wrote(store.written, self.now))
        self.do(self.machine.held(store.lead[0], self.now, is_mine=False))

    @property
    def now(self):
        return self.world.time * self.rate + self.offset

    def do(self, actions):
        for action in actions:
            match action:
                case Claim():
                    self.outbox.append(("claim", self.lead_revision))
                case Release():
                    self.outbox.append(("release", self.lead_revision))
                case Announce():
                    self.outbox.append(("write", Written(action.epoch, ""), self.lead_revision))
                case Publish():
                    self.outbox.append(("write", Written(action.epoch, action.primary), self.lead_revision))
                case Answer():
                    self.outbox.append(("answer", action.epoch))
                case Pause() | Serve() | Renew():
                    self.worker.inbox.append(action)
                case Lead():
                    if not action.primary:
                        self.do(self.machine.elect())
                case Ask():
                    self.begin_triggers(action.epoch)
                case Abandon():
                    self.triggers = 0

    def begin_triggers(self, epoch):
        world = self.world
        assert not world.accepting(), "somebody still has sessions with the old primary"
        assert world.runs.setdefault(epoch, (self.name, self.life)) == (self.name, self.life)
        if self.machine.may_act(self.now):
            self.triggers = epoch

    def end_triggers(self):
        self.triggers = 0
        self.do(self.machine.found(self.world.random.choice("pqr")))

    def beat(self):
        self.outbox.append(("beat", self.now))

    def hear(self):
        """The next thing that etcd tells."""
        _, kind, *about = self.world.store.log[self.place]
        self.place += 1
        machine = self.machine
        if kind == "lead":
            self.lead_revision = self.world.store.log[self.place - 1][0]
            holder, lease = about
            self.do(machine.held(holder, self.now, is_mine=(holder, lease) == (self.name, self.lease) and lease > 0))
        elif kind == "written":
            self.do(machine.wrote(about[0], self.now))
        elif kind == "answers":
            self.do(machine.answers(about[0], self.now))
        elif kind == "gone":
            self.heard.pop(about[0], None)
            self.do(machine.members(self.heard, self.now))
        elif kind == "beat":
            other, life, lease, sent = about
            self.heard[other] = self.now
            self.do(machine.members(self.heard, self.now))
            if (other, life) == (self.name, self.life):
                if lease != self.lease:
                    self.lease = lease
                    self.do(machine.held(machine.holder, self.now, is_mine=False))
                if sent + LEASE > self.now:
                    self.do(machine.renewed(sent + LEASE, self.now))
        elif kind == "refused" and about[0] == self.name:
            machine.claimed()
            self.do(machine.look(self.now))


class World:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.time = 0.0
        self.store = Store()
        self.lives = 0
        self.nodes = {}
        self.leases = 0
        self.runs = {}  # epoch -> who runs its triggers
        for name in NAMES:
            self.start(name)

    def start(self, name):
        self.lives += 1
        self.nodes[name] = Node(self, name, self.lives)

    # -- what may happen

    def step(self, faults=True):
        random = self.random
        node = self.nodes.get(random.choice(NAMES))
        draw = random.random()
        if faults and draw < 0.004:
            self.fault(node)
        elif draw < 0.12:
            self.pass_time(random.choice((0.001, 0.01, 0.05, 0.3)) if faults else 0.02)
        elif node is None or node.is_stopped:
            pass
        elif draw < 0.15:
            node.beat()
        elif draw < 0.35 and node.outbox:
            self.apply(node, node.outbox.pop(0))
        elif draw < 0.78 and node.place < len(self.store.log):
            node.hear()
        elif draw < 0.9 and node.worker.inbox and not node.worker.is_stopped:
            self.work(node)
        elif draw < 0.93 and node.triggers:
            node.end_triggers()
        elif faults and draw < 0.934 and node.machine.role is Role.LEADING:
            node.do(node.machine.elect())
        elif faults and draw < 0.935:
            node.do(node.machine.resign(node.now))
        elif faults and draw < 0.937:  # as this node has heard so far
            node.do(node.machine.unfit([name for name in NAMES if random.random() < 0.5], node.now))
        else:
            node.do(node.machine.look(node.now))
        self.check()

    def fault(self, node):
        draw, random = self.random.random(), self.random
        if node is None:
            gone = [name for name in NAMES if name not in self.nodes and name not in self.store.leases]
            if gone:
                self.start(random.choice(gone))
        elif draw < 0.3:
            node.is_stopped = not node.is_stopped
        elif draw < 0.5:
            node.worker.is_stopped = not node.worker.is_stopped
        elif draw < 0.6:
            del self.nodes[node.name]  # with its workers, and what it had not said yet
        elif draw < 0.8:
            self.pass_time(self.random.uniform(1, 2 * LEASE))
        elif node.outbox and node.outbox[-1][0] == "beat":
            node.outbox.pop()  # it got lost

    def pass_time(self, seconds):
        self.time += seconds
        for name, (_, since) in tuple(self.store.leases.items()):
            if self.time - since > LEASE and self.random.random() < 0.3:  # etcd is never early, and may be late
                self.store.expire(name)

    def apply(self, node, request):
        store = self.store
        kind, *about = request
        if kind == "beat":
            if node.name not in store.leases:
                self.leases += 1
                store.leases[node.name] = self.leases, self.time
            number = store.leases[node.name][0]
            # Renewed when it was sent, as far as the node may count on it; etcd counts from now.
            store.leases[node.name] = number, self.time
            store.tell("beat", node.name, node.life, number, *about)
        elif kind == "answer":
            if node.name in store.leases:
                store.answers[node.name] = about[0]
                store.tell("answers", dict(store.answers))
        elif kind in ("claim", "release"):
            if about[0] != store.lead_revision or node.name not in store.leases:
                store.tell("refused", node.name)
                return
            store.lead = (node.name, store.leases[node.name][0]) if kind == "claim" else ("", 0)
            store.lead_revision = store.revision + 1
            store.tell("lead", *store.lead)
        elif about[1] == store.lead_revision:
            store.written = about[0]
            store.tell("written", about[0])

    def work(self, node):
        worker, message = node.worker, node.worker.inbox.pop(0)
        if isinstance(message, Pause):
            worker.epoch, worker.primary = message.epoch, ""
            if not node.is_stopped:
                node.do(node.machine.paused(message.epoch, node.now))
        elif isinstance(message, Serve):
            worker.epoch, worker.primary = message.epoch, message.primary
        elif message.epoch == worker.epoch:
            worker.until = message.until

    # -- what must be true

    def accepting(self):
        """Primaries to which a client would be sent now."""
        nodes = self.nodes.values()
        return {one.worker.primary for one in nodes if one.worker.primary and one.now < one.worker.until} - {""}

    def check(self):
        assert len(self.accepting()) <= 1, self.accepting()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_never_two_primaries_and_triggers_once_an_election(seed):
    world = World(seed)
    for _ in range(3000):
        world.step()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_when_the_faults_are_over_all_follow_one_primary(seed):
    world = World(seed)
    for _ in range(1000):
        world.step()
    for name in NAMES:
        if name in world.nodes:
            world.nodes[name].is_stopped = world.nodes[name].worker.is_stopped = False
    for _ in range(40_000):
        world.step(faults=False)
        if len(world.nodes) < 3:
            for name in NAMES:
                if name not in world.nodes and name not in world.store.leases:
                    world.start(name)
        nodes = world.nodes.values()
        if len(nodes) == 3 and len({(one.worker.epoch, one.worker.primary) for one in nodes}) == 1 and world.accepting():
            return
    pytest.fail(f"nobody serves: {world.nodes}")


# -- one machine, step by step


def leading(epoch=0, primary="", heard=None):
    machine = LeadMachine("a", LEASE)
    machine.members({"a": 0.0, **(heard or {})}, 0.0)
    machine.wrote(Written(epoch, primary), 0.0)
    machine.renewed(LEASE, 0.0)
    return machine, machine.held("a", 0.0, is_mine=True)


def test_an_election_waits_for_all_nodes_and_then_for_the_word_that_is_written():
    machine, actions = leading(heard={"b": 1.0})
    assert actions == [Lead(0, "")]
    assert machine.elect() == [Pause(1), Announce(1)]
    assert machine.paused(1, 2.0) == []
    assert machine.wrote(Written(1, ""), 2.0) == []
    assert (machine.role, machine.waits_for) == (Role.GATHERING, ["b"])
    assert machine.answers({"b": 0}, 3.0) == []
    assert machine.answers({"b": 1}, 3.0) == [Ask(1)]
    assert machine.found("p") == [Publish(1, "p")]
    assert machine.wrote(Written(1, "p"), 4.0) == [Serve(1, "p"), Renew(1, LEASE)]
    assert machine.renewed(12.0, 4.0) == [Renew(1, 12.0)]


def test_a_node_that_says_nothing_is_waited_for_until_it_can_have_no_time_left():
    machine, _ = leading(heard={"b": 1.0})
    machine.elect()
    machine.paused(1, 2.0)
    machine.wrote(Written(1, ""), 2.0)
    machine.members({"a": 5.0, "b": 9.0}, 9.0)  # heard again, behind what is written
    machine.renewed(20.0, 9.0)
    assert machine.next_look() == 11.5
    assert machine.look(11.4) == []
    assert machine.look(11.5) == [Ask(1)]


def test_a_node_that_follows_answers_when_its_workers_have_paused():
    machine = LeadMachine("b", LEASE)
    machine.renewed(LEASE, 0.0)
    machine.held("a", 0.0, is_mine=False)
    assert machine.wrote(Written(3, "p"), 0.0) == [Pause(3)]
    assert machine.paused(2, 0.0) == []
    assert machine.paused(3, 0.0) == [Serve(3, "p"), Renew(3, LEASE)]
    assert machine.wrote(Written(4, ""), 0.0) == [Pause(4)]
    assert machine.renewed(12.0, 1.0) == []
    assert machine.paused(4, 1.0) == [Answer(4)]
    assert machine.paused(4, 1.0) == []
    assert machine.wrote(Written(4, "q"), 2.0) == [Serve(4, "q"), Renew(4, 12.0)]


def test_a_lead_is_over_by_its_own_clock():
    machine, _ = leading(3, "p")
    machine.elect()
    assert machine.may_act(9.9)
    assert not machine.may_act(10.0)
    assert machine.look(10.0) == [Abandon(), Pause(3)]
    assert machine.found("q") == []


def test_the_lead_of_one_that_is_not_heard_is_claimed_when_its_time_is_over():
    machine = LeadMachine("b", LEASE)
    machine.members({"a": 1.0, "b": 1.0}, 1.0)
    machine.held("a", 1.0, is_mine=False)
    assert machine.renewed(19.0, 9.0) == []
    assert machine.look(11.4) == []
    assert machine.look(11.5) == [Claim()]
    assert machine.look(11.6) == []
    machine.claimed()
    assert machine.look(11.7) == [Claim()]
    assert machine.held("b", 11.8, is_mine=True) == [Lead(0, "")]


def test_a_lead_that_is_given_away_is_left_to_others_for_a_while():
    machine, _ = leading(3, "p", heard={"b": 0.0})
    assert machine.resign(1.0) == [Abandon(), Release()]
    assert machine.held("", 1.1, is_mine=False) == []
    assert machine.look(1.2) == []
    assert machine.look(1.3) == [Claim()]
    alone, _ = leading(3, "p")
    assert alone.resign(1.0) == []


def test_a_node_that_is_unfit_gives_the_lead_away_and_leaves_it_for_a_lease_to_one_that_is_not():
    machine, _ = leading(3, "p", heard={"b": 0.0})
    assert machine.unfit(["b"], 0.5) == []
    assert machine.unfit(["a"], 1.0) == [Abandon(), Release()]
    machine.renewed(30.0, 1.0)
    assert machine.held("", 1.1, is_mine=False) == []
    assert machine.look(1.3) == [], "the time to leave it to others begins"
    assert machine.next_look() == 1.3 + LEASE
    assert machine.held("b", 2.0, is_mine=False) == []
    assert machine.held("", 5.0, is_mine=False) == []
    assert machine.look(1.3 + LEASE) == [], "another one has had it: the time begins again"
    assert machine.look(1.3 + 2 * LEASE) == [Claim()], "nobody else decides on this app"


def test_a_node_that_is_unfit_decides_where_all_are_or_nobody_else_is_there():
    alone, _ = leading(3, "p")
    assert alone.unfit(["a"], 1.0) == []
    assert alone.is_leading
    machine, _ = leading(3, "p", heard={"b": 0.0})
    assert machine.unfit(["a", "b"], 1.0) == []
    assert machine.is_leading


def test_what_was_announced_before_its_time_was_over_for_a_while_is_done_again():
    machine, _ = leading(3, "p")
    machine.elect()
    machine.look(10.0)
    assert machine.renewed(20.0, 11.0)[0] == Lead(4, "p")
    assert Lead(4, "") in machine.wrote(Written(4, ""), 12.0)


def test_a_program_that_goes_on_as_a_node_has_nothing_to_tell_its_workers():
    """They know the primary; it has the lead as soon as it is known to be its own."""
    machine = LeadMachine("a", LEASE)
    machine.resume(Written(7, "p"))
    assert machine.wrote(Written(7, "p"), 100.0) == []
    assert machine.held("a", 100.0, is_mine=True) == []
    assert machine.renewed(110.0, 100.0) == [Lead(7, "p"), Renew(7, 110.0)]
    later = LeadMachine("a", LEASE)
    later.resume(Written(7, "p"))
    assert later.wrote(Written(8, ""), 100.0) == [Pause(8)], "there was an election meanwhile"
