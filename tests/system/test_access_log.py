"""The access log: one line for each session, text or JSON, flushed within a second, rotated by SIGUSR2."""

import datetime
import fcntl
import json
import os
import re
import signal
import threading

import pytest

from kit.load import Load
from kit.peer import connect
from kit.waiting import wait_until

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


def test_flushed_while_nothing_else_happens(proxy, service):
    program = proxy(targets=[service()])
    for _ in range(3):
        before = len(program.records_now())
        one_session(program)
        wait_until(lambda: len(program.records_now()) > before, "the record")  # noqa: B023  waited for in this round


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


def test_a_pipe_that_nobody_reads_is_an_error_at_start_and_for_a_reload(proxy, service):
    """Opening it the usual way waits for a reader: the supervisor served nobody's signals, and no failover, meanwhile."""
    program = proxy(targets=[service()])
    path = next(program.folder.glob("config-*.json"))
    os.mkfifo(fifo := program.folder / "fifo")
    path.write_text(json.dumps({**program.config, "access_log": str(fifo)}))
    program.signal(signal.SIGHUP)
    program.wait_log(f"SIGHUP: access_log {fifo}: this is a pipe that nobody reads")
    program.wait_log("SIGHUP: nothing was changed")
    one_session(program)
    other = proxy(targets=[service()], top={"access_log": str(fifo)}, ready=False)
    assert other.wait() == 1
    other.wait_log(f"^cannot start: access_log {fifo}: this is a pipe that nobody reads$")
    fifo.unlink()


def test_a_pipe_that_is_read_gets_the_lines_and_one_that_is_full_costs_lines_and_nothing_more(proxy, service):
    program = proxy(targets=[service()], top={"workers": 1})
    path = next(program.folder.glob("config-*.json"))
    os.mkfifo(fifo := program.folder / "fifo")
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    path.write_text(json.dumps({**program.config, "access_log": str(fifo)}))
    program.signal(signal.SIGHUP)
    program.wait_log("SIGHUP: done")
    for _ in range(30):
        one_session(program)
    program.wait_log("access log .*: Resource temporarily unavailable; lines are lost until it can be written")
    line = os.read(reader, 65536).split(b"\n")[0]
    assert json.loads(line)["reason"] == "done"
    one_session(program)
    program.wait_log("access log .*: writing again; [0-9]+ lines? (was|were) lost")
    program.uncounted = None
    os.close(reader)


def test_sigusr2_with_a_pipe_in_the_place_of_the_file(proxy, service):
    program = proxy(targets=[service()])
    one_session(program)
    program.record()
    program.access_log.rename(program.folder / "old.log")
    os.mkfifo(program.access_log)
    program.signal(signal.SIGUSR2)
    program.wait_log("cannot be opened again: this is a pipe that nobody reads; it goes on in the old file")
    one_session(program)
    wait_until(lambda: len((program.folder / "old.log").read_text().splitlines()) == 2, "the line in the old file")
    program.access_log.unlink()
    (program.folder / "old.log").rename(program.access_log)


def test_a_configuration_that_has_become_a_pipe_holds_nobody_up(proxy, service):
    program = proxy(targets=[service()])
    path = next(program.folder.glob("config-*.json"))
    path.unlink()
    os.mkfifo(path)
    program.signal(signal.SIGHUP)
    program.wait_log("reading the configuration again")
    one_session(program)
    program.wait_log("cannot be read: this is a pipe, and neither a byte nor its end has come for 10 s", 20)
