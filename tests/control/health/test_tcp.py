"""The tcp check: accepted, refused, silent; IPv4, IPv6, UNIX; errors of this machine; nothing is left behind."""

import contextlib
import errno
import socket
import struct

import pytest

from kit.clogged import clog
from tcp_proxy.config.model import Check
from tcp_proxy.control.health import connecting, tcp
from tcp_proxy.runtime.loop import MAX_EVENTS
from tcp_proxy.sansio.proxyproto import LOCAL
from tests.control.health.bench import Bench, in_own_network, no_descriptors, sockets


def probe(bench, endpoint, **check):
    return bench.result_of(tcp.start, endpoint, Check(**check))


def listener(stack, host="127.0.0.1", backlog=16):
    sock = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
    sock.bind((host, 0))
    sock.listen(backlog)
    sock.setblocking(False)
    return sock


def test_accepted(bench, target):
    server = target()
    result = probe(bench, (socket.AF_INET, ("127.0.0.1", server.port)))
    assert result.success is True
    assert result.text == f"tcp 127.0.0.1:{server.port}: accepted"
    server.accept().expect_fin()  # a plain close, not a reset


def test_refused(bench, free_port):
    port = free_port()
    result = probe(bench, (socket.AF_INET, ("127.0.0.1", port)))
    assert result.success is False
    assert result.text == f"tcp 127.0.0.1:{port}: connection refused (ECONNREFUSED)"


def test_ipv6(bench, target, free_port):
    """The original could not check an IPv6 target at all."""
    server = target(host="::1")
    assert probe(bench, (socket.AF_INET6, ("::1", server.port, 0, 0))).text == f"tcp [::1]:{server.port}: accepted"
    result = probe(bench, (socket.AF_INET6, ("::1", free_port(), 0, 0)))
    assert result.success is False
    assert "ECONNREFUSED" in result.text


def test_silence_is_a_failure_when_the_time_is_over(bench, target):
    hole = target(backlog=0)
    results = []
    with clog(hole):
        before = sockets()
        tcp.start(bench.loop, (socket.AF_INET, ("127.0.0.1", hole.port)), Check(timeout=2.0), results.append)
        bench.turn(1.9)
        assert not results
        bench.turn(0.2)
        assert [(result.success, result.text) for result in results] == [
            (False, f"tcp 127.0.0.1:{hole.port}: timed out, no answer in 2 s")
        ]
        assert sockets() == before


def test_unix(bench, target, tmp_path):
    server = target(path=tmp_path / "server.sock")
    result = probe(bench, (socket.AF_UNIX, str(tmp_path / "server.sock")), port=80)
    assert result.success is True
    assert result.text == f"tcp unix:{tmp_path}/server.sock: accepted"
    server.close()
    assert "(ECONNREFUSED)" in probe(bench, (socket.AF_UNIX, str(tmp_path / "server.sock"))).text
    missing = probe(bench, (socket.AF_UNIX, str(tmp_path / "missing.sock")))
    assert missing.success is False
    assert "(ENOENT)" in missing.text


def full_unix_server(stack, path):
    """A UNIX socket whose queue is full: Linux answers every further connect with EAGAIN."""
    server = stack.enter_context(socket.socket(socket.AF_UNIX))
    server.bind(path)
    server.listen(0)
    code = 0
    while code == 0:
        sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        code = sock.connect_ex(path)
    assert code == errno.EAGAIN
    return server


def test_a_full_unix_queue_is_waited_for(bench, tmp_path):
    results = []
    with contextlib.ExitStack() as stack:
        server = full_unix_server(stack, str(tmp_path / "s"))
        tcp.start(bench.loop, (socket.AF_UNIX, str(tmp_path / "s")), Check(), results.append)
        bench.turn(1.0)
        assert not results
        stack.enter_context(server.accept()[0])
        bench.turn(connecting.RETRY)
        assert results[0].success is True


def test_a_full_unix_queue_is_not_waited_for_for_ever(bench, tmp_path):
    results = []
    with contextlib.ExitStack() as stack:
        full_unix_server(stack, str(tmp_path / "s"))
        before = sockets()
        tcp.start(bench.loop, (socket.AF_UNIX, str(tmp_path / "s")), Check(timeout=2.0), results.append)
        for _ in range(45):
            bench.turn(0.05)
        assert [result.success for result in results] == [False]
        assert "timed out" in results[0].text
        assert sockets() == before


def test_another_port_than_the_targets(bench, target, free_port):
    server = target()
    result = probe(bench, (socket.AF_INET, ("127.0.0.1", free_port())), port=server.port)
    assert result.text == f"tcp 127.0.0.1:{server.port}: accepted"
    server.accept().close()
    server = target(host="::1")
    assert probe(bench, (socket.AF_INET6, ("::1", free_port(), 0, 0)), port=server.port).success is True


@pytest.mark.parametrize("fin", [False, True], ids=["reset", "end and reset"])
def test_a_reset_right_after_the_accept_was_an_accept(bench, fin):
    """Whether the loop looks before or after the reset must not decide over a target."""
    results = []
    with contextlib.ExitStack() as stack:
        server = listener(stack)
        tcp.start(bench.loop, (socket.AF_INET, server.getsockname()), Check(), results.append)
        client, _ = server.accept()
        if fin:  # what ZooKeeper does above its limit of connections for one address
            client.shutdown(socket.SHUT_WR)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        bench.until(lambda: results)
    assert results[0].success is True


def test_who_is_accepted_while_the_loop_is_late_has_not_timed_out(bench, target):
    """More events than one batch holds: the timers of the others come before their events."""
    server, results, count = target(backlog=1024), [], MAX_EVENTS + 30
    for _ in range(count):
        tcp.start(bench.loop, (socket.AF_INET, ("127.0.0.1", server.port)), Check(timeout=2.0), results.append)
    bench.clock.turn(2.5)
    bench.until(lambda: len(results) == count)
    assert {result.success for result in results} == {True}


def test_meeting_oneself_is_no_answer():
    """On loopback the kernel may draw the very port that nobody listens on, and TCP connects the socket to itself."""

    def play():
        texts = []
        with Bench() as bench:
            for port in (40000, 40001) * 20:
                result = probe(bench, (socket.AF_INET, ("127.0.0.1", port)))
                assert result.success is not True, result
                texts.append(result.text)
        assert any("met itself" in text for text in texts), texts

    in_own_network(play, ipv4__ip_local_port_range="40000 40001")


def test_no_route_is_a_failure():
    def play():
        with Bench() as bench:
            result = probe(bench, (socket.AF_INET, ("192.0.2.1", 80)))
        assert result.success is False
        assert "(ENETUNREACH)" in result.text

    in_own_network(play)


def test_too_few_descriptors_are_no_verdict(bench, target):
    server = target()
    with no_descriptors():
        result = probe(bench, (socket.AF_INET, ("127.0.0.1", server.port)))
    assert result.success is None
    assert "(EMFILE)" in result.text


def test_too_few_local_ports_are_no_verdict():
    def play():
        with contextlib.ExitStack() as stack, Bench() as bench:
            server = listener(stack)
            with pytest.raises(OSError, match="Cannot assign"):
                for _ in range(9):
                    stack.enter_context(socket.socket()).connect(server.getsockname())
            result = probe(bench, (socket.AF_INET, server.getsockname()))
        assert result.success is None
        assert "(EADDRNOTAVAIL)" in result.text

    in_own_network(play, ipv4__ip_local_port_range="50000 50001")


@pytest.mark.parametrize("turns", [0, 1])
def test_cancel_closes_and_nobody_is_told(bench, target, tmp_path, free_port, turns):
    results = []
    with contextlib.ExitStack() as stack:
        hole, server = target(backlog=0), target()
        stack.enter_context(clog(hole))
        full_unix_server(stack, str(tmp_path / "s"))
        before = sockets()
        probes = [
            tcp.start(bench.loop, endpoint, Check(), results.append)
            for endpoint in (
                (socket.AF_INET, ("127.0.0.1", hole.port)),
                (socket.AF_INET, ("127.0.0.1", server.port)),
                (socket.AF_INET, ("127.0.0.1", free_port())),
                (socket.AF_UNIX, str(tmp_path / "s")),
                (socket.AF_UNIX, str(tmp_path / "missing")),
            )
        ]
        bench.settle(turns)
        told = len(results)
        for each in probes:
            each.cancel()
            each.cancel()
            assert "over" in repr(each)
        bench.turn(60)
        assert len(results) == told
        assert sockets() == before


def test_the_loops_close_releases_what_was_cancelled_last(target):
    server = target()
    before = sockets()
    bench = Bench()
    tcp.start(bench.loop, (socket.AF_INET, ("127.0.0.1", server.port)), Check(), print).cancel()
    bench.loop.close()
    assert sockets() == before


# -- a target that wants a PROXY header


def test_a_line_names_the_two_ends_of_the_check(bench, target):
    server = target()
    result = probe(bench, (socket.AF_INET, ("127.0.0.1", server.port)), send_proxy=1)
    assert result.text == f"tcp 127.0.0.1:{server.port}: accepted"
    peer = server.accept()
    port = peer.sock.getpeername()[1]
    peer.expect(f"PROXY TCP4 127.0.0.1 127.0.0.1 {port} {server.port}\r\n".encode()).expect_fin()


def test_over_ipv6_too(bench, target):
    server = target(host="::1")
    assert probe(bench, (socket.AF_INET6, ("::1", server.port, 0, 0)), send_proxy=1).success
    peer = server.accept()
    peer.expect(f"PROXY TCP6 ::1 ::1 {peer.sock.getpeername()[1]} {server.port}\r\n".encode()).expect_fin()


def test_version_2_says_that_it_is_the_proxys_own(bench, target, tmp_path):
    for server in (target(), target(path=str(tmp_path / "s"))):
        family, address = server.sock.family, server.sock.getsockname()
        assert probe(bench, (family, address), send_proxy=2).success
        server.accept().expect(LOCAL).expect_fin()


def test_a_unix_target_has_no_ends_to_name(bench, target, tmp_path):
    server = target(path=str(tmp_path / "s"))
    assert probe(bench, (socket.AF_UNIX, str(tmp_path / "s")), send_proxy=1).success
    server.accept().expect(b"PROXY UNKNOWN\r\n").expect_fin()


def test_a_header_that_is_not_taken_whole_is_a_failure(bench, target, monkeypatch):
    monkeypatch.setattr(connecting, "_header", lambda _sock, _version: bytes(64 << 20))
    result = probe(bench, (socket.AF_INET, ("127.0.0.1", target().port)), send_proxy=2)
    assert result.success is False
    assert "(EMSGSIZE)" in result.text
