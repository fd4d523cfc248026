"""The access log's thread: what the pipes hold reaches the file, whatever files, pipes and disks do meanwhile."""

import json
import logging
import os
import random
import select
import subprocess
import sys
import threading

import pytest

from kit.waiting import wait_until
from tcp_proxy.config.log_model import AccessLogs
from tcp_proxy.control.access_log import writer
from tcp_proxy.control.access_log.destinations import open_all
from tcp_proxy.control.access_log.writer import AccessLog
from tcp_proxy.wire.log_lines import switch


def lines(*ids):
    """What a worker writes for sessions with these ids; the log looks at nothing but the end of each."""
    return "".join([json.dumps({"id": str(id), "tried": "x" * 300}) + "\n" for id in ids]).encode()


class Rig:
    """A log that runs, and one worker's end of its pipes for each call of `worker`."""

    def __init__(self, path, format="json"):
        self.path = path
        self.log = AccessLog(AccessLogs(str(path), format))
        self.log.start()
        self.open = []

    def worker(self):
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        self.log.attach(read_fd)
        self.open.append(write_fd)
        return write_fd

    def end(self, write_fd):
        self.open.remove(write_fd)
        os.close(write_fd)

    def stop(self):
        while self.open:
            self.end(self.open[-1])
        self.log.stop()
        return self.ids()

    def ids(self):
        whole = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        assert all(line.endswith(b"\n") for line in whole)
        return [json.loads(line)["id"] for line in whole]

    def wait_ids(self, count):
        return wait_until(lambda: len(ids := self.ids()) >= count and ids, f"{count} lines", 5.0)


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path / "access.log")
    yield rig
    if rig.log._thread.is_alive():
        rig.stop()


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [record.message for record in caplog.records if record.levelno >= logging.WARNING]


# -- pipes


def test_records_of_several_workers_reach_the_file(rig):
    one, two = rig.worker(), rig.worker()
    os.write(one, lines("1", "2"))
    rig.wait_ids(2)
    os.write(two, lines("3"))
    assert rig.wait_ids(3) == ["1", "2", "3"]
    assert rig.stop() == ["1", "2", "3"]


def test_lines_cut_anywhere(rig):
    stream = lines(*range(20))
    worker, dice = rig.worker(), random.Random(5)
    while stream:
        cut = dice.randint(1, 90)
        os.write(worker, stream[:cut])
        stream = stream[cut:]
    assert rig.wait_ids(20) == [str(n) for n in range(20)]


def test_a_killed_worker_leaves_half_a_line(rig, warnings):
    worker = rig.worker()
    os.write(worker, lines("whole") + lines("half")[:-7])
    rig.end(worker)
    other = rig.worker()
    os.write(other, lines("other"))
    assert rig.wait_ids(2) == ["whole", "other"]
    assert rig.stop() == ["whole", "other"]
    assert warnings() == []


def test_descriptors_come_back_when_workers_end(rig):
    for _ in range(50):
        rig.end(rig.worker())
    wait_until(lambda: not rig.log._pipes, "all pipes closed")


# -- several files


class Files:
    """Two files beside the usual one, and the order in which a log and its workers hear of a change."""

    def __init__(self, rig, tmp_path):
        self.rig, self.log = rig, rig.log
        self.usual, self.one, self.two = str(rig.path), str(tmp_path / "one"), str(tmp_path / "two")

    def change(self, *own, usual=None):
        logs = AccessLogs(self.usual if usual is None else usual, "json", tuple((path, path, "json") for path in own))
        self.log.change(logs, open_all([path for path in logs.paths if path not in self.log.logs.paths]))

    def ids(self, path):
        with open(path) as file:
            return [json.loads(line)["id"] for line in file]


@pytest.fixture
def files(rig, tmp_path):
    return Files(rig, tmp_path)


def whole(path, *ids):
    return switch(path).encode() + lines(*ids)


def test_apps_have_files_of_their_own(files):
    files.change(files.one, files.two)
    worker = files.rig.worker()
    stream = lines("a") + whole(files.one, "b", "c") + whole(files.two, "d") + whole(files.usual, "e")
    stream += whole(files.one, "f")
    for number in range(len(stream)):
        os.write(worker, stream[number : number + 1])
    assert files.rig.stop() == ["a", "e"]
    assert (files.ids(files.one), files.ids(files.two)) == (["b", "c", "f"], ["d"])


def test_without_a_usual_one_a_line_says_where_it_belongs(files):
    files.change(files.one, usual="")
    worker = files.rig.worker()
    os.write(worker, whole(files.one, "x"))
    assert files.rig.stop() == []
    assert files.ids(files.one) == ["x"]


def test_lines_of_before_a_change_go_where_they_belong(files):
    """The file that left is closed when the last pipe of before has ended, and not earlier."""
    files.change(files.one)
    old, other = files.rig.worker(), files.rig.worker()
    os.write(old, whole(files.one, "first"))
    wait_until(lambda: files.ids(files.one) == ["first"], "the thread, which knows the file then")
    files.change(files.two)
    new = files.rig.worker()
    os.write(new, whole(files.two, "new"))
    os.write(old, lines("late"))
    files.rig.end(old)
    os.write(other, whole(files.one, "latest") + lines("and one more"))
    files.rig.end(other)
    wait_until(lambda: files.one not in files.log._outputs, "the old file is closed")
    assert files.ids(files.one) == ["first", "late", "latest", "and one more"]
    files.rig.stop()
    assert files.ids(files.two) == ["new"]


def test_a_file_that_left_and_comes_back_has_one_descriptor(files):
    files.change(files.one)
    old = files.rig.worker()
    before = len(os.listdir("/proc/self/fd"))
    files.change()
    files.change(files.one)
    new = files.rig.worker()
    os.write(old, whole(files.one, "old"))
    wait_until(lambda: files.ids(files.one) == ["old"], "the line")
    os.write(new, whole(files.one, "new"))
    wait_until(lambda: files.ids(files.one) == ["old", "new"], "the line")
    assert len(os.listdir("/proc/self/fd")) == before + 2, "the new pipe"
    files.rig.end(old)
    wait_until(lambda: len(files.log._pipes) == 1, "the old pipe is closed")
    assert files.one in files.log._outputs


def test_every_file_is_opened_again(files, tmp_path):
    files.change(files.one)
    worker = files.rig.worker()
    os.rename(files.one, tmp_path / "one.1")
    files.log.reopen()
    wait_until(lambda: os.path.exists(files.one), "the new file")
    os.write(worker, whole(files.one, "x"))
    files.rig.stop()
    assert files.ids(files.one) == ["x"]


def test_a_full_disk_of_one_costs_the_others_nothing(files, warnings):
    files.change("/dev/full", files.one)
    worker = files.rig.worker()
    os.write(worker, whole("/dev/full", *range(7)) + whole(files.one, "x") + lines("y"))
    wait_until(lambda: files.ids(files.one) == ["x", "y"], "the others")
    assert files.log.dropped == 7
    assert len(warnings()) == 1


def test_a_change_after_the_end_closes_what_it_brings(files):
    files.log.stop()
    before = len(os.listdir("/proc/self/fd"))
    files.change(files.one)
    assert len(os.listdir("/proc/self/fd")) == before


def test_all_are_opened_or_none(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r"access_log .*no/log: No such file"):
        open_all([str(tmp_path / "a"), str(tmp_path / "no" / "log")])
    assert len(os.listdir("/proc/self/fd")) == before


# -- the end


def test_stop_writes_what_the_pipes_still_hold(rig):
    """Also what is written between the order to stop and the worker's own end."""
    worker = rig.worker()
    stopper = threading.Thread(target=rig.log.stop, name="stopper")
    os.write(worker, lines(*range(300)))
    stopper.start()
    os.write(worker, lines("last"))
    rig.end(worker)
    stopper.join()
    assert rig.ids() == [*map(str, range(300)), "last"]


def test_stop_does_not_wait_for_ever_for_a_worker_that_lives(rig, monkeypatch):
    monkeypatch.setattr(writer, "LAST_WAIT", 0.05)
    worker = rig.worker()
    os.write(worker, lines("x"))
    rig.log.stop()
    assert rig.ids() == ["x"]
    with pytest.raises(BrokenPipeError):
        os.write(worker, b"x")
    rig.end(worker)


def test_stop_gives_up_a_file_that_takes_nothing(tmp_path, monkeypatch, warnings):
    """A FIFO whose reader sleeps: the supervisor must end all the same."""
    monkeypatch.setattr(writer, "LAST_WAIT", 0.05)
    monkeypatch.setattr(writer, "STUCK", 0.05)
    os.mkfifo(path := tmp_path / "fifo")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    rig = Rig(path)
    worker = rig.worker()
    os.set_blocking(worker, False)
    batch = lines(*[1] * 200)
    other = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    # The worker's pipe alone may be full only because the writer has not come to read it yet.
    wait_until(lambda: not _takes(worker, batch) and not select.select([], [other], [], 0)[1], "the pipes to be full", 5.0)
    os.close(other)
    rig.log.stop()
    assert len(warnings()) == 1
    os.close(reader)  # a broken pipe ends the write, and with it the thread
    rig.log._thread.join(10)
    rig.end(worker)


def _takes(fd, data):
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0


def test_attach_after_stop_closes_the_pipe(rig):
    rig.stop()
    read_fd, write_fd = os.pipe()
    rig.log.attach(read_fd)
    with pytest.raises(BrokenPipeError):
        os.write(write_fd, b"x")
    os.close(write_fd)


def test_reopen_after_stop_does_nothing(rig):
    rig.stop()
    rig.log.reopen()


# -- the file


def test_it_appends(tmp_path):
    path = tmp_path / "access.log"
    for number in ("1", "2"):
        rig = Rig(path)
        os.write(rig.worker(), lines(number))
        rig.stop()
    assert rig.ids() == ["1", "2"]


def test_a_file_that_cannot_be_opened_is_an_error_at_start(tmp_path):
    with pytest.raises(OSError, match="No such file") as caught:
        AccessLog(AccessLogs(str(tmp_path / "no" / "access.log"))).start()
    assert "access.log" in str(caught.value)


def test_no_standard_output_is_an_error_at_start(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(OSError, match="no standard output"):
        AccessLog(AccessLogs("-")).start()


def test_reopen_goes_on_in_a_new_file(rig, tmp_path):
    worker = rig.worker()
    os.write(worker, lines("old"))
    rig.wait_ids(1)
    rig.path.rename(tmp_path / "access.log.1")
    os.write(worker, lines("still old"))
    wait_until(lambda: (tmp_path / "access.log.1").read_bytes().count(b"\n") == 2, "the old file is still written")
    rig.log.reopen()
    wait_until(rig.path.exists, "the new file")
    os.write(worker, lines("new"))
    assert rig.stop() == ["new"]


def test_a_reopen_that_fails_goes_on_in_the_old_file(rig, tmp_path, warnings):
    """The folder is gone, as after a bad logrotate configuration: no record is lost."""
    worker = rig.worker()
    rig.path.rename(old := tmp_path / "old.log")
    rig.path.mkdir()
    rig.log.reopen()
    wait_until(warnings, "a warning")
    os.write(worker, lines("x"))
    rig.end(worker)
    rig.log.stop()
    assert json.loads(old.read_text())["id"] == "x"
    assert len(warnings()) == 1


def test_a_full_disk_is_said_once_and_counted(rig, warnings):
    """/dev/full refuses every write; then the disk has room again."""
    rig.path.unlink()
    rig.path.symlink_to("/dev/full")
    rig.log.reopen()
    worker = rig.worker()
    for number in range(3):
        os.write(worker, lines(*[1] * 5))
        wait_until(lambda: rig.log.dropped == 5 * (number + 1), "the count")  # noqa: B023  waited for in this round
    assert len(warnings()) == 1
    assert "No space left" in warnings()[0]
    rig.path.unlink()
    rig.log.reopen()
    wait_until(rig.path.exists, "the new file")
    os.write(worker, lines("room"))
    assert rig.wait_ids(1) == ["room"]
    wait_until(lambda: len(warnings()) == 2, "the second warning")
    assert "15 lines were lost" in warnings()[1]
    assert rig.stop() == ["room"]
    assert len(warnings()) == 2


def test_a_write_that_stops_half_way_leaves_a_whole_line(tmp_path, warnings):
    """RLIMIT_FSIZE cuts a write as a full disk does: the beginning of a line is taken back."""
    code = f"""
import os, resource, signal, sys
sys.path[:0] = {sys.path!r}
from tcp_proxy.config.log_model import AccessLogs
from tcp_proxy.control.access_log.writer import AccessLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
log = AccessLog(AccessLogs({str(tmp_path / "access.log")!r}, "json"))
log.start()
read_fd, write_fd = os.pipe()
log.attach(read_fd)
os.write(write_fd, {lines(*["a1.2-3"] * 10)!r})
os.close(write_fd)
log.stop()
sys.stdout.write(str(log.dropped))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text = (tmp_path / "access.log").read_text()
    whole = text.splitlines()
    assert text.endswith("}\n")
    assert 0 < len(whole) < 10
    assert [json.loads(line)["id"] for line in whole] == ["a1.2-3"] * len(whole)
    assert int(done.stdout) == 10 - len(whole)


def test_a_stdout_that_is_not_blocking_is_waited_for(tmp_path, monkeypatch):
    """Another program made the shared stdout non-blocking: a moment of a full pipe costs no line."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    with os.fdopen(write_fd, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        log = AccessLog(AccessLogs("-", "json"))
        log.start()
        worker_read, worker = os.pipe()
        log.attach(worker_read)
        batch = lines(*[1] * 400)
        got = bytearray()
        writer = threading.Thread(target=lambda: (os.write(worker, batch), os.close(worker)), name="writer")
        writer.start()
        while got.count(b"\n") < 400:
            got += os.read(read_fd, 4096)
        writer.join()
        log.stop()
    os.close(read_fd)
    assert log.dropped == 0


def test_its_repr_and_thread(rig):
    rig.worker()
    wait_until(lambda: "1 pipes, 0 dropped" in repr(rig.log), "the pipe")
    assert rig.log._thread.name == "access-log"
