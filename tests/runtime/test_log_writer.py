"""The log's own thread: nothing that standard error does is felt by who logs, and every line is accounted for."""

import contextlib
import os
import pathlib
import resource
import select
import signal
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.waiting import PATIENCE, wait_until
from tcp_proxy.runtime.log_writer import MOST_WAITING, LogStream, LogWriter


def notice(count):
    return b"missing %d\n" % count


@contextlib.contextmanager
def writing(fd):
    writer = LogWriter(fd, notice)
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()


@pytest.fixture
def pipe():
    """(read end, write end) of a pipe that is closed in the end, which frees a thread that waits for it."""
    ends = list(os.pipe())
    yield ends
    for fd in ends:
        os.close(fd)


def fill(fd):
    """Until nothing more goes in; how many bytes."""
    os.set_blocking(fd, False)
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            total += os.write(fd, b"-" * 4096)
    os.set_blocking(fd, True)
    return total


def read(fd, size):
    found = b""
    while len(found) < size:
        assert select.select([fd], [], [], PATIENCE)[0], f"{len(found)} of {size} bytes"
        found += os.read(fd, size - len(found))
    return found


def accounted(data):
    """How many lines there are, and how many are said to be missing."""
    lines = data.splitlines()
    missing = [int(line.split()[1]) for line in lines if line.startswith(b"missing ")]
    return len(lines) - len(missing), sum(missing)


def test_lines_come_in_order(pipe):
    with writing(pipe[1]) as writer:
        lines = [b"line %d\n" % number for number in range(1000)]
        for line in lines:
            writer.put(line)
        assert read(pipe[0], len(b"".join(lines))) == b"".join(lines)
        assert writer.flush(PATIENCE)


def test_what_is_dropped_is_counted_in_its_place(pipe):
    """Three times as much as there is room for, then a reader: first what waited, then the count, then what came later."""
    filled = fill(pipe[1])
    with writing(pipe[1]) as writer:
        count = 3 * MOST_WAITING // 64
        for number in range(count):
            writer.put(b"%063d\n" % number)
        assert not writer.flush(0)
        read(pipe[0], filled)
        found = b""
        while b"missing" not in found or not found.endswith(b"\n"):
            found += os.read(pipe[0], 65536)
        writer.put(b"later\n")
        assert read(pipe[0], 6) == b"later\n"
    lines = found.splitlines()
    kept, missing = accounted(found)
    assert kept + missing == count
    assert kept <= MOST_WAITING // 64 + 64, "and one chunk is in the thread's hands"
    assert lines[:-1] == [b"%063d" % number for number in range(kept)]


def test_the_memory_is_bounded_and_room_comes_back_by_halves(pipe):
    """So that a slow reader does not find a count after every other line."""
    filled = fill(pipe[1])
    with writing(pipe[1]) as writer:
        for _ in range(2 * MOST_WAITING // 1024):
            writer.put(b"x" * 1023 + b"\n")
        assert writer._size <= MOST_WAITING
        read(pipe[0], filled)
        seen = 0
        while writer._size > MOST_WAITING // 2:
            seen += len(os.read(pipe[0], 4096))
            writer.put(b"y\n")
        assert sum(isinstance(one, int) for one in writer._waiting) <= 1
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(pipe[0], False)
            while True:
                os.read(pipe[0], 65536)


def test_a_reader_that_went_away_costs_nothing_but_the_lines(pipe):
    with writing(pipe[1]) as writer:
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, pipe[0])
        os.close(nowhere)
        for _ in range(1000):
            writer.put(b"x\n")
        assert writer.flush(PATIENCE), "hopeless is over, too"
        assert writer._waiting == writer._waiting.__class__([1000])


def test_a_full_disk_is_counted_and_said_when_there_is_room_again(tmp_path):
    """A file that may not grow stands for the disk: the line that was cut gets its end, and what was lost is counted."""
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with writing(fd) as writer:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1][1]))
            writer.put(b"12345\n")
            assert writer.flush(PATIENCE)
            for number in range(5):
                writer.put(b"lost %d%s\n" % (number, b"x" * 4000))
                assert writer.flush(PATIENCE)
            assert path.read_bytes() == b"12345\nlost"
            resource.setrlimit(resource.RLIMIT_FSIZE, before[1])
            writer.put(b"again\n")
            assert writer.flush(PATIENCE)
            assert path.read_bytes() == b"12345\nlost\nmissing 5\nagain\n"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[1])
        signal.signal(signal.SIGXFSZ, before[0])
        os.close(fd)


def test_a_descriptor_that_is_none_any_more_is_no_error(tmp_path):
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.close(fd)
    with writing(fd) as writer:
        writer.put(b"x\n")
        assert writer.flush(PATIENCE)
    assert (tmp_path / "log").read_bytes() == b""


def test_one_that_somebody_made_non_blocking_is_waited_for_and_left_so(pipe):
    """It is theirs as well: a terminal's is that of every program on it."""
    filled = fill(pipe[1])
    os.set_blocking(pipe[1], False)
    with writing(pipe[1]) as writer:
        writer.put(b"x\n")
        assert not writer.flush(0)
        read(pipe[0], filled)
        assert read(pipe[0], 2) == b"x\n"
        assert not os.get_blocking(pipe[1])


def test_a_blocking_one_stays_blocking(pipe):
    with writing(pipe[1]) as writer:
        writer.put(b"x\n")
        assert writer.flush(PATIENCE)
        assert os.get_blocking(pipe[1])


def test_a_pipe_that_is_abandoned_while_full_holds_whole_lines(pipe):
    """The end of the program in the middle of everything: what was written ends with a line."""
    with writing(pipe[1]) as writer:
        for number in range(20_000):
            writer.put(b"%d %s\n" % (number, b"x" * (number % 300)))
        wait_until(lambda: not select.select([], [pipe[1]], [], 0)[1], "a full pipe")
        os.set_blocking(pipe[0], False)
        found = os.read(pipe[0], 1 << 20)
        assert found.endswith(b"\n")


LINES = st.lists(st.binary(max_size=5000).map(lambda line: line.replace(b"\n", b"") + b"\n"), max_size=60)


@given(LINES, st.integers(1, 70_000))
def test_every_byte_of_every_line_arrives(lines, size):
    """However long they are, and however slowly somebody reads."""
    ends = os.pipe()
    found = bytearray()

    def take():
        while part := os.read(ends[0], size):
            found.extend(part)

    reader = threading.Thread(target=take, name="reader")
    reader.start()
    with writing(ends[1]) as writer:
        for line in lines:
            writer.put(line)
        assert writer.flush(PATIENCE)
    writer._thread.join()
    os.close(ends[1])
    reader.join()
    os.close(ends[0])
    assert bytes(found) == b"".join(lines)


def test_many_threads_lose_nothing(pipe):
    def put(number):
        for count in range(500):
            writer.put(b"%d %d\n" % (number, count))

    with writing(pipe[1]) as writer:
        threads = [threading.Thread(target=put, args=(number,), name=f"put-{number}") for number in range(4)]
        for thread in threads:
            thread.start()
        size = sum(len(b"%d %d\n" % (number, count)) for number in range(4) for count in range(500))
        lines = [line.split() for line in read(pipe[0], size).splitlines()]
        for thread in threads:
            thread.join()
    for number in range(4):
        assert [int(count) for who, count in lines if int(who) == number] == list(range(500))


def test_the_stream_makes_lines_of_what_comes_in_parts(pipe):
    with writing(pipe[1]) as writer:
        stream = LogStream(writer)
        print("a", "b", file=stream, end="")
        stream.write("c\nd\udc80\n\nrest")
        assert read(pipe[0], 13) == b"a bc\nd\\udc80\n"
        assert read(pipe[0], 1) == b"\n"
        assert writer.flush(PATIENCE)


def test_it_shows_what_it_is(pipe):
    with writing(pipe[1]) as writer:
        assert repr(writer) == f"<LogWriter to {pipe[1]}, 0 bytes waiting>"


def test_the_file_is_not_opened_or_closed_by_it():
    source = pathlib.Path(__file__).parents[2] / "tcp_proxy" / "runtime" / "log_writer.py"
    assert "os.close" not in source.read_text()
    assert "set_blocking" not in source.read_text()
