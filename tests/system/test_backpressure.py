"""A side that stops reading costs bounded memory, no CPU and nobody else anything; a burst starves nobody."""

import os
import socket
import statistics
import threading

import pytest

from kit import procfs
from kit.clogged import fill
from kit.exchange import exchange
from kit.peer import connect
from kit.ports import free_port
from kit.syscalls import STILL
from kit.waiting import pause, settled, wait_until


@pytest.mark.slow
def test_a_reader_that_stops_for_5_s_while_64_mib_wait(proxy, target, service):
    server_side, echo = target(), service()
    slow_port, echo_port = free_port(), free_port()
    program = proxy({
        "apps": [
            {"name": "slow", "ports": [slow_port], "targets": [server_side.address], "health": []},
            {"name": "echo", "ports": [echo_port], "targets": [echo.address], "health": []},
        ]
    })
    client, server = program.connect(slow_port), server_side.accept()
    data = os.urandom(1 << 20) * 64
    before = sum(procfs.resident(pid) for pid in program.workers())
    sender = threading.Thread(target=server.send, args=(data, 30), name="sender")
    sender.start()
    wait_until(lambda: settled(lambda: server.sent), "back-pressure")
    with program.syscalls() as during:
        pause(5)
    for _ in range(50):
        with program.connect(echo_port) as other:
            other.send(b"are you there?").expect(b"are you there?").fin().expect_fin()
    grown = sum(procfs.resident(pid) for pid in program.workers()) - before
    assert server.sent < len(data)
    assert client.receive(len(data)) == data
    sender.join()
    client.fin()
    server.expect_fin().fin()
    client.expect_fin()
    assert during.total < STILL, during.calls
    assert grown < 8 << 20, f"{grown} bytes for one session that stands still"


@pytest.mark.slow
def test_a_hundred_stopped_readers_do_not_spin(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    servers = []
    for _ in range(100):
        # Or all would take 1.5 GB of the kernel's memory for TCP, and whatever else runs on this machine would stall:
        # a sender's buffer grows with its segments, and those of loopback are of 64 KiB.
        client = program.connect(buffers=8192, segment=1460)
        servers.append(server := server_side.accept())
        server.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.send(b"x")
    for server in servers:
        server.expect(b"x")
    before = sum(procfs.resident(pid) for pid in program.workers())
    still = 0
    while still < 5:
        still = 0 if sum(fill_and_count(server) for server in servers) else still + 1
        pause(0.05)
    wait_until(lambda: are_looked_at(program, 100), "a look whether the readers are there, once in some seconds")
    with program.syscalls() as during:
        pause(1.0)
    assert during.total < STILL, during.calls
    assert sum(procfs.resident(pid) for pid in program.workers()) - before < 100 * (128 << 10)


def are_looked_at(program, sessions):
    """Whether just now: what is owed by each is asked for at once (dataplane.relay.peer_watch)."""
    with program.syscalls() as during:
        pause(0.1)
    return during.calls.get("getsockopt", 0) >= sessions


def fill_and_count(peer):
    count = fill(peer.sock)
    peer.sent += count
    return count


def test_a_stopped_direction_leaves_the_other_one_alone(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    while count := fill(client.sock):
        client.sent += count
        pause(0.02)
    for number in range(50):
        server.send(b"%d;" % number)
        client.expect(b"%d;" % number)
    client.fin()
    assert len(server.read_to_end()) == client.sent
    server.fin()
    client.expect_fin()


@pytest.mark.slow
def test_both_sides_stop_and_go_on(proxy, target):
    """Both directions full at once, then both read again: a dead lock would hang here."""
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    for peer in (client, server) * 3:
        while count := fill(peer.sock):
            peer.sent += count
            pause(0.02)
    wanted_up, wanted_down = client.sent, server.sent
    down = client.receive(wanted_down)
    up = server.receive(wanted_up)
    assert (up, down) == (b"x" * wanted_up, b"x" * wanted_down)
    assert exchange(client, b"more", [], server, b"still more", []) == (b"more", b"still more")


BURST = 200  # connections of each thread at once


@pytest.mark.slow
def test_a_burst_on_one_listener_does_not_starve_running_sessions(proxy, service):
    """Four threads connect as fast as they can; meanwhile few of their sessions begin in one round trip of a running one.

    Served after all that wait, it would be four times BURST.
    """
    echo = service()
    quiet_port, busy_port = free_port(), free_port()
    program = proxy({
        "apps": [
            {"name": "quiet", "ports": [quiet_port], "targets": [echo.address], "health": []},
            {"name": "busy", "ports": [busy_port], "targets": [echo.address], "health": []},
        ]
    })
    program.uncounted = None
    quiet = program.connect(quiet_port)
    quiet.send(b"warm").expect(b"warm")
    stop = threading.Event()
    bursts = [threading.Thread(target=burst, args=(busy_port, stop), name=f"burst-{n}") for n in range(4)]
    for thread in bursts:
        thread.start()
    begun = []
    for _ in range(300):
        before = echo.accepted
        quiet.send(b"tick").expect(b"tick")
        begun.append(echo.accepted - before)
    stop.set()
    for thread in bursts:
        thread.join()
    assert statistics.median(begun) < 2 * BURST, begun


def burst(port, stop):
    while not stop.is_set():
        peers = [connect(port).fin() for _ in range(BURST)]
        for peer in peers:
            peer.read_to_end()
            peer.close()
