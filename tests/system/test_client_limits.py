"""Limits of rates and by client in the running program, over two workers: exact, and nothing is held by the dead."""

import os
import signal
import time

from kit.api import Api, api_config
from kit.ctl import Ctl
from kit.dialogue import GET, OK, OK_PASSED, head
from kit.origin import Origin
from kit.waiting import wait_until
from tests.system.test_limits import close, pairs
from tests.system.test_reload import Config

SLOW = 0.001  # a second: nobody gets another token in a test


def outcomes(program, server, count, inside):
    """What so many clients at once get, of whom so many are to be inside."""
    clients = [program.connect() for _ in range(count)]
    ends = [server.accept() for _ in range(inside)]
    for end in ends:
        end.send(b"welcome")
    found = [client.read_first() for client in clients]
    assert sorted(found) == [b""] * (count - inside) + [b"welcome"] * inside
    return clients, ends


def test_a_storm_over_two_workers_gets_exactly_the_sessions_that_a_client_may_have(proxy, target):
    server = target()
    program = proxy(targets=[server], limits={"sessions_per_client": 12}, top={"workers": 2})
    for round_ in range(3):
        clients, ends = outcomes(program, server, 40, 12)
        for one in (*ends, *clients):
            one.close()
        records = program.records(40 * (round_ + 1))
    assert {record["error"] for record in records if record["reason"] == "limit"} == {
        "it has as many sessions as limits.sessions_per_client allows (12)"
    }
    assert not server.has_client(0)


def test_a_storm_over_two_workers_gets_exactly_the_tokens_that_there_are(proxy, target):
    server = target()
    limits = {"rate": SLOW, "burst": 15, "rate_per_client": SLOW, "burst_per_client": 10}
    program = proxy(targets=[server], limits=limits, top={"workers": 2, "api": api_config()})
    outcomes(program, server, 40, 10)
    api = Api.of(program)
    counted = api.get("/api/v1/statistics").json["apps"]["app"]["limits"]
    assert counted["refused"] == {"rate": 0, "rate_per_client": 30, "sessions_per_client": 0}
    rates = {one["limit"]: one for one in api.get("/api/v1/limits").json["rates"]}
    assert rates["rate_per_client"] == {"app": "app", "limit": "rate_per_client", "most": SLOW, "refused": 30}
    assert 'tcp_proxy_app_limited_total{app="app",limit="rate_per_client"} 30.0' in api.get("/metrics").text
    shown = Ctl.of(program)("status").text
    assert "limits: 30 refused by rate_per_client" in shown
    assert "rate_per_client" in Ctl.of(program)("limits").text


def test_the_requests_of_a_client_move_no_more_bytes_than_it_may_over_both_workers(http, servers):
    """Several connections, up and down at once; every byte comes."""
    rate, size, count = 300_000, 120_000, 4
    body = bytes(range(250)) * (size // 250)
    request = b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
    origin = servers.enter_context(Origin())
    limits = {"bytes_per_second": 250_000, "bytes_per_second_per_client": rate}
    program = http(origin, limits=limits, top={"workers": 2})
    begun = time.monotonic()
    clients = [program.connect() for _ in range(count)]
    for client in clients:
        client.send(request + body)
    for client in clients:
        assert client.read_to_end().endswith(body)
    seconds = time.monotonic() - begun
    assert count * size <= rate + rate * seconds + count * 4 * 4096


def test_what_a_worker_that_dies_had_is_its_clients_again(proxy, target):
    server = target()
    program = proxy(targets=[server], limits={"sessions_per_client": 3}, top={"workers": 2})
    program.uncounted = None  # who is with a worker that is killed has no record
    for _ in range(3):
        held = pairs(program, server, 3)
        program.connect().expect_rst()
        before = program.workers()
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        for pair in held:
            for end in pair:
                end.read_to_end()
        wait_until(lambda gone=before: len({*program.workers()} - {*gone}) == 2, "two other workers")


def test_those_who_wait_for_their_turn_are_served_in_the_order_in_which_they_came(proxy, target):
    server = target()
    limits = {"rate": 50, "burst": 1, "action": "delay"}
    program = proxy(targets=[server], limits=limits, top={"workers": 2})
    clients = [program.connect().send(b"%02d" % number) for number in range(12)]
    ends = [server.accept() for _ in clients]
    assert sorted(end.read_first() for end in ends) == [b"%02d" % number for number in range(12)]
    for one in (*ends, *clients):
        one.close()
    assert {record["reason"] for record in program.records(12)} == {"done"}


def test_a_reload_sets_the_limit_for_those_who_are_there_and_takes_it_away(proxy, service):
    program = proxy(targets=[service(greeting=b"hi")], top={"workers": 2})
    program.uncounted = None
    file = Config(program)
    for _ in range(4):
        program.connect().expect(b"hi")
    greeted = lambda: program.connect().read_first() == b"hi"  # noqa: E731
    file.app["limits"] = {"sessions_per_client": 4}
    assert any("limits.sessions_per_client: 0 -> 4" in line for line in file.reload())
    wait_until(lambda: not greeted(), "those who are there are counted")
    file.app["limits"] = {"sessions_per_client": 9999}
    file.reload()
    wait_until(greeted, "room for one more")
    del file.app["limits"]
    file.reload()
    assert greeted()


def test_clients_of_another_proxy_are_limited_by_the_address_in_the_header(proxy, target):
    server = target()
    program = proxy(
        targets=[server], limits={"sessions_per_client": 1}, top={"workers": 2},
        accept_proxy={"from": ["127.0.0.0/8"]},
    )  # fmt: skip
    header = b"PROXY TCP4 192.0.2.%d 192.0.2.100 5000 80\r\n"
    held = []
    for last in (1, 2, 3):
        client = program.connect().send(header % last + b"x")
        held.append((client, server.accept().expect(b"x")))
    program.connect().send(header % 2).expect_rst()
    close(held.pop(1))
    program.records(2)
    program.connect().send(header % 2 + b"again")
    server.accept().expect(b"again")


def test_requests_above_the_rate_are_answered_with_429_and_the_connection_goes_on(http, service):
    """On whichever worker they come; a request with a body is the last one of its connection."""
    limits = {"rate_per_client": SLOW, "burst_per_client": 3}
    server = service(answer=lambda _request: OK)
    program = http(server, limits=limits, top={"workers": 2, "access_log": "access.log"})
    program.uncounted = None
    clients = [program.connect() for _ in range(3)]
    for client in clients:
        client.send(GET).expect(OK_PASSED)
    for client in clients * 2:
        client.send(GET)
        answer = head(client) + client.receive_line()
        assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert b"\r\nRetry-After: 1000\r\n" in answer
        assert answer.endswith(b"429 Too Many Requests: it is above limits.rate_per_client (0.001/s)\n")
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde")
    assert b"\r\nConnection: close\r\n" in head(client)
    records = [one for one in program.records(10) if one["status"] == 429]
    assert {(one["reason"], one["target"]) for one in records} == {("limit", "")}


def test_a_connection_of_mode_http_counts_as_a_session_of_its_client(http, target):
    server = target()
    program = http(server, limits={"sessions_per_client": 1})
    client = program.connect().send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED)
    program.connect().expect_rst()
    client.close()
    asked_of_us = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"
    wait_until(lambda: program.connect().send(asked_of_us).read_first(), "a place")


def test_the_sessions_of_a_client_move_no_more_bytes_than_it_may_over_both_workers(proxy, target):
    """And all of them in the end: nothing is reset."""
    server, rate, size = target(), 200_000, 150_000
    limits = {"bytes_per_second": 150_000, "bytes_per_second_per_client": rate}
    program = proxy(targets=[server], limits=limits, top={"workers": 2})
    begun = time.monotonic()
    held = pairs(program, server, 3)
    sent = bytes(range(250)) * (size // 250)
    for client, _ in held:
        client.send(sent)
    for client, end in held:
        end.expect(sent)
        client.send(b"the end").fin()
    seconds = time.monotonic() - begun
    a_turn_of_each = 3 * 4 * 4096
    assert 3 * size <= rate + rate * seconds + a_turn_of_each
    for client, end in held:
        end.expect(b"the end").expect_fin()
        close((client, end))
    assert {record["reason"] for record in program.records(3)} == {"done"}
