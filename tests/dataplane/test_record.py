"""Records reach the pipe in batches, in order, from any thread; when nobody reads they are dropped and counted."""

import errno
import gc
import json
import os
import threading
import time

from tcp_proxy.config.log_model import AccessLogs
from tcp_proxy.dataplane import record
from tcp_proxy.dataplane.record import FLUSH_AT, FLUSH_EVERY, KEPT, REASON_INDEX, SIDE_INDEX, Recorder
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire.records import Record
from tests.dataplane.house import Clock


def finished(number, app="web", **more):
    """A session as it is kept: connected after 0.5 s, over after 2."""
    fields = {
        "number": number, "app": app, "listener": "127.0.0.1:80", "address": ("127.0.0.1", 4711), "target": "t0",
        "tried": (), "started": 1000.0, "connected": 1000.5, "ended": 1002.0, "up": 3, "down": 4,
        "reason": REASON_INDEX[Reason.TARGET_RESET], "side": SIDE_INDEX[Side.TARGET], "code": errno.ECONNRESET,
        "error": "", "tls": (), "origin": None,
    }  # fmt: skip
    return tuple({**fields, **more}.values())


def numbers(records):
    return [int(record["id"].removeprefix("w1-")) for record in records]


class Rig:
    def __init__(self, logs=AccessLogs(format="json")):  # noqa: B008  it is frozen
        self.clock = Clock()
        self.loop = Loop("test", self.clock)
        self.read_fd, write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self.warnings = []
        self.recorder = Recorder(self.loop, write_fd, "w1", self.warnings.append, logs)
        self.begun = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.recorder.close(0.0)
        self.loop.close()
        os.close(self.read_fd)

    def after_half_a_second(self):
        self.loop.run_once(0)
        self.clock.now += FLUSH_EVERY + 0.01
        self.loop.run_once(0)

    def read_text(self):
        """Everything, as it is."""
        return os.read(self.read_fd, 1 << 16).decode()

    def read(self):
        got = []
        while True:
            try:
                data = os.read(self.read_fd, 1 << 16)
            except BlockingIOError:
                return got
            *whole, self.begun = (self.begun + data).split(b"\n")
            got += map(json.loads, whole)


def test_a_batch_is_written_after_half_a_second():
    with Rig() as rig:
        rig.recorder.add(finished(1))
        rig.recorder.add(finished(2))
        rig.loop.run_once(0)
        assert rig.read() == []
        rig.clock.now += FLUSH_EVERY + 0.01
        rig.loop.run_once(0)
        assert numbers(rig.read()) == [1, 2]


def test_lines_of_apps_with_logs_of_their_own_say_where_they_belong():
    """In the format of that log; what goes on where the last batch has ended comes first, and nothing is said of it."""
    logs = AccessLogs("usual", "json", (("own", "a\nb", "text"), ("quiet", "", "json"), ("text", "usual", "text")))
    with Rig(logs) as rig:
        for number, app in enumerate(("web", "own", "quiet", "text", "own", "web")):
            rig.recorder.add(finished(number, app))
        rig.after_half_a_second()
        lines = rig.read_text().splitlines()
        assert [(line[0], "id=w1-3" in line) for line in lines[:3]] == [("{", False), ("2", True), ("{", False)]
        assert lines[3] == '\x01"a\\nb"'
        assert [line.split()[1] for line in lines[4:]] == ["id=w1-1", "id=w1-4"]
        rig.recorder.add(finished(6))
        rig.recorder.add(finished(7, "own"))
        rig.after_half_a_second()
        own, mark, usual = rig.read_text().splitlines()
        assert "id=w1-7" in own
        assert (mark, json.loads(usual)["id"]) == ('\x01"usual"', "w1-6")


def test_with_a_log_of_one_app_alone_the_others_write_nothing():
    with Rig(AccessLogs("", "json", (("own", "a", "json"),))) as rig:
        rig.recorder.add(finished(1))
        rig.recorder.add(finished(2, "own"))
        rig.after_half_a_second()
        mark, line = rig.read_text().splitlines()
        assert (mark, json.loads(line)["id"]) == ('\x01"a"', "w1-2")


def test_many_records_do_not_wait():
    with Rig() as rig:
        for number in range(FLUSH_AT + 1):
            rig.recorder.add(finished(number))
        rig.loop.run_once(0)
        rig.loop.run_once(0)
        assert numbers(rig.read()) == list(range(FLUSH_AT + 1))


def test_threads_add_side_by_side_and_nothing_is_lost():
    with Rig() as rig:
        add = lambda n: [rig.recorder.add(finished(n * 10_000 + i)) for i in range(2000)]  # noqa: E731
        threads = [threading.Thread(target=add, args=(n,), name=f"adder-{n}") for n in range(4)]
        for thread in threads:
            thread.start()
        got = []
        while any(thread.is_alive() for thread in threads):
            rig.loop.run_once(0.001)
            got += rig.read()
        for thread in threads:
            thread.join()
        rig.clock.now += 1.0
        rig.loop.run_once(0)
        rig.loop.run_once(0)
        got += rig.read()
        for _ in range(100):
            rig.clock.now += 1.0
            rig.loop.run_once(0)
            got += rig.read()
        assert len(got) == 8000
        for n in range(4):
            mine = [number - n * 10_000 for number in numbers(got) if number // 10_000 == n]
            assert mine == list(range(2000))


def test_what_nobody_reads_is_dropped_counted_and_said_once():
    with Rig() as rig:
        big = "x" * 4096
        for number in range(2 * record.MAX_WAITING // 4096):
            rig.recorder.add(finished(number, f"{number}{big}"))
            if len(rig.recorder._records) >= FLUSH_AT:
                rig.loop.run_once(0)
                rig.loop.run_once(0)
        assert rig.recorder.dropped > 0
        assert len(rig.warnings) == 1
        assert len(rig.recorder._out) < record.MAX_WAITING + FLUSH_AT * 5000


def test_a_second_close_does_nothing_to_whoever_has_the_number_now():
    with Rig() as rig:
        rig.recorder.close(1.0)
        others = os.pipe()
        rig.recorder.close(1.0)
        for fd in others:
            os.fstat(fd)
            os.close(fd)


def test_close_writes_what_waits():
    rig = Rig()
    rig.recorder.add(finished(9))
    rig.recorder.close(1.0)
    assert numbers(map(json.loads, os.read(rig.read_fd, 1 << 16).splitlines())) == [9]
    rig.loop.close()
    os.close(rig.read_fd)


def test_a_reader_that_is_gone_is_one_warning():
    rig = Rig()
    os.close(rig.read_fd)
    rig.recorder.add(finished(1))
    rig.recorder.close(1.0)
    assert len(rig.warnings) == 1
    rig.loop.close()


# -- the last ones


def test_the_last_ten_thousand_are_kept_without_a_pipe():
    loop = Loop("test")
    recorder = Recorder(loop, None, "w1", lambda text: None)
    for number in range(KEPT + 500):
        recorder.add(finished(number))
    assert recorder.find(499) is None
    assert [Record(*recorder.find(number)).id for number in (500, KEPT + 499)] == ["w1-500", f"w1-{KEPT + 499}"]
    recorder.close(1.0)
    loop.close()


def test_a_record_says_what_is_kept_in_words():
    with Rig() as rig:
        rig.recorder.add(finished(7, tried=(("t1", "ECONNREFUSED"),)))
        record = Record(*rig.recorder.find(7))
        assert record[:8] == ("w1-7", "web", "127.0.0.1:80", "127.0.0.1:4711", "t0", (("t1", "ECONNREFUSED"),), 0.5, 2.0)
        assert record[8:13] == (3, 4, "target", "target_reset", "ECONNRESET")
        assert abs(record.ended_at - time.time() - 2) < 1
        rig.recorder.add(finished(8, connected=-1.0, code=0))
        assert [Record(*rig.recorder.find(8)).connect_seconds, Record(*rig.recorder.find(8)).errno] == [-1.0, ""]


def test_the_collector_need_not_follow_what_is_kept():
    with Rig() as rig:
        kept = finished(1)
        rig.recorder.add(kept)
        gc.collect()
        assert not gc.is_tracked(kept)


def test_those_that_ended_since_are_told_once_and_the_newest_of_many():
    with Rig() as rig:
        assert rig.recorder.since(-1, 10) == ([], 0, 0)
        for number in (3, 1, 2):
            rig.recorder.add(finished(number))
        assert rig.recorder.since(-1, 10) == ([], 2, 0)

        def told(after, most=10):
            found, newest, left_out = rig.recorder.since(after, most)
            return [Record(*one).id for one in found], newest, left_out

        assert told(0) == (["w1-3", "w1-1", "w1-2"], 2, 0)
        assert told(3) == (["w1-1", "w1-2"], 2, 0)
        assert told(3, most=1) == (["w1-2"], 2, 1)
        assert told(2) == ([], 2, 0)
        assert told(99) == told(0), "one that is not kept any more"


def test_lines_of_requests_and_records_of_sessions_go_in_their_order():
    """A line that is written already goes as it is; where logs are sorted, or not text, none is."""
    with Rig(AccessLogs("usual", "text")) as rig:
        said = rig.recorder.usual.said(b"GET / HTTP/1.1", b"", b"", b"a")
        for number in (1, 2):
            rig.recorder.usual.add("::1", said, "web", "t0", "w1-7-", number, 200, 0, 5, 0.25, "done", 1e9)
            rig.recorder.add(finished(number))
        rig.after_half_a_second()
        lines = rig.read_text().splitlines()
        assert [line.partition(" id=")[2].split()[0] for line in lines] == ["w1-7-1", "w1-1", "w1-7-2", "w1-2"]
    for logs in (AccessLogs("usual", "json"), AccessLogs("usual", "text", (("own", "a", "text"),))):
        with Rig(logs) as rig:
            assert rig.recorder.usual is None


def test_enough_lines_are_sent_away_before_their_time():
    with Rig(AccessLogs("usual", "text")) as rig:
        said = rig.recorder.usual.said(b"GET / HTTP/1.1", b"", b"", b"a")
        for number in range(FLUSH_AT):
            rig.recorder.usual.add("::1", said, "web", "t0", "w1-7-", number, 200, 0, 5, 0.25, "done", 1e9)
        rig.loop.run_once(0)
        assert rig.read_text().count("\n") == FLUSH_AT
