"""Reloads at the worst moments: what an attack on them found, and must not find again."""

import os
import signal

from kit.waiting import wait_until
from tests.system.test_reload import Config


def greeted(program, count, patience=0.5):
    """How many of so many new clients are served."""
    clients = [program.connect() for _ in range(count)]
    return sum(is_served(client, patience) for client in clients)


def is_served(client, patience):
    client.sock.settimeout(patience)
    try:
        return client.sock.recv(1) != b""
    except (ConnectionResetError, TimeoutError):
        return False


def test_a_worker_that_dies_before_it_knows_of_a_limit_gives_back_no_tokens(proxy, service):
    """Its sessions began without any: to write them into the new semaphore would raise the limit for ever."""
    echo = service(greeting=b"x")
    program = proxy(targets=[echo], top={"workers": 1})
    program.uncounted = None
    file = Config(program)
    assert greeted(program, 5) == 5
    (worker,) = program.workers()
    os.kill(worker, signal.SIGSTOP)
    file.app["targets"] = [{"address": echo.address, "max_connections": 2}]
    file.write()
    program.signal(signal.SIGHUP)
    program.wait_log("max_connections: 0 -> 2")
    os.kill(worker, signal.SIGKILL)
    program.wait_log("done, 1 change")
    wait_until(lambda: program.workers() not in ([], [worker]), "another worker")
    assert greeted(program, 6) == 2
    program.baseline.clear()
