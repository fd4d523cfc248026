"""What was known before a restart is known after it: states at once, counts from where they were, nothing without checks."""

import logging

import pytest

from kit.waiting import wait_until
from tcp_proxy.config.model import App, Check, Target
from tcp_proxy.control.health.probe import subject_of
from tcp_proxy.control.health.runner import Finding, HealthRunner
from tcp_proxy.control.health.subject import question_of
from tcp_proxy.control.statistics.counter_slots import CounterSlots
from tcp_proxy.control.store.state import SavedServer, SavedTarget
from tcp_proxy.control.store.state import State as Store
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.control.targets.restored import KEPT, MOST, RestoredStates
from tcp_proxy.sansio.address import Address, ListenAddress
from tcp_proxy.sansio.verdict import Known, State

NOW = 1_795_246_424.0
REFUSED = "tcp 192.0.2.1:80: refused (fall 2/2)"


@pytest.fixture
def store():
    return Store(clock=lambda: NOW)


@pytest.fixture
def restored(store):
    return RestoredStates(store, lambda: NOW)


class Runner:
    """Stands in for a HealthRunner: what it was asked to restored."""

    def __init__(self):
        self.restored = []

    def restore(self, *what):
        self.restored.append(what)


HERE, USUAL = Address("192.0.2.1", 80), Check()


def target_of(address=HERE, ports=(), **more):
    listeners = tuple(ListenAddress("127.0.0.1", port) for port in ports)
    return Targets((App("web", listeners, (Target("t", address, **more),)),), CounterSlots()).find("web", "t")


def begun(restored, *checks, runner=True, **more):
    """(state, evidence, what the runner was told) of target t of app web in a new life."""
    target = target_of(**more)
    stand_in = Runner()
    restored.begin(target, checks, stand_in if runner else None)
    return target.health, target.evidence, stand_in.restored


def known(is_passing, opposed=0, check=USUAL, evidence=REFUSED):
    return Known(question_of(check), is_passing, opposed, evidence)


OLD = Known("", False, 1, REFUSED)  # what a file of an older version knows


def down(**more):
    return SavedTarget("web", **{"target": "t", "verdict": "down", "results": 1, "evidence": REFUSED, **more})


def test_without_anything_saved_it_is_up_unproven(restored):
    assert begun(restored, Check()) == (State.UP, "not checked yet", [])


def test_known_to_be_down(restored, store, caplog):
    store.save(down())
    with caplog.at_level(logging.WARNING):
        assert begun(restored, Check(rise=3)) == (State.DOWN, REFUSED, [("t", (OLD,), [])])
    assert caplog.messages == [f"app web: target t is down, as it was before the restart: {REFUSED}"]


def test_known_to_be_up(restored, store, caplog):
    store.save(down(verdict="up", evidence="accepted (rise 1/1)"))
    accepted = Known("", True, 1, "accepted (rise 1/1)")
    assert begun(restored, Check()) == (State.UP, "accepted (rise 1/1)", [("t", (accepted,), [])])
    assert not caplog.messages


@pytest.mark.parametrize(("action", "state"), [("down", State.DOWN), ("drain", State.DRAINING), ("ignore", State.UP)])
def test_what_a_fall_does_is_said_by_the_configuration_of_today(restored, store, action, state):
    store.save(down())
    assert begun(restored, Check(fall_action=action))[0] is state


def test_of_several_checks_the_worst_counts(restored, store):
    store.save(down())
    assert begun(restored, Check(fall_action="drain"), Check(type="ping"))[0] is State.DOWN


def test_without_checks_nothing_would_ever_take_it_back(restored, store):
    store.save(down())
    assert begun(restored, runner=False) == (State.UP, "not checked yet", [])


def test_what_was_said_at_run_time_is_no_verdict(restored, store):
    store.save(SavedTarget("web", "t", admin="drain"))
    assert begun(restored, Check()) == (State.UP, "not checked yet", [])


def finding(state, evidence, is_passing, opposed=0, target="t", checks=()):
    return Finding("web", target, state, evidence, True, is_passing, opposed, checks)


def test_findings_are_saved_beside_what_was_said_at_run_time(restored, store):
    store.save(SavedTarget("web", "t", admin="drain", weight=7))
    found = finding(State.DOWN, REFUSED, False, 1, checks=(known(False, 1),))
    restored.found(target_of(), found, found)
    expected = SavedTarget("web", "t", "drain", 7, "down", 1, REFUSED, NOW)
    assert store.load() == {("web", "t"): expected}
    assert store.servers("web", "t") == {0: (known(False, 1),)}


def test_a_failing_target_that_may_go_on_is_saved_as_failing(restored, store):
    ignored = Check(fall_action="ignore")
    found = finding(State.UP, REFUSED, False, checks=(known(False, check=ignored),))
    restored.found(target_of(), found, found)
    assert store.get("web", "t").verdict == "down"
    assert begun(restored, ignored)[0] is State.UP
    assert begun(restored, Check())[0] is State.DOWN


def test_each_of_several_checks_goes_on_where_it_was(restored, store):
    """A check whose failures are ignored, or only drain, takes nobody down after a restart."""
    ping, drain = Check(type="ping"), Check(path="/x", fall_action="drain")
    store.save_server(SavedServer("web", "t", 0, (known(True, check=ping), known(False, check=drain))))
    assert begun(restored, ping, drain)[:2] == (State.DRAINING, REFUSED)
    assert begun(restored, drain, ping)[:2] == (State.DRAINING, REFUSED)
    assert begun(restored, ping, Check(path="/x", fall_action="ignore"))[0] is State.UP


def test_each_server_of_a_group_goes_on_where_it_was(restored, store):
    """What the one that is well says after the restart is no word for the others."""
    store.save_server(SavedServer("web", "t", 80, (known(True, evidence="accepted"),)))
    store.save_server(SavedServer("web", "t", 81, (known(False),)))
    target = target_of(Address("192.0.2.1"), ports=(80, 81))
    restored.begin(target, (Check(),), runner := Runner())
    well, ill = target.subjects()
    assert runner.restored == [(well, (known(True, evidence="accepted"),), []), (ill, (known(False),), [])]
    assert (target.health, target.evidence) == (State.DOWN, f"port 81: {REFUSED}")
    assert target.found(finding(State.UP, "accepted", True, target=well)).state is State.DOWN
    assert target.found(finding(State.UP, "accepted", True, target=ill)).state is State.UP


def test_a_group_in_an_older_file_has_one_verdict_for_all(restored, store):
    store.save(down())
    target = target_of(Address("192.0.2.1"), ports=(80, 81))
    restored.begin(target, (Check(),), Runner())
    well, _ = target.subjects()
    assert target.found(finding(State.UP, "accepted", True, target=well)).state is State.DOWN


def test_servers_that_left_their_group_are_forgotten(restored, store):
    store.save_server(SavedServer("web", "t", 99, (known(False),)))
    target = target_of(Address("192.0.2.1"), ports=(80,))
    (name,) = target.subjects()
    found = finding(State.UP, "accepted", True, target=name, checks=(known(True),))
    restored.found(target, found, found)
    assert store.servers("web", "t") == {80: (known(True),)}


def test_a_disabled_target_begins_anew_when_it_is_enabled(restored, store):
    store.save(down())
    assert begun(restored, Check(), disabled=True)[2] == []


def test_what_is_known_is_forgotten_and_what_was_said_is_not(restored, store):
    store.save(down(admin="drain"))
    store.save_server(SavedServer("web", "t", 0, (known(False),)))
    restored.forget("web", "t")
    assert (store.get("web", "t").admin, store.get("web", "t").verdict, store.servers("web", "t")) == ("drain", "", {})
    store.save(down())
    restored.forget("web", "t")
    assert store.load() == {}


def test_targets_that_left_the_file_are_forgotten(restored, store):
    for name in ("t", "gone"):
        store.save(SavedTarget("web", name))
    store.save(SavedTarget("web", "added", origin="api", definition="{}"))
    restored.forget_all_but({("web", "t")})
    assert sorted(store.load()) == [("web", "added"), ("web", "t")]


def test_a_target_with_another_name_is_the_same(restored, store):
    store.save(down(admin="drain"))
    store.save_server(SavedServer("web", "t", 0, (known(False),)))
    restored.rename("web", "t", "u")
    assert store.load() == {("web", "u"): down(admin="drain", target="u")}
    assert (store.servers("web", "u"), store.servers("web", "t")) == ({0: (known(False),)}, {})
    restored.rename("web", "unknown", "v")
    assert len(store.load()) == 1


def test_two_lives_of_a_real_runner(restored, service):
    """Down 1/3 before; two successes are enough after it, and each count is saved."""
    echo = service()
    check = Check(interval=0.05, timeout=0.05, rise=3)
    findings, counts = [], []
    runner = HealthRunner("web", (check,), findings.append, count=counts.append)
    runner.restore("t", (known(False, 1, check),))
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


def test_what_was_known_of_a_server_that_left_is_not_taken_for_what_is_known_of_the_others(restored, store):
    """5001 had no result yet; the failures of 5002, which is gone, say nothing about it."""
    target = target_of(Address("192.0.2.1"), ports=(5001, 5002))
    found = finding(State.DOWN, REFUSED, False, target=subject_of("t", 5002), checks=(known(False),))
    restored.found(target, found, found)
    assert store.servers("web", "t") == {5002: (known(False),)}
    target = target_of(Address("192.0.2.1"), ports=(5001,))
    restored.keep_servers(target)
    assert store.load() == {}
    assert store.servers("web", "t") == {}
    assert begun(restored, USUAL, address=Address("192.0.2.1"), ports=(5001,)) == (State.UP, "not checked yet", [])


def test_a_server_that_takes_another_s_place_leaves_nothing_of_it(restored, store):
    """5003 has begun with what was known of 5002: whoever has no result yet begins with neither."""
    store.save_server(SavedServer("web", "t", 5002, (known(False),)))
    found = finding(State.DOWN, REFUSED, False, target=subject_of("t", 5003), checks=(known(False),))
    restored.found(target_of(Address("192.0.2.1"), ports=(5001, 5003)), found, found)
    assert store.servers("web", "t") == {5003: (known(False),)}


@pytest.mark.parametrize(
    ("origin", "away", "state"), [("file:x", KEPT, State.DOWN), ("file:x", KEPT + 1, State.UP), ("", 1, State.UP)]
)
def test_one_that_is_listed_elsewhere_leaves_and_comes_back_as_it_was(store, caplog, origin, away, state):
    """However the machine's clock is set meanwhile."""
    clock, wall = [5.0], [NOW]
    restored = RestoredStates(store, lambda: wall[0], lambda: clock[0])
    target = target_of(origin=origin)
    finding = Finding("web", "t", State.DOWN, REFUSED, True, False, 1, (known(False, 1),))
    restored.found(target, finding, finding)
    restored.leave("web", "t")
    assert store.get("web", "t") is None
    clock[0] += away
    wall[0] += 50 * 365 * 86400
    with caplog.at_level(logging.WARNING):
        assert begun(restored, USUAL, origin=origin)[0] is state
    said = [f"app web: target t is down, as it was when it left: {REFUSED}"] if state is State.DOWN else []
    assert caplog.messages == said


def test_those_that_are_away_the_longest_are_forgotten_first(store, restored):
    for number in range(MOST + 1):
        store.save_server(SavedServer("web", f"t{number}", 0, (known(False),)))
        restored.leave("web", f"t{number}")
    assert len(restored._left) == MOST
    assert ("web", "t0") not in restored._left
