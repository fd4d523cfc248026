"""The statistics: what every slot becomes, sums over rows and over what has left, peaks, and that no gauge is negative."""

import json
import os

import pytest

from tcp_proxy import counters
from tcp_proxy.control.health.counts import ProbeCounts
from tcp_proxy.control.slots import Slots
from tcp_proxy.control.statistics import STATUSES, WORKER_DIED, Statistics
from tcp_proxy.counters import CONNECT_BUCKETS, SESSION_BUCKETS, Counters
from tcp_proxy.sansio import reasons
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.sansio.verdict import State

AT = "127.0.0.1:80"


class Target:
    state = State.UP


class App:
    """Its own `config`, too. `shop` is in mode http, `club` is sticky."""

    def __init__(self, *targets, http=None, sticky=None):
        self.config, self.http, self.sticky = self, http, sticky
        self.targets = {name: Target() for name in targets}


class Rig:
    """One app `web` with targets a and b and one listener, a `shop` and a `club` with nothing."""

    def __init__(self):
        self.slots = Slots()
        self.web = self.slots.take("app", "web")
        self.shop = self.slots.take("app", "shop")
        self.club = self.slots.take("app", "club")
        self.a, self.b = (self.slots.take("target", "web", name) for name in "ab")
        self.c = self.slots.take("target", "shop", "c")
        self.listener = self.slots.take("listener", "web", AT)
        self.memory, self.fd = Counters.create(3, self.slots.used)
        self.probes = ProbeCounts()
        self.apps = {"web": App("a", "b"), "shop": App("c", http="yes"), "club": App(sticky="yes")}
        self.statistics = Statistics(self.memory, self.slots, self, self.probes, 1_700_000_000.0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.memory.close()
        os.close(self.fd)

    def look(self):
        found = self.statistics.as_dict()
        json.dumps(found)
        return found

    def web_now(self):
        return self.look()["apps"]["web"]

    def target(self, name="a"):
        return self.web_now()["targets"][name]


@pytest.fixture
def rig():
    with Rig() as rig:
        yield rig


def test_nothing_has_happened_yet(rig):
    found = rig.look()
    assert (found["started"], found["workers_died"]) == (1_700_000_000.0, 0)
    assert found["sessions"] == {"current": 0, "peak": 0, "total": 0}
    assert list(found["apps"]) == ["web", "shop", "club"]
    assert found["apps"]["shop"]["listeners"] == {}
    web = found["apps"]["web"]
    assert list(web["targets"]) == ["a", "b"]
    assert web["listeners"] == {AT: {"sessions": {"current": 0, "peak": 0, "total": 0}}}
    assert set(web["session_ends"]) == {*[reason.value for reason in Reason], WORKER_DIED}
    assert web["connect_seconds"] == {"bounds": list(CONNECT_BUCKETS), "upto": [0] * 14, "count": 0, "sum": 0.0}
    assert web["session_seconds"] == {"bounds": list(SESSION_BUCKETS), "upto": [0] * 15, "count": 0, "sum": 0.0}


def test_every_slot_of_a_block_has_its_place(rig):
    """A number of its own in each slot, spread over two rows: every one is found again, once."""
    for slot in range(counters.TARGET_SLOTS):
        rig.memory.rows[1][rig.a + slot] = 1000 + slot
        rig.memory.rows[2][rig.a + slot] = 1000
    value = lambda slot: 2000 + slot  # noqa: E731
    found = rig.target()
    assert found["sessions"]["current"] == value(counters.ACTIVE)
    assert found["bytes"] == {"up": value(counters.BYTES_UP), "down": value(counters.BYTES_DOWN)}
    assert found["connect_retries"] == value(counters.RETRIES)
    assert found["connect_failures"] == {name: value(counters.FAILURES + n) for n, name in enumerate(reasons.FAILURES)}
    ends = {reason.value: value(counters.ENDS + n) for n, reason in enumerate(Reason)}
    assert found["session_ends"] == {**ends, WORKER_DIED: value(counters.LOST)}
    for name, first, size, total in (
        ("connect_seconds", counters.CONNECTS, counters.CONNECT_SLOTS, counters.CONNECT_MICROSECONDS),
        ("session_seconds", counters.DURATIONS, counters.SESSION_SLOTS, counters.SESSION_MICROSECONDS),
    ):
        upto = [sum(value(first + i) for i in range(n + 1)) for n in range(size)]
        assert (found[name]["upto"], found[name]["count"]) == (upto[:-1], upto[-1])
        assert found[name]["sum"] == value(total) / 1e6
    assert found["sessions"]["total"] == found["connect_seconds"]["count"]
    assert rig.target("b")["bytes"] == {"up": 0, "down": 0}


def test_stick_fallbacks_are_those_of_sticky_apps(rig):
    for app in (rig.web, rig.club):
        rig.memory.rows[1][app + counters.STICK_FALLBACKS] = 3
        rig.memory.rows[2][app + counters.STICK_FALLBACKS] = 4
    found = rig.look()["apps"]
    assert found["club"]["stick_fallbacks"] == 7
    assert "stick_fallbacks" not in found["web"]


def test_requests_are_those_of_apps_in_mode_http(rig):
    for slot in range(counters.TARGET_SLOTS):
        rig.memory.rows[1][rig.c + slot] = rig.memory.rows[1][rig.a + slot] = 1000 + slot
    assert "requests" not in rig.target()
    rig.memory.rows[1][rig.shop + counters.HTTP_STATUS + 4] = 1
    shop = rig.look()["apps"]["shop"]
    found = shop["targets"]["c"]["requests"]
    assert found["statuses"] == {name: 1000 + counters.HTTP_STATUS + n for n, name in enumerate(STATUSES)}
    assert found["failures"] == 1000 + counters.HTTP_FAILURES
    latencies = [1000 + counters.HTTP_LATENCIES + n for n in range(counters.HTTP_SLOTS)]
    assert found["seconds"]["bounds"] == list(counters.HTTP_BUCKETS)
    assert found["seconds"]["count"] == sum(latencies)
    assert found["seconds"]["upto"][-1] == sum(latencies[:-1])
    assert found["seconds"]["sum"] == (1000 + counters.HTTP_MICROSECONDS) / 1e6
    assert shop["requests"]["statuses"]["4xx"] == found["statuses"]["4xx"] + 1


def test_an_app_is_its_own_block_and_its_targets(rig):
    row = rig.memory.rows[1]
    row[rig.web + counters.RETRIES], row[rig.a + counters.RETRIES], row[rig.b + counters.RETRIES] = 100, 10, 1
    row[rig.web + counters.APP_ACCEPTED], row[rig.listener + counters.LISTENER_ACCEPTED] = 1000, 5
    row[rig.listener + counters.LISTENER_ENDED] = 2
    web = rig.web_now()
    assert web["connect_retries"] == 111
    assert web["sessions"] == {"current": 3, "peak": 3, "total": 1005}
    assert web["listeners"][AT]["sessions"] == {"current": 3, "peak": 3, "total": 5}


def test_a_peak_is_the_largest_sum_that_was_seen(rig):
    one, other = rig.memory.rows[1:3]
    listener, active = rig.listener + counters.LISTENER_ACCEPTED, rig.a + counters.ACTIVE
    for here, there in ((5, 0), (5, 7), (0, 3)):
        one[listener], other[listener] = here, there
        one[active], other[active] = here, there
        one[counters.SESSIONS], other[counters.SESSIONS] = here, there
        rig.statistics.sample()
    found = rig.look()
    sessions = {"current": 3, "peak": 12}
    assert found["sessions"] == {**sessions, "total": 0}
    assert found["apps"]["web"]["sessions"] == {**sessions, "total": 3}
    assert found["apps"]["web"]["targets"]["a"]["sessions"] == {**sessions, "total": 0}
    assert found["apps"]["web"]["targets"]["b"]["sessions"]["peak"] == 0


def test_a_gauge_that_was_read_between_two_rows_is_not_negative(rig):
    """A session was taken in one row after that was read, and given back in another before that was."""
    rig.memory.rows[2][rig.a + counters.ACTIVE] = -1
    rig.memory.rows[2][rig.listener + counters.LISTENER_ENDED] = 1
    rig.memory.rows[2][counters.SESSIONS] = -1
    found = rig.look()
    assert found["sessions"]["current"] == found["apps"]["web"]["sessions"]["current"] == 0
    assert found["apps"]["web"]["targets"]["a"]["sessions"]["current"] == 0


def test_an_earlier_owner_of_a_name_that_has_sessions_left_counts_with_it(rig):
    blocks = rig.slots.blocks
    rig.slots.blocks = lambda kind: [*blocks(kind), *([(("web", "a"), rig.b)] if kind == "target" else [])]
    rig.memory.rows[1][rig.a + counters.BYTES_UP] = 10
    rig.memory.rows[1][rig.b + counters.BYTES_UP] = 5
    rig.memory.rows[1][rig.a + counters.ACTIVE] = rig.memory.rows[1][rig.b + counters.ACTIVE] = 1
    assert rig.target("a")["bytes"]["up"] == 15
    assert rig.target("a")["sessions"]["current"] == 2


def test_a_target_that_has_left_counts_for_its_app_only(rig):
    rig.memory.rows[1][rig.b + counters.BYTES_UP] = 5
    del rig.apps["web"].targets["b"]
    web = rig.web_now()
    assert list(web["targets"]) == ["a"]
    assert web["bytes"]["up"] == 5


def test_states_and_probes(rig):
    rig.apps["web"].targets["b"].state = State.DRAINING
    rig.probes.add("web", "a", "tcp", True)
    web = rig.web_now()
    assert [target["state"] for target in web["targets"].values()] == ["up", "draining"]
    assert web["targets"]["a"]["probes"] == {"tcp": {"success": 1, "failure": 0, "error": 0}}
    assert web["targets"]["b"]["probes"] == {}


def test_what_is_gone_has_no_peak(rig):
    rig.memory.rows[1][rig.a + counters.ACTIVE] = 5
    rig.statistics.sample()
    blocks = rig.slots.blocks
    rig.slots.blocks = lambda kind: [] if kind == "target" else blocks(kind)
    rig.statistics.sample()
    rig.slots.blocks = blocks
    rig.memory.rows[1][rig.a + counters.ACTIVE] = 1
    assert rig.target()["sessions"]["peak"] == 1
