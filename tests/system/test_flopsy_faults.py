"""The faults of flopsy's relay, one test for each, with its own command line: none of them is here.

What flopsy does stands in each test. Its faults outside the relay (no time limits, serial connects, the hot loop of -B 0,
the abort when the port is taken, failover for want of descriptors) have their tests in test_failover.py, those of its
container in test_container.py.
"""

import hashlib
import os
import threading

import pytest

from kit.exchange import move_streams, send_stream
from kit.ports import free_port
from kit.proxy import Proxy
from kit.syscalls import STILL
from kit.waiting import Stopwatch, pause, settled, wait_until

MIB = 1 << 20


class Pair:
    """The program with one host behind it. `session()`: a client, and the host's end."""

    def __init__(self, host, folder):
        self.host, self.port = host, free_port()
        self.program = Proxy(None, folder, args=("-p", str(self.port), "-H", host.address))
        self.program.wait_log("ready:")
        self.program.wait_log("is primary")
        host.accept().close()  # who asked whether it is there

    def session(self, **how):
        return self.program.connect(self.port, **how), self.host.accept()

    def syscalls_of(self, seconds):
        """Those that it makes from now on."""
        with self.program.syscalls() as during:
            pause(seconds)
        return during.calls


@pytest.fixture
def flopsy(target, servers, tmp_path):
    """flopsy(**of the host)"""
    pairs = []

    def start(**host):
        pairs.append(pair := Pair(target(**host), tmp_path))
        return pair

    yield start
    try:
        for pair in pairs:
            pair.program.close_clients()
        servers.close()
        for pair in pairs:
            pair.program.check()
            assert pair.program.stop() == 0
    finally:
        for pair in pairs:
            pair.program.kill()


def test_no_half_close(flopsy):
    """There the end of either direction ends both: a client that has sent its question and FIN gets no answer."""
    client, server = flopsy().session()
    client.send(b"question").fin()
    server.expect(b"question").expect_fin()
    server.send(b"answer").fin()
    client.expect(b"answer").expect_fin()


def test_the_target_closes_first(flopsy):
    """There the end of the target's direction cuts off what its client is still sending."""
    client, server = flopsy().session()
    server.send(b"x" * MIB).fin()
    assert len(client.read_to_end()) == MIB
    assert client.ended == "fin"
    data = os.urandom(MIB)
    client.send(data).fin()
    assert server.read_to_end() == data


def test_an_idle_half_open_session_costs_no_cpu(flopsy):
    """An end that was seen, reported by the kernel again and again, must not be looked at again and again."""
    pair = flopsy()
    client, server = pair.session()
    client.send(b"question").fin()
    server.expect(b"question").expect_fin()
    other, other_server = pair.session()
    other_server.send(b"greeting").fin()
    other.expect(b"greeting").expect_fin()
    assert sum((calls := pair.syscalls_of(1.0)).values()) < STILL, calls
    server.send(b"late answer").fin()
    client.expect(b"late answer").expect_fin()
    other.send(b"late question").fin()
    other_server.expect(b"late question").expect_fin()


def test_busy_spin(flopsy):
    """There one reader that stops costs a whole CPU (EAGAIN, and again at once), and new clients time out beside it."""
    pair = flopsy()
    client, server = pair.session(buffers=8192)
    digest = hashlib.sha256()
    sender = threading.Thread(target=send_stream, args=(server, 64 * MIB, digest, 60.0), name="sender")
    sender.start()
    wait_until(lambda: settled(lambda: server.sent), "back-pressure")
    calls, slowest = pair.syscalls_of(1.0), 0.0
    for _ in range(20):
        watch = Stopwatch()
        other, other_server = pair.session()
        other.send(b"are you there?").fin()
        other_server.expect(b"are you there?").expect_fin().send(b"yes").fin()
        other.expect(b"yes").expect_fin()
        slowest = max(slowest, watch.seconds)
    assert server.sent < 64 * MIB, "it never stopped"
    assert client.digest_to_end(60.0) == (64 * MIB, digest.hexdigest())
    sender.join()
    client.fin()
    server.expect_fin()
    assert sum(calls.values()) < STILL, calls
    assert slowest < 1.0


def test_short_writes(flopsy):
    """There a write that takes less than all loses the rest in mid-stream. Both buffers are tiny, both ends slow."""
    pair = flopsy(receive_buffer=4096)
    client, server = pair.session(buffers=4096)
    assert move_streams(client, server, up=8 * MIB, down=8 * MIB) == (8 * MIB, 8 * MIB)


def test_one_pipe_for_both_directions(flopsy):
    """There the bytes of both directions go through one pipe."""
    client, server = flopsy().session()
    assert move_streams(client, server, up=64 * MIB, down=64 * MIB) == (64 * MIB, 64 * MIB)


def test_a_reset_is_no_clean_end(flopsy):
    """There every end looks alike to the other side: a broken answer like a whole one."""
    client, server = flopsy().session()
    server.send(b"half an ans")
    client.expect(b"half an ans")
    server.rst()
    client.expect_rst()
