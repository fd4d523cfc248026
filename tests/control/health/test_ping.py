"""The ping check: real ICMP, both families, both kinds of sockets, with and without the right to send it."""

import contextlib
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys

import pytest

from kit.programs import need
from kit.waiting import PATIENCE, wait_until
from tcp_proxy.config.model import Check
from tcp_proxy.config.target_model import Source
from tcp_proxy.control.health import ping
from tcp_proxy.runtime.loop import MAX_EVENTS
from tests.control.health.bench import Bench, in_own_network, no_descriptors, sockets

V4, V6 = (socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0, 0, 0))
EVERYBODY = {"ipv4__ping_group_range": "0 2147483647"}
NOBODY = {"ipv4__ping_group_range": "1 0"}
MUTE = {"ipv4__icmp_echo_ignore_all": "1"}
ECHO_REPLY, ECHO_REQUEST = 0, 8


def probe(bench, endpoint, **check):
    return bench.result_of(ping.start, endpoint, Check(type="ping", **check))


def may_ping():
    return ping.permission_error() is None


@pytest.mark.skipif(not may_ping(), reason="this user may not send ICMP")
@pytest.mark.parametrize(("endpoint", "host"), [(V4, "127.0.0.1"), (V6, "::1")])
def test_answered(bench, endpoint, host):
    before = sockets()
    result = probe(bench, endpoint)
    assert result.success is True
    assert result.text == f"ping {host}: answered in 0.0 ms"  # the bench's clock stands still
    assert sockets() == before


@pytest.mark.parametrize("allowed", [EVERYBODY, NOBODY])
def test_it_comes_from_the_address_that_is_said(allowed):
    """With a raw socket, which shows headers, and with one of the kernel's; an address that is not there is no verdict."""

    def play():
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as heard, Bench() as bench:
            assert probe(bench, V4, source=Source(("127.0.0.7",))).success is True
            assert probe(bench, V6, source=Source(("127.0.0.7", "::1"))).success is True
            assert probe(bench, V4, source=Source(interface="lo")).success is True
            packet = heard.recv(2048)
            assert socket.inet_ntoa(packet[12:16]) == "127.0.0.7"
            result = probe(bench, V4, source=Source(("192.0.2.9",)))
            assert (result.success, "EADDRNOTAVAIL" in result.text) == (None, True)

    in_own_network(play, **allowed)


@pytest.mark.parametrize(("allowed", "kind"), [(EVERYBODY, socket.SOCK_DGRAM), (NOBODY, socket.SOCK_RAW)])
def test_both_kinds_of_sockets(allowed, kind):
    """The kernel's own ICMP socket where ping_group_range has us, else a raw one."""

    def play():
        with ping.open_socket(socket.AF_INET) as sock, ping.open_socket(socket.AF_INET6) as sock6:
            assert (sock.type, sock6.type) == (kind, kind)
        with Bench() as bench:
            assert probe(bench, V4).success is True
            assert probe(bench, V6).success is True

    in_own_network(play, **allowed)


@pytest.mark.parametrize("allowed", [EVERYBODY, NOBODY])
def test_many_at_once_to_one_host_each_get_their_own_answer(allowed):
    def play():
        results = []
        with Bench() as bench:
            before = sockets()
            for number in range(100):
                ping.start(bench.loop, (V4, V6)[number % 2], Check(type="ping"), results.append)
            assert sockets() == before + 100
            bench.until(lambda: len(results) == 100)
            bench.settle()
            assert all(result.success for result in results)
            assert sockets() == before

    in_own_network(play, **allowed)


def icmp(kind, identity, sequence):
    """An ICMP packet without payload."""
    total = sum(struct.unpack("!4H", struct.pack("!BBHHH", kind, 0, 0, identity, sequence)))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", kind, 0, ~total & 0xFFFF, identity, sequence)


def overheard_request(sock):
    """The id and the sequence number of the next echo request on the wire."""
    while True:
        kind, _, _, identity, sequence = struct.unpack("!BBHHH", sock.recv(2048)[20:28])
        if kind == ECHO_REQUEST:
            return identity, sequence


@pytest.mark.parametrize("allowed", [EVERYBODY, NOBODY])
def test_no_probe_takes_anothers_answer(allowed):
    """The host is mute and we answer for it: wrong number, wrong id, a stub, a request, and at last the right one."""

    def play():
        results = []
        with contextlib.ExitStack() as stack:
            wire = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
            wire.settimeout(PATIENCE)
            bench = stack.enter_context(Bench())
            ping.start(bench.loop, V4, Check(type="ping"), results.append)
            identity, sequence = overheard_request(wire)
            for packet in (
                icmp(ECHO_REPLY, identity, sequence ^ 1),
                icmp(ECHO_REPLY, identity ^ 1, sequence),
                icmp(ECHO_REQUEST, identity, sequence),
                icmp(ECHO_REPLY, identity, sequence)[:4],
                icmp(3, identity, sequence),
            ):
                wire.sendto(packet, ("127.0.0.1", 0))
                bench.settle(5)
                assert not results, packet
            wire.sendto(icmp(ECHO_REPLY, identity, sequence), ("127.0.0.1", 0))
            bench.until(lambda: results)
            assert results[0].success is True

    in_own_network(play, **allowed, **MUTE)


def test_each_probe_has_its_own_number():
    def play():
        with contextlib.ExitStack() as stack:
            wire = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
            wire.settimeout(PATIENCE)
            bench = stack.enter_context(Bench())
            probes = [ping.start(bench.loop, V4, Check(type="ping"), print) for _ in range(50)]
            assert len({overheard_request(wire) for _ in probes}) == 50
            for each in probes:
                each.cancel()

    in_own_network(play, **NOBODY, **MUTE)


def test_silence_is_a_failure_when_the_time_is_over():
    def play():
        results = []
        with Bench() as bench:
            before = sockets()
            ping.start(bench.loop, V4, Check(type="ping", timeout=0.5), results.append)
            bench.turn(0.4)
            assert not results
            bench.turn(0.2)
            assert [result.success for result in results] == [False]
            assert results[0].text == "ping 127.0.0.1: timed out, no answer in 0.5 s"
            assert sockets() == before

    in_own_network(play, **MUTE)


@pytest.mark.parametrize("allowed", [EVERYBODY, NOBODY])
def test_an_answer_that_came_in_time_counts_however_late_it_is_seen(allowed):
    """The process has stood still, and more has come than the loop looks at in one round. Raw sockets hear everybody's."""

    def play():
        results = []
        with Bench() as bench:
            for _ in range(MAX_EVENTS + 10):
                ping.start(bench.loop, V4, Check(type="ping", timeout=0.5), results.append)
            bench.turn(60)
            assert [result.success for result in results] == [True] * (MAX_EVENTS + 10)

    in_own_network(play, **allowed)


def test_no_route_is_a_failure():
    def play():
        with Bench() as bench:
            for endpoint in ((socket.AF_INET, ("192.0.2.1", 0)), (socket.AF_INET6, ("2001:db8::1", 0, 0, 0))):
                result = probe(bench, endpoint)
                assert result.success is False
                assert "(ENETUNREACH)" in result.text

    in_own_network(play)


@pytest.mark.parametrize("allowed", [EVERYBODY, NOBODY])
def test_a_link_local_address_keeps_its_interface(allowed):
    """ping3 asks for the address by its text, so the interface has to be in it."""

    def play():
        subprocess.run([need("ip"), "address", "add", "fe80::1/64", "dev", "lo", "nodad"], check=True)
        routes = pathlib.Path("/proc/thread-self/net/ipv6_route")
        local = "fe800000000000000000000000000001 80"
        wait_until(lambda: local in routes.read_text(), "the route of the new address: the kernel makes it later")
        with Bench() as bench:
            result = probe(bench, (socket.AF_INET6, ("fe80::1", 0, 0, 1)))
        assert result.success is True
        assert result.text.startswith("ping fe80::1%1: answered")

    in_own_network(play, **allowed)


@pytest.mark.skipif(not may_ping(), reason="this user may not send ICMP")
def test_too_few_descriptors_are_no_verdict(bench):
    ping.ping3()
    with no_descriptors():
        result = probe(bench, V4)
    assert result.success is None
    assert "(EMFILE)" in result.text


@pytest.mark.skipif(not may_ping(), reason="this user may not send ICMP")
@pytest.mark.parametrize("turns", [0, 1])
def test_cancel_closes_and_nobody_is_told(bench, turns):
    results = []
    before = sockets()
    probes = [ping.start(bench.loop, endpoint, Check(type="ping"), results.append) for endpoint in (V4, V6)]
    bench.settle(turns)
    told = len(results)
    for each in probes:
        each.cancel()
        each.cancel()
        assert "over" in repr(each)
    bench.turn(60)
    assert len(results) == told
    assert sockets() == before


UNPRIVILEGED = """
import json, os, sys
from tcp_proxy.config.model import Check
from tcp_proxy.control.health import ping, runner
from tests.control.health.bench import Bench
assert "ping3" not in sys.modules, "it is imported on first use"
ping.ping3()
"x".encode("idna")  # imported now, from wherever it is: nobody may not be allowed to read there
os.setgroups([]); os.setgid(65534); os.setuid(65534)
results = []
with Bench() as bench:
    for endpoint in ((2, ("127.0.0.1", 0)), (10, ("::1", 0, 0, 0))):
        ping.start(bench.loop, endpoint, Check(type="ping"), results.append)
    bench.until(lambda: len(results) == 2)
print(json.dumps({"error": ping.permission_error(), "successes": [result.success for result in results]}))
"""


def as_nobody():
    """What a user without any privilege meets in this thread's network."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED], capture_output=True, text=True, timeout=PATIENCE * 2, env=env
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_user_without_privileges_is_told_what_to_do():
    """It is an error at start, and no probe would ever call a target dead for it."""

    def play():
        found = as_nobody()
        assert found["successes"] == [None, None]
        for part in ("ICMP", "net.ipv4.ping_group_range", "CAP_NET_RAW", "root"):
            assert part in found["error"]

    in_own_network(play, **NOBODY)


def test_a_user_without_privileges_pings_where_the_range_has_him():
    def play():
        assert as_nobody() == {"error": None, "successes": [True, True]}

    in_own_network(play, **EVERYBODY)
