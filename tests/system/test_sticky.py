"""Clients that stay with their target: over ports, workers, reloads, deaths of workers and restarts."""

import concurrent.futures
import socket

import pytest


@pytest.fixture
def farm(service, free_port):
    """farm(targets, ports): the listening ports, and targets that are groups; every server greets with its target's name."""

    def make(targets=4, ports=3):
        numbers = [free_port() for _ in range(ports)]
        groups = []
        for number in range(targets):
            servers = {str(port): service(greeting=f"t{number}".encode()).address for port in numbers}
            groups.append({"name": f"t{number}", "ports": servers})
        return numbers, groups

    return make


def ask(port, source="127.0.0.1", first=b"", size=2):
    """Who serves this client?"""
    with socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0)) as client:
        if first:
            client.sendall(first)
        got = b""
        while len(got) < size:
            data = client.recv(size - len(got))
            if not data:
                break
            got += data
        return got.decode()


def ask_all(pairs):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda pair: ask(*pair), pairs))


def addresses(count):
    return [f"127.7.{number // 250}.{number % 250 + 1}" for number in range(count)]


def test_a_client_stays_with_its_target(proxy, farm):
    ports, targets = farm(2, 1)
    program = proxy(targets=targets, ports=ports, sticky={})
    for source in addresses(6):
        assert len({ask(ports[0], source) for _ in range(3)}) == 1
    assert len({ask(ports[0], source) for source in addresses(6)}) == 2
    program.uncounted = None
