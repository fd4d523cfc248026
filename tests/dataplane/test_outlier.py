"""What workers count and tell for outlier detection: exact over workers, and no more words than needed."""

import os
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.config.model import Outlier
from tcp_proxy.dataplane.outlier import OutlierCounts
from tcp_proxy.sansio.outlier import Detector, Kind, Row
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import CONNECTS, HTTP_STATUS, PROCESS_SLOTS, TARGET_SLOTS, Counters


@dataclass
class Failing:
    name: str
    slot: int
    since: float = 0.0


class Rig:
    """Workers, each with a row of its own, and the targets a and b; what they tell."""

    def __init__(self, workers=2, is_http=True, **settings):
        self.memory, fd = Counters.create(1 + workers, PROCESS_SLOTS + 2 * TARGET_SLOTS)
        os.close(fd)
        self.settings = replace(Outlier(), **settings)
        self.told = []
        rows = self.memory.rows
        self.workers = [
            OutlierCounts(self.settings, is_http, rows, rows[1 + n], lambda *what: self.told.append(what))
            for n in range(workers)
        ]
        self.a, self.b = (Failing(name, PROCESS_SLOTS + n * TARGET_SLOTS) for n, name in enumerate("ab"))

    def answered(self, worker, status, seconds=0.0, target=None, now=0.0):
        """As dataplane.http.requests does: the status is counted afterwards."""
        target = target or self.a
        self.workers[worker].answered(target, status, seconds, now)
        self.memory.rows[1 + worker][target.slot + HTTP_STATUS + status // 100] += 1

    def connected(self, worker):
        self.memory.rows[1 + worker][self.a.slot + CONNECTS + 2] += 1

    def total(self, place):
        return self.memory.total(self.a.slot + place)

    def rows(self):
        """(kind, successes) of each row told, in order."""
        return [row[:2] for told, _, _ in self.told for row in told]


@pytest.fixture
def rig():
    made = []
    yield lambda **how: made.append(Rig(**how)) or made[-1]
    for one in made:
        one.memory.close()


def test_good_answers_are_not_told(rig):
    web = rig()
    for status in (101, 200, 301, 404, 499):
        web.answered(0, status, 100.0)
    assert web.told == []
    assert web.total(counters.OUTLIER_FAILURES) == 0


def test_a_failure_is_told_with_how_many_successes_all_workers_had(rig):
    web = rig(consecutive_gateway_failures=5)
    web.answered(0, 200)
    web.answered(1, 200)
    web.answered(0, 500)
    web.answered(1, 503)
    assert web.told == [
        (((Kind.FAILURE, 2, 1),), "a", "status 500"),
        (((Kind.FAILURE, 2, 1), (Kind.GATEWAY, 3, 1)), "a", "status 503"),  # to a gateway failure a 500 is an answer
    ]


def test_a_late_answer_is_a_failure_that_no_slot_counts_as_a_success(rig):
    web = rig(slower_than=1.0)
    web.answered(0, 200, 1.0)
    web.answered(0, 200, 1.5)
    web.answered(1, 404, 2.5)
    web.answered(1, 200, 0.0)  # it did not go to the target at once
    assert web.told == [(((Kind.FAILURE, 1, 1),), "a", "200 after 1.5 s"), (((Kind.FAILURE, 1, 1),), "a", "404 after 2.5 s")]
    assert web.total(counters.OUTLIER_FAILURES) == web.total(counters.OUTLIER_BOTH) == 2


def test_connects_and_resets_of_mode_tcp_are_rows_of_their_own(rig):
    db = rig(is_http=False)
    db.connected(0)
    db.connected(1)
    db.workers[0].connect_failed(db.a, "ECONNREFUSED", 0.0)
    db.workers[1].was_reset(db.a, "ECONNRESET before a byte", 0.0)
    assert db.told == [
        (((Kind.CONNECT, 2, 1),), "a", "connect: ECONNREFUSED"), (((Kind.RESET, 0, 1),), "a", "ECONNRESET before a byte"),
    ]  # fmt: skip


def test_a_row_that_is_long_enough_is_told_once_a_second(rig):
    web = rig(consecutive_failures=3)
    for n in range(100):
        web.answered(0, 500, now=n / 50)
    assert len(web.told) == 3 + 1
    web.answered(0, 200)
    web.answered(0, 500, now=2.0)
    assert web.rows()[-1] == (Kind.FAILURE, 1)


def test_of_one_that_has_come_back_everything_is_told_again(rig):
    web = rig(consecutive_failures=2)
    for _ in range(9):
        web.answered(0, 500)
    assert len(web.told) == 2
    web.a.since = 50.0
    for _ in range(9):
        web.answered(0, 500)
    assert len(web.told) == 4


def test_what_is_off_is_told_to_nobody(rig):
    web = rig(consecutive_failures=0)
    web.answered(0, 500)
    assert web.told == []
    assert web.total(counters.OUTLIER_FAILURES) == 1  # success rates want it


events = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([200, 404, 500, 502, None, "connect", "late"])), max_size=60)


@given(events, st.integers(1, 6), st.integers(0, 4))
def test_over_three_workers_it_is_as_if_there_were_one(events, threshold, gateway):
    """A model that sees everything in order: what is told, heard by a Detector, ejects in the same moment as it says."""
    web = Rig(workers=3, consecutive_failures=threshold, consecutive_gateway_failures=gateway, slower_than=1.0)
    detector = Detector(web.settings)
    row = gateway_row = 0
    try:
        for n, (worker, event) in enumerate(events):
            if event == "connect":
                web.workers[worker].connect_failed(web.a, "ECONNREFUSED", float(n))
            elif event is None:
                web.workers[worker].unanswered(web.a, "", float(n))
                web.memory.rows[1 + worker][web.a.slot + HTTP_STATUS + 5] += 1  # what the client is told instead
            elif event == "late":
                web.answered(worker, 200, 2.0, now=float(n))
            else:
                web.answered(worker, event, now=float(n))
            is_good, is_gateway = event in (200, 404), event in (502, None, "connect")
            row, gateway_row = 0 if is_good else row + 1, gateway_row + 1 if is_gateway else 0
            ejected = []
            for rows, _, text in web.told:
                ejected += [detector.failed("a", Row(*one), text, lambda: {"a": True, "b": True}, 0.0) for one in rows]
            web.told.clear()
            wanted = row >= threshold or (0 < gateway <= gateway_row)
            assert any(ejected) == wanted
            if wanted:
                return
    finally:
        web.memory.close()
