"""Ports that nobody else takes, for tests and benchmarks alike."""

from benchmarks.ports import Ports, is_free
from kit.ports import free_port, free_ports
from kit.servers import Service


def test_ports_are_free_unique_and_below_the_ephemeral_range():
    found = [free_port() for _ in range(50)]
    assert len(set(found)) == 50
    assert all(is_free(port) for port in found)
    assert max(found) < 32768
    first, second, third = free_ports(3)
    assert (second, third) == (first + 1, first + 2)


def test_two_sessions_never_share_a_block():
    ours, theirs = Ports(), Ports()
    try:
        assert not set(ours.take(20)) & set(theirs.take(20))
    finally:
        ours.close()
        theirs.close()


def test_a_port_that_is_listened_on_is_not_free():
    with Service() as service:
        assert not is_free(service.port)
