"""At each named step of a take-over (control.takeover.steps) the program that comes there stands still, and one of the two
is killed, or goes on late. Before `taken` the old one serves on as if nothing had been; from then on all is the new one's.
"""

import signal

import pytest

from kit import procfs
from kit.ports import free_port
from kit.proxy import Proxy
from kit.takeover import TOP, Succession, at_step
from kit.waiting import PATIENCE, wait_until
from tcp_proxy.control.takeover.steps import Step

OLD = (Step.GREETED, Step.FROZEN, Step.PAUSED, Step.LEFT)  # reached by the old program; the others by the new one
BEFORE = (Step.GREETED, Step.FROZEN, Step.TOLD, Step.READY, Step.PAUSED, Step.COMPLETE)
AFTER = (Step.TAKEN, Step.LEFT, Step.OWNING)
SOON = 5  # seconds, in place of those that the one that goes on waits for the other


class Stage:
    """Two programs, one of which has stopped at the step, and a session that began before."""

    def __init__(self, folder, service, servers, step, within=None):
        self.config = {
            "workers": 2, "access_log": "access.log", "log": {"format": "json"}, "shutdown_grace": 5, **TOP,
            "apps": [{"name": "app", "ports": [free_port()], "health": [], "targets": [service().address]}],
        }  # fmt: skip
        self.folder, self.servers = folder, servers
        stops, goes_on = at_step(step, "SIGSTOP"), at_step(None, within=within)
        self.old = self.start(stops if step in OLD else goes_on)
        self.kept = self.old.connect().send(b"a").expect(b"a")
        self.line = Succession(self.old, servers)
        self.new = self.line.begin(program=goes_on if step in OLD else stops)
        self.stopped, self.other = (self.old, self.new) if step in OLD else (self.new, self.old)
        wait_until(lambda: procfs.is_stopped(self.stopped.pid), lambda: f"at {step}: {self.old.log}{self.new.log}")

    def start(self, program=None):
        one = Proxy(self.config, self.folder, **({"program": program} if program else {}))
        self.servers.callback(one.kill)
        self.servers.callback(one.close_clients)
        return one.wait_ready()

    def go_on(self):
        self.stopped.signal(signal.SIGCONT)

    def is_served_by(self, program):
        """Who was there before, and who comes."""
        self.kept.send(b"kept").expect(b"kept")
        program.connect().send(b"fresh").expect(b"fresh").close()

    def end(self, program):
        """Another one takes over from it, and ends well."""
        program.uncounted = None
        self.line.programs = [program]
        new = self.line.upgrade()
        self.is_served_by(new)
        self.kept.close()
        self.line.end()


@pytest.fixture
def stage(tmp_path, service, servers):
    return lambda step, within=None: Stage(tmp_path, service, servers, step, within)


def kill(program):
    program.signal(signal.SIGKILL)
    assert program.process.wait(PATIENCE) == -signal.SIGKILL


@pytest.mark.parametrize("step", BEFORE)
def test_the_new_one_is_killed_and_nothing_has_been(stage, step):
    its = stage(step)
    kill(its.new)
    if its.stopped is its.old:
        its.go_on()
    its.old.wait_log("all goes on here")
    its.is_served_by(its.old)
    its.end(its.old)


@pytest.mark.parametrize("step", AFTER)
def test_the_new_one_is_killed_as_the_owner_and_another_can_be_started(stage, step):
    its = stage(step)
    if its.stopped is its.old:
        its.new.wait_log("taken over from")
    kill(its.new)
    if its.stopped is its.old:
        its.go_on()
    assert its.old.process.wait(PATIENCE) == 0, its.old.log
    again = its.start()
    again.connect().send(b"fresh").expect(b"fresh").close()
    its.kept.close()
    its.line.wait_old_workers()
    again.uncounted = None
    assert again.stop() == 0, again.log


@pytest.mark.parametrize("step", [*BEFORE, *AFTER])
def test_the_old_one_is_killed_and_the_new_one_goes_on(stage, step):
    its = stage(step)
    if step is not Step.OWNING or its.old.is_running:  # it may have ended by itself by then
        its.old.signal(signal.SIGKILL)
    its.old.process.wait(PATIENCE)
    if its.stopped is its.new:
        its.go_on()
    its.new.wait_log("ready:")
    its.new.uncounted = None
    its.new.connect().send(b"fresh").expect(b"fresh").close()
    if step in AFTER or step is Step.COMPLETE:  # else its workers end within `shutdown_grace`
        its.end(its.new)
    else:
        its.kept.close()
        its.line.wait_old_workers()
        assert its.new.stop() == 0, its.new.log


@pytest.mark.parametrize("step", [Step.GREETED, Step.FROZEN, Step.PAUSED])
def test_an_old_one_that_stands_still_is_not_waited_for_and_goes_on_later(stage, step):
    its = stage(step, SOON)
    assert its.new.process.wait(PATIENCE) == 1, its.new.log
    its.new.wait_log("it goes on itself")
    its.go_on()
    its.old.wait_log("all goes on here")
    its.is_served_by(its.old)
    its.end(its.old)


@pytest.mark.parametrize("step", [Step.LEFT])
def test_an_old_one_that_stood_still_when_it_was_taken_over_from_ends(stage, step):
    its = stage(step)
    its.new.wait_log("ready:")
    its.is_served_by(its.new)
    its.go_on()
    assert its.old.process.wait(PATIENCE) == 0, its.old.log
    its.end(its.new)


def test_a_new_one_that_stood_still_too_long_learns_so(stage):
    its = stage(Step.TOLD, SOON)
    its.old.wait_log("it has said nothing for 5 s; all goes on here")
    its.go_on()
    assert its.new.process.wait(PATIENCE) == 1, its.new.log
    its.new.wait_log("cannot take over from process")
    its.is_served_by(its.old)
    its.end(its.old)


@pytest.mark.parametrize("step", [Step.TAKEN, Step.OWNING])
def test_a_new_one_that_stood_still_as_the_owner_goes_on(stage, step):
    its = stage(step)
    assert its.old.process.wait(PATIENCE) == 0, its.old.log
    its.go_on()
    its.new.wait_log("ready:")
    its.is_served_by(its.new)
    its.end(its.new)
