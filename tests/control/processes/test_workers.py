"""One worker process as the supervisor sees it: started, deaf to signals, watched, ended, explained. Real processes."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from kit import procfs
from kit.clock import Clock
from kit.proxy import ROOT
from kit.waiting import Deadline, wait_until
from tcp_proxy.control.processes.spawned import BLOCKED, Spawned, make_pipe
from tcp_proxy.control.processes.workers import KILL_AFTER, PING_EVERY, SILENT, WRONG_VERSION, Worker
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import Counters
from tcp_proxy.wire.messages import Drain, Drained, Ping, Pong, Ready, Snapshot

SLOTS = counters.PROCESS_SLOTS


class Rig:
    """A loop with a turnable clock and one worker on it, which gets its snapshot when a test says so."""

    def __init__(self, spawned=None):
        self.clock = Clock()
        self.loop = Loop("test", self.clock)
        self.memory, self.fd = Counters.create(1 + counters.ROWS_PER_WORKER, SLOTS)
        self.heard = []
        self.ends = []
        self.worker = Worker(self.loop, 3, spawned or Spawned(), lambda _, message: self.heard.append(message), self.ended)

    def ended(self, worker, explanation):
        assert worker is self.worker
        self.ends.append(explanation)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.ends:
            self.worker.kill()
            self.until(lambda: self.ends)
        self.loop.run_once(0)
        self.loop.close()
        self.memory.close()
        os.close(self.fd)

    def introduce(self, grace=5.0):
        bell = os.eventfd(0)
        snapshot = Snapshot(0, 1, "x", 1 + counters.ROWS_PER_WORKER, SLOTS, 1, None, "info", grace, (), 2)
        self.worker.send(snapshot, [self.fd, bell])
        os.close(bell)
        self.until(lambda: any(isinstance(message, Ready) for message in self.heard))

    def until(self, condition, seconds=10.0):
        deadline = Deadline(seconds)
        while not condition():
            assert not deadline.is_over, f"it did not happen: {self.heard} {self.ends}"
            self.loop.run_once(0.01)

    def pass_time(self, seconds, answered=True):
        """Seconds of the turned clock, one by one; a worker that lives answers each ping before the next second."""
        for _ in range(round(seconds)):
            self.clock.turn(1)
            self.loop.run_once(0)
            if answered and not self.ends:
                self.until(lambda: self.ends or self.pongs == self.worker._pings)

    @property
    def pongs(self):
        return sum(isinstance(message, Pong) for message in self.heard)


@pytest.fixture
def rig():
    with Rig() as rig:
        yield rig


def status_of(pid):
    return dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())


def is_in(mask, number):
    return bool(int(mask, 16) >> (number - 1) & 1)


# -- its start


def test_a_worker_gets_its_snapshot_and_is_ready(rig):
    rig.introduce()
    assert [type(message) for message in rig.heard] == [Ready]
    assert rig.heard[0].capacity > 0
    assert rig.ends == []


def test_it_has_no_descriptors_but_its_own(rig):
    """Nothing of ours is inherited: standard streams, its end of the channel, its loop, the counters' map is closed."""
    marker = os.memfd_create("a descriptor of the supervisor")
    os.set_inheritable(marker, True)
    try:
        with Rig() as other:
            other.introduce()
            links = procfs.descriptors(other.worker.pid).values()
            assert not any("supervisor" in link for link in links)
            assert sum(link.startswith("socket:") for link in links) == 1
    finally:
        os.close(marker)


def test_it_reads_nothing_from_our_standard_input(rig):
    assert procfs.descriptors(rig.worker.pid)[0] == "/dev/null"


@pytest.mark.parametrize("number", BLOCKED)
def test_signals_in_its_first_milliseconds_end_nothing(number):
    """From the first instruction after the exec until it serves: blocked, then ignored, never in force."""
    with Rig() as rig:
        for _ in range(200):
            os.kill(rig.worker.pid, number)
        rig.worker.send(Ping(1))
        deadline = Deadline()
        while not rig.pongs:
            assert not deadline.is_over
            os.kill(rig.worker.pid, number)
            rig.loop.run_once(0.001)
        os.kill(rig.worker.pid, number)
        rig.introduce()
        assert rig.ends == []


def test_signals_are_blocked_before_it_runs_and_ignored_when_it_does(rig):
    before = status_of(rig.worker.pid)
    assert all(is_in(before["SigBlk"], number) or is_in(before["SigIgn"], number) for number in BLOCKED)
    rig.introduce()
    after = status_of(rig.worker.pid)
    assert all(is_in(after["SigIgn"], number) and not is_in(after["SigBlk"], number) for number in BLOCKED)


# -- its end


def test_its_end_is_told_once_with_an_explanation(rig):
    rig.introduce()
    rig.worker.send(Drain(0))
    rig.until(lambda: rig.ends)
    rig.pass_time(60)
    assert rig.ends == ["exit status 0"]
    assert rig.heard[-1] == Drained(0), "its last word is heard before its end"
    assert not pathlib.Path(f"/proc/{rig.worker.pid}").exists(), "reaped"


@pytest.mark.parametrize(
    ("number", "explanation"),
    [
        (signal.SIGKILL, "SIGKILL (perhaps the system was out of memory: see the kernel's log)"),
        (signal.SIGSEGV, "SIGSEGV"),
        (signal.SIGRTMIN + 3, str(signal.SIGRTMIN + 3)),
    ],
)
def test_a_death_is_explained(rig, number, explanation):
    rig.introduce()
    os.kill(rig.worker.pid, number)
    rig.until(lambda: rig.ends)
    rig.pass_time(60)
    assert rig.ends == [explanation]
    rig.worker.send(Ping(1))  # is nobody's any more, and no error


def test_what_it_said_just_before_it_was_killed_is_heard(rig):
    rig.introduce()
    for number in range(100):
        rig.worker.send(Ping(1000 + number))
    wait_until(lambda: procfs._stat(rig.worker.pid)[0] != "R", "an idle worker")
    os.kill(rig.worker.pid, signal.SIGKILL)
    rig.until(lambda: rig.ends)
    assert len(rig.heard) >= 1
    numbers = [message.number for message in rig.heard if isinstance(message, Pong)]
    assert numbers == list(range(1000, 1000 + len(numbers)))


def test_one_of_another_version_ends_with_the_status_that_says_so(monkeypatch):
    monkeypatch.setattr("tcp_proxy.__version__", "0.0.0-other")
    with Rig() as rig:
        rig.until(lambda: rig.ends)
        assert rig.ends == [f"exit status {WRONG_VERSION}"]
        assert rig.worker.has_wrong_version


def test_both_wings_mean_the_same_status():
    """They must not import each other."""
    code = "from tcp_proxy.dataplane.worker import WRONG_VERSION; print(WRONG_VERSION)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    assert int(done.stdout) == WRONG_VERSION


def test_it_shows_what_it_is(rig):
    assert repr(rig.worker) == f"<Worker 3 pid={rig.worker.pid} starting>"
    rig.worker.is_ready = True
    assert "serving" in repr(rig.worker)
    rig.worker.is_draining = True
    assert "draining" in repr(rig.worker)


# -- its silence


def test_one_that_answers_lives_as_long_as_it_likes(rig):
    rig.introduce()
    rig.pass_time(100)
    assert rig.pongs >= 100 / PING_EVERY - 1
    assert rig.ends == []


def test_a_silent_one_prints_its_stacks_and_is_ended(caplog):
    """A stopped process handles no signal but SIGKILL and SIGCONT: it is continued to print them."""
    with Rig() as rig:
        rig.introduce()
        os.kill(rig.worker.pid, signal.SIGSTOP)
        wait_until(lambda: procfs._stat(rig.worker.pid)[0] == "T", "a stopped worker")
        rig.pass_time(SILENT - 1, answered=False)
        assert "silent" not in caplog.text
        rig.pass_time(PING_EVERY, answered=False)
        assert f"worker 3 (pid {rig.worker.pid}) has been silent for" in caplog.text
        rig.until(lambda: rig.ends, 5)
        rig.pass_time(60)
        assert rig.ends == ["SIGABRT"]
        assert f"worker 3 (pid {rig.worker.pid}): Fatal Python error: Aborted" in caplog.messages
        assert "run_once" in caplog.text
        assert caplog.text.count("silent") == 1


def test_a_silent_one_that_does_not_even_abort_is_killed(caplog):
    with Rig(Deaf()) as rig:
        rig.pass_time(SILENT + PING_EVERY - 1, answered=False)
        assert "silent" in caplog.text
        rig.loop.run_once(0.2)
        assert rig.ends == []
        rig.clock.turn(KILL_AFTER)
        rig.until(lambda: rig.ends, 5)
        assert rig.ends[0].startswith("SIGKILL")


class Deaf(Spawned):
    """Ignores SIGABRT and its channel."""

    def __init__(self):
        ours, theirs = socket.socketpair()
        code = "import signal, sys; signal.signal(signal.SIGABRT, signal.SIG_IGN); print(flush=True); signal.pause()"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, pass_fds=(theirs.fileno(),))
        theirs.close()
        self.process.stdout.readline()
        self.process.stdout.close()
        self.sock = ours
        self.stderr, writes = make_pipe()
        os.close(writes)


def test_time_that_passed_for_everybody_is_not_a_workers_silence(rig, caplog):
    """Ctrl-Z and, a minute later, fg: the supervisor itself was stopped and asked nobody anything."""
    rig.introduce()
    for _ in range(3):
        rig.clock.turn(60)
        rig.loop.run_once(0)
        rig.until(lambda: rig.ends or rig.pongs == rig.worker._pings)
        rig.pass_time(PING_EVERY)
    assert "silent" not in caplog.text
    assert rig.ends == []
