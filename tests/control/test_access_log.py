"""The access log's thread: what the pipes hold reaches the file, whatever files, pipes and disks do meanwhile."""

import json
import logging
import os
import random
import subprocess
import sys
import threading

import pytest

from kit.waiting import wait_until
from tcp_proxy.control import access_log
from tcp_proxy.control.access_log import AccessLog
from tcp_proxy.records import Record, frame

ENDED = 1_795_246_424.123
RECORD = Record(
    id="a1.2-3", app="shop", listener="127.0.0.1:5001", client="10.0.0.1:4711", target="t2",
    tried=(("t1", "ECONNREFUSED"), ("t3", "ETIMEDOUT")), connect_seconds=0.0012, seconds=3.5, bytes_up=10, bytes_down=20,
    ended_by="client", reason="done", errno="", ended_at=ENDED,
)  # fmt: skip


def plain(**changes):
    return tuple(RECORD._replace(**changes))


class Rig:
    """A log that runs, and one worker's end of its pipes for each call of `worker`."""

    def __init__(self, path, format="json"):
        self.path = path
        self.log = AccessLog(str(path), format)
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
    os.write(one, frame([plain(id="1"), plain(id="2")]))
    rig.wait_ids(2)
    os.write(two, frame([plain(id="3")]))
    assert rig.wait_ids(3) == ["1", "2", "3"]
    assert rig.stop() == ["1", "2", "3"]


def test_frames_cut_anywhere(rig):
    stream = b"".join(frame([plain(id=str(n))]) for n in range(20))
    worker, dice = rig.worker(), random.Random(5)
    while stream:
        cut = dice.randint(1, 90)
        os.write(worker, stream[:cut])
        stream = stream[cut:]
    assert rig.wait_ids(20) == [str(n) for n in range(20)]


def test_a_killed_worker_leaves_half_a_frame(rig, warnings):
    worker = rig.worker()
    os.write(worker, frame([plain(id="whole")]) + frame([plain(id="half")])[:-7])
    rig.end(worker)
    other = rig.worker()
    os.write(other, frame([plain(id="other")]))
    assert rig.wait_ids(2) == ["whole", "other"]
    assert rig.stop() == ["whole", "other"]
    assert warnings() == []


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", b"\x05\0\0\0hello", b"\x01\0\0\0N", b"\x02\0\0\0[\x09"])
def test_bytes_that_make_no_sense_cost_one_pipe_only(rig, warnings, garbage):
    bad, good = rig.worker(), rig.worker()
    os.write(bad, garbage)
    os.write(good, frame([plain(id="good")]))
    assert rig.wait_ids(1) == ["good"]
    wait_until(lambda: len(rig.log._pipes) == 1, "the bad pipe to be closed")
    with pytest.raises(BrokenPipeError):
        os.write(bad, b"more")
    assert len(warnings()) == 1
    os.write(good, frame([plain(id="again")]))
    assert rig.stop() == ["good", "again"]


def test_a_record_that_cannot_be_formatted_costs_its_batch_only(rig, warnings):
    worker = rig.worker()
    os.write(worker, frame([("too", "short")]))
    wait_until(warnings, "the error")
    os.write(worker, frame([plain(id="next")]))
    assert rig.stop() == ["next"]


def test_descriptors_come_back_when_workers_end(rig):
    for _ in range(50):
        rig.end(rig.worker())
    wait_until(lambda: not rig.log._pipes, "all pipes closed")


# -- the end


def test_stop_writes_what_the_pipes_still_hold(rig):
    """Also what is written between the order to stop and the worker's own end."""
    worker = rig.worker()
    stopper = threading.Thread(target=rig.log.stop, name="stopper")
    os.write(worker, frame([plain(id=str(n)) for n in range(300)]))
    stopper.start()
    os.write(worker, frame([plain(id="last")]))
    rig.end(worker)
    stopper.join()
    assert rig.ids() == [*map(str, range(300)), "last"]


def test_stop_does_not_wait_for_ever_for_a_worker_that_lives(rig, monkeypatch):
    monkeypatch.setattr(access_log, "LAST_WAIT", 0.05)
    worker = rig.worker()
    os.write(worker, frame([plain(id="x")]))
    rig.log.stop()
    assert rig.ids() == ["x"]
    with pytest.raises(BrokenPipeError):
        os.write(worker, b"x")
    rig.end(worker)


def test_stop_gives_up_a_file_that_takes_nothing(tmp_path, monkeypatch, warnings):
    """A FIFO whose reader sleeps: the supervisor must end all the same."""
    monkeypatch.setattr(access_log, "LAST_WAIT", 0.05)
    monkeypatch.setattr(access_log, "STUCK", 0.05)
    os.mkfifo(path := tmp_path / "fifo")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    rig = Rig(path)
    worker = rig.worker()
    os.set_blocking(worker, False)
    batch = frame([plain()] * 200)
    wait_until(lambda: not _takes(worker, batch), "the pipes to be full", 5.0)
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
        os.write(rig.worker(), frame([plain(id=number)]))
        rig.stop()
    assert rig.ids() == ["1", "2"]


def test_a_file_that_cannot_be_opened_is_an_error_at_start(tmp_path):
    with pytest.raises(OSError, match="No such file") as caught:
        AccessLog(str(tmp_path / "no" / "access.log"), "text").start()
    assert "access.log" in str(caught.value)


def test_no_standard_output_is_an_error_at_start(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(OSError, match="no standard output"):
        AccessLog("-", "text").start()


def test_reopen_goes_on_in_a_new_file(rig, tmp_path):
    worker = rig.worker()
    os.write(worker, frame([plain(id="old")]))
    rig.wait_ids(1)
    rig.path.rename(tmp_path / "access.log.1")
    os.write(worker, frame([plain(id="still old")]))
    wait_until(lambda: (tmp_path / "access.log.1").read_bytes().count(b"\n") == 2, "the old file is still written")
    rig.log.reopen()
    wait_until(rig.path.exists, "the new file")
    os.write(worker, frame([plain(id="new")]))
    assert rig.stop() == ["new"]


def test_a_reopen_that_fails_goes_on_in_the_old_file(rig, tmp_path, warnings):
    """The folder is gone, as after a bad logrotate configuration: no record is lost."""
    worker = rig.worker()
    rig.path.rename(old := tmp_path / "old.log")
    rig.path.mkdir()
    rig.log.reopen()
    wait_until(warnings, "a warning")
    os.write(worker, frame([plain(id="x")]))
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
        os.write(worker, frame([plain()] * 5))
        wait_until(lambda: rig.log.dropped == 5 * (number + 1), "the count")  # noqa: B023  waited for in this round
    assert len(warnings()) == 1
    assert "No space left" in warnings()[0]
    rig.path.unlink()
    rig.log.reopen()
    wait_until(rig.path.exists, "the new file")
    os.write(worker, frame([plain(id="room")]))
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
from tcp_proxy.control.access_log import AccessLog
from tcp_proxy.records import frame
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
log = AccessLog({str(tmp_path / "access.log")!r}, "json")
log.start()
read_fd, write_fd = os.pipe()
log.attach(read_fd)
os.write(write_fd, frame([{plain()!r}] * 10))
os.close(write_fd)
log.stop()
sys.stdout.write(str(log.dropped))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text = (tmp_path / "access.log").read_text()
    lines = text.splitlines()
    assert text.endswith("}\n")
    assert 0 < len(lines) < 10
    assert [json.loads(line)["id"] for line in lines] == ["a1.2-3"] * len(lines)
    assert int(done.stdout) == 10 - len(lines)


def test_a_stdout_that_is_not_blocking_is_waited_for(tmp_path, monkeypatch):
    """Another program made the shared stdout non-blocking: a moment of a full pipe costs no line."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    with os.fdopen(write_fd, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        log = AccessLog("-", "json")
        log.start()
        worker_read, worker = os.pipe()
        log.attach(worker_read)
        batch = frame([plain()] * 400)
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
