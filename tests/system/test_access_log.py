"""The access log: one line for each session, text or JSON, flushed within a second, rotated by SIGUSR2."""

import datetime
import json
import os
import re
import signal
import threading

import pytest

from kit.load import Load
from kit.peer import connect
from kit.waiting import Stopwatch, wait_until

KEYS = {
    "id", "app", "listener", "client", "target", "tried", "connect_seconds", "seconds", "bytes_up", "bytes_down",
    "ended_by", "reason", "errno",
}  # fmt: skip


def one_session(program, word=b"x"):
    program.connect().send(word).expect(word).fin().expect_fin()


def test_a_json_record_has_every_field(proxy, service):
    echo = service()
    program = proxy(targets=[echo], name="shop")
    one_session(program, b"12345")
    record = program.record()
    assert set(record) >= KEYS
    assert record["app"] == "shop"
    assert record["listener"] == f"127.0.0.1:{program.port}"
    assert record["client"] == program.clients[0].address
    assert record["target"] == echo.address
    assert (record["bytes_up"], record["bytes_down"]) == (5, 5)


def test_a_text_record_says_the_same(proxy, service):
    echo = service()
    program = proxy(targets=[echo], name="shop", top={"log": {"format": "text"}})
    program.uncounted = None
    program.records_now = list
    one_session(program, b"12345")
    line = wait_until(lambda: program.access_log.exists() and program.access_log.read_text(), "a line")
    assert line.count("\n") == 1
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", line)
    for word in ("shop", f"127.0.0.1:{program.port}", program.clients[0].address, echo.address, "done", "client", "5"):
        assert word in line


def test_flushed_within_a_second(proxy, service):
    program = proxy(targets=[service()])
    for _ in range(3):
        before = len(program.records_now())
        watch = Stopwatch()
        one_session(program)
        wait_until(lambda: len(program.records_now()) > before, "the record")  # noqa: B023  waited for in this round
        assert watch.seconds < 4.8


def test_flushed_at_exit(proxy, service):
    program = proxy(targets=[service()], top={"workers": 2})
    for _ in range(30):
        one_session(program)
    assert program.stop() == 0
    assert len(program.records_now()) == 30


def test_records_name_the_moment_of_the_end(proxy, service):
    program = proxy(targets=[service()])
    before = datetime.datetime.now(datetime.UTC)
    one_session(program)
    record = program.record()
    ended = datetime.datetime.fromisoformat(record["time"])
    assert before - datetime.timedelta(seconds=1) < ended < datetime.datetime.now(datetime.UTC)


def test_to_standard_output(proxy, service):
    program = proxy(targets=[service()], top={"access_log": "-"})
    program.uncounted = None
    one_session(program)
    wait_until(lambda: program.output.endswith(b"\n"), "a line on stdout")
    assert json.loads(program.output)["reason"] == "done"


def test_none_at_all(proxy, service):
    program = proxy(targets=[service()], top={"access_log": None})
    one_session(program)
    assert program.stop() == 0
    assert not list(program.folder.glob("access*"))


@pytest.mark.slow
def test_rotation_by_sigusr2_loses_no_record_and_tears_no_line(proxy, service):
    """As logrotate does it: rename, signal; under load, ten times."""
    program = proxy(targets=[service()], top={"workers": 2})
    program.uncounted = None
    rotated = []
    with Load(program.port, clients=4) as load:
        for number in range(10):
            load.wait_sessions(50)
            rotated.append(program.folder / f"access.{number}")
            wait_until(program.access_log.exists, "the new file")
            os.rename(program.access_log, rotated[-1])
            program.signal(signal.SIGUSR2)
    wait_until(program.access_log.exists, "the new file")
    assert load.failures == []
    assert program.stop() == 0
    lines = [line for path in (*rotated, program.access_log) for line in path.read_text().splitlines()]
    records = [json.loads(line) for line in lines]
    assert len({record["id"] for record in records}) == len(records) == load.done


def test_after_sigusr2_the_old_file_is_let_go(proxy, service):
    program = proxy(targets=[service()])
    one_session(program)
    program.record()
    old = program.folder / "old.log"
    os.rename(program.access_log, old)
    program.signal(signal.SIGUSR2)
    wait_until(program.access_log.exists, "the new file")
    one_session(program)
    program.record()
    assert len(old.read_text().splitlines()) == 1
    program.uncounted = -1  # it went with the old file
    held = {os.readlink(f"/proc/{program.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{program.pid}/fd")}
    assert str(old) not in held


def test_a_log_that_cannot_be_opened_is_an_error_at_start(proxy, service, tmp_path):
    program = proxy(targets=[service()], top={"access_log": str(tmp_path / "no" / "such" / "folder.log")}, ready=False)
    assert program.wait() == 1
    assert "folder.log" in program.log


def test_ids_are_unique_over_workers_and_restarts(proxy, service):
    echo, ids = service(), []
    for _ in range(2):
        program = proxy(targets=[echo], top={"workers": 2})
        threads = [threading.Thread(target=many_sessions, args=(program.port,), name=f"many-{n}") for n in range(3)]
        program.uncounted = 60
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ids += [record["id"] for record in program.records(60)]
        assert program.stop() == 0
    assert len(set(ids)) == 120


def many_sessions(port):
    for _ in range(20):
        with connect(port) as peer:
            peer.send(b"x").expect(b"x").fin().expect_fin()
