"""Samples: the counters of targets and apps as rows, sums over what has left, and that they say what the statistics say."""

import json
import os

import pytest

from tcp_proxy.config.model import SessionLimits
from tcp_proxy.control.health.counts import ProbeCounts
from tcp_proxy.control.long_answer import pieces
from tcp_proxy.control.statistics.counter_slots import CounterSlots
from tcp_proxy.control.statistics.samples import COLUMNS, Samples
from tcp_proxy.control.statistics.totals import Statistics
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import CONNECT_SLOTS, HTTP_SLOTS, Counters

AT = "127.0.0.1:80"


class Target:
    def __init__(self, state=State.UP):
        self.state = state


class App:
    """Its own `config`, too."""

    sticky = access = outlier = None
    panic = 0

    def __init__(self, targets, http=None, queue=0):
        self.config, self.http, self.targets, self.limits = self, http, targets, SessionLimits(queue=queue)


class Rig:
    """An app `web` with targets a and b, of which one is down, and one listener; a `shop` in mode http with a queue."""

    def __init__(self):
        self.slots = slots = CounterSlots()
        self.web, self.shop = slots.take("app", "web"), slots.take("app", "shop")
        self.a, self.b = (slots.take("target", "web", name) for name in "ab")
        self.c = slots.take("target", "shop", "c")
        self.listener = slots.take("listener", "web", AT)
        self.memory, self.fd = Counters.create(3, slots.used + 2 * counters.TARGET_SLOTS)
        self.apps = {
            "web": App({"a": Target(), "b": Target(State.DOWN)}), "shop": App({"c": Target()}, http="yes", queue=9),
        }  # fmt: skip
        self.samples = Samples(self.memory, slots, self)
        self.statistics = Statistics(self.memory, slots, self, ProbeCounts(), 1_700_000_000.0)

    def take(self):
        return json.loads("".join(pieces(self.samples.take())))

    def look(self):
        return json.loads("".join(pieces(self.statistics.as_dict())))

    def fill(self, slot, size=counters.TARGET_SLOTS):
        """A number of its own in each slot, spread over two rows."""
        for number in range(size):
            self.memory.rows[1][slot + number] = 1000 + number
            self.memory.rows[2][slot + number] = slot


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.memory.close()
    os.close(rig.fd)


def row(sample, app, target=None):
    found = sample["apps"][app]
    values = found["row"] if target is None else found["targets"][target]
    return dict(zip(sample["columns"], values, strict=False))


def buckets(values):
    return values[len(COLUMNS) :]


def test_nothing_has_happened_yet(rig):
    sample = rig.take()
    assert (sample["sessions"], sample["accepted"]) == (0, 0)
    web, shop = sample["apps"]["web"], sample["apps"]["shop"]
    assert web["states"] == {"up": 1, "draining": 0, "down": 1}
    assert (web["mode"], web["queue"], web["listeners"], web["targets"]) == ("tcp", None, {}, {})
    assert (shop["mode"], shop["queue"]) == ("http", 0)
    assert web["row"] == [0] * (len(COLUMNS) + CONNECT_SLOTS)
    assert shop["row"] == [0] * (len(COLUMNS) + HTTP_SLOTS)
    assert [len(sample["buckets"][mode]) for mode in ("tcp", "http")] == [CONNECT_SLOTS - 1, HTTP_SLOTS - 1]


def same_as_statistics(found, view):
    """That a row, as a dict, says what the statistics say of the same."""
    assert (found["sessions"], found["accepted"]) == (view["sessions"]["current"], view["sessions"]["total"])
    assert (found["up"], found["down"]) == (view["bytes"]["up"], view["bytes"]["down"])
    assert found["failures"] == sum(view["connect_failures"].values())
    assert found["retries"] == view["connect_retries"]
    if "requests" in view:
        statuses = view["requests"]["statuses"]
        assert (found["requests"], found["errors"]) == (sum(statuses.values()), statuses["none"] + statuses["5xx"])
        assert found["connections"] == view["requests"]["connections"]
    else:
        assert found["errors"] == sum(count for reason, count in view["session_ends"].items() if reason != "done")


def test_rows_say_what_the_statistics_say(rig):
    rig.fill(rig.a)
    rig.fill(rig.c)
    rig.memory.rows[1][rig.shop + counters.QUEUED] = 4
    rig.memory.rows[1][rig.web + counters.REFUSED + 2] = 7
    rig.memory.rows[1][rig.listener + counters.LISTENER_ACCEPTED] = 9
    rig.memory.rows[2][rig.listener + counters.LISTENER_ENDED] = 4
    rig.memory.rows[1][counters.ACCEPTED], rig.memory.rows[1][counters.SESSIONS] = 9, 5
    sample, wanted = rig.take(), rig.look()
    for app, target in (("web", "a"), ("web", None), ("shop", "c"), ("shop", None)):
        view = wanted["apps"][app]
        same_as_statistics(row(sample, app, target), view if target is None else view["targets"][target])
    assert (sample["sessions"], sample["accepted"]) == (5, 9)
    assert sample["apps"]["web"]["listeners"] == {AT: [5, 9]}
    assert list(sample["apps"]["web"]["targets"]) == ["a"], "b has counted nothing"
    assert (sample["apps"]["shop"]["queue"], sample["apps"]["web"]["refused"]) == (4, 7)
    assert sample["apps"]["shop"]["statuses"] == wanted["apps"]["shop"]["requests"]["statuses"]
    assert sample["apps"]["web"]["statuses"] is None


def test_buckets_are_those_of_the_mode(rig):
    for n in range(CONNECT_SLOTS):
        rig.memory.rows[1][rig.a + counters.CONNECTS + n] = n + 1
    for n in range(HTTP_SLOTS):
        rig.memory.rows[2][rig.c + counters.HTTP_LATENCIES + n] = 100 + n
    sample = rig.take()
    assert buckets(sample["apps"]["web"]["targets"]["a"]) == [n + 1 for n in range(CONNECT_SLOTS)]
    assert buckets(sample["apps"]["web"]["row"]) == [n + 1 for n in range(CONNECT_SLOTS)]
    assert buckets(sample["apps"]["shop"]["targets"]["c"]) == [100 + n for n in range(HTTP_SLOTS)]


def test_what_has_left_counts_for_its_app_and_for_who_has_its_name_now(rig):
    rig.memory.rows[1][rig.a + counters.BYTES_UP] = 5
    rig.memory.rows[1][rig.b + counters.BYTES_UP] = 70
    rig.slots.retire("target", "web", "a", generation=1)
    rig.slots.retire("target", "web", "b", generation=1)
    del rig.apps["web"].targets["b"]
    again = rig.slots.take("target", "web", "a")
    rig.memory.rows[2][again + counters.BYTES_UP] = 600
    sample = rig.take()
    assert row(sample, "web", "a")["up"] == 605
    assert row(sample, "web")["up"] == 675
    assert list(sample["apps"]["web"]["targets"]) == ["a"]


def test_no_gauge_is_negative(rig):
    rig.memory.rows[1][rig.a + counters.ACTIVE] = -1
    rig.memory.rows[1][rig.c + counters.HTTP_CONNECTIONS] = -1
    rig.memory.rows[1][rig.listener + counters.LISTENER_ACCEPTED] = 1
    rig.memory.rows[1][rig.listener + counters.LISTENER_ENDED] = 2
    rig.memory.rows[1][counters.SESSIONS] = -1
    sample = rig.take()
    assert row(sample, "web", "a")["sessions"] == 0
    assert row(sample, "shop", "c")["connections"] == 0
    assert (row(sample, "web")["sessions"], sample["sessions"]) == (0, 0)
