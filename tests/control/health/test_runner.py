"""The health thread of an app, turned by hand: when it probes, and what it makes of the results."""

import dataclasses
import gc
import itertools
import logging
import random
import socket

import pytest

from tcp_proxy.config.model import Check
from tcp_proxy.control.health import runner as module
from tcp_proxy.control.health.probe import subject_of
from tcp_proxy.control.health.runner import Finding
from tcp_proxy.sansio.verdict import Known, State
from tests.control.health.bench import Hand, Scripted, few_descriptors

A, B, C = ((socket.AF_INET, (f"127.0.0.{n}", 80)) for n in (1, 2, 3))


@pytest.fixture
def script(monkeypatch):
    """The kind `scripted`: the test answers for the targets."""
    script = Scripted()
    monkeypatch.setitem(module.KINDS, "scripted", script.start)
    return script


def said(hand):
    """The findings without what each check has found, which is for the store."""
    return [dataclasses.replace(finding, known=()) for finding in hand.findings]


def scripted(**check):
    return Check(type="scripted", **check)


# -- when it probes


def test_the_first_round_comes_at_once_and_all_together(bench, script):
    hand = Hand(bench, scripted())
    hand.set_targets(a=[A], b=[B], c=[C])
    assert {probe.endpoint for probe in script.probes} == {A, B, C}
    script.answer(True)
    assert said(hand) == [
        Finding("shop", name, State.UP, "accepted (first result)", changed=True) for name in ("a", "b", "c")
    ]


@pytest.mark.parametrize(("draw", "interval"), [(0.0, 27.0), (0.5, 30.0), (1.0, 33.0)])
def test_the_interval_is_drawn_within_a_tenth(bench, script, draw, interval):
    hand = Hand(bench, scripted(interval=30.0), draw=lambda: draw)
    hand.set_targets(a=[A])
    for begun in (1, 2, 3):
        assert script.begun == begun
        script.answer(True)
        bench.turn(interval - 0.1)
        assert script.begun == begun
        bench.turn(0.2)


def test_every_target_draws_for_itself(bench, script):
    draws = itertools.cycle([0.0, 0.5, 1.0])
    hand = Hand(bench, scripted(interval=10.0), draw=lambda: next(draws))
    hand.set_targets(a=[A], b=[B], c=[C])
    script.answer(True)
    for endpoint in (A, B, C):
        bench.turn(9.01 if endpoint is A else 1.0)
        assert [probe.endpoint for probe in script.probes] == [endpoint]
        script.answer(True)


def test_the_last_descriptors_are_not_for_checks(bench, script):
    """They are for a worker in the place of one that has died, a reload, an administrator. It is no verdict."""
    hand = Hand(bench, scripted(interval=10.0))
    with few_descriptors(module.KEPT):
        hand.set_targets(a=[A])
        assert (script.begun, hand.take()) == (0, [])
    with few_descriptors(module.KEPT + 1):
        bench.turn(10.0)
        assert script.begun == 1
        script.answer(True)
    assert hand.take() == [("a", "up")]
    (history,) = hand.runner._subjects["a"].histories()
    assert [(one.success, one.text) for one in history.probes] == [
        (None, "scripted: too many open files (EMFILE)"), (True, "accepted"),
    ]  # fmt: skip


def test_two_probes_of_one_target_never_overlap_and_the_late_one_follows_at_once(bench, script):
    """A timeout as long as the interval: without this every second round would be lost."""
    hand = Hand(bench, scripted(interval=10.0, interval_down=10.0, timeout=10.0), draw=lambda: 0.0)
    hand.set_targets(a=[A])
    bench.turn(9.5)
    assert script.begun == len(script.probes) == 1
    bench.turn(0.5)
    script.answer(False)
    assert script.begun == 2
    script.answer(False)
    bench.turn(8.9)
    assert script.begun == 2, "what was made up for counts as the round"
    bench.turn(0.2)
    assert script.begun == 3


def test_several_checks_have_their_own_intervals(bench, script):
    hand = Hand(bench, scripted(interval=10.0), scripted(interval=25.0))
    hand.set_targets(a=[A])
    counts = []
    for _ in range(7):
        counts.append(len(script.probes))
        script.answer(True)
        bench.turn(10.0)
    assert counts == [2, 1, 1, 2, 1, 1, 2]


def test_an_idle_runner_wakes_up_for_nothing(bench, script):
    hand = Hand(bench, scripted())
    hand.set_targets(a=[], b=[])
    assert "watching 0, 0 timers" in repr(bench.loop)


# -- what sessions ask for


def test_a_failed_connect_asks_at_once_but_once_a_second(bench, script):
    hand = Hand(bench, scripted())
    hand.set_targets(a=[A], b=[B])
    script.answer(True)
    bench.turn(5.0)
    hand.probe_now("a")
    assert [probe.endpoint for probe in script.probes] == [A]
    script.answer(True)
    for _ in range(9):
        bench.turn(0.1)
        hand.probe_now("a")
        assert not script.probes
    hand.probe_now("b")
    assert [probe.endpoint for probe in script.probes] == [B], "another target has a second of its own"
    script.answer(True)
    bench.turn(5.0)
    assert not script.probes, "what was refused is not made up for later"
    hand.probe_now("a")
    assert script.begun == 5


def test_the_round_after_an_asked_for_probe_is_an_interval_away(bench, script):
    hand = Hand(bench, scripted(interval=10.0))
    hand.set_targets(a=[A])
    script.answer(True)
    bench.turn(8.0)
    hand.probe_now("a")
    script.answer(True)
    bench.turn(9.9)
    assert not script.probes
    bench.turn(0.2)
    assert script.probes


def test_a_probe_under_way_answers_and_the_ask_is_not_used_up(bench, script):
    hand = Hand(bench, scripted())
    hand.set_targets(a=[A])
    hand.probe_now("a")
    script.answer(True)
    assert script.begun == 1
    bench.turn(0.1)
    hand.probe_now("a")
    assert script.begun == 2


def test_asking_for_what_is_not_there_does_nothing(bench, script):
    hand = Hand(bench, scripted())
    hand.set_targets(a=[])
    hand.probe_now("a")
    hand.probe_now("unknown")
    assert script.begun == 0


# -- targets come and go


def test_a_target_that_left_is_probed_no_more(bench, script):
    hand = Hand(bench, scripted(interval=10.0))
    hand.set_targets(a=[A], b=[B])
    hand.set_targets(b=[B])
    assert [probe.endpoint for probe in script.probes] == [B], "what was under way is cancelled"
    script.answer(True)
    assert hand.take() == [("b", "up")]
    bench.turn(11.0)
    assert [probe.endpoint for probe in script.probes] == [B]


def test_nothing_is_left_of_targets_that_left(bench, script):
    """Counted without a look for garbage, which may not come for hours."""
    hand = Hand(bench, scripted(interval=10.0))
    gc.collect()
    gc.disable()
    try:
        hand.set_targets(a=[A], **many(50))
        script.answer(False)
        hand.findings.clear()
        bench.turn(1.0)
        hand.set_targets(a=[A])
        bench.turn(20.0)
        script.answer(True)
        kinds = [type(one).__name__ for one in gc.get_objects()]
        assert {name: kinds.count(name) for name in ("Subject", "Pair", "Verdict", "History")} == dict.fromkeys(
            ("Subject", "Pair", "Verdict", "History"), 1
        )
    finally:
        gc.enable()


def test_a_target_that_comes_back_begins_anew(bench, script):
    hand = Hand(bench, scripted(rise=3))
    hand.set_targets(a=[A])
    script.answer(False)
    hand.set_targets()
    hand.set_targets(a=[A])
    script.answer(True)
    assert hand.take() == [("a", "down"), ("a", "up")]


def test_those_that_stay_keep_their_history(bench, script):
    hand = Hand(bench, scripted(fall=3, interval=10.0))
    hand.set_targets(a=[A])
    script.answer(True)
    for _ in range(2):
        bench.turn(10.0)
        script.answer(False)
    hand.set_targets(a=[A], b=[B])
    assert [probe.endpoint for probe in script.probes] == [B]
    script.answer(True)
    bench.turn(10.0)
    script.answer(False)
    assert hand.take() == [("a", "up"), ("b", "up"), ("a", "down")]


def test_one_with_a_new_name_says_again_what_is_thought_of_it(bench, script):
    """What was found under the old name may have been on its way to somebody who knows only the new one."""
    hand = Hand(bench, scripted())
    hand.set_targets(a=[A], b=[B], c=[C])
    script.answer(False, endpoint=A)
    script.answer(True, endpoint=B)
    hand.take()
    for old, new in (("a", "first"), ("b", "second"), ("c", "third")):
        hand.runner.rename(old, new)
    hand.set_targets(first=[A], second=[B], third=[C])
    assert said(hand) == [
        Finding("shop", "first", State.DOWN, "refused (first result)", False, is_passing=False),
        Finding("shop", "second", State.UP, "accepted (first result)", False),
    ]

def test_a_target_with_checks_of_its_own_that_gets_another_name_and_those_of_the_app(bench, script):
    """Both at once: under the new name it is asked what the app asks."""
    hand = Hand(bench, scripted())
    hand.runner.set_checks((scripted(),), {"old": ()})
    hand.set_targets(old=[A])
    assert script.begun == 0
    hand.runner.rename("old", "new")
    hand.runner.change([], {"new": (A,)}, {}, {}, {"old": None, "new": None})
    bench.turn(0)
    assert script.begun == 1


def test_a_shorter_interval_counts_at_once_and_a_longer_one_from_the_next_round(bench, script):
    hand = Hand(bench, scripted(interval=100.0))
    hand.set_targets(a=[A])
    script.answer(True)
    bench.turn(50)
    hand.runner.set_checks((scripted(interval=10.0),))
    bench.settle()
    bench.turn(9)
    assert script.begun == 1
    bench.turn(2)
    assert script.begun == 2
    script.answer(True)
    bench.turn(4)
    hand.runner.set_checks((scripted(interval=100.0),))
    bench.settle()
    bench.turn(7)
    assert script.begun == 3
    script.answer(True)
    bench.turn(99)
    assert script.begun == 3


def test_a_shorter_interval_does_not_put_off_a_round_that_is_near(bench, script):
    hand = Hand(bench, scripted(interval=100.0))
    hand.set_targets(a=[A])
    script.answer(True)
    bench.turn(99)
    hand.runner.set_checks((scripted(interval=50.0),))
    bench.settle()
    bench.turn(2)
    assert script.begun == 2


def test_new_addresses_keep_the_verdict_and_are_probed_at_once(bench, script):
    hand = Hand(bench, scripted(rise=2, fall=2))
    hand.set_targets(a=[A])
    script.answer(False)
    hand.set_targets(a=[B])
    assert [probe.endpoint for probe in script.probes] == [B]
    script.answer(True)
    assert hand.take() == [("a", "down")], "one success of two"
    hand.set_targets(a=[B, C])
    script.answer(True, endpoint=B)
    assert hand.take() == [("a", "up")]
    assert not script.probes


def test_the_same_addresses_in_another_order_are_no_news(bench, script):
    hand = Hand(bench, scripted())
    hand.set_targets(a=[A, B])
    script.answer(True)
    begun = script.begun
    hand.set_targets(a=[B, A])
    assert script.begun == begun


def test_new_addresses_do_not_cut_off_a_probe(bench, script):
    """A name that changes faster than its targets time out must still come to a verdict."""
    hand = Hand(bench, scripted())
    hand.set_targets(a=[A])
    for where in (B, C, B):
        hand.set_targets(a=[where])
    assert [probe.endpoint for probe in script.probes] == [A]
    script.answer(False)
    assert hand.take() == [("a", "down")]
    assert [probe.endpoint for probe in script.probes] == [B], "the newest addresses follow at once"
    script.answer(True)
    assert hand.take() == [("a", "up")]
    assert not script.probes


def test_a_target_without_an_address_is_not_probed_until_it_has_one(bench, script):
    hand = Hand(bench, scripted(interval=10.0))
    hand.set_targets(a=[])
    bench.turn(30.0)
    assert script.begun == 0
    hand.set_targets(a=[A])
    assert len(script.probes) == 1
    hand.set_targets(a=[])
    assert not script.probes
    bench.turn(30.0)
    assert script.begun == 1
    assert hand.take() == []


# -- what it makes of the results


def test_rise_and_fall_with_the_count_in_the_evidence(bench, script):
    hand = Hand(bench, scripted(rise=2, fall=3, interval=10.0))
    hand.set_targets(a=[A])
    for success in (True, False, False, True, False, False, False, True, False, True, True):
        script.answer(success)
        bench.turn(10.0)
    assert [(finding.state, finding.evidence, finding.changed) for finding in hand.findings] == [
        (State.UP, "accepted (first result)", True),
        (State.DOWN, "refused (fall 3/3)", True),
        (State.UP, "accepted (rise 2/2)", True),
    ]


@pytest.mark.parametrize(("action", "state"), [("drain", State.DRAINING), ("ignore", State.UP)])
def test_fall_action(bench, script, action, state):
    hand = Hand(bench, scripted(fall_action=action, interval=10.0))
    hand.set_targets(a=[A])
    script.answer(True)
    bench.turn(10.0)
    script.answer(False)
    finding = hand.findings[-1]
    assert finding.state is state
    assert finding.evidence == "refused (fall 1/1)"
    assert finding.changed, "with `ignore` a line in the log is all that follows"


def test_up_if_any_address_answers(bench, script):
    hand = Hand(bench, scripted())
    hand.set_targets(a=[A, B, C])
    script.answer(False, endpoint=A)
    assert hand.take() == []
    script.answer(True, endpoint=C)
    assert hand.take() == [("a", "up")]
    assert not script.probes, "the others need not be waited for"


def test_down_when_no_address_answers(bench, script):
    hand = Hand(bench, scripted())
    hand.set_targets(a=[A, B, C])
    script.answer(False, "tcp 127.0.0.2:80: refused", endpoint=B)
    script.answer(False, "tcp 127.0.0.1:80: timed out", endpoint=A)
    assert hand.take() == []
    script.answer(False, endpoint=C)
    assert hand.findings[0].evidence == "tcp 127.0.0.2:80: refused, and 2 more addresses failed (first result)"


def test_the_worst_of_several_checks_wins(bench, script, monkeypatch):
    other = Scripted()
    monkeypatch.setitem(module.KINDS, "other", other.start)
    hand = Hand(bench, scripted(interval=10.0), Check(type="other", interval=10.0, fall_action="drain"))
    hand.set_targets(a=[A])
    found = []
    for first, second in ((True, True), (True, False), (False, False), (False, True), (True, True)):
        script.answer(first, "one " + ("well" if first else "ill"))
        other.answer(second, "two " + ("well" if second else "ill"))
        found.append([(finding.state.value, finding.evidence, finding.changed) for finding in hand.findings])
        hand.findings.clear()
        bench.turn(10.0)
    assert found == [
        [("up", "one well (first result)", False), ("up", "two well (first result)", True)],
        [("draining", "two ill (fall 1/1)", True)],
        [("down", "one ill (fall 1/1)", True)],
        [("down", "one ill (fall 1/1)", False)],
        [("up", "one well (rise 1/1)", True)],
    ]


def test_errors_of_this_machine_are_no_verdict_and_logged_once_a_run(bench, script, caplog):
    hand = Hand(bench, scripted(fall=2, interval=10.0))
    hand.set_targets(a=[A])
    with caplog.at_level(logging.WARNING):
        for success in (True, False, None, None, None, False, None):
            script.answer(success)
            bench.turn(10.0)
    assert hand.take() == [("a", "up"), ("a", "down")], "they neither count nor break a run"
    assert [record.message for record in caplog.records] == [
        "app shop: target a cannot be checked: too many open files"
    ] * 2


def test_an_error_of_this_machine_on_one_address_leaves_the_verdict_to_the_others(bench, script):
    hand = Hand(bench, scripted())
    hand.set_targets(a=[A, B])
    script.answer(None, "cannot assign requested address", endpoint=B)
    script.answer(False, "refused", endpoint=A)
    assert hand.take() == [("a", "down")]


def test_a_bug_costs_one_round_and_not_the_thread(bench, script, monkeypatch, caplog):
    def broken(*_):
        raise LookupError("unknown encoding: idna")

    hand = Hand(bench, scripted(interval=10.0))
    with monkeypatch.context() as patch:
        patch.setitem(module.KINDS, "scripted", broken)
        hand.set_targets(a=[A])
    assert hand.take() == []
    assert "app shop: a health check met a bug" in caplog.text
    assert "unknown encoding" in caplog.text
    bench.turn(11.0)
    script.answer(True)
    assert hand.take() == [("a", "up")]


def test_an_order_that_comes_too_late_begins_nothing(bench, script):
    """Closing the loop makes the calls that are still queued: a probe that began then would have no owner."""
    hand = Hand(bench, scripted())
    hand.runner.set_targets({"a": (A,)})
    hand.runner.probe_now("a")
    hand.runner.stop()
    assert script.begun == 0


# -- checks of a target's own


def test_a_target_may_have_checks_of_its_own(bench, script):
    hand = Hand(bench, scripted(interval=10.0))
    hand.runner.set_checks((scripted(interval=10.0),), {"b": (scripted(interval=5.0), scripted(port=9)), "c": ()})
    hand.set_targets(a=[A], b=[B], c=[C])
    assert sorted((probe.endpoint[1][0], probe.check.interval, probe.check.port) for probe in script.probes) == [
        ("127.0.0.1", 10.0, None), ("127.0.0.2", 5.0, None), ("127.0.0.2", 30.0, 9),
    ]  # fmt: skip
    script.answer(True, endpoint=A)
    script.at_port(9).end(False, "refused")
    script.answer(True)
    bench.settle()
    assert hand.take() == [("a", "up"), ("b", "down"), ("b", "down")]


def test_checks_that_become_a_targets_own_are_asked_at_once(bench, script):
    hand = Hand(bench, scripted())
    hand.set_targets(a=[A], b=[B])
    script.answer(False)
    assert hand.take() == [("a", "down"), ("b", "down")]
    hand.runner.set_checks((scripted(),), {"b": (scripted(path="/own"),)})
    bench.settle()
    assert [(probe.endpoint, probe.check.path) for probe in script.probes] == [(B, "/own")]
    script.answer(True)
    assert hand.take() == [("b", "up")], "down until the new check has succeeded"
    hand.runner.set_checks((scripted(),), {"a": ()})
    bench.settle()
    bench.turn(60)
    assert {probe.endpoint for probe in script.probes} == {B}
    assert hand.take() == []


# -- a check that takes the place of another


def failed_and_replaced(bench, script, *new, success=False, **numbers):
    """A target that was found so, whose check is replaced at that moment."""
    hand = Hand(bench, scripted(interval=10.0, **numbers))
    hand.set_targets(a=[A])
    script.answer(success)
    hand.take()
    hand.runner.set_checks(new)
    bench.settle()
    return hand


@pytest.mark.parametrize("change", [{"path": "/new"}, {"headers": (("X", "y"),)}, {"port": 9}, {"status": ("204",)}])
def test_what_was_down_stays_down_until_the_new_check_has_succeeded(bench, script, change):
    hand = failed_and_replaced(bench, script, scripted(interval=10.0, rise=2, **change))
    assert hand.take() == []
    assert script.begun == 2, "it is asked at once"
    script.answer(False)
    bench.turn(2.1)
    script.answer(True)
    assert hand.take() == []
    bench.turn(2.1)
    script.answer(True)
    assert hand.take() == [("a", "up")]


def test_what_was_up_stays_up_until_the_new_check_has_failed_as_often_as_it_says(bench, script):
    hand = failed_and_replaced(bench, script, scripted(interval=10.0, path="/new", fall=2), success=True)
    script.answer(False)
    assert hand.take() == []
    bench.turn(10.1)
    script.answer(False)
    assert hand.take() == [("a", "down")]


def test_a_check_that_is_added_to_those_of_a_target_that_is_up_counts_its_failures(bench, script):
    two = scripted(interval=10.0), scripted(interval=10.0, path="/2", fall=2)
    hand = failed_and_replaced(bench, script, *two, success=True)
    assert [probe.check.path for probe in script.probes] == ["/2"]
    script.answer(False)
    assert hand.take() == []


def test_a_failing_check_that_is_taken_away_beside_one_that_passes_holds_nothing_down(bench, script):
    hand = Hand(bench, scripted(), scripted(path="/ill"))
    hand.set_targets(a=[A])
    (well, ill) = script.probes
    well.end(True, "accepted")
    ill.end(False, "refused")
    hand.take()
    hand.runner.set_checks((scripted(),))
    bench.settle()
    assert hand.take() == [("a", "up")]


def test_a_server_that_takes_the_place_of_another_of_its_group_begins_with_what_was_thought_of_that(bench, script):
    hand = Hand(bench, scripted(interval=10.0))
    first, second, third = (subject_of("g", port) for port in (80, 81, 82))
    hand.set_targets(**{first: [A], second: [B]})
    script.answer(True, endpoint=A)
    script.answer(False, endpoint=B)
    hand.take()
    hand.set_targets(**{first: [A], third: [C]})
    assert [one.verdict for one in history(bench, hand, "g")] == ["up 1/1", "down 0/1: refused (first result)"]
    script.answer(True)
    assert hand.take() == [(third, "up")]


# -- while a target is down


@pytest.mark.parametrize(("draw", "pace"), [(0.0, 1.8), (0.5, 2.0), (1.0, 2.2)])
def test_what_is_down_is_asked_at_interval_down_until_it_is_up(bench, script, draw, pace):
    hand = Hand(bench, scripted(interval=60.0, rise=2), draw=lambda: draw)
    hand.set_targets(a=[A])
    script.answer(False)
    for begun, success in ((1, False), (2, True), (3, True)):
        bench.turn(pace - 0.1)
        assert script.begun == begun
        bench.turn(0.2)
        assert script.begun == begun + 1
        script.answer(success)
    assert hand.take() == [("a", "down"), ("a", "up")]
    bench.turn(60.0 * (0.9 + 0.2 * draw) - 0.2)
    assert script.begun == 4, "it is up: the interval counts again"
    bench.turn(0.3)
    assert script.begun == 5


def test_what_goes_down_is_asked_again_soon(bench, script):
    """Its next round was planned while it was up."""
    hand = Hand(bench, scripted(interval=60.0, interval_down=5.0))
    hand.set_targets(a=[A])
    script.answer(True)
    bench.turn(60.1)
    bench.turn(1.0)
    script.answer(False)
    bench.turn(3.9)
    assert script.begun == 2
    bench.turn(0.2)
    assert script.begun == 3, "five seconds after the round that failed began"


def test_without_a_result_it_is_asked_at_interval_down(bench, script):
    hand = Hand(bench, scripted(interval=60.0))
    hand.set_targets(a=[A])
    script.answer(None)
    bench.turn(2.1)
    assert script.begun == 2


def test_a_check_that_fails_and_is_ignored_is_asked_at_interval_down_too(bench, script):
    hand = Hand(bench, scripted(interval=60.0, fall_action="ignore"))
    hand.set_targets(a=[A])
    script.answer(False)
    bench.turn(2.1)
    assert script.begun == 2


def test_interval_down_is_never_above_the_interval(bench, script):
    hand = Hand(bench, scripted(interval=1.0))
    hand.set_targets(a=[A])
    script.answer(False)
    bench.turn(1.05)
    assert script.begun == 2


def test_only_the_check_that_fails_is_hurried(bench, script):
    hand = Hand(bench, scripted(interval=60.0), scripted(interval=60.0, path="/ill"))
    hand.set_targets(a=[A])
    (well, ill) = script.probes
    well.end(True, "accepted")
    ill.end(False, "refused")
    bench.turn(2.1)
    assert [probe.check.path for probe in script.probes] == ["/ill"]


def many(count):
    return {f"t{n}": [(socket.AF_INET, (f"127.0.{n // 250}.{n % 250 + 1}", 80))] for n in range(count)}


@pytest.mark.parametrize(("count", "pace"), [(1000, 2.0), (3000, 6.0)])
def test_many_that_are_down_do_not_stampede(bench, script, count, pace):
    """At most 500 a second of one app, whatever the pace that is asked for, and spread over the time."""
    draws = random.Random(1)
    hand = Hand(bench, scripted(interval=30.0), draw=draws.random)
    hand.set_targets(**many(count))
    for _ in range(301):
        script.answer(False)
        bench.turn(0.1)
    script.answer(False)
    assert len(hand.take()) == count
    begun, most = script.begun, 0
    for _ in range(100):
        before = script.begun
        bench.turn(0.1)
        script.answer(False)
        most = max(most, script.begun - before)
    assert abs((script.begun - begun) - 10 * count / pace) < 0.15 * 10 * count / pace
    assert most < 100, "no more than twice as many in any tenth of a second as on average"


def test_many_that_are_known_to_be_down_at_the_start_are_asked_soon(bench, script):
    hand = Hand(bench, scripted(interval=30.0))
    for name in many(400):
        hand.runner.restore(name, (Known("", is_passing=name >= "t2"),))
    hand.set_targets(**many(400))
    down = sum(name < "t2" for name in many(400))
    counts = []
    for _ in range(4):
        counts.append(sum(hand.runner._subjects[name].pairs[0].began_at > 0 for name in many(400) if name < "t2"))
        bench.turn(0.5)
    assert all(abs(count - n * down / 4) <= 2 for n, count in enumerate(counts)), counts


# -- the first round


@pytest.mark.parametrize(("interval", "spread"), [(1.0, 1.0), (30.0, 30.0), (3600.0, 30.0)])
def test_the_first_round_of_many_is_spread_over_the_interval(bench, script, interval, spread):
    hand = Hand(bench, scripted(interval=interval, timeout=interval))
    hand.set_targets(**{f"t{n}": [(socket.AF_INET, ("127.0.0.1", n + 1))] for n in range(400)})
    counts = []
    for _ in range(4):
        counts.append(script.begun)
        bench.turn(spread / 4)
    assert all(abs(count - n * 100) <= 2 for n, count in enumerate(counts)), counts
    assert script.begun == 400
    script.answer(True)
    assert len(hand.take()) == 400


def test_a_hundred_begin_together(bench, script):
    hand = Hand(bench, scripted())
    hand.set_targets(**{f"t{n}": [(socket.AF_INET, ("127.0.0.1", n + 1))] for n in range(100)})
    assert script.begun == len(script.probes) == 100


# -- what people ask


def history(bench, hand, target):
    found = []
    assert hand.runner.history(target, found.append)
    bench.settle()
    return found[0]


def test_the_last_results_of_each_check(bench, script):
    hand = Hand(bench, scripted(interval=10.0, fall=2), scripted(interval=1000.0))
    hand.set_targets(a=[A])
    bench.turn(0.5)
    script.answer(True)
    for n in range(3):
        bench.turn(10.0)
        bench.turn(0.25)
        script.answer(None if n == 1 else False)
    first, second = history(bench, hand, "a")
    assert [probed.success for probed in first.probes] == [True, False, None, False]
    assert [probed.text for probed in first.probes] == ["accepted", "refused", "too many open files", "refused"]
    assert [probed.seconds for probed in first.probes] == [0.5, 0.25, 0.25, 0.25]
    assert first.verdict == "down 0/1: refused"
    assert first.check.interval == 10.0
    assert [probed.success for probed in second.probes] == [True]
    assert history(bench, hand, "nobody") == []


def test_the_servers_of_a_group_are_told_apart(bench, script):
    hand = Hand(bench, scripted())
    hand.runner.set_checks((scripted(),), {"g": (scripted(path="/own"),)})
    hand.set_targets(**{subject_of("g", 80): [A], subject_of("g", 81): [B], "h": [C]})
    assert sorted(probe.check.path for probe in script.probes) == ["/", "/own", "/own"]
    script.answer(False, endpoint=B)
    script.answer(True)
    assert [(one.port, one.verdict) for one in history(bench, hand, "g")] == [(80, "up 1/1"), (81, "down 0/1: refused")]


def test_no_history_of_a_thread_that_has_ended(bench, script):
    hand = Hand(bench, scripted())
    hand.runner.stop()
    assert not hand.runner.history("a", lambda found: None)
