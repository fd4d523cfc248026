"""What a child writes to its standard error: every line is one of our log, whatever it is and whenever the child ends."""

import os

import pytest

from tcp_proxy.control.processes.child_stderr import MOST_LINE, READ_SIZE, ChildStderr
from tcp_proxy.control.processes.spawned import make_pipe
from tcp_proxy.runtime.loop import Loop


class Rig:
    def __init__(self):
        self.loop = Loop("test")
        reads, self.writes = make_pipe()
        self.stderr = ChildStderr(self.loop, reads, lambda: "worker 0 (pid 7)")

    def say(self, data):
        os.write(self.writes, data)
        self.loop.run_once(0)

    def end(self):
        if self.writes >= 0:
            os.close(self.writes)
            self.writes = -1
        self.loop.run_once(0)

    def close(self):
        self.stderr.close()
        self.end()
        self.loop.close()


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


def test_lines_are_lines_of_the_log_under_the_childs_name(rig, caplog):
    rig.say(b"Traceback\n  File\n\n")
    assert caplog.messages == ["worker 0 (pid 7): Traceback", "worker 0 (pid 7):   File"]
    assert {record.levelname for record in caplog.records} == {"ERROR"}


def test_a_line_may_come_in_parts_and_hold_any_bytes(rig, caplog):
    rig.say(b"a\xff")
    assert caplog.messages == []
    rig.say(b"b\nc")
    rig.end()
    assert caplog.messages == ["worker 0 (pid 7): a\\xffb", "worker 0 (pid 7): c"]


def test_what_is_there_at_the_end_of_the_child_is_read(rig, caplog):
    os.write(rig.writes, b"last words\n" * 3 + b"and half a line")
    rig.stderr.close()
    rig.stderr.close()
    assert [message.partition(": ")[2] for message in caplog.messages] == ["last words"] * 3 + ["and half a line"]


def test_one_that_says_nothing_and_lives_is_closed_without_waiting(rig, caplog):
    rig.stderr.close()
    assert caplog.messages == []


def test_a_line_without_an_end_is_cut(rig, caplog):
    for _ in range(3):
        rig.say(b"x" * READ_SIZE)
    assert len(caplog.messages) == 1
    assert len(caplog.messages[0]) <= len("worker 0 (pid 7): ") + MOST_LINE + READ_SIZE


def test_a_child_that_writes_more_than_anybody_reads_does_not_wait(rig):
    """And the pipe is nobody else's: what is set on it changes nothing for the terminal or the other processes."""
    with pytest.raises(BlockingIOError):
        while True:
            os.write(rig.writes, b"x" * 4096)


def test_it_shows_what_it_is(rig):
    assert repr(rig.stderr) == "<ChildStderr of worker 0 (pid 7)>"
