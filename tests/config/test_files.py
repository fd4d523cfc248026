"""Files that users name: whatever they are, opening and reading ends, with what is in them or a clause that says why."""

import os
import socket
import threading

import pytest

from tcp_proxy.config.files import open_to_append, read_file


def refused(call, *args):
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        call(*args)
    return caught.value.strerror


@pytest.fixture
def fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    return str(tmp_path / "fifo")


def test_a_file_is_read_up_to_a_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert read_file(str(tmp_path / "file"), 1000) == b"x" * 100
    assert read_file(str(tmp_path / "file"), 10) == b"x" * 10
    assert read_file("/dev/zero", 10) == b"\0" * 10
    assert read_file("/dev/null", 10, 1.0) == b""


def test_what_is_no_file_says_so(tmp_path, fifo):
    assert refused(read_file, str(tmp_path), 10) == "Is a directory"
    assert refused(read_file, str(tmp_path / "none"), 10) == "No such file or directory"
    assert refused(read_file, fifo, 10) == "this is a pipe; wanted a file"


def test_a_pipe_without_a_writer_is_waited_for_no_longer_than_is_said(fifo):
    assert refused(read_file, fifo, 10, 0.05) == "this is a pipe, and neither a byte nor its end has come for 0.05 s"


def test_a_pipe_whose_writer_does_not_end_is_waited_for_no_longer_than_is_said(fifo):
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY)
    os.write(writer, b"half")
    assert refused(read_file, fifo, 10, 0.05) == "this is a pipe, and neither a byte nor its end has come for 0.05 s"
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize("parts", [[b"all of it"], [b"a" * 70_000, b"b" * 70_000], [b""]])
def test_what_comes_through_a_pipe_is_read_to_its_end(fifo, parts):
    def write():
        with open(fifo, "wb") as writer:
            for part in parts:
                writer.write(part)

    thread = threading.Thread(target=write, name="writer")
    thread.start()
    assert read_file(fifo, 1 << 20, 10.0) == b"".join(parts)
    thread.join()


def test_a_pipe_whose_writer_has_left_already(tmp_path):
    read_end, write_end = os.pipe()
    os.close(write_end)
    assert read_file(f"/dev/fd/{read_end}", 10, 10.0) == b""
    os.close(read_end)


def test_lines_are_added_to_what_is_there(tmp_path):
    path = tmp_path / "log"
    for text in (b"one\n", b"two\n"):
        fd = open_to_append(str(path))
        os.write(fd, text)
        os.close(fd)
    assert path.read_bytes() == b"one\ntwo\n"


def test_what_takes_no_lines_says_so(tmp_path, fifo):
    assert refused(open_to_append, fifo) == "this is a pipe that nobody reads"
    assert refused(open_to_append, str(tmp_path)) == "Is a directory"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        wanted = 'this is a socket; wanted a file, or "-" for standard output'
        assert refused(open_to_append, str(tmp_path / "socket")) == wanted


def test_a_pipe_that_is_read_takes_lines_and_tells_when_it_is_full(fifo):
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    fd = open_to_append(fifo)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(fd, b"x" * 4096)
    os.close(reader)
    os.close(fd)
