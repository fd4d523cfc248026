"""One of the places where lines go: what it did not take is said once, and counted; a file is opened again."""

import logging
import os

from tcp_proxy.control.access_log.output import Output


class Failing:
    """A destination that takes so many batches, after so many that it did not."""

    def __init__(self, failures):
        self.failures = failures
        self.taken = b""
        self.asked = []
        self.is_closed = False

    def append(self, data, is_failing, now, /):
        self.asked.append((is_failing, now))
        if self.failures:
            self.failures -= 1
            return data.count(b"\n"), OSError(28, "No space left on device")
        self.taken += data
        return 0, None

    def close(self):
        self.is_closed = True


def test_what_it_did_not_take_is_said_once_and_counted(caplog):
    to = Failing(2)
    output = Output("a.log", to)
    for number in range(4):
        output.write(b"x\ny\n", float(number))
    assert to.asked == [(False, 0.0), (True, 1.0), (True, 2.0), (False, 3.0)]
    assert [record.message for record in caplog.records] == [
        "access log a.log: No space left on device; lines are lost until it can be written",
        "access log a.log: writing again; 4 lines were lost",
    ]
    assert (output.dropped, to.taken) == (4, b"x\ny\nx\ny\n")
    assert repr(output) == "<Output a.log, 4 dropped>"


def test_another_destination_closes_the_one_before(caplog):
    one, two = Failing(1), Failing(0)
    output = Output("a.log", one)
    output.write(b"x\n", 0.0)
    output.take(two)
    output.write(b"y\n", 0.0)
    assert one.is_closed
    assert "1 line was lost" in caplog.text
    output.close()
    assert two.is_closed


def test_it_is_opened_again(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    to = Failing(0)
    output = Output(str(tmp_path / "log"), to)
    output.reopen()
    output.write(b"x\n", 0.0)
    output.close()
    assert to.is_closed
    assert (tmp_path / "log").read_bytes() == b"x\n"
    assert caplog.messages == [f"access log {tmp_path}/log: opened again"]


def test_one_that_cannot_be_opened_again_goes_on(tmp_path, caplog):
    to = Failing(0)
    output = Output(str(tmp_path), to)
    before = len(os.listdir("/proc/self/fd"))
    output.reopen()
    output.write(b"x\n", 0.0)
    assert to.taken == b"x\n"
    assert "it goes on in the old file" in caplog.text
    assert len(os.listdir("/proc/self/fd")) == before
