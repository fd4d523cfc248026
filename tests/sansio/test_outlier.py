"""Outlier detection: Envoy's cases by the names that they have there, and a model of what is in a row over many workers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tcp_proxy.config.model import Outlier
from tcp_proxy.sansio.outlier import Cause, Detector, Kind, Row, success_rate_threshold

USUAL = Outlier()
NAMES = "abcdefghij"


class Rig:
    """A detector with `count` targets that are up; a worker that says what it met."""

    def __init__(self, count=10, **settings):
        self.detector = Detector(replace(USUAL, **settings))
        self.names = NAMES[:count]
        self.down = set()
        self.successes = 0

    def members(self):
        out = self.detector.out()
        return {name: name not in out and name not in self.down for name in self.names}

    def fail(self, name="a", times=1, now=0.0, kind=Kind.FAILURE, text="status 503"):
        """What the last of these does."""
        found = None
        for _ in range(times):
            found = self.detector.failed(name, Row(kind, self.successes, 1), text, self.members, now) or found
        return found

    def succeed(self):
        self.successes += 1


@pytest.mark.parametrize("kind", [Kind.FAILURE, Kind.CONNECT, Kind.RESET])
def test_basic_flow_5xx(kind):
    """Envoy's BasicFlow5xxViaHttpCodes and BasicFlow5xxViaNonHttpCodes: four and a success, five, back after the time, and
    longer the second time."""
    rig = Rig()
    assert rig.fail(times=4, kind=kind) is None
    rig.succeed()
    assert rig.fail(times=4, kind=kind) is None
    ejection = rig.fail(kind=kind)
    assert (ejection.target, ejection.cause, ejection.seconds, ejection.times) == ("a", Cause.CONSECUTIVE, 30.0, 1)
    assert ejection.evidence.endswith("in a row, the last: status 503")
    assert rig.detector.due(9.999) == []
    assert rig.detector.due(30.001) == ["a"]
    assert rig.fail(times=4, now=31.0, kind=kind) is None
    ejection = rig.fail(now=40.0, kind=kind)
    assert (ejection.seconds, ejection.times) == (60.0, 2)
    assert (rig.detector.due(99.9), rig.detector.due(100.0)) == ([], ["a"])


def test_basic_flow_gateway_failure():
    """Envoy's BasicFlowGatewayFailure: counted for itself, by its own threshold."""
    rig = Rig(consecutive_failures=0, consecutive_gateway_failures=3)
    assert rig.fail(times=10) is None
    assert rig.fail(times=2, kind=Kind.GATEWAY, text="status 502") is None
    assert rig.fail(kind=Kind.GATEWAY, text="status 504").cause is Cause.GATEWAY


def test_kinds_are_counted_for_themselves():
    rig = Rig()
    for _ in range(4):
        rig.fail(kind=Kind.CONNECT)
        rig.fail(kind=Kind.RESET)
    assert rig.fail(kind=Kind.RESET).evidence.startswith("5 resets before a byte in a row")


def test_not_enforcing():
    """Envoy's NotEnforcing: what is 0 ejects nobody."""
    rig = Rig(consecutive_failures=0)
    assert rig.fail(times=100) is None


def test_consecutive_5xx_already_ejected():
    """Envoy's Consecutive_5xxAlreadyEjected: what comes late of one that is out counts for nothing."""
    rig = Rig()
    assert rig.fail(times=5) is not None
    assert rig.fail(times=20, now=1.0) is None
    assert rig.detector.due(30.0) == ["a"]
    assert rig.fail(times=4, now=30.0) is None


def test_overflow():
    """Envoy's Overflow: at most so many per cent, and never more."""
    rig = Rig(count=2, max_ejected=60)
    assert rig.fail("a", 5).seconds
    spared = rig.fail("b", 5)
    assert (spared.seconds, spared.times) == (0.0, 0)
    assert spared.evidence.endswith("in a row, the last: status 503; but 1 of 2 are ejected, and max_ejected is 60 %")
    assert rig.fail("b", 50) is None  # said once
    assert rig.detector.due(30.0) == ["a"]
    assert rig.fail("b", now=31.0).seconds


@pytest.mark.parametrize(
    ("most", "count", "ejected"), [(0, 10, 0), (9, 10, 0), (10, 10, 1), (50, 3, 1), (50, 4, 2), (100, 3, 2)]
)
def test_at_most_max_ejected_per_cent_are_out_and_the_last_one_never(most, count, ejected):
    rig = Rig(count=count, max_ejected=most)
    for name in rig.names:
        rig.fail(name, 5)
    assert len(rig.detector.out()) == ejected


def test_the_last_one_that_is_up_stays_though_others_are_only_down():
    rig = Rig(count=3)
    rig.down = {"b", "c"}
    assert rig.fail(times=5).evidence.endswith("; but it is the last one that is up")


def test_max_eject_time():
    """Envoy's MaxEjectTime: longer each time, but not longer than that; and one base time at the least."""
    rig, now, seconds = Rig(base_ejection_time=10.0, max_ejection_time=25.0), 0.0, []
    for _ in range(4):
        seconds.append(rig.fail(times=5, now=now).seconds)
        now += seconds[-1]
        assert rig.detector.due(now) == ["a"]
    assert seconds == [10.0, 20.0, 25.0, 25.0]
    assert Rig(base_ejection_time=10.0, max_ejection_time=5.0).fail(times=5).seconds == 10.0


def test_eject_time_backoff():
    """Envoy's EjectTimeBackoff: each interval in which it is in all the time makes the next time shorter."""
    rig, now = Rig(), 0.0
    for seconds in (30.0, 60.0, 90.0):
        assert rig.fail(times=5, now=now).seconds == seconds
        now += seconds
        rig.detector.due(now)
    rig.detector.interval({}, rig.members(), now)  # it was out for a part of this one
    rig.detector.interval({}, rig.members(), now)
    rig.detector.interval({}, rig.members(), now)
    assert rig.fail(times=5, now=now).seconds == 60.0
    for _ in range(20):
        rig.detector.interval({}, rig.members(), now)  # out: nothing is forgiven
    now += 60.0
    rig.detector.due(now)
    assert rig.fail(times=5, now=now).seconds == 90.0


def test_remove_while_ejected():
    """Envoy's RemoveWhileEjected: it is not counted among those who are out, and nothing is known of it any more."""
    rig = Rig(count=2)
    rig.fail("a", 5)
    rig.names = "b" + "c"
    rig.detector.keep(set(rig.names))
    assert rig.detector.out() == {}
    assert rig.fail("b", 5).seconds == 30.0


def test_one_that_is_put_back_begins_with_a_clean_sheet():
    """HAProxy: `set server … state ready`; Envoy's unejecting by a check."""
    rig = Rig()
    rig.fail(times=5)
    rig.detector.put_back("a")
    assert rig.detector.out() == {}
    assert rig.fail(times=4, now=1.0) is None
    assert rig.fail(now=1.0).seconds == 60.0


# -- success rate


def test_sr_threshold():
    """Envoy's OutlierUtility.SRThreshold, with its numbers."""
    assert success_rate_threshold([50, 100, 100, 100, 100], 1.9) == (90.0, 52.0)


def test_basic_flow_success_rate():
    """Envoy's BasicFlowSuccessRateExternalOrigin: four are well, one is not."""
    rig = Rig(count=5, consecutive_failures=0, max_ejected=100)
    counted = {name: (200, 0) for name in "abcd"} | {"e": (50, 150)}
    (ejection,) = rig.detector.interval(counted, rig.members(), 10.0)
    assert (ejection.target, ejection.cause, ejection.seconds) == ("e", Cause.SUCCESS_RATE, 30.0)
    assert ejection.evidence == "a success rate of 25 % in 10 s, where all have 85 % and 28 % would do"
    assert rig.detector.interval(counted, rig.members(), 20.0) == []


@pytest.mark.parametrize(
    "settings", [{"success_rate_stdev_factor": 0}, {"success_rate_minimum_targets": 6}, {"success_rate_request_volume": 201}]
)
def test_empty_success_rate(settings):
    """Envoy's EmptySuccessRate: too few targets, or too few requests, and nobody is compared."""
    rig = Rig(count=5, **settings)
    counted = {name: (200, 0) for name in "abcd"} | {"e": (50, 150)}
    assert rig.detector.interval(counted, rig.members(), 10.0) == []


def test_all_equally_bad_is_nobody_s_fault():
    rig = Rig()
    assert rig.detector.interval(dict.fromkeys(NAMES, (10, 190)), rig.members(), 10.0) == []


def test_the_worst_goes_first_where_not_all_may():
    rig = Rig(count=10, max_ejected=10, success_rate_stdev_factor=1000)
    counted = {name: (200, 0) for name in NAMES[:8]} | {"i": (100, 100), "j": (80, 120)}
    first, second = rig.detector.interval(counted, rig.members(), 10.0)
    assert (first.target, bool(first.seconds), second.target, bool(second.seconds)) == ("j", True, "i", False)


@given(st.dictionaries(st.sampled_from(NAMES), st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1))
def test_nobody_above_the_mean_is_ejected_by_it(counted):
    rig = Rig(max_ejected=100, success_rate_minimum_targets=1, success_rate_request_volume=1)
    found = rig.detector.interval(counted, rig.members(), 10.0)
    rates = {name: good / (good + bad) for name, (good, bad) in counted.items() if good + bad}
    mean = sum(rates.values()) / len(rates) if rates else 0.0
    assert all(rates[ejection.target] < mean + 1e-9 for ejection in found)


# -- in a row, over workers


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=60),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_a_row_is_what_the_model_says(events, threshold, dice):
    """None is a success, a number a failure that this worker met. The words of different workers overtake each other, those
    of one do not: the longest row is found all the same."""
    successes, told, longest, row = 0, {}, 0, 0
    for event in events:
        if event is None:
            successes, row = successes + 1, 0
        else:
            row += 1
            longest = max(longest, row)
            told.setdefault(event, []).append(successes)
    rig = Rig(consecutive_failures=threshold)
    found = 0
    in_order = [successes for own in told.values() for successes in own]
    in_order.sort()
    for successes in in_order:
        found += rig.detector.failed("a", Row(Kind.FAILURE, successes, 1), "x", rig.members, 0.0) is not None
    assert bool(found) == (longest >= threshold)
    # Out of order: never one that the model has not, for a row is not made longer by failures of another.
    other = Rig(consecutive_failures=threshold)
    while any(told.values()):
        own = dice.choice([own for own in told.values() if own])
        ejection = other.detector.failed("a", Row(Kind.FAILURE, own.pop(0), 1), "x", other.members, 0.0)
        assert ejection is None or longest >= threshold


def test_a_wrong_number_does_not_stand_for_ever():
    """A worker that died in the moment of a failure may have been summed up twice."""
    rig = Rig()
    rig.successes = 1000
    rig.fail()
    rig.successes = 7
    assert rig.fail(times=9, now=0.5) is None  # overtaken, as far as can be known
    assert rig.fail(times=4, now=1.5) is None
    assert rig.fail(now=1.6) is not None


class Life(RuleBasedStateMachine):
    """Failures, successes, time, targets that come and go: the rules hold at every moment."""

    def __init__(self):
        super().__init__()
        self.rig = Rig(count=4, max_ejected=50, base_ejection_time=10.0, max_ejection_time=40.0)
        self.now, self.until = 0.0, {}

    @rule(name=st.sampled_from("abcd"), times=st.integers(1, 6))
    def fails(self, name, times):
        before = set(self.rig.detector.out())
        ejection = self.rig.fail(name, times, self.now)
        if ejection is not None and ejection.seconds:
            assert name not in before
            assert 10.0 <= ejection.seconds <= 40.0
            self.until[name] = self.now + ejection.seconds

    @rule()
    def succeeds(self):
        self.rig.succeed()

    @rule(seconds=st.floats(0.1, 50.0))
    def time_passes(self, seconds):
        self.now += seconds
        over = {name for name, until in self.until.items() if until <= self.now}
        assert set(self.rig.detector.due(self.now)) == over
        for name in over:
            del self.until[name]

    @rule(name=st.sampled_from("abcd"))
    def goes_down_or_up(self, name):
        self.rig.down ^= {name}

    @rule()
    def interval_is_over(self):
        self.rig.detector.interval({}, self.rig.members(), self.now)

    @invariant()
    def out_is_who_was_ejected_and_no_more_than_half(self):
        assert self.rig.detector.out() == self.until
        assert len(self.until) <= 2


TestLife = Life.TestCase
