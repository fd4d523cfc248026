"""No change of the configuration holds up a worker's sessions for long: a worker in this process, a round of its loop at a
time, which is counted in calls (kit.calls).
"""

import contextlib
import dataclasses
import gc
import os
import socket

import pytest

from kit.calls import Calls
from kit.waiting import wait_until
from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.worker import Worker
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.share import AT_ONCE
from tcp_proxy.wire import counters
from tcp_proxy.wire.channel import Channel
from tcp_proxy.wire.counters import Counters
from tcp_proxy.wire.later import text_of
from tcp_proxy.wire.messages import AppPart, Apps, CloseSessions, Configure, Configured, Ping, Pong, Ready, Snapshot, Targets
from tcp_proxy.wire.views import AppView, TargetView

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TARGETS = 20_000
MOST = 125_000  # calls in one round: some 30 ms
TRIES = 2
ROWS = 1 + counters.ROWS_PER_WORKER


class Site:
    """A worker, its loop, and the supervisor's end of its channel on a loop of its own."""

    def __init__(self, apps=()):
        self.loop, self._other = Loop("worker"), Loop("supervisor")
        ours, theirs = socket.socketpair()
        self.heard = []
        self.worker = Worker(self.loop, theirs)
        self.channel = Channel(self._other, ours, lambda message, _: self.heard.append(message), lambda: None)
        slots = -(-(counters.PROCESS_SLOTS + TARGETS * counters.TARGET_SLOTS + 1000 * counters.APP_SLOTS) // 512) * 512
        self.memory, fd = Counters.create(ROWS, slots)
        for view in apps:
            self.channel.send(Apps((view,)))
        bell = os.eventfd(0)
        self.channel.send(Snapshot(0, 1, "i", ROWS, slots, 1, None, "info", 5.0, (), 2), [fd, bell])
        os.close(bell)
        os.close(fd)
        self.calls = Calls()
        self.until(lambda: Ready in map(type, self.heard))

    def turn(self):
        self._other.run_once(0)
        with self.calls:
            self.loop.run_once(0.01)

    def until(self, condition):
        def turned():
            self.turn()
            return condition()

        wait_until(turned, "the worker", 120)

    def worst_of(self, messages):
        """Of being told these, until the answer to a Ping is there."""
        self.calls.most = 0
        for message in messages:
            self.channel.send(message)
        number = len(self.heard)
        self.channel.send(Ping(number))
        self.until(lambda: Pong(number) in self.heard)
        return self.calls.most

    def close(self):
        self.worker._queues.close()
        self.channel.close()
        self._other.run_once(0)
        self.loop.run()  # to its end, for its supervisor is gone
        self.loop.close()
        self._other.close()
        del self.worker, self.loop
        self.memory.close()


@contextlib.contextmanager
def introduced(apps=()):
    """A Site whose worker knows these from its start."""
    made = Site(apps)
    gc.freeze()
    with contextlib.closing(made):
        yield made
    del made
    gc.unfreeze()
    gc.collect()  # the worker, with the memory that it has mapped


@pytest.fixture
def site():
    with introduced() as made:
        yield made


def target(number, weight):
    endpoint = int(socket.AF_INET), (f"127.0.{number >> 8}.{number & 255}", 8000)
    slot = counters.PROCESS_SLOTS + number * counters.TARGET_SLOTS
    return TargetView(f"t{number}", slot, weight, False, False, "up", (endpoint,))


def app(number, targets):
    slot = counters.PROCESS_SLOTS + TARGETS * counters.TARGET_SLOTS + number * counters.APP_SLOTS
    return AppView(f"app{number}", slot, "round_robin", 3, Timeouts(), tuple(targets))


def in_parts(number, weight):
    """The targets of one app, as the supervisor tells them."""
    views = [target(number, weight) for number in range(TARGETS)]
    return [Targets(f"app{number}", tuple(views[begin : begin + AT_ONCE])) for begin in range(0, TARGETS, AT_ONCE)]


def thousand(weight):
    """Apps of twenty targets each."""
    return [app(number, [target(number * 20 + n, weight) for n in range(20)]) for number in range(1000)]


def configure(generation, parts=(), removed=()):
    return Configure(generation, 1, 5.0, (), removed, parts)


def test_twenty_thousand_targets_of_one_app(site):
    found = {"they come": [site.worst_of([*in_parts(0, 1), Apps((app(0, ()),)), configure(1)])]}
    for n in range(TRIES):
        change = [*in_parts(0, n + 2), Apps((), (AppPart(app(0, ())),)), configure(2 + n)]
        found.setdefault("every weight", []).append(site.worst_of(change))
    slots = tuple(counters.PROCESS_SLOTS + number * counters.TARGET_SLOTS for number in range(TARGETS))
    found["they leave"] = [site.worst_of([Apps((), (AppPart(app(0, ()), slots),)), configure(9)])]
    assert Configured(9) in site.heard
    assert not {what: tries for what, tries in found.items() if max(tries) >= MOST}


def test_a_thousand_apps(site):
    found = {}
    for _ in range(TRIES):
        found.setdefault("they come", []).append(site.worst_of([*(Apps((view,)) for view in thousand(1)), configure(1)]))
        parts = [Apps((), (AppPart(view),)) for view in thousand(2)]
        found.setdefault("every weight", []).append(site.worst_of([*parts, configure(2)]))
        names = tuple(f"app{number}" for number in range(1000))
        found.setdefault("they leave", []).append(site.worst_of([configure(3, removed=names)]))
    assert site.heard.count(Configured(3)) == TRIES
    assert not {what: tries for what, tries in found.items() if max(tries) >= MOST}


CHANGES = {
    "one weight each": lambda: [*(Apps((), (AppPart(app(n, [target(20 * n, 2)])),)) for n in range(1000)), configure(1)],
    "all but targets": lambda: [*(Apps((), (AppPart(app(n, ())),)) for n in range(1000)), configure(1)],
    "one server down": lambda: [CloseSessions(f"app{n}", f"t{20 * n}", "target_down") for n in range(1000)],
    "they leave": lambda: [configure(1, removed=tuple(f"app{n}" for n in range(1000)))],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_later", [False, True])
def test_a_thousand_apps_that_nobody_has_come_by(change, is_later):
    """Their targets are made on the way, or not at all."""
    apps = thousand(1)
    if is_later:
        apps = [dataclasses.replace(view, targets=(), later=text_of(view.targets)) for view in apps]
    with introduced(apps) as site:
        assert site.worst_of(CHANGES[change]()) < MOST


@pytest.mark.parametrize("balance", ["maglev", "ring_hash"])
def test_tables_of_a_thousand_targets(site, balance):
    """Which take 60 to 100 ms each (sansio.hash_table)."""

    def views(weight):
        return (dataclasses.replace(app(0, [target(number, weight) for number in range(1000)]), balance=balance),)

    found = {}
    for n in range(TRIES):
        found.setdefault("it comes", []).append(site.worst_of([Apps(views(1)), configure(2 * n)]))
        found.setdefault("every weight", []).append(site.worst_of([Apps(views(n + 2)), configure(2 * n + 1)]))
        site.worst_of([configure(90 + n, removed=("app0",))])
    assert site.heard.count(Configured(1)) == 1
    assert not {what: tries for what, tries in found.items() if max(tries) >= MOST}
