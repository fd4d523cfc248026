"""A peer that makes progress, one that only stopped reading, one that is gone: told apart by asking the kernel."""

import os
import socket
import subprocess
import sys

import pytest

from kit.programs import need
from tcp_proxy.dataplane.relay.peer_watch import NEVER, PeerWatch, Unacknowledged


class Sock:
    """Stands where a socket would; the two questions to the kernel are answered by the test."""

    family = socket.AF_INET

    def __init__(self):
        self.outstanding, self.unanswered = 0, 0.0


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr("tcp_proxy.dataplane.relay.peer_watch.outstanding", lambda sock: sock.outstanding)
    monkeypatch.setattr("tcp_proxy.dataplane.relay.peer_watch.unanswered", lambda sock: sock.unanswered)


def test_a_socket_with_tls_is_told_that_it_is_quiet_once(kernel):
    class TlsSock(Sock):
        stream, rests = "", 0

        def rest(self):
            self.rests += 1

    client, target, watch = TlsSock(), Sock(), PeerWatch()
    client.outstanding = 5
    watch.look(client, target, 1.0, 2.0)
    assert client.rests == 0, "it owes something"
    client.outstanding = 0
    watch.look(client, target, 1.0, 3.0)
    for now in (4.0, 5.0, 6.0):
        watch.look(client, target, 3.0, now)
    assert client.rests == 1


def test_bytes_that_drain_are_progress(kernel):
    owed, sock = Unacknowledged(), Sock()
    sock.outstanding = 1000
    assert owed.look(sock, 1.0)
    assert not owed.look(sock, 2.0)
    sock.outstanding = 900
    assert owed.look(sock, 3.0)
    assert owed.unheard_since == NEVER


def test_a_peer_that_never_answers_is_unheard_since_the_first_look_at_the_earliest(kernel):
    """Its last acknowledgement may be an hour old, because nothing was sent to it for an hour."""
    owed, sock = Unacknowledged(), Sock()
    sock.outstanding, sock.unanswered = 1000, 3600.0
    owed.look(sock, 10_000.0)
    assert owed.unheard_since == 10_000.0
    sock.unanswered += 8
    owed.look(sock, 10_008.0)
    assert owed.unheard_since == 10_000.0


def test_an_answer_in_between_starts_the_count_again(kernel):
    owed, sock = Unacknowledged(), Sock()
    sock.outstanding, sock.unanswered = 1000, 5.0
    owed.look(sock, 100.0)
    sock.unanswered = 2.0
    owed.look(sock, 110.0)
    assert owed.unheard_since == 108.0
    sock.unanswered = 0.0
    owed.look(sock, 120.0)
    assert owed.unheard_since == NEVER


def test_who_owes_nothing_is_never_unheard(kernel):
    owed, sock = Unacknowledged(), Sock()
    sock.unanswered = 99.0
    owed.look(sock, 1.0)
    assert owed.unheard_since == NEVER


def test_a_quiet_session_is_not_asked_again(kernel, monkeypatch):
    asked = []
    monkeypatch.setattr("tcp_proxy.dataplane.relay.peer_watch.outstanding", lambda sock: asked.append(sock) or 0)
    peer_watch, one, other = PeerWatch(), Sock(), Sock()
    peer_watch.look(one, other, 5.0, 6.0)
    assert len(asked) == 2
    for now in range(7, 100):
        peer_watch.look(one, other, 5.0, float(now))
    assert len(asked) == 2
    peer_watch.look(one, other, 100.0, 101.0)
    assert len(asked) == 4


@pytest.mark.slow
def test_a_target_that_vanished_ends_the_session_and_a_stopped_one_does_not():
    """In a network of two hosts, made for this test: the cable of one is cut while bytes are on their way to it."""
    if os.getuid():
        pytest.skip("making a network namespace needs root")
    need("ip")
    done = subprocess.run(
        [need("unshare"), "--net", sys.executable, "-c", _VANISHED], capture_output=True, text=True, timeout=40, check=False
    )
    assert done.stdout.split() == ["target_reset", "ETIMEDOUT"], done.stdout + done.stderr


_VANISHED = """
import subprocess, sys, socket, time
def ip(*words): subprocess.run(["ip", *words], check=True)
ip("link", "set", "lo", "up")
ip("link", "add", "near", "type", "veth", "peer", "name", "far")
child = subprocess.Popen(["unshare", "--net", "sleep", "60"])
ns = str(child.pid)
for _ in range(500):
    if subprocess.run(["readlink", f"/proc/{ns}/ns/net"], capture_output=True, text=True).stdout != \\
       subprocess.run(["readlink", "/proc/self/ns/net"], capture_output=True, text=True).stdout: break
ip("link", "set", "far", "netns", ns)
ip("addr", "add", "10.9.0.1/24", "dev", "near"); ip("link", "set", "near", "up")
inside = ["nsenter", "--net", "-t", ns]
subprocess.run([*inside, "ip", "addr", "add", "10.9.0.2/24", "dev", "far"], check=True)
subprocess.run([*inside, "ip", "link", "set", "far", "up"], check=True)
server = subprocess.Popen([*inside, sys.executable, "-c",
    "import socket; s = socket.create_server(('10.9.0.2', 9)); print('up', flush=True); c, _ = s.accept(); "
    "[c.recv(9) for _ in iter(int, 1)]"], stdout=subprocess.PIPE)
server.stdout.readline()
sys.path.insert(0, "tests"); sys.path.insert(0, ".")
from tests.dataplane.house import House
from tcp_proxy.config.model import Timeouts
with House(relays=True, timeouts=Timeouts(unacked=2.0)) as house:
    house.relays = house.thread.relays = None
    house.app.change_target("t0", "up", ((int(socket.AF_INET), ("10.9.0.2", 9)),))
    client, session = house.client()
    house.until(lambda: session.state.name == "RELAYING")
    ip("link", "set", "near", "down")
    client.sendall(b"into the void")
    ends = time.monotonic() + 20
    while not house.records.all and time.monotonic() < ends:
        house.turn(1, 0.05)
    record = house.records.all[0]
    print(record["reason"], record["errno"])
server.kill(); child.kill()
"""
