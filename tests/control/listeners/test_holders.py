"""Who holds a port, by its process, as far as that can be seen."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from kit.ports import free_port
from kit.waiting import wait_until
from tcp_proxy.control.listeners.holders import described, listeners_of, who_listens


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_process_that_listens_is_named(host):
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        assert listeners_of(server.getsockname()[1]) == [os.getpid()]
    assert f"process {os.getpid()} (" in described(os.getpid())


def test_nobody_holds_a_free_port():
    assert listeners_of(free_port()) == []


def test_one_that_is_stopped_is_said_to_be():
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: ", stopped)" in described(process.pid), "it is stopped")
    finally:
        process.kill()
        process.communicate()


def test_one_that_is_gone_has_no_name():
    assert described(1 << 30) == f"process {1 << 30} (unknown)"


def test_who_listens_is_a_clause():
    gone = [(1 << 30) + n for n in range(4)]
    one, two, three = (described(pid) for pid in gone[:3])
    assert who_listens([]) == "something else listens there"
    assert who_listens(gone[:1]) == f"{one} listens there"
    assert who_listens(gone) == f"{one} and {two} and {three} listen there"
