"""Apps that panic: who is told to be up, in which turn of the loop, and that neither reload nor end leaves a trace."""

import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kit.clock import Clock
from tcp_proxy.config.delta import of_apps
from tcp_proxy.config.model import App, Target
from tcp_proxy.control.events import Events
from tcp_proxy.control.health.runner import Finding
from tcp_proxy.control.statistics.counter_slots import CounterSlots
from tcp_proxy.control.store.state import State as Store
from tcp_proxy.control.targets import panic as module
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.control.targets.restored import RestoredStates
from tcp_proxy.control.targets.states import States
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.address import Address
from tcp_proxy.sansio.panic import judge
from tcp_proxy.sansio.verdict import State


def target(name, **more):
    return Target(name, Address("192.0.2.1", ord(name[0])), **more)


class Rig:
    """One app without checks of its own; `found` is what a check would say. `told` is what the workers know."""

    def __init__(self, *targets, panic=50):
        self.loop = Loop("main", Clock())
        self.app = App("web", (), targets, panic=panic)
        self.targets = Targets((self.app,), CounterSlots())
        self.told = {one.name: "up" for one in targets}
        self.messages = 0
        self.events = Events()
        self.states = States(self.loop, self.targets, self.events, self._hear, lambda: None, RestoredStates(Store()))
        self.states._starting_checks = lambda _app: iter(())  # no threads: the findings are ours
        self.states.start()
        self.generation = 0
        self.turn()

    def _hear(self, message):
        self.told[message.target] = message.state
        self.messages += 1

    def turn(self):
        for _ in range(3):
            self.loop.run_once(0)

    def found(self, name, state):
        self.states._found(Finding("web", name, State(state), "evidence", True))

    def reload(self, **change):
        """The app with this changed, as a transition does it."""
        new = dataclasses.replace(self.targets.apps["web"].config, **change)
        self.states.hold()
        self.generation += 1
        changed = self.targets.configure(of_apps((self.targets.apps["web"].config,), (new,)), self.generation, {}, 1.0)
        for one in changed.apps:
            view = one.app.view(one.touched)
            self.told.update((each.name, each.state) for each in view.targets)
            for left in one.left:
                self.told.pop(left.config.name)
        self.states.apply(changed)
        self.states.release()

    def close(self):
        self.states.stop()
        self.loop.close()
        self.targets.close()


@pytest.fixture
def rig():
    made = []
    yield lambda *targets, **more: made.append(Rig(*targets, **more)) or made[-1]
    for one in made:
        one.close()


def test_with_too_few_up_all_are_told_to_be_up_and_no_more_when_enough_are(rig):
    web = rig(*map(target, "abcd"))
    for name in "abc":
        web.found(name, "down")
        web.turn()
    assert web.told == dict.fromkeys("abcd", "up")
    assert [one.state.value for one in web.targets] == ["down", "down", "down", "up"]
    web.found("a", "up")
    web.turn()
    assert web.told == {"a": "up", "b": "down", "c": "down", "d": "up"}
    said = [event.data for event in web.events.since(0) if event.kind == "panic"]
    kinds = [(data["state"], data["up"], data["of"]) for data in said]
    assert kinds == [("on", 1, 4), ("off", 2, 4)]


def test_many_changes_in_one_turn_are_judged_once_and_told_in_slices(rig, monkeypatch):
    judged = []

    def counting(*what):
        judged.append(what)
        return judge(*what)

    monkeypatch.setattr(module, "AT_ONCE", 3)
    monkeypatch.setattr(module, "judge", counting)
    web = rig(*(target(chr(97 + n)) for n in range(10)))
    before, judged[:] = web.messages, []
    for n in range(8):
        web.found(chr(97 + n), "down")
    assert web.messages == before + 8
    web.loop.run_once(0)
    assert (len(judged), web.messages) == (1, before + 8 + 3)
    web.turn()
    assert set(web.told.values()) == {"up"}


def test_an_operator_s_word_counts_in_panic_too(rig):
    web = rig(*map(target, "abcd"))
    for name in "abc":
        web.found(name, "down")
    web.turn()
    web.reload(targets=(target("a", disabled=True), target("b", drain=True), target("c"), target("d")))
    web.turn()
    assert web.told == {"a": "down", "b": "down", "c": "down", "d": "up"}  # one of two that could serve


def test_a_threshold_that_goes_ends_it_and_one_that_comes_begins_it(rig):
    web = rig(*map(target, "abc"), panic=0)
    assert web.states._panics is None
    for name in "ab":
        web.found(name, "down")
    web.turn()
    assert web.told == {"a": "down", "b": "down", "c": "up"}
    web.reload(panic=40)
    web.turn()
    assert set(web.told.values()) == {"up"}
    web.reload(panic=0)
    web.turn()
    assert web.told == {"a": "down", "b": "down", "c": "up"}


class Anything(RuleBasedStateMachine):
    """Whatever comes, in whatever order within a turn: what is told is what the model says of it."""

    def __init__(self):
        super().__init__()
        self.rig = Rig(target("a"), target("b"), target("c"), target("x", backup=True), target("y", backup=True))
        self.health = dict.fromkeys("abcxy", "up")

    @rule(name=st.sampled_from("abcxy"), state=st.sampled_from(["up", "down", "draining"]))
    def finds(self, name, state):
        self.health[name] = state
        self.rig.found(name, state)

    @rule(name=st.sampled_from("abcxy"), how=st.sampled_from([{}, {"drain": True}, {"weight": 0}, {"weight": 3}]))
    def reloads(self, name, how):
        self.rig.reload(targets=tuple(
            target(name, backup=name in "xy", **how) if one.name == name else one for one in self.config.targets
        ))  # fmt: skip

    @rule(panic=st.sampled_from([0, 20, 34, 50, 100]))
    def threshold(self, panic):
        self.rig.reload(panic=panic)

    @property
    def config(self):
        return self.rig.targets.apps["web"].config

    @invariant()
    def all_are_told_what_they_are_to_be(self):
        self.rig.turn()
        could = [one for one in self.config.targets if one.weight and not one.drain]
        is_up = {one.name: self.health[one.name] == "up" for one in could}
        primaries, backups = [one.name for one in could if not one.backup], [one.name for one in could if one.backup]
        serve = next((level for level in (primaries, backups) if any(map(is_up.get, level))), primaries or backups)
        panics = bool(serve) and 100 * sum(map(is_up.get, serve)) < self.config.panic * len(serve)
        known = self.rig.targets.apps["web"]
        assert known.is_panicking == panics
        for name, one in known.targets.items():
            assert self.rig.told[name] == ("up" if panics and name in serve else one.state.value)

    def teardown(self):
        self.rig.close()


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
