"""Values that can be keys: targets with them are compared, and kept in tables."""

from tcp_proxy.config.target_model import Discovery, Source


def test_they_are_equal_and_hashed_by_what_they_say():
    assert {Source(("192.0.2.1",), "eth1"): 1}[Source(("192.0.2.1",), "eth1")] == 1
    assert Source() != Source(transparent=True)
    assert len({Discovery("srv:_a._tcp.b"), Discovery("srv:_a._tcp.b"), Discovery("srv:_a._tcp.b", "{}")}) == 2
