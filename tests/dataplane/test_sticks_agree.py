"""Two workers' copies and the table, with everything that they say to each other under way for as long as it likes.

No socket, no session: what is said lies in queues, and dice decide what happens next. Whenever all has been delivered, no
worker thinks otherwise of a key than the table does, and nothing that was taken or opened is left behind.
"""

import random
from collections import deque
from types import SimpleNamespace

import pytest

from tcp_proxy.config.model import Sticky
from tcp_proxy.dataplane.sticky.copies import StickCopies
from tcp_proxy.sansio.stick_table import StickTable
from tcp_proxy.wire.stick_table import ASK, CLOSED

KEYS = [f"k{number}" for number in range(3)]
NAMES = "ab"
SIZE, EXPIRES, ANSWERS = 8, 10.0, 4


class Target:
    def __init__(self, name):
        self.name, self.state, self.taken = name, "up", 0

    @property
    def may_keep(self):
        return self.state != "down"

    @property
    def is_eligible(self):
        return self.state == "up"

    def take(self, _row):
        self.taken += 1
        return True

    def give(self, _row):
        self.taken -= 1


class Client:
    """A session as far as it has to do with its key: dataplane.sticky.dial in short."""

    def __init__(self, worker, key):
        self.worker, self.answers, self.is_waiting = worker, 0, False
        self.copy = worker.sticks.use(key)
        worker.clients.append(self)
        self.choose()

    def choose(self):
        sticks = self.worker.sticks
        if sticks.target_of(self.copy, None) is None:
            self.is_waiting = self.answers < ANSWERS and sticks.ask(self.copy, self, None)
            if not self.is_waiting and not any(target.is_eligible for target in self.worker.targets.values()):
                self.end()  # nobody has a target for it

    def answered(self):
        if self.is_waiting:
            self.is_waiting = False
            self.answers += 1
            if self.copy.version:
                self.choose()

    def end(self):
        self.is_waiting = False
        self.worker.clients.remove(self)
        self.worker.sticks.leave(self.copy)


class Worker:
    """`said` and `heard` are on their way to and from the table; `reports` have not been sent yet."""

    def __init__(self, dice, holder):
        self.dice, self.holder = dice, holder
        self.said, self.heard, self.reports = deque(), deque(), []
        self.clients, self.asked, self.number = [], {}, 0
        self.targets = {name: Target(name) for name in NAMES}
        self.loop = SimpleNamespace(now=0.0)
        app = SimpleNamespace(name="web", targets=self.targets, row=None, is_in_turns=True, choose=self.choose)
        table_client = SimpleNamespace(loop=self.loop, apps={}, is_open=True, report=self.reports.append, ask=self.ask)
        self.sticks = table_client.apps["web"] = StickCopies(table_client, app)
        self.sticks.configure(Sticky(size=SIZE, expires=EXPIRES))

    def choose(self, _key, _now, _excluded):
        eligible = [target for target in self.targets.values() if target.is_eligible]
        found = self.dice.choice(eligible) if eligible else None
        if found is not None:
            found.take(None)
        return found

    def ask(self, _sticks, copy, proposal):
        self.number += 1
        self.asked[self.number] = copy
        self.reports.append((ASK, self.number, "web", copy.key, proposal, copy.version))
        self.flush()

    def flush(self):
        if self.reports:
            self.said.append(list(self.reports))
            self.reports.clear()

    def hear(self):
        for item in self.heard.popleft():
            if isinstance(item[0], int):
                number, target, version = item
                self.sticks.answer(self.asked.pop(number), target, version)
            else:
                self.sticks.told(*item[1:])


class World:
    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.now = 0.0
        self.table = StickTable(SIZE, EXPIRES)
        self.workers = [Worker(self.dice, holder) for holder in range(2)]

    def step(self):
        worker, key = self.dice.choice(self.workers), self.dice.choice(KEYS)
        match self.dice.choice("oooo cccc ssss hhhh tt dd p x e".replace(" ", "")):
            case "o":
                Client(worker, key)
            case "c" if worker.clients:
                self.dice.choice(worker.clients).end()
            case "s":
                self.pass_on(worker)
            case "h" if worker.heard:
                worker.hear()
            case "t":
                self.pass_time()
            case "d":
                self.change_target()
            case "p":
                self.table.set(key, self.dice.choice(NAMES), self.now)
                self.tell(None, [])
            case "x":
                self.table.delete(key)
                self.tell(None, [])
            case "e":
                self.table.expire(self.now, 100)

    def pass_on(self, worker):
        """What it has said, to the table."""
        worker.flush()
        answers = []
        for item in worker.said.popleft() if worker.said else ():
            if item[0] == ASK:
                _, number, _, key, proposal, seen = item
                entry = self.table.claim(key, proposal, seen, worker.holder, self.now)
                answers.append((number, "", 0) if entry is None else (number, entry.target, entry.version))
            elif item[0] == CLOSED:
                self.table.closed(item[2], worker.holder, self.now)
            else:
                self.table.opened(item[2], item[3], worker.holder, self.now)
            self.tell(worker, answers)
        if answers:
            worker.heard.append(answers)

    def tell(self, asker, answers):
        """News go the same way as answers, and in their order."""
        for news in self.table.news:
            for worker in self.workers:
                if news.holders >> worker.holder & 1:
                    item = ("web", news.key, news.target, news.version)
                    if worker is asker:
                        answers.append(item)
                    else:
                        worker.heard.append([item])
        self.table.news.clear()

    def pass_time(self):
        """Nothing is on its way for as long as a second."""
        self.deliver()
        self.now += self.dice.choice([0.1, 1.0, 5.0, 9.5, 11.0])
        for worker in self.workers:
            worker.loop.now = self.now

    def change_target(self):
        name, state = self.dice.choice(NAMES), self.dice.choice(["up", "up", "down", "down", "draining"])
        for worker in self.workers:
            worker.targets[name].state = state

    def deliver(self):
        for _ in range(100):
            for worker in self.workers:
                self.pass_on(worker)
                while worker.heard:
                    worker.hear()
            if not any(worker.said or worker.reports or worker.heard for worker in self.workers):
                return
        raise AssertionError("there is no end of what they say")

    def look(self):
        self.deliver()
        for worker in self.workers:
            worker.sticks._forget_old()
            for key, copy in worker.sticks.copies.items():
                entry = self.table.find(key, self.now)
                assert copy.open == sum(client.copy is copy for client in worker.clients)
                assert copy.waiters is None
                assert not copy.version or entry is None or entry.target == copy.target, (copy, entry)
            for entry in self.table:
                copy = worker.sticks.copies.get(entry.key)
                assert not entry.open >> worker.holder & 1 or (copy and copy.open), (copy, entry)
            assert not worker.asked
            assert not any(target.taken for target in worker.targets.values())


@pytest.mark.parametrize("seeds", [range(600), range(600, 1200)])
def test_whenever_all_is_delivered_everybody_thinks_the_same(seeds):
    for seed in seeds:
        world = World(seed)
        for _ in range(16):
            for _ in range(25):
                world.step()
            world.look()
