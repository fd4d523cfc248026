"""The socket where programs that want to take over come."""

import errno
import os
import socket

import pytest

from tcp_proxy.config.load import load_text
from tcp_proxy.control.takeover.listener import AGAIN, TakeoverSocket, path_of
from tcp_proxy.runtime.loop import Loop


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.close()


def never():
    raise AssertionError("nobody is to come as far as that")


def test_it_takes_the_place_of_what_a_killed_program_left_and_is_removed(loop, tmp_path):
    path = tmp_path / "pid.takeover"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(str(path))
    one = TakeoverSocket(loop, str(path), never)
    one.start()
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["pid.takeover"]
    one.stop()
    assert os.listdir(tmp_path) == []


def test_the_socket_of_a_successor_is_left_alone(loop, tmp_path):
    path = tmp_path / "pid.takeover"
    one, other = (TakeoverSocket(loop, str(path), never) for _ in range(2))
    one.start()
    other.start()
    one.stop()
    assert path.exists()
    other.stop(is_given=True)
    assert path.exists(), "whose it is removes it"


def test_a_place_that_is_none_is_a_warning(loop, tmp_path, caplog):
    one = TakeoverSocket(loop, str(tmp_path / "none" / "pid.takeover"), never)
    one.start()
    one.stop()
    assert "nobody can take over from this program" in caplog.text


def test_another_user_may_not_come(loop, tmp_path, caplog, monkeypatch):
    path = tmp_path / "pid.takeover"
    one = TakeoverSocket(loop, str(path), never)
    one.start()
    monkeypatch.setattr(socket.socket, "getsockopt", lambda *_: b"\x07\0\0\0\xff\xff\0\0\0\0\0\0")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(path))
        loop.run_once(1)
        assert client.recv(100) == b""
    one.stop()
    assert "process 7 of user 65535 may not take over" in caplog.text


def test_without_a_descriptor_who_comes_waits_and_the_loop_does_not_spin(tmp_path, monkeypatch):
    now, asked = [100.0], []
    loop, path = Loop("test", lambda: now[0]), tmp_path / "pid.takeover"
    one = TakeoverSocket(loop, str(path), never)
    one.start()

    def accept(_sock):
        asked.append(now[0])
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket.socket, "accept", accept)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(path))
        for _ in range(5):
            loop.run_once(0)
        assert asked == [100.0]
        now[0] += AGAIN
        for _ in range(5):
            loop.run_once(0)
        assert asked == [100.0, 100.0 + AGAIN]
        one.stop()
        now[0] += AGAIN
        loop.run_once(0)
    loop.close()


def test_beside_the_pid_file_or_the_state_file():
    apps = '"apps": [{"name": "a", "ports": [1], "targets": ["127.0.0.1:2"]}]'
    paths = [path_of(load_text(f"{{{top}{apps}}}".encode(), "file")) for top in ("", '"state": "s", ', '"pid_file": "p", ')]
    assert [os.path.basename(path) for path in paths] == ["", "s.takeover", "p.takeover"]
