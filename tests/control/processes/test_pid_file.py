"""The pid file: live by its lock alone, never written before that is held, removed only when it is still ours."""

import fcntl
import os
import pathlib
import subprocess
import sys

import pytest

from tcp_proxy.control.processes.pid_file import LONGEST, PidFile, PidFileError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "proxy.pid"


@pytest.fixture
def held(path):
    pid_file = PidFile(str(path))
    pid_file.acquire()
    yield pid_file
    pid_file.release()


def refused(path):
    with pytest.raises(PidFileError) as caught:
        PidFile(str(path)).acquire()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_holds_the_pid_until_it_is_released(path):
    pid_file = PidFile(str(path))
    pid_file.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    pid_file.release()
    assert not path.exists()
    pid_file.release()


def test_a_live_one_is_an_error_that_names_the_process(path, held):
    message = refused(path)
    assert str(path) in message
    assert f"process {os.getpid()};" in message
    assert path.read_text() == f"{os.getpid()}\n", "a refused one leaves it as it was"


@pytest.mark.parametrize("old", ["", "1\n", "99999999\n", "4194304", "no pid at all\n"])
def test_a_stale_one_is_overwritten(path, old):
    """Whatever it names, and be it a process that runs: without a lock it is stale."""
    path.write_text(old)
    pid_file = PidFile(str(path))
    pid_file.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    pid_file.release()


def test_nothing_is_written_before_the_lock_is_held(path):
    path.write_text("123\n")
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "process 123" in refused(path)
    assert path.read_text() == "123\n"


def test_a_live_one_that_is_still_empty(path):
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "process unknown" in refused(path)


def test_somebody_s_file_is_left_alone(path):
    text = "a letter\n" * LONGEST
    path.write_text(text)
    assert "no pid file" in refused(path)
    assert path.read_text() == text


@pytest.mark.parametrize("place", ["/dev/null", "/dev/zero"])
def test_a_device_is_left_alone(place):
    assert "no pid file" in refused(place)
    assert pathlib.Path(place).exists()


def test_a_folder_that_is_not_there(tmp_path):
    assert "No such file" in refused(tmp_path / "no" / "proxy.pid")


def test_a_folder_in_its_place(tmp_path):
    assert "directory" in refused(tmp_path)


def test_release_leaves_another_s_file_alone(path, held):
    """Somebody removed ours and a new supervisor wrote its own."""
    path.unlink()
    path.write_text("77\n")
    held.release()
    assert path.read_text() == "77\n"


def test_release_of_one_that_is_gone(path, held):
    path.unlink()
    held.release()
    assert not path.exists()


def test_one_that_is_removed_while_we_open_it_is_made_anew(path):
    """Between our open and our lock the owner removes it: a lock on a file without a name would protect nothing."""
    first = PidFile(str(path))
    first.acquire()
    fd = os.open(path, os.O_RDWR)
    first.release()
    second = PidFile(str(path))
    second._take(fd)
    assert second._fd == -1
    os.close(fd)
    second.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    second.release()


def test_children_do_not_keep_it_alive(path, held):
    assert not os.get_inheritable(held._fd)
    command = [sys.executable, "-c", "import sys; print(sys.stdin.read())"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        held.release()
        again = PidFile(str(path))
        again.acquire()
        again.release()
        child.communicate(b"")


def test_it_dies_with_its_process(path):
    """kill -9 leaves the file and no lock."""
    code = f"""
import sys
from tcp_proxy.control.processes.pid_file import PidFile
PidFile({str(path)!r}).acquire()
print("held", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        assert f"process {child.pid};" in refused(path)
        child.kill()
        child.wait()
    assert path.read_text() == f"{child.pid}\n"
    ours = PidFile(str(path))
    ours.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    ours.release()


def test_its_repr(path, held):
    assert repr(held) == f"<PidFile {path} held>"
    held.release()
    assert repr(held) == f"<PidFile {path} not held>"


def test_a_pipe_is_left_alone(path):
    os.mkfifo(path)
    assert "no pid file" in refused(path)
    assert path.exists()
