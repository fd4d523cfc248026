"""From one configuration to the next by what differs: the supervisor and a worker become what the whole says."""

import itertools
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcp_proxy.config.delta import of_apps
from tcp_proxy.config.model import App, Check, Http, Target
from tcp_proxy.control.changes.worker_updates import part_of
from tcp_proxy.control.health import runner as runners
from tcp_proxy.control.health.runner import HealthRunner
from tcp_proxy.control.statistics.counter_slots import CounterSlots
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.control.targets.resolver import Answer
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.address import Address, ListenAddress
from tcp_proxy.wire.counters import Counters
from tcp_proxy.wire.messages import Configure, decode, encode
from tests.control.health.bench import Scripted

KNOWN = {"db": Answer("db", ((2, "192.0.2.9"),), "")}
checks = st.sampled_from(((), (Check(),), (Check(path="/x"),), (Check(), Check(path="/x"))))
addresses = st.sampled_from((Address("192.0.2.1", 80), Address("192.0.2.2", 80), Address("db", 80), Address("192.0.2.3")))
targets = st.builds(
    Target, st.sampled_from("abcd"), addresses, st.integers(1, 3), st.booleans(), st.sampled_from((0, 0, 2)),
    disabled=st.booleans(), health=st.none() | checks,
)  # fmt: skip
apps = st.builds(
    App, st.just("web"), st.lists(st.integers(1, 3), min_size=1, max_size=2, unique=True).map(
        lambda ports: tuple(ListenAddress("127.0.0.1", port) for port in ports)
    ),
    st.lists(targets, max_size=4, unique_by=lambda target: target.name).map(tuple),
    health=checks, http=st.sampled_from((None, Http())),
)  # fmt: skip


class Health(HealthRunner):
    """Without a thread, and without any probe."""

    def __init__(self, app):
        super().__init__("web", app.config.health, lambda _: None, Loop("health"), own=app.own_checks())
        self.set_targets(app.endpoints(), app.hosts())

    def follow(self, one):
        """As control.targets.states does it."""
        app = one.app
        if one.checks_differ:
            self.set_checks(app.config.health, app.own_checks())
        own = {target.config.name: app.own_checks().get(target.config.name) for target in one.touched}
        probed = {name: found for target in one.touched for name, found in target.probed().items()}
        hosts = {name: host for target in one.touched for name, host in target.written().items()}
        gone = [subject for subjects in one.gone.values() for subject in subjects]
        self.change(gone, probed, hosts, {}, {**dict.fromkeys(one.unnamed), **own})

    def asked(self):
        self._loop.run_once(0)
        return {
            name: (subject.endpoints, subject.host, [pair.check for pair in subject.pairs])
            for name, subject in self._subjects.items()
        }


def wanted(app):
    """Of whom a health thread that starts now would know."""
    hosts = app.hosts()
    checked = {name: target for target in app.targets.values() for name in target.probed()}
    return {
        name: (found, hosts.get(name, ""), list(app.checks_of(checked[name].config.name)))
        for name, found in app.endpoints().items()
    }


def live(app):
    return [
        (one.name, one.slot, one.weight, one.backup, one.limited, one.state.value, one.endpoints, one.servers, one.since)
        for one in app.targets.values()
    ]


def told(view):
    return [
        (one.name, one.slot, one.weight, one.backup, one.limited, one.state, one.endpoints, dict(one.servers), one.since)
        for one in view.targets
    ]


@pytest.fixture(autouse=True)
def no_probes(monkeypatch):
    monkeypatch.setitem(runners.KINDS, "tcp", Scripted().start)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(apps, min_size=2, max_size=5))
def test_by_parts_everybody_becomes_what_a_new_start_would_make_of_it(steps):
    known = Targets(steps[:1], CounterSlots())
    for answer in KNOWN.values():
        known.answered(answer)
    memory, fd = Counters.create(1, 1 << 12)
    os.close(fd)
    web, health = known.apps["web"], Health(known.apps["web"])
    worker = LiveApp(web.view(), 0, memory.rows, memory.rows[0], lambda *_: None)
    try:
        for generation, (was, app) in enumerate(itertools.pairwise(steps), 1):
            changed = known.configure(of_apps((was,), (app,)), generation, KNOWN, 10.0 * generation)
            for _, old, new in changed.moved:
                health.rename(old, new)
            for one in changed.apps:
                message = decode(encode(Configure(generation, 1, 1.0, (), (), (part_of(one, web.view(one.touched)),)))[4:])
                worker.configure(message.parts[0].view, 0.0, message.parts[0])
                health.follow(one)
            assert [target.config for target in web.targets.values()] == list(app.targets)
            assert list(web.targets) == [target.name for target in app.targets]
            assert {host: set(ids) for host, ids in known.by_host.items()} == {
                host: {id(target) for target in web.targets.values() if host in target.config.hosts and target.is_named}
                for host in {host for target in web.targets.values() if target.is_named for host in target.config.hosts}
            }
            fresh = Targets((app,), CounterSlots())
            for answer in KNOWN.values():
                fresh.answered(answer)
            located, wanted_at = ([one.located for one in app.targets.values()] for app in (web, fresh.apps["web"]))
            fresh.close()
            assert located == wanted_at
            assert live(worker) == told(web.view())
            assert health.asked() == wanted(web)
    finally:
        health.stop()
        known.close()
        memory.close()
