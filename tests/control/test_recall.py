"""What was known before a restart is known after it: states at once, counts from where they were, nothing without checks."""

import logging

import pytest

from kit.waiting import wait_until
from tcp_proxy.config.model import App, Check, Target
from tcp_proxy.control.health.runner import Finding, HealthRunner
from tcp_proxy.control.recall import Recall
from tcp_proxy.control.slots import Slots
from tcp_proxy.control.state import SavedTarget
from tcp_proxy.control.state import State as Store
from tcp_proxy.control.targets import Targets
from tcp_proxy.sansio.address import Address
from tcp_proxy.sansio.verdict import State

NOW = 1_795_246_424.0
REFUSED = "tcp 192.0.2.1:80: refused (fall 2/2)"


@pytest.fixture
def store():
    return Store(clock=lambda: NOW)


@pytest.fixture
def recall(store):
    return Recall(store, lambda: NOW)


class Runner:
    """Stands in for a HealthRunner: what it was asked to recall."""

    def __init__(self):
        self.recalled = []

    def recall(self, *what):
        self.recalled.append(what)


def begun(recall, *checks, runner=True):
    """(state, evidence, what the runner was told) of target t of app web in a new life."""
    app = App("web", (), (Target("t", Address("192.0.2.1", 80)),), health=checks)
    target = Targets((app,), Slots()).find("web", "t")
    stand_in = Runner()
    recall.begin(target, checks, stand_in if runner else None)
    return target.health, target.evidence, stand_in.recalled


def down(**more):
    return SavedTarget("web", **{"target": "t", "verdict": "down", "results": 1, "evidence": REFUSED, **more})


def test_without_anything_saved_it_is_up_unproven(recall):
    assert begun(recall, Check()) == (State.UP, "not checked yet", [])


def test_known_to_be_down(recall, store, caplog):
    store.save(down())
    with caplog.at_level(logging.WARNING):
        assert begun(recall, Check(rise=3)) == (State.DOWN, REFUSED, [("t", False, 1, REFUSED)])
    assert caplog.messages == [f"app web: target t is down, as it was before the restart: {REFUSED}"]


def test_known_to_be_up(recall, store, caplog):
    store.save(down(verdict="up", evidence="accepted (rise 1/1)"))
    assert begun(recall, Check()) == (State.UP, "accepted (rise 1/1)", [("t", True, 1, "accepted (rise 1/1)")])
    assert not caplog.messages


@pytest.mark.parametrize(("action", "state"), [("down", State.DOWN), ("drain", State.DRAINING), ("ignore", State.UP)])
def test_what_a_fall_does_is_said_by_the_configuration_of_today(recall, store, action, state):
    store.save(down())
    assert begun(recall, Check(fall_action=action))[0] is state


def test_of_several_checks_the_worst_counts(recall, store):
    store.save(down())
    assert begun(recall, Check(fall_action="drain"), Check(type="ping"))[0] is State.DOWN


def test_without_checks_nothing_would_ever_take_it_back(recall, store):
    store.save(down())
    assert begun(recall, runner=False) == (State.UP, "not checked yet", [])


def test_what_was_said_at_run_time_is_no_verdict(recall, store):
    store.save(SavedTarget("web", "t", admin="drain"))
    assert begun(recall, Check()) == (State.UP, "not checked yet", [])


def test_findings_are_saved_beside_what_was_said_at_run_time(recall, store):
    store.save(SavedTarget("web", "t", admin="drain", weight=7))
    recall.found(Finding("web", "t", State.DOWN, REFUSED, True, False, 1))
    expected = SavedTarget("web", "t", "drain", 7, "down", 1, REFUSED, NOW)
    assert store.load() == {("web", "t"): expected}


def test_a_failing_target_that_may_go_on_is_saved_as_failing(recall, store):
    recall.found(Finding("web", "t", State.UP, REFUSED, True, False, 0))
    assert store.get("web", "t").verdict == "down"
    assert begun(recall, Check(fall_action="ignore"))[0] is State.UP
    assert begun(recall, Check())[0] is State.DOWN


def test_targets_that_left_the_file_are_forgotten(recall, store):
    for name in ("t", "gone"):
        store.save(SavedTarget("web", name))
    store.save(SavedTarget("web", "added", origin="api", definition="{}"))
    recall.forget_all_but({("web", "t")})
    assert sorted(store.load()) == [("web", "added"), ("web", "t")]


def test_a_target_with_another_name_is_the_same(recall, store):
    store.save(down(admin="drain"))
    recall.rename("web", "t", "u")
    assert store.load() == {("web", "u"): down(admin="drain", target="u")}
    recall.rename("web", "unknown", "v")
    assert len(store.load()) == 1


def test_two_lives_of_a_real_runner(recall, service):
    """Down 1/3 before; two successes are enough after it, and each count is saved."""
    echo = service()
    check = Check(interval=0.05, timeout=0.05, rise=3)
    findings, counts = [], []
    runner = HealthRunner("web", (check,), findings.append, count=counts.append)
    runner.recall("t", False, 1, REFUSED)
    runner.set_targets({"t": ((2, (echo.host, echo.port)),)})
    runner.start()
    try:
        wait_until(lambda: findings, "up")
    finally:
        runner.stop()
    assert [(count.state, count.evidence, count.opposed, count.changed) for count in counts] == [
        (State.DOWN, REFUSED, 2, False)
    ]
    assert (findings[0].state, findings[0].opposed, findings[0].changed) == (State.UP, 0, True)
    assert findings[0].evidence.endswith("(rise 3/3)")
