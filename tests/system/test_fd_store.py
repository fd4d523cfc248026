"""Listening sockets that a service manager keeps (FDSTORE): who connects while nobody runs is served by the next program."""

import contextlib
import signal
import socket

import pytest

from kit import procfs
from kit.fd_store import KeepingManager
from kit.ports import free_port
from kit.takeover import TOP, Succession
from kit.waiting import PATIENCE, wait_until
from tests.system.test_reload import Config


@pytest.fixture
def manager(tmp_path, servers):
    made = KeepingManager(tmp_path)
    servers.callback(made.close)
    return made


def config_of(target, *ports, **more):
    apps = [{"name": "app", "ports": list(ports), "targets": [target.address], "health": []}]
    return {"apps": apps, "workers": 2, "shutdown_grace": 5, "access_log": None, **more}


def names(*ports):
    return [f"listener/127.0.0.1/{port}" for port in ports]


def end(program, number):
    """It and its workers: nobody has the socket but the manager."""
    workers = program.workers()
    program.signal(number)
    program.wait()
    wait_until(lambda: not any(map(procfs.is_running, workers)), "their end")


def client_of(port):
    """It is connected, and has asked."""
    client = socket.create_connection(("127.0.0.1", port), PATIENCE)
    client.sendall(b"x")
    return client


def is_served(client, target):
    with target.accept() as server, client:
        server.expect(b"x").send(b"y")
        assert client.recv(1) == b"y"


def is_reset(client):
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)


def is_refused(port):
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        return False
    return True


def test_who_connects_while_nobody_runs_is_served_by_the_next_program(manager, target, tmp_path, servers):
    """After a crash and after an end, again and again; what is kept stays so, and is not told anew."""
    one, port = target(), free_port()
    program = manager.start(config_of(one, port), tmp_path, servers=servers)
    manager.wait_kept(*names(port))
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        is_served(client_of(port), one)
        end(program, number)
        waiting = client_of(port)
        program = manager.start(config_of(one, port), tmp_path, servers=servers)
        is_served(waiting, one)
    assert (manager.count("FDSTORE"), manager.count("FDSTOREREMOVE"), manager.names) == (1, 0, names(port))
    assert program.stop() == 0


def test_what_is_no_longer_configured_is_closed_and_no_longer_kept(manager, target, tmp_path, servers):
    """So that another address of its port can be bound at once."""
    one, (stays, leaves, moves) = target(), [free_port() for _ in range(3)]
    program = manager.start(config_of(one, stays, leaves, moves), tmp_path, servers=servers)
    manager.wait_kept(*names(stays, leaves, moves))
    end(program, signal.SIGKILL)
    waiting, reset = client_of(stays), [client_of(leaves), client_of(moves)]
    config = config_of(one, stays)
    config["apps"].append({**config["apps"][0], "name": "other", "ports": [moves], "bind": "0.0.0.0"})
    program = manager.start(config, tmp_path, servers=servers)
    for client in reset:
        is_reset(client)
    is_served(waiting, one)
    is_served(client_of(moves), one)
    manager.wait_kept(*names(stays), f"listener/0.0.0.0/{moves}")
    assert is_refused(leaves)
    assert program.stop() == 0


def test_a_reload_keeps_what_is_new_and_gives_up_what_is_gone(manager, target, tmp_path, servers):
    one, (stays, leaves, comes) = target(), [free_port() for _ in range(3)]
    program = manager.start(config_of(one, stays, leaves), tmp_path, servers=servers)
    manager.wait_kept(*names(stays, leaves))
    file = Config(program)
    file.app["ports"] = [stays, comes]
    file.reload()
    manager.wait_kept(*names(stays, comes))
    assert is_refused(leaves)
    end(program, signal.SIGKILL)
    waiting = [client_of(stays), client_of(comes)]
    program = manager.start(file.config, tmp_path, servers=servers)
    for client in waiting:
        is_served(client, one)
    assert program.stop() == 0


def test_an_app_that_refuses_while_it_has_no_primary_is_not_kept(manager, target, tmp_path, servers):
    one, port = target(), free_port()
    config = config_of(one, port)
    config["apps"][0] |= {"balance": "failover", "failover": {"while_electing": "refuse"}}
    program = manager.start(config, tmp_path, servers=servers)
    wait_until(lambda: not is_refused(port), "there is a primary")
    end(program, signal.SIGKILL)
    assert is_refused(port)
    assert manager.names == []


def test_after_a_take_over_the_new_program_says_what_is_kept(manager, target, tmp_path, servers):
    one, (stays, leaves, comes) = target(), [free_port() for _ in range(3)]
    old = manager.start(config_of(one, stays, leaves, **TOP), tmp_path, servers=servers)
    manager.wait_kept(*names(stays, leaves))
    new = Succession(old, servers).upgrade(config_of(one, stays, comes, **TOP))
    manager.wait_kept(*names(stays, comes))
    assert manager.count("FDSTORE") == 3
    assert is_refused(leaves)
    end(new, signal.SIGKILL)
    waiting = [client_of(stays), client_of(comes)]
    program = manager.start(config_of(one, stays, comes, **TOP), tmp_path, servers=servers)
    for client in waiting:
        is_served(client, one)
    assert program.stop() == 0
