"""Clients of three nodes, all the time: at each node some that want the primary, and some that are each known by an address
of their own. What they have seen is kept for the checker (benchmarks.history)."""

import contextlib
import itertools
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from benchmarks.cluster_lab import CLIENTS, DB, HOSTS, NODES, WEB, WITHIN, Lab
from benchmarks.history import Move, Seen
from benchmarks.waiting import now, pause, wait_until

OWN_WITHIN = 20.0  # seconds that a client of a target of its own waits
PRIMARY_WITHIN = 1.0  # seconds that a client of the primary waits: who has waited for long knows little of when
REST = 0.01  # seconds between two clients of a thread


class Failure(NamedTuple):
    asked: float
    ended: float
    node: str
    key: str
    why: str


class Excuse(NamedTuple):
    """Clients of a node may fail that are there at some moment between two, by what begins like this."""

    begin: float
    end: float
    node: str
    why: str

    def explains(self, one: Failure) -> bool:
        is_then = self.begin <= one.ended and one.asked <= self.end
        return is_then and one.node == self.node and one.why.startswith(self.why)


class Clients:
    def __init__(self, lab: Lab, keys: int) -> None:
        self._lab = lab
        self.primaries: list[Seen] = []
        self.refused = 0  # of those that wanted the primary
        self.keys: list[str] = []
        self.sessions: dict[str, list[Seen]] = {}
        self.failures: list[Failure] = []
        self.moves: list[Move] = []
        self.excuses: list[Excuse] = []
        self.counts = dict.fromkeys(((kind, node) for kind in ("db", "web") for node in NODES), 0)
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(run, node), name=f"{run.__name__} {node}", daemon=True)
            for run in (self._ask_primary, self._ask_own)
            for node in NODES
        ]
        self._new: dict[str, deque[str]] = {node: deque() for node in NODES}
        self.add(keys)

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def add(self, count: int) -> list[str]:
        """So many more keys, which come to all nodes at about the same time."""
        numbers = range(len(self.keys), len(self.keys) + count)
        keys = [f"{CLIENTS}.{1 + number // 250}.{1 + number % 250}" for number in numbers]
        self.sessions |= {key: [] for key in keys}
        for new in self._new.values():
            new.extend(keys)
        self.keys += keys
        return keys

    def until_known(self) -> None:
        """All keys, at all nodes."""
        wait_until(lambda: not any(self._new.values()), "new keys have been everywhere", WITHIN, every=0.02)
        self.more(1, kinds=["web"])  # the last of them, too

    def forget(self, keys: Iterable[str]) -> None:
        """What was seen of them so far proves nothing."""
        for key in keys:
            self.sessions[key].clear()

    # -- threads

    def _run(self, run: Callable[[str], None], node: str) -> None:
        self._lab.networks.enter("clients")
        run(node)

    def _ask_primary(self, node: str) -> None:
        for number in itertools.count():
            if self._is_over.wait(REST):
                return
            asked = now()
            try:
                target = greeted(HOSTS["clients"], (HOSTS[node], DB), number, PRIMARY_WITHIN)
            except OSError:
                self.refused += 1
                continue
            self.primaries.append(Seen(asked, now(), target, node))
            self.counts["db", node] += 1

    def _ask_own(self, node: str) -> None:
        new, at = self._new[node], NODES.index(node) * len(self.keys) // len(NODES)
        for number in itertools.count(at):
            if self._is_over.wait(REST):
                return
            if new:
                self._ask_one(node, new[0], number)
                new.popleft()
            else:
                self._ask_one(node, self.keys[number % len(self.keys)], number)

    def _ask_one(self, node: str, key: str, number: int) -> None:
        asked = now()
        try:
            target = greeted(key, (HOSTS[node], WEB), number, OWN_WITHIN)
        except OSError as error:
            self.failures.append(Failure(asked, now(), node, key, repr(error)))
            pause(REST)
        else:
            self.sessions[key].append(Seen(asked, now(), target, node))
            self.counts["web", node] += 1

    # -- for faults

    def more(self, count: int, kinds: Iterable[str] = ("db", "web"), nodes: Iterable[str] = NODES) -> None:
        """Until so many more have been greeted at each of these nodes."""
        wanted = {(kind, node): self.counts[kind, node] + count for kind in kinds for node in nodes}
        wait_until(
            lambda: all(self.counts[one] >= least for one, least in wanted.items()),
            f"{count} more clients are greeted: {wanted}", WITHIN, every=0.05,
        )  # fmt: skip

    def until_primary(self, target: str, nodes: Iterable[str]) -> bool:
        """Whether clients of these nodes are greeted by it, soon."""
        begin, missing = now(), set(nodes)
        at = len(self.primaries)

        def are_greeted() -> bool:
            nonlocal at
            new, at = self.primaries[at:], len(self.primaries)
            missing.difference_update(one.node for one in new if one.asked >= begin and one.target == target)
            return not missing

        try:
            wait_until(are_greeted, f"{target} greets clients at {', '.join(nodes)}", 15.0, every=0.02)
        except TimeoutError:
            return False
        return True

    @contextlib.contextmanager
    def excused(self, *nodes: str, why: str = "") -> Iterator[None]:
        """Clients of these may fail, by this."""
        begin = now()
        try:
            yield
        finally:
            self.excuses += [Excuse(begin, now(), node, why) for node in nodes]

    @contextlib.contextmanager
    def moving(self, *targets: str) -> Iterator[None]:
        """Keys of these targets may get others."""
        begin = now()
        try:
            yield
        finally:
            self.moves.append(Move(begin, now(), frozenset(targets)))


def greeted(source: str, address: tuple[str, int], number: int, seconds: float) -> str:
    """By whom."""
    said = b"%04d" % (number % 10_000)
    with socket.create_connection(address, seconds, (source, 0)) as client:
        client.sendall(said)
        answer = client.recv(5, socket.MSG_WAITALL)
    if answer[1:] != said:
        raise ConnectionError(f"{answer!r} came for {said!r}")
    return answer[:1].decode()
