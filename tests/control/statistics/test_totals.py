"""The statistics: what every slot becomes, sums over rows and over what has left, peaks, and that no gauge is negative."""

import json
import mmap
import os
import re
import types

import pytest

from tcp_proxy.config.model import Access, AccessEntry, SessionLimits
from tcp_proxy.control.health.counts import ProbeCounts
from tcp_proxy.control.long_answer import pieces
from tcp_proxy.control.statistics import totals
from tcp_proxy.control.statistics.counter_rows import CounterRows
from tcp_proxy.control.statistics.counter_slots import CounterSlots
from tcp_proxy.control.statistics.prometheus import render
from tcp_proxy.control.statistics.samples import Samples
from tcp_proxy.control.statistics.totals import STATUSES, WORKER_DIED, Statistics
from tcp_proxy.sansio import reasons
from tcp_proxy.sansio.reasons import Reason, Refusal
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import CONNECT_BUCKETS, SESSION_BUCKETS, Counters

AT = "127.0.0.1:80"


class Target:
    state, ejected, ejections = State.UP, "", None


class App:
    """Its own `config`, too. `shop` is in mode http, `club` is sticky and has rules of access."""

    def __init__(self, *targets, http=None, sticky=None, access=None, queue=0, panic=0.0, outlier=None):
        self.config, self.http, self.sticky, self.access = self, http, sticky, access
        self.limits = SessionLimits(queue=queue)
        self.panic, self.is_panicking, self.outlier = panic, bool(panic), outlier
        self.targets = {name: Target() for name in targets}


class Rig:
    """One app `web` with targets a and b and one listener, a `shop` and a `club` with nothing."""

    def __init__(self):
        self.slots = CounterSlots()
        self.web = self.slots.take("app", "web")
        self.shop = self.slots.take("app", "shop")
        self.club = self.slots.take("app", "club")
        self.a, self.b = (self.slots.take("target", "web", name) for name in "ab")
        self.c = self.slots.take("target", "shop", "c")
        self.listener = self.slots.take("listener", "web", AT)
        self.memory, self.fd = Counters.create(3, self.slots.used + 2 * counters.TARGET_SLOTS)
        self.probes = ProbeCounts()
        access = Access(deny=(AccessEntry("10.0.0.0/8"),))
        club = App(sticky="yes", access=access, queue=9, panic=50.0)
        self.apps = {"web": App("a", "b"), "shop": App("c", http="yes", outlier="yes"), "club": club}
        self.statistics = Statistics(self.memory, self.slots, self, self.probes, 1_700_000_000.0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.memory.close()
        os.close(self.fd)

    def look(self):
        return json.loads("".join(pieces(self.statistics.as_dict())))

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


def test_who_waits_for_a_place_is_counted_where_there_is_a_queue(rig):
    rig.memory.rows[1][rig.club + counters.QUEUED] = 3
    rig.memory.rows[1][rig.club + counters.QUEUED_TOTAL] = 5
    rig.memory.rows[1][rig.club + counters.QUEUE_MICROSECONDS] = 2_500_000
    rig.statistics.sample()
    rig.memory.rows[1][rig.club + counters.QUEUED] = 1
    apps = rig.look()["apps"]
    assert apps["club"]["queue"] == {"current": 1, "peak": 3, "total": 5, "seconds": 2.5}
    assert "queue" not in apps["web"]


def test_ejections_are_told_where_targets_may_be_ejected(rig):
    target = rig.apps["shop"].targets["c"]
    rig.memory.rows[1][rig.c + counters.OUTLIER_FAILURES] = 3
    rig.memory.rows[2][rig.c + counters.OUTLIER_FAILURES] = 4
    nothing = {"consecutive_failures": 0, "consecutive_gateway_failures": 0, "success_rate": 0}
    seen = rig.look()
    assert seen["apps"]["shop"]["targets"]["c"]["outlier"] == {"ejected": False, "ejections": nothing, "failures": 7}
    assert "outlier" not in seen["apps"]["web"]["targets"]["a"]
    target.ejected, target.ejections = "why", {"success_rate": 2}
    text = b"".join(render(rig.look())[0]).decode()
    metrics = re.findall(r"^tcp_proxy_target_(?:ejected|ejections_total|outlier_failures_total){.*", text, re.MULTILINE)
    assert [metric for metric in metrics if not metric.endswith(" 0.0")] == [
        'tcp_proxy_target_ejected{app="shop",target="c"} 1.0',
        'tcp_proxy_target_outlier_failures_total{app="shop",target="c"} 7.0',
        'tcp_proxy_target_ejections_total{app="shop",cause="success_rate",target="c"} 2.0',
    ]


def test_panic_is_told_where_there_is_a_threshold(rig):
    apps = rig.look()["apps"]
    assert apps["club"]["panicking"] is True
    assert "panicking" not in apps["web"]
    text = b"".join(render(rig.look())[0]).decode()
    assert re.findall(r"^tcp_proxy_app_panicking.*", text, re.MULTILINE) == ['tcp_proxy_app_panicking{app="club"} 1.0']


def test_refused_clients_are_counted_by_cause(rig):
    for number, _ in enumerate(Refusal):
        rig.memory.rows[1][rig.web + counters.REFUSED + number] = number
        rig.memory.rows[2][rig.web + counters.REFUSED + number] = 1000
    assert rig.web_now()["refused"] == {cause.value: 1000 + number for number, cause in enumerate(Refusal)}
    assert counters.REFUSED + len(Refusal) <= counters.APP_SLOTS


def test_rules_of_access_have_their_clients(rig):
    slot = rig.slots.take("rule", "club", "deny", "10.0.0.0/8")  # the other one has none yet
    rig.memory.rows[1][slot], rig.memory.rows[2][slot] = 3, 4
    found = rig.look()["apps"]
    assert found["club"]["access"] == [
        {"action": "deny", "rule": "10.0.0.0/8", "clients": 7}, {"action": "allow", "rule": "none", "clients": 0},
    ]  # fmt: skip
    assert "access" not in found["web"]


def test_requests_are_those_of_apps_in_mode_http(rig):
    for slot in range(counters.TARGET_SLOTS):
        rig.memory.rows[1][rig.c + slot] = rig.memory.rows[1][rig.a + slot] = 1000 + slot
    assert "requests" not in rig.target()
    rig.memory.rows[1][rig.shop + counters.HTTP_STATUS + 4] = 1
    shop = rig.look()["apps"]["shop"]
    found = shop["targets"]["c"]["requests"]
    assert found["statuses"] == {name: 1000 + counters.HTTP_STATUS + n for n, name in enumerate(STATUSES)}
    assert found["failures"] == 1000 + counters.HTTP_FAILURES
    assert found["connections"] == 1000 + counters.HTTP_CONNECTIONS
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
    rig.slots.retire("target", "web", "a", generation=1)
    rig.slots.retire("target", "web", "b", generation=1)
    new = rig.slots.take("target", "web", "a")
    rig.memory.rows[1][rig.a + counters.BYTES_UP] = 10
    rig.memory.rows[1][new + counters.BYTES_UP] = 5
    rig.memory.rows[1][rig.a + counters.ACTIVE] = rig.memory.rows[1][new + counters.ACTIVE] = 1
    found = rig.target("a")
    assert found["bytes"]["up"] == 15
    assert found["sessions"] == {"current": 2, "peak": 2, "total": 0}


def test_a_target_that_has_left_counts_for_its_app_only(rig):
    rig.memory.rows[1][rig.b + counters.BYTES_UP] = 5
    del rig.apps["web"].targets["b"]
    rig.slots.retire("target", "web", "b", generation=1)
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
    rig.slots.retire("target", "web", "a", generation=0)
    rig.memory.rows[1][rig.a + counters.ACTIVE] = 0
    for _ in range(2):
        assert set(rig.slots.settle(rig.memory, 0)) == {None}
    rig.statistics.sample()
    rig.slots.take("target", "web", "a")
    rig.memory.rows[1][rig.a + counters.ACTIVE] = 1
    assert rig.target()["sessions"]["peak"] == 1


def test_to_look_at_apps_and_listeners_where_nobody_has_counted_makes_no_memory():
    """Each app's block is a page of its own beside its targets': 1,000 apps took 16 MB with one worker."""
    slots, names = CounterSlots(), [str(number) for number in range(100)]
    first = {}
    for name in names:
        first[name] = slots.take("app", name)
        for target in range(20):
            slots.take("target", name, str(target))
        listener = slots.take("listener", name, AT)
    rows = CounterRows(slots, 1)
    rows.assign("worker")
    rows.memory.rows[1][first["50"] + counters.QUEUED] = 3
    rows.memory.rows[2][listener + counters.LISTENER_ACCEPTED] = 2
    known = types.SimpleNamespace(apps={name: App(queue=9) for name in names})
    statistics = Statistics(rows.memory, slots, known, ProbeCounts(), 0.0)
    statistics.sample()
    found = json.loads("".join(pieces(statistics.as_dict())))["apps"]
    sample = json.loads("".join(pieces(Samples(rows.memory, slots, known).take())))["apps"]
    most = 3 * len(rows.memory.rows)  # where the process, app 50 and the last listener count, in each row
    assert os.fstat(rows.fd).st_blocks * 512 // mmap.PAGESIZE <= most
    assert [found[name]["queue"]["current"] for name in ("49", "50")] == [0, 3]
    assert [found[name]["listeners"][AT]["sessions"]["total"] for name in ("98", "99")] == [0, 2]
    assert [sample[name]["listeners"] for name in ("98", "99")] == [{}, {AT: [2, 2]}]
    rows.close()


def test_to_look_where_nobody_has_counted_makes_no_memory():
    """A page that is read is made: of 20,000 targets that had no sessions the counters took 60 MB."""
    slots, names = CounterSlots(), [str(number) for number in range(1000)]
    slots.take("app", "web")
    first = [slots.take("target", "web", name) for name in names]
    rows = CounterRows(slots, 1)
    rows.assign("worker")
    rows.memory.rows[1][first[500] + counters.ACTIVE] = 3
    known = types.SimpleNamespace(apps={"web": App(*names)})
    statistics = Statistics(rows.memory, slots, known, ProbeCounts(), 0.0)
    statistics.sample()
    found = json.loads("".join(pieces(statistics.as_dict())))["apps"]["web"]["targets"]
    sample = json.loads("".join(pieces(Samples(rows.memory, slots, known).take())))
    assert found["500"]["sessions"] == {"current": 3, "peak": 3, "total": 0}
    assert list(sample["apps"]["web"]["targets"]) == ["500"]
    rows.leave("worker")
    for _ in rows.counting_out("worker"):
        pass
    of_targets = 1000 * counters.TARGET_SLOTS // counters.PAGE
    assert os.fstat(rows.fd).st_blocks * 512 // mmap.PAGESIZE < of_targets // 5
    assert rows.memory.total(first[500] + counters.LOST) == 3
    rows.close()


def test_the_block_of_an_app_is_read_once_for_all_that_is_shown_of_it(rig, monkeypatch):
    """It was made anew for each of its keys; of one that has counted nothing it is that of all such."""
    calls, block = [], totals._block
    monkeypatch.setattr(totals, "_block", lambda words, is_http: calls.append(is_http) or block(words, is_http))
    rig.look()
    calls.clear()
    rig.memory.rows[1][rig.web + counters.BYTES_UP] = 7
    found = rig.look()["apps"]
    assert (found["web"]["bytes"]["up"], found["club"]["bytes"]["up"]) == (7, 0)
    assert calls == [False, True, False], "once for each app"
