"""A syslog server as the place of the lines: what is sent, and what is counted when it cannot be."""

import contextlib
import errno
import re
import socket

import pytest
from runtime.test_syslog import receive, texts

from kit.ports import free_port
from tcp_proxy.control.access_log.syslog import SyslogDestination
from tcp_proxy.runtime.syslog import AGAIN
from tcp_proxy.sansio.syslog import parse

LINES = [f"id={number} app=web".encode() for number in range(5)]
DATA = b"".join(line + b"\n" for line in LINES)


@contextlib.contextmanager
def destination(text):
    found = SyslogDestination(parse(text))
    try:
        yield found
    finally:
        found.close()


def test_each_line_is_a_message():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        with destination(f"syslog+udp://127.0.0.1:{udp.getsockname()[1]}?tag=edge&facility=daemon") as to:
            assert to.append(DATA, False, 100.0) == (0, None)
            messages = [receive(udp) for _ in LINES]
    assert texts(messages) == LINES
    assert all(re.match(rb"<30>1 \S+Z \S+ edge \d+ - - ", one) for one in messages)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_lines_of_a_server_that_is_not_there_are_counted_and_it_is_not_asked_all_the_time(kind, tmp_path, monkeypatch):
    where = f"127.0.0.1:{(port := free_port())}" if kind == "tcp" else f"{tmp_path}/log"
    asked = []
    with destination(f"syslog+{kind}://{where}") as to:
        connect = to._connection._connect
        monkeypatch.setattr(to._connection, "_connect", lambda: asked.append(1) or connect())
        lost, error = to.append(DATA, False, 100.0)
        assert (lost, error.errno) == (len(LINES), errno.ECONNREFUSED if kind == "tcp" else errno.ENOENT)
        assert to.append(DATA, True, 100.0 + AGAIN / 2)[0] == len(LINES)
        assert len(asked) == 1
        family = socket.AF_INET if kind == "tcp" else socket.AF_UNIX
        with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", port) if kind == "tcp" else where)
            if kind == "tcp":
                server.listen()
            assert to.append(DATA, True, 100.0 + AGAIN) == (0, None)
