"""One failover app as the supervisor sees it, as far as it takes no program (that is tests/system/test_failover.py)."""

import dataclasses
from types import SimpleNamespace

import pytest

from kit.shell import write_script
from tcp_proxy.config.delta import of_apps
from tcp_proxy.config.model import App, Failover, Target
from tcp_proxy.control.events import Events
from tcp_proxy.control.failover import primary as module
from tcp_proxy.control.scripts import Scripts, ScriptSlots
from tcp_proxy.control.statistics.counter_slots import CounterSlots
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.sansio.address import Address
from tcp_proxy.sansio.election import LEAST_WAIT, Phase


class NoWorkers(list):
    """So all have paused at once."""

    def send(self, message):
        """Nobody hears it."""


class Elected:
    """One app with one target, which is named `db`."""

    def __init__(self, bench, server, check):
        self.bench = bench
        self.app = App("app", (), (), balance="failover", failover=Failover(check=check))
        self.targets = Targets((self.app,), CounterSlots())
        self.scripts = Scripts(bench.loop, ScriptSlots())
        context = SimpleNamespace(
            loop=bench.loop, events=Events(), worker_pool=NoWorkers(), listening={}, is_stopping=False,
            targets=self.targets, states=SimpleNamespace(probe_now=lambda *_: None),
        )  # fmt: skip
        self.become(targets=(Target("db", Address(server.host, server.port)),))
        self.failover = module.Failover(context, self.scripts, self.targets.apps["app"], draw=lambda: 0.5)
        self.failover.look()
        self.failover.begin("it begins")

    def become(self, **keys):
        new = dataclasses.replace(self.app, **keys)
        self.targets.configure(of_apps((self.app,), (new,)), 1)
        self.app = new

    def until(self, phase):
        self.bench.until(lambda: self.failover._election.phase is phase, phase)

    def close(self):
        self.failover.stop()
        self.scripts.close()
        self.targets.close()


@pytest.fixture
def elected(bench):
    made = []
    yield lambda *how: made.append(Elected(bench, *how)) or made[-1]
    for one in made:
        one.close()


@pytest.mark.parametrize("what", ["another address", "another check"])
def test_a_reload_that_may_help_shortens_a_wait(bench, elected, service, tmp_path, what):
    """Nobody waits for a minute because of what is mended."""
    bad, good = (write_script(tmp_path / f"{status}.sh", f"exit {status}") for status in (1, 0))
    nobody, one = service(), service()
    nobody.close()
    app = elected(nobody, good) if what == "another address" else elected(one, bad)
    app.until(Phase.WAITING)
    app.become(targets=(Target("db", Address(one.host, one.port)),), failover=Failover(check=good))
    app.failover.look()
    bench.turn(LEAST_WAIT)
    app.until(Phase.SERVING)


@pytest.mark.parametrize("what", ["another address", "another check"])
def test_a_reload_that_may_help_in_the_middle_of_a_round_shortens_the_next_wait(bench, elected, service, tmp_path, what):
    """Who was asked before is asked again, as things are now."""
    good = write_script(tmp_path / "good.sh", "exit 0")
    held = write_script(tmp_path / "held.sh", f'until [ -e "{tmp_path}/go" ]; do sleep 0.01; done; exit 1')
    nobody, one, other = service(), service(), service()
    nobody.close()
    app = elected(other, held)
    if what == "another address":  # one has been refused while the other one's check runs
        app.become(targets=(Target("first", Address(nobody.host, nobody.port)), *app.app.targets))
        app.failover.begin("there are two")
    app.until(Phase.CHECKING)
    if what == "another address":
        app.become(targets=(Target("first", Address(one.host, one.port)), app.app.targets[1]))
    app.become(failover=Failover(check=good))
    app.failover.look()
    (tmp_path / "go").touch()
    app.until(Phase.WAITING)
    bench.turn(LEAST_WAIT)
    app.until(Phase.SERVING)


def test_a_reload_that_changes_nothing_of_it_shortens_no_wait(bench, elected, service, tmp_path):
    app = elected(service(), write_script(tmp_path / "bad.sh", "exit 1"))
    app.until(Phase.WAITING)
    step = app.failover._election._step
    app.become(retries=1)
    app.failover.look()
    bench.turn(LEAST_WAIT)
    assert (app.failover._election.phase, app.failover._election._step) == (Phase.WAITING, step)
