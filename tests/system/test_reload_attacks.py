"""Reloads at the worst moments: what an attack on them found, and must not find again."""

import os
import pathlib
import signal

from kit import procfs
from kit.ports import free_port
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


def test_a_listener_that_is_taken_over_has_the_keepalive_of_its_new_app(proxy, service):
    echo, ports = service(), [free_port(), free_port()]
    apps = [
        {"name": name, "ports": [port], "targets": [echo.address], "timeouts": {"keepalive": seconds}, "health": []}
        for name, port, seconds in (("quick", ports[0], 10), ("slow", ports[1], 1000))
    ]
    program = proxy({"apps": apps})
    file = Config(program)
    for first, second in ((0, 1), (1, 0)):
        apps[0]["ports"], apps[1]["ports"] = [ports[first]], [ports[second]]
        file.reload()
        for port, most, least in ((ports[first], 10, 5), (ports[second], 1000, 500)):
            client = program.connect(port).send(b"x").expect(b"x")
            assert least < keepalive_left(program, port, client) <= most


def keepalive_left(program, port, client):
    """Seconds until the proxy's end of a silent client is asked whether it is there."""
    theirs = f"{int(client.address.rpartition(':')[2]):04X}"
    for line in pathlib.Path(f"/proc/{program.pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, _, timer, *_ = line.split()
        if local.endswith(f":{port:04X}") and remote.endswith(f":{theirs}"):
            kind, when = timer.split(":")
            return int(when, 16) / procfs.TICKS if kind == "02" else None
    raise AssertionError("the connection is not there")
