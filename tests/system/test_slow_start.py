"""A target that comes back, or is new, in the running program: its share of real sessions while it rises, and afterwards."""

import os
import signal
from collections import Counter

import pytest

from kit.api import Api, api_config
from kit.dialogue import GET, head
from kit.ports import free_port
from kit.waiting import wait_until
from tests.system.test_reload import Config

FAST = {"interval": 0.2, "timeout": 0.15}
LONG = 80_000  # seconds: within a test nobody gets further than his first twentieth


def greetings(program, count):
    return Counter(program.connect().receive(1).decode() for _ in range(count))


def known_again(program):
    """Until its worker knows that b is back."""
    wait_until(lambda: "b" in greetings(program, 25), "b has a client")


@pytest.mark.parametrize("balance", ["round_robin", "least_connections"])
def test_one_that_comes_back_begins_with_a_twentieth(proxy, service, balance):
    port = free_port()
    a, b = service(greeting=b"a"), service(greeting=b"b", port=port)
    program = proxy(targets=[a, b], health=FAST, slow_start=LONG, balance=balance, top={"workers": 2})
    program.uncounted = None
    program.wait_log(f"target {b.address} is up")
    assert min(greetings(program, 40).values()) >= 18  # at the start nobody rises
    b.close()
    program.wait_log(f"target {b.address} is down")
    service(greeting=b"b", port=port)
    program.wait_log(rf"target {b.address} is up \(was down\).*; it rises to its weight in {LONG} s")
    known_again(program)
    assert 3 <= greetings(program, 105)["b"] <= 7  # five, and one more or less in each of two workers


def test_it_rises_to_the_share_of_the_others(proxy, service):
    port = free_port()
    a, b = service(greeting=b"a"), service(greeting=b"b", port=port)
    program = proxy(targets=[a, b], health=FAST, slow_start=0.5)
    program.uncounted = None
    program.wait_log(f"target {b.address} is up")
    b.close()
    program.wait_log(f"target {b.address} is down")
    service(greeting=b"b", port=port)
    program.wait_log(rf"target {b.address} is up \(was down\)")
    wait_until(lambda: greetings(program, 10) == {"a": 5, "b": 5}, "equal shares")


def test_one_that_is_added_while_it_serves_rises_in_old_workers_and_new_ones(proxy, service):
    a, b = service(greeting=b"a"), service(greeting=b"b")
    program = proxy(targets=[a], slow_start=LONG, top={"api": api_config()})
    program.uncounted = None
    Api.of(program).post("/api/v1/apps/app/targets", {"address": b.address}, status=201)
    assert greetings(program, 105)["b"] == pytest.approx(5, abs=1)
    (old,) = program.workers()
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: program.workers() not in ([], [old]), "another worker")
    assert greetings(program, 105)["b"] == pytest.approx(5, abs=1)
    file = Config(program)
    file.app["slow_start"] = 0
    file.reload()
    assert min(greetings(program, 40).values()) >= 17


def test_requests_come_to_it_slowly_too(http, service):
    a, b = service(answer=answering(b"a")), service(answer=answering(b"b"))
    program = http(a, slow_start=LONG, top={"api": api_config()})
    Api.of(program).post("/api/v1/apps/app/targets", {"address": b.address}, status=201)
    client, got = program.connect(), Counter()
    for _ in range(105):
        client.send(GET)
        head(client)
        got[client.receive(1).decode()] += 1
    assert got["b"] == pytest.approx(5, abs=1)


def answering(body):
    return lambda _request: b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + body
