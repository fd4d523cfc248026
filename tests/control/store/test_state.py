"""What is saved is there again: after a close, a kill, a damaged file, a full disk; and a dictionary says the same."""

import contextlib
import dataclasses
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.programs import need
from kit.store_contract import NOW, WEB, StoreContract
from kit.waiting import wait_until
from tcp_proxy.control.store import state as state_module
from tcp_proxy.control.store import targets as target_store
from tcp_proxy.control.store.database import CannotUse
from tcp_proxy.control.store.state import SavedTarget, State, StateFile

HOME = pathlib.Path(__file__).parents[3]
KEY = WEB.key


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@pytest.fixture
def quick(monkeypatch):
    """No pauses: a test has not the time of a disk."""
    monkeypatch.setattr(state_module, "PAUSE", 0.0)
    monkeypatch.setattr(state_module, "RETRY_WAIT", 0.01)


@pytest.fixture
def opened(path):
    """opened(): the state and what it warned of; closed after the test."""
    with contextlib.ExitStack() as stack:

        def start():
            warnings = []
            made = StateFile.open(str(path), warnings.append, lambda: NOW)
            stack.callback(made.close)
            return made, warnings

        yield start


def reopened(path, warn=pytest.fail):
    """What the next life of the proxy would know."""
    made = StateFile.open(str(path), warn, lambda: NOW)
    made.close()
    return made.load()


def on_disk(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT app, target, admin FROM targets").fetchall()


class TestMemory(StoreContract):
    @contextlib.contextmanager
    def store(self):
        yield State(clock=lambda: NOW)


class TestFile(StoreContract):
    @pytest.fixture(autouse=True)
    def place(self, path):
        self.path = path

    @contextlib.contextmanager
    def store(self):
        """Whatever a test of the contract has done, the next life knows the same."""
        made = StateFile.open(str(self.path), pytest.fail, lambda: NOW)
        try:
            yield made
        finally:
            made.close()
        assert reopened(self.path) == made.load()


# -- durability


def test_close_writes_what_waits(path, opened, monkeypatch):
    monkeypatch.setattr(state_module, "PAUSE", 60.0)
    made, _ = opened()
    made.save(WEB)
    assert made.flush()
    made.save(dataclasses.replace(WEB, admin="disabled"))  # the writer pauses
    made.close()
    assert on_disk(path) == [(*KEY, "disabled")]


def test_saves_of_one_target_are_one_row_in_one_transaction(opened, monkeypatch):
    made, _ = opened()
    batches = []
    write = made._database.write
    monkeypatch.setattr(made._database, "write", lambda batch: (batches.append(len(batch)), write(batch)))
    for results in range(1000):
        made.save(dataclasses.replace(WEB, results=results))
    made.close()
    assert len(batches) <= 20
    assert set(batches) == {1}


def test_nothing_new_is_not_written(opened, monkeypatch):
    made, _ = opened()
    made.save(WEB)
    assert made.flush()
    monkeypatch.setattr(made._database, "write", pytest.fail)
    made.save(WEB)
    made.forget("no", "such")
    made.close()


def test_a_target_that_came_and_went_between_two_transactions(path, opened, monkeypatch):
    monkeypatch.setattr(state_module, "PAUSE", 60.0)
    made, _ = opened()
    made.save(WEB)
    assert made.flush()
    made.save(SavedTarget("web", "new"))
    made.forget("web", "new")
    made.forget(*KEY)
    made.save(WEB)
    made.close()
    assert on_disk(path) == [(*KEY, "drain")]


def test_a_clock_that_jumped_leaves_nothing_from_the_future(path):
    made = StateFile.open(str(path), pytest.fail, lambda: NOW + 1e6)
    made.save(dataclasses.replace(WEB, at=NOW + 1e6))
    made.close()
    assert reopened(path)[KEY].at == NOW


def test_a_slow_disk_holds_up_nobody(opened, monkeypatch):
    made, _ = opened()
    disk, asked = threading.Event(), threading.Event()
    write = made._database.write
    monkeypatch.setattr(made._database, "write", lambda batch: (asked.set(), disk.wait(10), write(batch)))
    made.save(WEB)
    assert asked.wait(10)
    for number in range(100):
        made.save(SavedTarget("web", f"t{number}"))
        made.forget("web", f"t{number - 1}")
    assert len(made.load()) == 2
    assert not made.flush(0.01)
    disk.set()
    assert made.flush()


def test_durable_is_what_another_life_would_know(path, opened, monkeypatch):
    made, _ = opened()
    disk, told = threading.Event(), threading.Semaphore(0)
    write = made._database.write
    monkeypatch.setattr(made._database, "write", lambda batch: (disk.wait(10), write(batch)))
    for weight in range(20):
        made.save(dataclasses.replace(WEB, weight=weight))
        made.when_durable(told.release)
        if not weight:
            assert not told.acquire(timeout=0.05), "the disk has not answered"
            disk.set()
        assert told.acquire(timeout=10)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT weight FROM targets").fetchall() == [(weight,)]


def test_nobody_waits_for_a_disk_that_takes_nothing(opened, monkeypatch):
    """Not for the attempt that fails, not for the next one, and not for a file that is closed."""
    made, warnings = opened()
    told = threading.Semaphore(0)

    def fails(_batch):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(made._database, "write", fails)
    for weight in range(3):
        made.save(dataclasses.replace(WEB, weight=weight))
        made.when_durable(told.release)
        assert told.acquire(timeout=2), "before RETRY_WAIT is over"
    assert "kept in memory" in warnings[0]
    made.close()
    made.save(WEB)
    made.when_durable(told.release)
    assert told.acquire(timeout=2)


def test_a_disk_that_hangs_does_not_keep_us_from_ending(opened, monkeypatch):
    monkeypatch.setattr(state_module, "CLOSE_WAIT", 0.1)
    made, warnings = opened()
    disk = threading.Event()
    monkeypatch.setattr(made._database, "write", lambda batch: disk.wait(30))
    made.save(WEB)
    made.close()
    assert "the disk does not answer" in warnings[-1]
    disk.set()
    made._thread.join(10)


words = st.sampled_from(["a", "b", "c"])
targets = st.builds(
    SavedTarget, words, words, st.sampled_from(target_store.ADMINS), st.none() | st.integers(0, 256),
    st.sampled_from(target_store.VERDICTS), st.integers(0, 1000), st.text(max_size=5), st.floats(0, NOW),
    st.sampled_from(target_store.ORIGINS), st.text(max_size=5),
)  # fmt: skip
steps = st.lists(targets | st.tuples(words, words) | st.just("flush") | st.just("reopen"), max_size=25)


@given(steps)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_dictionary_says_the_same(tmp_path, quick, steps):
    path = tmp_path / "state.db"
    path.unlink(missing_ok=True)
    model = {}
    made = StateFile.open(str(path), pytest.fail, lambda: NOW)
    try:
        for step in steps:
            if step == "reopen":
                made.close()
                made = StateFile.open(str(path), pytest.fail, lambda: NOW)
            elif step == "flush":
                assert made.flush()
            elif isinstance(step, SavedTarget):
                made.save(step)
                model[step.key] = step
            else:
                made.forget(*step)
                model.pop(step, None)
            assert made.load() == model
    finally:
        made.close()
    assert reopened(path) == model


# -- killed

WRITERS = """
import os, random, sys
from tcp_proxy.control.store import state
state.PAUSE = 0.0
def write(life):
    print("pid", os.getpid(), flush=True)
    made = state.StateFile.open(sys.argv[1])
    dice = random.Random(life)
    number = max((saved.results for saved in made.load().values()), default=0)
    while True:
        for _ in range(dice.randrange(1, 30)):
            number += 1
            evidence = "x" * dice.randrange(3000)
            made.save(state.SavedTarget("web", f"t{number % 40}", "drain", evidence=evidence, results=number))
        print("said", number, flush=True)
        if made.flush():
            print("durable", number, flush=True)
for life in iter(sys.stdin.readline, ""):
    child = os.fork()
    if not child:
        write(int(life))
    os.waitpid(child, 0)
    print("\\nover", flush=True)
"""


class Writers:
    """Processes that write until they are killed, one after another. They are forked by one that has no threads: to start
    fifty interpreters takes half a minute."""

    def __init__(self, path):
        argv = [sys.executable, "-c", WRITERS, path]
        self.mother = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HOME)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.mother.communicate(timeout=20)

    def begin(self, life):
        self.mother.stdin.write(f"{life}\n")
        self.mother.stdin.flush()
        return int(self.line().removeprefix("pid "))

    def line(self):
        line = self.mother.stdout.readline()
        assert line, "it has ended by itself"
        return line

    def rest(self):
        """What was said before the end. The last line is empty, or was cut off."""
        return list(iter(self.line, "over\n"))[:-1]


def test_killed_fifty_times_it_has_all_that_was_durable(path):
    """Number n is of target n % 40: after a kill each target has a number between what was durable and what was said."""
    dice = random.Random(50)
    with Writers(path) as writers:
        for life in range(50):
            child = writers.begin(life)
            lines = [writers.line() for _ in range(dice.randrange(1, 12))]
            if life % 2:  # in the middle of a transaction, where most of the time goes anyway
                wait_until(lambda: os.path.exists(f"{path}-journal"), "a transaction")
            os.kill(child, signal.SIGKILL)
            require_durable(path, life, lines + writers.rest())


def require_durable(path, life, lines):
    heard = {"durable": 0, "said": 0}
    for line in lines:
        word, _, number = line.strip().partition(" ")
        heard[word] = int(number)
    known = {saved.target: saved.results for saved in reopened(path).values()}
    for number in range(max(1, heard["durable"] - 39), heard["durable"] + 1):
        assert number <= known[f"t{number % 40}"] <= heard["said"] + 30, f"life {life}: {lines[-2:]}"


# -- damaged files


def test_any_flipped_bits_give_the_truth_or_nothing(path):
    """Whatever is in the file, it opens, and no row says what was never written."""
    made = StateFile.open(str(path), pytest.fail, lambda: NOW)
    for number in range(60):
        made.save(SavedTarget("web", f"t{number}", "drain", number, "down", number, "refused " * 40, NOW - number))
    made.close()
    whole, truth = path.read_bytes(), made.load()
    dice = random.Random(7)
    outcomes = []
    for _ in range(150):
        bytes_ = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            bytes_[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        path.write_bytes(bytes_)
        warnings = []
        known = reopened(path, warnings.append)
        assert known in (truth, {})
        assert bool(known) is not bool(warnings), warnings
        outcomes.append(bool(known))
        for old in path.parent.glob("*.damaged-*"):
            old.unlink()
    assert 0 < sum(outcomes) < len(outcomes)


@pytest.mark.parametrize(
    "row", [{"admin": "dra1n"}, {"weight": "many"}, {"results": 2.5}, {"evidence": b"\xff\xfe"}, {"crc": 1}]
)
def test_a_row_that_makes_no_sense(path, row):
    made = StateFile.open(str(path), pytest.fail)
    made.save(WEB)
    made.close()
    ((column, value),) = row.items()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE targets SET {column} = ?", (value,))
    warnings = []
    assert reopened(path, warnings.append) == {}
    assert len(warnings) == 1
    assert "set aside" in warnings[0]


# -- while it runs


def test_a_file_that_is_removed_is_written_again_whole(path, opened, quick):
    made, warnings = opened()
    made.save(WEB)
    assert made.flush()
    path.unlink()
    made.save(SavedTarget("web", "other"))
    assert made.flush()
    assert sorted(on_disk(path)) == sorted([(*KEY, "drain"), ("web", "other", "")])
    assert [warning.partition(": ")[0] for warning in warnings] == [f"state file {path} is gone or was replaced"]


def test_a_file_that_is_damaged_is_set_aside_and_written_again_whole(path, opened, quick):
    made, warnings = opened()
    for number in range(100):
        made.save(SavedTarget("web", f"t{number}", evidence="x" * 500))
    assert made.flush()
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
    made.save(WEB)
    assert made.flush()
    assert len(on_disk(path)) == 101
    assert any("set aside" in warning for warning in warnings)
    made.close()
    assert reopened(path) == made.load()


def test_a_foreign_file_in_its_place(path, opened, quick):
    made, _ = opened()
    made.save(WEB)
    assert made.flush()
    path.unlink()
    path.write_text("not yours")
    made.save(dataclasses.replace(WEB, admin="ready"))
    assert made.flush()
    assert on_disk(path) == [(*KEY, "ready")]
    (kept,) = path.parent.glob("*.damaged-*")
    assert kept.read_text() == "not yours"


def test_its_folder_is_removed_and_comes_back(path, opened, quick):
    made, warnings = opened()
    path.unlink()
    path.parent.rmdir()
    made.save(WEB)
    assert state_module.State().is_failing is None, "without a file there is nothing that could fail"
    wait_until(lambda: made._failures > 2, "some attempts")
    assert made.is_failing
    assert len([warning for warning in warnings if "cannot be written" in warning]) == 1
    assert made.load() == {KEY: WEB}
    path.parent.mkdir()
    assert made.flush()
    assert on_disk(path) == [(*KEY, "drain")]
    assert not made.is_failing
    assert "written again" in warnings[-1]


def test_a_lasting_fault_is_said_once_a_minute(path, opened, quick):
    made, warnings = opened()
    path.unlink()
    path.mkdir()
    made.save(WEB)
    wait_until(lambda: made._failures > 2 * state_module.WARN_EVERY, "many attempts")
    made.close()
    assert len([warning for warning in warnings if "cannot be written" in warning]) == 3
    assert warnings[-1].endswith("1 changes are not in it")


def test_while_another_program_writes_changes_wait(path, opened, quick, monkeypatch):
    monkeypatch.setattr("tcp_proxy.control.store.database.BUSY_WAIT", 0.01)
    made, _ = opened()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        made.save(WEB)
        wait_until(lambda: made._failures, "an attempt", 20)
        other.execute("ROLLBACK")
    assert made.flush()
    assert on_disk(path) == [(*KEY, "drain")]


def test_a_start_while_another_program_writes(path, quick, monkeypatch, opened):
    """What the file holds is not known to this life, and not lost for the next one."""
    made = StateFile.open(str(path), pytest.fail)
    made.save(WEB)
    made.close()
    monkeypatch.setattr("tcp_proxy.control.store.database.BUSY_WAIT", 0.01)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        made, warnings = opened()
        assert made.load() == {}
        assert "not known until the next start" in warnings[0]
        other.execute("ROLLBACK")
    made.save(SavedTarget("web", "other"))
    assert made.flush()
    made.close()
    assert sorted(reopened(path)) == [KEY, ("web", "other")]


def test_a_file_of_another_proxy_is_refused(opened, path, monkeypatch):
    monkeypatch.setattr("tcp_proxy.control.store.database.LOCK_WAIT", 0.0)
    opened()
    with pytest.raises(CannotUse, match="in use by another tcp_proxy"):
        StateFile.open(str(path))


# -- full disks, in a process of their own

FULL = """
import os, resource, sys
from tcp_proxy.control.store import state
state.PAUSE, state.RETRY_WAIT = 0.0, 0.01
path, how = sys.argv[1] + "/state.db", sys.argv[2]
warnings = []

def fill(full):
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192 if full else -1, -1))
    elif full:
        with open(path + ".filler", "wb", 0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
    else:
        os.unlink(path + ".filler")

def saved(name):
    made.save(state.SavedTarget("web", name, "drain", evidence="x" * 20000))

if how == "full at start":
    fill(True)
made = state.StateFile.open(path, warnings.append)
saved("one")
if how != "full at start":
    assert made.flush()
    fill(True)
saved("two")
assert not made.flush(0.3)
assert sorted(name for _, name in made.load()) == ["one", "two"]
fill(False)
assert made.flush()
made.close()
print(len(warnings), warnings[0] if how == "full at start" else "", warnings[-1])
again = state.StateFile.open(path, sys.exit)
assert again.load() == made.load()
again.close()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a mount namespace")
@pytest.mark.parametrize("how", ["limit", "disk", "full at start"])
def test_a_full_disk_costs_nothing_but_the_file_s_freshness(tmp_path, how):
    mount = [need("unshare"), "--mount", "sh", "-c", 'mount -t tmpfs -o size=200k none "$2" && exec "$0" -c "$1" "$2" "$3"']
    command = [*mount, sys.executable, FULL, str(tmp_path), how]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HOME, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("written again, nothing is missing in it\n"), done.stdout
