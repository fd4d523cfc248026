"""Claims are there from `hold` to `release`, or to the end of the process, and name who has them."""

import os
import socket

from tcp_proxy.control.listeners.holders import orphaned
from tcp_proxy.dataplane.claims import Claims
from tcp_proxy.wire.claims import Claim


def bound():
    with open("/proc/net/unix") as file:
        return [line.split()[-1] for line in file if f"@tcp_proxy/primary/{os.getpid()}/" in line]


def test_a_claim_is_held_until_it_is_released():
    claims = Claims()
    for _ in range(2):
        claims.hold("127.0.0.1:1")
    claims.hold("*:2")
    assert len(bound()) == 2
    assert orphaned(["127.0.0.1:1", "*:2"]) == [], "its supervisor, our parent, lives"
    claims.release()
    assert bound() == []


def test_one_whose_supervisor_is_gone_is_an_orphans():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        claim = Claim(os.getpid(), os.getppid() + 1, "127.0.0.1:1")
        sock.bind(claim.name)
        assert orphaned(["127.0.0.1:1"]) == [claim]
        assert orphaned(["127.0.0.1:2"]) == []


def test_a_name_that_is_taken_is_done_without():
    other = Claims()
    other.hold("127.0.0.1:1")
    claims = Claims()
    claims.hold("127.0.0.1:1")
    claims.release()
    assert len(bound()) == 1
    other.release()
