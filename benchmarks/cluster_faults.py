"""What is done to a cluster under load, each with what proves that it is so; and what has to happen all the same.

Each fault begins and ends with a cluster that is whole. Where a node can still decide, the primary is changed while it
lasts: who goes on with the old one would be found by the history.
"""

import contextlib
import datetime
import random
import time
from collections.abc import Callable, Iterable
from functools import partial

from benchmarks.cluster_clients import Clients
from benchmarks.cluster_lab import MEMBERS, MIB, NODES, TARGETS, WITHIN, Lab
from benchmarks.history import Move
from benchmarks.programs import Failed
from benchmarks.waiting import now, pause, wait_until

Fault = Callable[["Scene"], None]
SOME = 20  # clients at each node that can be served, while a fault lasts
HOUR = 3600
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    def add(do: Fault) -> Fault:
        FAULTS[name] = do
        return do

    return add


def moment() -> str:
    """As the logs have it."""
    return datetime.datetime.now(datetime.UTC).strftime("%H:%M:%S.%f")[:-3]


class Scene:
    """A cluster, its clients, and the dice."""

    def __init__(self, lab: Lab, clients: Clients, dice: random.Random) -> None:
        self.lab, self.clients, self.dice = lab, clients, dice
        self.primary, self.decides = "", ""
        self.notes: list[str] = []  # what is no fault, and good to know

    def look(self) -> None:
        self.primary, self.decides = self.lab.until_agreed()

    def some_node(self) -> str:
        """Each second time it is the one that decides."""
        return self.decides if self.dice.random() < 0.5 else self.dice.choice(NODES)

    def others(self, node: str) -> list[str]:
        return [one for one in NODES if one != node]

    def change_primary(self, nodes: Iterable[str], not_to: Iterable[str] = ()) -> None:
        """By an order to one of these nodes, whose clients are then greeted by another target."""
        nodes = list(nodes)
        end = now() + WITHIN
        while now() < end:
            self.primary, _ = self.lab.until_agreed(nodes)
            target = self.dice.choice([one for one in TARGETS if one != self.primary and one not in not_to])
            at = self.dice.choice(nodes)
            refusal = self.lab.promote(at, target)
            if not refusal and self.clients.until_primary(target, nodes):
                return
            what = refusal or f"not carried out, {self.lab.primary(nodes)[0] or 'nobody'} is primary"
            self.notes.append(f"{moment()} order to {at} to promote {target}: {what}")
        raise Failed(f"no order to make another target primary was carried out by nodes {', '.join(nodes)}")

    def start_node(self, node: str, clock: int = 0) -> None:
        """One that has waited for etcd in vain serves with empty tables until it is joined."""
        begin = now()
        if not self.lab.start_node(node, clock):
            self.lab.until_whole()
            self.clients.moves.append(Move(begin, now(), frozenset(TARGETS)))
            self.notes.append(f"{moment()} node {node} has served alone when it was started")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def holds() -> bool:
            self.lab.check()
            return condition()

        wait_until(holds, what, WITHIN, every=0.05)

    def until_alone(self, nodes: Iterable[str]) -> None:
        self.until(lambda: all(self.lab.state(node) == "alone" for node in nodes), f"{nodes} are cut off")

    def until_nobody_is_greeted(self, node: str) -> None:
        """By a primary, at this node, for as long as many of them would have come."""
        counts, key = self.clients.counts, ("db", node)
        known = [-1, 0.0]

        def is_over() -> bool:
            if counts[key] != known[0]:
                known[:] = [counts[key], now()]
            return now() - known[1] > 1.5

        self.until(is_over, f"no client of node {node} is sent to a primary any more")


@fault("a node is cut off from etcd")
def node_without_etcd(scene: Scene) -> None:
    node = scene.some_node()
    with scene.lab.cut([node], MEMBERS):
        scene.until_alone([node])
        scene.change_primary(scene.others(node))
        scene.until_nobody_is_greeted(node)
        scene.clients.more(SOME, ["web"])
        scene.clients.more(SOME, ["db"], scene.others(node))


@fault("etcd's leader is cut off from the other members")
def leader_without_members(scene: Scene) -> None:
    leader = scene.lab.until_led()
    others = [one for one in MEMBERS if one != leader]
    with scene.lab.cut([leader], others):
        scene.lab.until_led(others)
        scene.clients.more(SOME, ["web"])
        scene.change_primary(NODES)
        scene.clients.more(SOME)


@fault("no member of etcd reaches another")
def no_majority(scene: Scene) -> None:
    with scene.lab.cut(MEMBERS, MEMBERS):
        scene.until_alone(NODES)
        for node in NODES:
            scene.until_nobody_is_greeted(node)
        scene.clients.more(SOME, ["web"])


@fault("a member of etcd is killed")
def member_killed(scene: Scene) -> None:
    member = scene.lab.until_led() if scene.dice.random() < 0.5 else scene.dice.choice(MEMBERS)
    scene.lab.kill(member)
    scene.lab.until_led([one for one in MEMBERS if one != member])
    scene.clients.more(SOME, ["web"])
    scene.change_primary(NODES)
    scene.lab.start_member(member)


@fault("a member of etcd stands still")
def member_stands_still(scene: Scene) -> None:
    member = scene.lab.until_led()
    scene.lab.running[member].stop()
    try:
        scene.lab.until_led([one for one in MEMBERS if one != member])
        scene.clients.more(SOME, ["web"])
        scene.change_primary(NODES)
    finally:
        scene.lab.running[member].go_on()


@fault("a node is cut off from the primary")
def node_without_primary(scene: Scene) -> None:
    """The others reach it: it stays primary, or another node decides. The node's own keys of that target move."""
    node, target = scene.some_node(), scene.primary
    with scene.clients.moving(target), contextlib.ExitStack() as stack:
        with scene.clients.excused(node):  # those that are under way
            stack.enter_context(scene.lab.cut([node], [target]))
        with stack:
            scene.clients.more(SOME, ["web"])
            scene.change_primary(NODES, not_to=[target])
            scene.clients.more(SOME)
        scene.lab.until_whole()


@fault("a node is cut off from all targets")
def node_without_targets(scene: Scene) -> None:
    node = scene.some_node()
    others = scene.others(node)
    with scene.clients.moving(*TARGETS), scene.clients.excused(node):
        with scene.lab.cut([node], TARGETS):
            known = len(scene.clients.failures)
            scene.until(lambda: len(scene.clients.failures) > known, f"a client of node {node} is not served")
            scene.clients.more(SOME, nodes=others)
            scene.change_primary(others)
            scene.clients.more(SOME, nodes=others)
        scene.lab.until_whole()
        scene.clients.more(SOME)


@fault("the primary is cut off from all nodes")
def nobody_reaches_primary(scene: Scene) -> None:
    target = scene.primary
    with scene.clients.moving(target), contextlib.ExitStack() as stack:
        with scene.clients.excused(*NODES):  # those that are under way
            stack.enter_context(scene.lab.cut(NODES, [target]))
        with stack:
            scene.until(lambda: scene.lab.primary()[0] not in ("", target), "another target is primary")
            scene.clients.more(SOME)
        scene.lab.until_whole()


@fault("a node is killed")
def node_killed(scene: Scene) -> None:
    node = scene.some_node()
    others = scene.others(node)
    with scene.clients.excused(node):
        scene.lab.kill(node)
        scene.change_primary(others)
        scene.clients.more(SOME, nodes=others)
        scene.start_node(node)
        scene.clients.more(SOME)


@fault("a node stands still")
def node_stands_still(scene: Scene) -> None:
    """All its processes, until another node decides and the primary is another one. Its clients wait."""
    node = scene.some_node()
    others = scene.others(node)
    with scene.clients.excused(node, why="TimeoutError"):
        scene.lab.running[node].stop()
        try:
            scene.change_primary(others)
            scene.clients.more(SOME, nodes=others)
            pause(scene.lab.lease)
        finally:
            scene.lab.running[node].go_on()


@fault("a node is upgraded")
def upgraded(scene: Scene) -> None:
    """Nothing happens: no client of it fails, and for the others it is the node that it was."""
    node, lab = scene.some_node(), scene.lab
    epoch, decides, cut_off = lab.epoch(), scene.decides, lab.ask(node, "statistics")["cluster"]["cut_off"]
    leases = lab.leases()
    lab.upgrade(node)
    scene.clients.more(SOME)
    scene.look()
    if (lab.epoch(), scene.decides) != (epoch, decides):
        raise Failed(f"upgrading node {node} has made an election, or {scene.decides} decide in the place of {decides}")
    if lab.leases() != leases or lab.ask(node, "statistics")["cluster"]["cut_off"] > cut_off:
        raise Failed(f"node {node} has left the cluster to be upgraded")
    scene.change_primary(NODES)


@fault("etcd's disk is full")
def no_space(scene: Scene) -> None:
    """Nothing can be written, so no node's word comes back: all are cut off, until an operator has made room."""
    lab = scene.lab
    lab.until_led()
    value, numbers = b"x" * (MIB - 1024), iter(range(1000))
    try:

        def is_full() -> bool:
            return not lab.ctl("put", f"/fill/{next(numbers)}", stdin=value) and "space" in lab.refusal

        scene.until(is_full, "it is full")
        if "NOSPACE" not in lab.ctl("alarm", "list"):
            raise Failed(f"etcd has no alarm, but said {lab.refusal}")
        scene.until_alone(NODES)
        for node in NODES:
            scene.until_nobody_is_greeted(node)
        scene.clients.more(SOME, ["web"])
    finally:
        make_room(scene)


def make_room(scene: Scene) -> None:
    lab = scene.lab
    scene.until(partial(lab.has_done, "del", "--prefix", "/fill/"), "what fills it is deleted")
    compact(lab)
    for member in MEMBERS:
        scene.until(partial(lab.has_done, "defrag", at=[member]), f"{member} is defragmented")
    lab.ctl("alarm", "disarm")
    scene.until(lambda: not lab.ctl("alarm", "list").strip() and not lab.refusal, "no alarm is left")


def compact(lab: Lab) -> None:
    lab.ctl("compact", lab.ctl("get", "x", "-w", "fields").partition('"Revision" : ')[2].split()[0])


@fault("etcd's history is compacted while a node is cut off")
def compacted(scene: Scene) -> None:
    node = scene.some_node()
    with scene.lab.cut([node], MEMBERS):
        scene.until_alone([node])
        scene.change_primary(scene.others(node))
        compact(scene.lab)
        scene.clients.more(SOME, ["web"])


@fault("a node's wall clock is wrong by an hour")
def wrong_clock(scene: Scene) -> None:
    """It leaves and comes again with another clock, takes part, and leaves and comes with the right one."""
    node, shift = scene.dice.choice(NODES), scene.dice.choice([HOUR, -HOUR])
    with scene.clients.excused(node):
        scene.lab.end_node(node)
        scene.start_node(node, clock=shift)
        ahead = scene.lab.ask(node, "status")["started"]
        if abs(ahead - time.time()) < HOUR / 2:
            raise Failed(f"node {node} has the right time")
        scene.lab.until_whole()
        scene.change_primary(NODES)
        scene.clients.more(SOME)
        scene.lab.end_node(node)
        scene.start_node(node)
        scene.clients.more(SOME)


def end(scene: Scene) -> None:
    """It is whole again, and clients come to what there is."""
    scene.lab.until_whole()
    scene.look()
    scene.clients.more(SOME)

