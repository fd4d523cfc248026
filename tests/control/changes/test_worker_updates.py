"""A worker is introduced in slices: what happens between two of them reaches it after its Snapshot, or ends it in order."""

import signal

import pytest

from kit.supervisor import Rig, SilentWorker
from tcp_proxy.wire.later import targets_of
from tcp_proxy.wire.messages import Apps, Configure, Drain, Listen, Snapshot, TargetChanged, Targets, Unlisten

TARGETS = 1500  # more than in five slices


@pytest.fixture
def rig(monkeypatch):
    monkeypatch.setattr(SilentWorker, "keeps", True)
    made = Rig(monkeypatch, TARGETS, workers=1)
    yield made
    made.close()


def kinds(worker):
    return [type(message) for message in worker.sent]


def begin(rig):
    """A worker that has been told of some targets, and not of all."""
    rig.end(rig.workers[-1])
    before = len(rig.workers)
    rig.turn_until(lambda: len(rig.workers) > before and kinds(rig.workers[-1]))
    assert kinds(rig.workers[-1]) == [Targets]
    return rig.workers[-1]


def told(worker, name):
    """The states that it was told of a target, in order."""
    found = []
    for message in worker.sent:
        if isinstance(message, TargetChanged) and message.target == name:
            found.append(message.state)
        elif isinstance(message, Targets):
            found += [target.state for target in message.targets if target.name == name]
    return found


def test_targets_come_in_parts_before_the_snapshot_and_listeners_last(rig):
    worker = rig.workers[0]
    assert kinds(worker) == [*[Targets] * 6, Apps, Snapshot, Listen]
    assert [target.name for message in worker.sent[:6] for target in message.targets] == [f"t{n}" for n in range(TARGETS)]
    assert [(app.name, app.targets) for app in worker.sent[6].apps] == [("web", ())]
    assert worker.sent[7].apps == ()


def test_a_target_that_changes_meanwhile_is_told_as_it_is_then(rig):
    """One that the worker knows already, and one that it does not."""
    worker = begin(rig)
    for name in ("t3", "t1400"):
        rig.api.ask("unhealthy", app="web", target=name, **{"for": 60, "why": "it says so"})
    rig.turn_until(lambda: worker.is_ready)
    order = kinds(worker)
    assert TargetChanged not in order[: order.index(Snapshot)]
    assert order.index(Listen) > max(place for place, kind in enumerate(order) if kind is TargetChanged)
    assert told(worker, "t3") == ["up", "down"]
    assert told(worker, "t1400")[-1] == "down"


def test_another_configuration_waits_until_it_is_introduced(rig):
    worker = begin(rig)
    rig.api.statuses = []
    rig.api.ask("remove_target", app="web", target="t5")
    rig.text = rig.file(7)
    rig.api.ask("reload")
    rig.turn_until(lambda: len(rig.api.statuses) == 2)
    order = kinds(worker)
    assert Configure not in order[: order.index(Listen)]
    assert worker.generation == rig.supervisor._context.generation == 2
    weights = {target.name: target.weight for message in worker.sent for target in getattr(message, "targets", ())}
    assert weights["t6"] == 7


def test_one_that_dies_meanwhile_is_replaced_by_one_that_is_told_everything(rig):
    first = begin(rig)
    second = begin(rig)
    rig.turn_until(lambda: rig.pool.is_complete)
    assert second is not first
    assert kinds(second) == [*[Targets] * 6, Apps, Snapshot, Listen]
    assert Snapshot not in kinds(first)
    assert rig.supervisor._context.counter_rows.rows == 1 + 3, "the rows of the dead are used again"


def test_one_that_is_not_wanted_before_it_knows_anything_is_told_of_no_change(rig):
    """It could make nothing of a part of an app that it has not heard of, and may be starting for a while."""
    rig.pool.set_size(2)
    rig.turn_until(lambda: len(rig.workers) == 2 and kinds(rig.workers[1]))
    stays, leaves = rig.workers
    assert {*kinds(leaves)} == {Targets}
    rig.pool.set_size(1)
    rig.api.statuses = []
    rig.api.ask("set_target", app="web", target="t5", admin=None, weight=9)
    rig.turn_until(lambda: rig.api.statuses)
    rig.turn_until(lambda: Drain in kinds(leaves))
    assert Configure in kinds(stays)
    assert [kind for kind in kinds(leaves) if kind is not Targets] == [Snapshot, Unlisten, Unlisten, Drain]


def test_it_ends_in_order_when_the_program_does(rig):
    worker = begin(rig)
    rig.supervisor._stop(signal.SIGTERM)
    rig.turn_until(lambda: Drain in kinds(worker))
    order = kinds(worker)
    assert order[:3] == [Targets, Snapshot, Unlisten]
    assert Listen not in order
    assert [message.apps for message in worker.sent if isinstance(message, Snapshot)] == [()]


def test_one_that_starts_while_the_configuration_changes_is_told_the_new_one(rig):
    """The old worker dies between two slices of the commit."""
    rig.text = rig.file(9)
    rig.api.statuses = []
    rig.api.ask("reload")
    old = rig.workers[-1]
    before = len(old.sent)
    rig.turn_until(lambda: len(old.sent) > before)
    assert kinds(old)[-1] is Targets, "a part of it"
    rig.end(old)
    rig.turn_until(lambda: rig.api.statuses)
    rig.turn_until(lambda: rig.pool.is_complete)
    new = rig.workers[-1]
    assert rig.api.statuses == [200]
    assert Configure not in kinds(new)
    assert {target.weight for message in new.sent if isinstance(message, Targets) for target in message.targets} == {9}
    assert new.generation == 1


def test_the_end_of_the_program_in_the_middle_of_a_commit(rig):
    """Workers are never told to take the new targets, and drain as they are."""
    rig.text = rig.file(9)
    rig.api.ask("reload")
    (worker,) = rig.workers
    before = len(worker.sent)
    rig.turn_until(lambda: len(worker.sent) > before)
    rig.supervisor._stop(signal.SIGTERM)
    rig.turn_until(lambda: Drain in kinds(worker))
    assert Configure not in kinds(worker)
    assert not rig.supervisor._context.slices.is_hidden


def test_a_worker_makes_the_targets_of_a_small_app_when_somebody_asks_for_one(monkeypatch):
    """They are the text of what it would have been told at once."""
    monkeypatch.setattr(SilentWorker, "keeps", True)
    rig = Rig(monkeypatch, 20, workers=1)
    [view] = [app for message in rig.workers[0].sent if isinstance(message, Apps) for app in message.apps]
    rig.close()
    assert view.targets == ()
    assert [target.name for target in targets_of(view.later)] == [f"t{n}" for n in range(20)]
    assert {target.state for target in targets_of(view.later)} == {"up"}
