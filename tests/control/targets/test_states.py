"""What is thought of every server, after any results, reloads and restarts, is what a dictionary says it is."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kit.calls import Calls
from kit.clock import Clock
from tcp_proxy.config.delta import of_apps
from tcp_proxy.config.model import App, Check, Target
from tcp_proxy.control.events import Events
from tcp_proxy.control.health import runner as runners
from tcp_proxy.control.health.probe import Result, port_of
from tcp_proxy.control.health.runner import HealthRunner
from tcp_proxy.control.statistics.counter_slots import CounterSlots
from tcp_proxy.control.store.state import State as Store
from tcp_proxy.control.targets import states as module
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.control.targets.restored import RestoredStates
from tcp_proxy.control.targets.states import States
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.address import Address, ListenAddress
from tests.control.health.bench import Scripted

PLAIN, GROUP = Address("192.0.2.1", 80), Address("192.0.2.1")
FALLEN = {"down": "down", "drain": "draining", "ignore": "up"}
BADNESS = ("up", "draining", "down")


class Turned(HealthRunner):
    """Without a thread: the test turns its loop."""

    clock = Clock()

    def __init__(self, app, *args, **more):
        super().__init__(app, *args, loop=Loop(f"health-{app}", self.clock), **more)

    def start(self):
        """Nobody but the test."""


class Life:
    """A supervisor's states over a store, from one start to the end."""

    def __init__(self, app, store):
        self.loop = Loop("main", Turned.clock)
        self.targets = Targets((app,), CounterSlots())
        self.states = States(self.loop, self.targets, Events(), lambda _: None, lambda: None, RestoredStates(store))
        self.generation = 0
        self.states.start()
        self.settle()

    def reload(self, app):
        self.generation += 1
        deltas = of_apps((self.targets.apps["web"].config,), (app,))
        self.states.apply(self.targets.configure(deltas, self.generation, {}))
        self.settle()

    def result(self, target, port, path, success):
        """Of one check of one server."""
        runner = self.states._health["web"]
        (subject,) = [
            one for name, one in runner._subjects.items() if name.startswith(target) and (port_of(name) or 0) == port
        ]
        (pair,) = [pair for pair in subject.pairs if pair.check.path == path]
        runner._conclude(pair, Result(success, "accepted" if success else "refused"))
        self.settle()

    def settle(self):
        for _ in range(3):
            self.loop.run_once(0)
            for runner in self.states._health.values():
                runner._loop.run_once(0)

    def thought(self):
        """(target, port, check) -> (passing, results against that), or None without a result."""
        found = {}
        for runner in self.states._health.values():
            for name, subject in runner._subjects.items():
                for pair in subject.pairs:
                    verdict = pair.verdict
                    key = subject.name[0], port_of(name) or 0, pair.check.path
                    found[key] = (verdict.is_passing, verdict.opposed) if verdict.is_proven else None
        return found

    def end(self):
        self.states.stop()
        self.loop.close()
        self.targets.close()


@dataclass
class Model:
    """Servers by target and port; of each the checks by path: [passing, results against that], or None."""

    known: dict = field(default_factory=dict)
    targets: tuple = ()

    def configure(self, app):
        names, stay = {one.name for one in self.targets}, {one.name for one in app.targets}
        for one in app.targets:  # another name for the same address is the same target; there are two names, so one at most
            for other in self.targets:
                if one.name not in names and other.name not in stay and other.address == one.address:
                    self.known[one.name] = self.known.pop(other.name, {})
        self.targets = app.targets
        self.known = {target.name: self.target(app, target) for target in app.targets if checked(app, target)}

    def target(self, app, target):
        checks = {check.path: check for check in checked(app, target)}
        ports = [listener.port for listener in app.listeners] if target.is_group else [0]
        before = {port: self.other_checks(server, checks) for port, server in self.known.get(target.name, {}).items()}
        left = [server for port, server in before.items() if port not in ports]
        return {port: before.get(port) or self.new_server(checks, left) for port in ports}

    def other_checks(self, server, checks):
        gone = [server[path] for path in server.keys() - checks.keys() if server[path]]
        is_known = any(server.values())
        found = {}
        for path in checks:
            if server.get(path):
                found[path] = one_short(server[path], checks[path])
            elif any(not passing for passing, _ in gone):
                found[path] = [False, 0]
            else:
                found[path] = [True, 0] if is_known and path not in server else None
        return found

    def new_server(self, checks, left):
        found = {}
        for path in checks:
            same = sorted((server[path] for server in left if server[path]), key=goodness)
            known = any(any(server.values()) for server in left)
            found[path] = one_short(same[0], checks[path]) if same else [True, 0] if known else None
        return found

    def result(self, target, port, check, success):
        server = self.known[target][port]
        known = server[check.path]
        if known is None:
            server[check.path] = [success, 0]
        elif known[0] is success:
            known[1] = 0
        elif known[1] + 1 >= (check.rise if success else check.fall):
            server[check.path] = [success, 0]
        else:
            known[1] += 1

    def state(self, app, target):
        found = ["down" if target.disabled else "up"]
        for server in self.known.get(target.name, {}).values():
            for check in checked(app, target):
                known = server[check.path]
                found.append("up" if known is None or known[0] else FALLEN[check.fall_action])
        return max(found, key=BADNESS.index)

    def thought(self):
        return {
            (target, port, path): tuple(known) if known else None
            for target, servers in self.known.items()
            for port, server in servers.items()
            for path, known in server.items()
        }


def goodness(known):
    """The worst first: one that fails, and lacks the most successes, before one that has the fewest failures to lose."""
    passing, opposed = known
    return passing, -opposed if passing else opposed


def one_short(known, check):
    """Of its threshold, if that is lower than what has been counted already."""
    passing, opposed = known
    return [passing, min(opposed, (check.fall if passing else check.rise) - 1)]


def checked(app, target):
    return () if target.disabled else app.health if target.health is None else target.health


def check(path):
    numbers = st.integers(1, 3)
    return st.builds(
        lambda rise, fall, action: Check("scripted", path=path, rise=rise, fall=fall, fall_action=action),
        numbers, numbers, st.sampled_from(tuple(FALLEN)),
    )  # fmt: skip


checks = st.sets(st.sampled_from(["/a", "/b", "/c"])).flatmap(
    lambda paths: st.tuples(*(check(path) for path in sorted(paths)))
)


def target(name):
    return st.builds(
        lambda address, own, disabled: Target(name, address, health=own, disabled=disabled),
        st.sampled_from([PLAIN, replace(PLAIN, port=81), GROUP]),
        st.none() | checks,
        st.sampled_from([False, False, False, True]),
    )


ports = st.sets(st.sampled_from([5001, 5002, 5003]), min_size=1)
apps = st.builds(
    lambda ports, targets, health: App(
        "web", tuple(ListenAddress("127.0.0.1", port) for port in sorted(ports)), targets, health=health
    ),
    ports,
    st.sets(st.sampled_from("tu"), min_size=1).flatmap(lambda names: st.tuples(*(target(name) for name in sorted(names)))),
    checks,
)


class Verdicts(RuleBasedStateMachine):
    """A life over a store, and the model beside it."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(module, "HealthRunner", Turned)
        self.patch.setitem(runners.KINDS, "scripted", Scripted().start)
        self.store = Store()
        self.model = Model()
        self.life = None

    @initialize(app=apps)
    def begin(self, app):
        self.app = app
        self.life = Life(app, self.store)
        self.model.configure(app)

    @rule(data=st.data(), successes=st.lists(st.booleans(), min_size=1, max_size=4))
    def results(self, data, successes):
        pairs = [
            (one, port, check)
            for one in self.app.targets
            for port in self.model.known.get(one.name, ())
            for check in checked(self.app, one)
        ]
        if pairs:
            one, port, check = data.draw(st.sampled_from(pairs))
            for success in successes:
                self.life.result(one.name, port, check.path, success)
                self.model.result(one.name, port, check, success)

    @rule(app=apps)
    def reload(self, app):
        self.change(app)

    @rule(health=checks)
    def reload_with_other_checks(self, health):
        self.change(replace(self.app, health=health))

    @rule(ports=ports)
    def reload_with_other_ports(self, ports):
        self.change(replace(self.app, listeners=tuple(ListenAddress("127.0.0.1", port) for port in sorted(ports))))

    def change(self, app):
        self.app = app
        self.life.reload(app)
        self.model.configure(app)

    @rule()
    def restart(self):
        self.life.end()
        self.life = Life(self.app, self.store)

    @rule(health=checks)
    def restart_with_other_checks(self, health):
        self.app = replace(self.app, health=health)
        self.restart()
        self.model.configure(self.app)

    @invariant()
    def every_state_is_the_models(self):
        if self.life is not None:
            assert self.life.thought() == self.model.thought()
            found = {one.config.name: one.state.value for one in self.life.targets}
            assert found == {one.name: self.model.state(self.app, one) for one in self.app.targets}

    def teardown(self):
        if self.life is not None:
            self.life.end()
        self.store.close()
        self.patch.undo()


Verdicts.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestVerdicts = Verdicts.TestCase


# -- slow start


def test_a_target_that_its_checks_bring_back_says_since_when_but_not_at_the_start():
    """Envoy's SlowStartWaitForPassingHC: the moment counts in which its check has passed."""
    app = App("web", (ListenAddress("127.0.0.1", 1),), (Target("a", PLAIN),), health=(Check("http", path="/"),))
    life = Life(app, Store())
    try:
        target = life.targets.find("web", "a")
        for serving, since in ((False, 0.0), (True, Turned.clock.now + 7.0)):
            life.states.is_serving = serving
            life.result("a", 0, "/", False)
            assert target.state == "down"
            Turned.clock.turn(7.0 * serving)
            life.result("a", 0, "/", True)
            assert (target.state, target.since, target.change().since) == ("up", since, since)
    finally:
        life.end()


def test_what_a_target_costs_when_it_comes_is_a_few_calls():
    """Of one that is checked by nobody, with what is said of it. There may be 20,000 at a start."""
    costs = []
    for count in (100, 1100):
        some = tuple(Target(f"t{n}", Address(f"192.0.{n // 250}.{n % 250}", 80)) for n in range(count))
        loop, calls = Loop("main"), Calls()
        with calls:
            targets = Targets((App("web", (), some, health=()),), CounterSlots())
            states = States(loop, targets, Events(), lambda _: None, lambda: None, RestoredStates(Store()))
            states.start()
        costs.append(calls.most)
        states.stop()
        loop.close()
    assert costs[1] - costs[0] < 50 * 1000
