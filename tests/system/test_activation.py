"""Listening sockets of a service manager: systemd's own tool starts the program, and clients wait while it is not there."""

import signal
import socket
import sys

import pytest

from kit import procfs
from kit.ports import free_port
from kit.programs import need
from kit.proxy import PROGRAM, Proxy
from kit.waiting import wait_until

# What a service manager does between fork and exec: the descriptor becomes number 3, and the variables say so.
PASS = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())}"
EXEC = "os.environ['LISTEN_FDNAMES'] = 'app'; os.execv(sys.argv[2], sys.argv[2:])"


@pytest.fixture
def program(tmp_path):
    """program(config, sock): it is passed this listening socket."""
    running = []

    def start(config, sock, ready=True):
        argv = (sys.executable, "-c", f"{PASS}; {EXEC}", str(sock.fileno()), *PROGRAM)
        one = Proxy(config, tmp_path, program=argv, passed=(sock.fileno(),))
        running.append(one)
        return one.wait_ready() if ready else one

    yield start
    for one in running:
        one.kill()


def config_of(port, target):
    apps = [{"name": "app", "ports": [port], "targets": [target.address], "health": []}]
    return {"apps": apps, "workers": 2, "shutdown_grace": 5, "access_log": None}


def ended(pids):
    wait_until(lambda: not any(procfs.is_running(pid) for pid in pids), "their end")


def exchange(client, target):
    server = target.accept()
    client.sendall(b"x")
    server.expect(b"x")
    server.send(b"y")
    assert client.recv(1) == b"y"
    client.close()
    server.close()


def test_clients_wait_while_it_is_started_anew(program, target):
    """By SIGTERM and by SIGKILL, after which an earlier life may have left something on the socket."""
    one = target()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(128)
        config = config_of(sock.getsockname()[1], one)
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
            running = program(config, sock)
            exchange(socket.create_connection(sock.getsockname(), 5), one)
            workers = running.workers()
            running.signal(number)
            running.wait()
            ended(workers)
            if number == signal.SIGTERM:
                client = socket.create_connection(sock.getsockname(), 5)
                running = program(config, sock)
                exchange(client, one)
                running.signal(signal.SIGTERM)
                assert running.wait() == 0


def test_one_that_no_app_has_is_an_error(program, target):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(128)
        running = program(config_of(free_port(), target()), sock, ready=False)
        assert running.wait() == 1
        assert "descriptor 3 (app) of LISTEN_FDS listens on 127.0.0.1:" in running.log
        assert "which app 'app' does not: write it in the app's ports" in running.log


def test_systemd_starts_it_with_the_first_client(tmp_path, target):
    one, port = target(), free_port()
    argv = (need("systemd-socket-activate"), f"--listen=127.0.0.1:{port}", "--fdname=app", *PROGRAM)
    running = Proxy(config_of(port, one), tmp_path, program=argv)
    try:
        running.wait_log("Listening on 127.0.0.1")
        client = socket.create_connection(("127.0.0.1", port), 5)
        exchange(client, one)
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
    finally:
        running.kill()
