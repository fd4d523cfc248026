"""Records reach the pipe in batches, in order, from any thread; when nobody reads they are dropped and counted."""

import os
import threading

from tcp_proxy.dataplane import record
from tcp_proxy.dataplane.record import FLUSH_AT, FLUSH_EVERY, Recorder
from tcp_proxy.loop import Loop
from tcp_proxy.records import FrameReader
from tests.dataplane.house import Clock


class Rig:
    def __init__(self):
        self.clock = Clock()
        self.loop = Loop("test", self.clock)
        self.read_fd, write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self.warnings = []
        self.recorder = Recorder(self.loop, write_fd, "w1", self.warnings.append)
        self.frames = FrameReader()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.recorder.close(0.0)
        self.loop.close()
        os.close(self.read_fd)

    def read(self):
        got = []
        while True:
            try:
                data = os.read(self.read_fd, 1 << 16)
            except BlockingIOError:
                return got
            got += self.frames.feed(data)


def test_a_batch_is_written_after_half_a_second():
    with Rig() as rig:
        rig.recorder.add(("a", 1))
        rig.recorder.add(("b", 2))
        rig.loop.run_once(0)
        assert rig.read() == []
        rig.clock.now += FLUSH_EVERY + 0.01
        rig.loop.run_once(0)
        assert rig.read() == [("a", 1), ("b", 2)]


def test_many_records_do_not_wait():
    with Rig() as rig:
        for number in range(FLUSH_AT + 1):
            rig.recorder.add((number,))
        rig.loop.run_once(0)
        rig.loop.run_once(0)
        assert rig.read() == [(number,) for number in range(FLUSH_AT + 1)]


def test_threads_add_side_by_side_and_nothing_is_lost():
    with Rig() as rig:
        threads = [
            threading.Thread(target=lambda n=n: [rig.recorder.add((n, i)) for i in range(2000)], name=f"adder-{n}")
            for n in range(4)
        ]
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
        for _ in range(10):
            rig.clock.now += 1.0
            rig.loop.run_once(0)
            got += rig.read()
        assert len(got) == 8000
        for n in range(4):
            assert [i for who, i in got if who == n] == list(range(2000))


def test_what_nobody_reads_is_dropped_counted_and_said_once():
    with Rig() as rig:
        big = "x" * 4096
        for number in range(2 * record.MAX_WAITING // 4096):
            rig.recorder.add((f"{number}{big}",))  # marshal writes one string only once
            if len(rig.recorder._records) >= FLUSH_AT:
                rig.loop.run_once(0)
                rig.loop.run_once(0)
        assert rig.recorder.dropped > 0
        assert len(rig.warnings) == 1
        assert len(rig.recorder._out) < record.MAX_WAITING + FLUSH_AT * 5000


def test_close_writes_what_waits():
    rig = Rig()
    rig.recorder.add(("last",))
    rig.recorder.close(1.0)
    assert rig.frames.feed(os.read(rig.read_fd, 1 << 16)) == [("last",)]
    rig.loop.close()
    os.close(rig.read_fd)


def test_a_reader_that_is_gone_is_one_warning():
    rig = Rig()
    os.close(rig.read_fd)
    rig.recorder.add(("lost",))
    rig.recorder.close(1.0)
    assert len(rig.warnings) == 1
    rig.loop.close()
