"""Connects from where the configuration says: in a network of its own, where ports can run out."""

import contextlib
import errno
import socket

import pytest

from tcp_proxy.config.target_model import Source
from tcp_proxy.runtime.source import NEEDS, SourceConnect, transparent_fault
from tests.control.health.bench import in_own_network


def listening(stack, host="127.0.0.1", port=0):
    server = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
    server.bind((host, port))
    server.listen(100)
    return server


def connected(stack, connect, server, client=""):
    """(what connect_ex says, the address that the server sees)"""
    raw = socket.SocketType(server.family, socket.SOCK_STREAM)
    stack.callback(raw.close)
    code = connect(raw, server.getsockname()[:2], client)
    if code:
        return code, None
    peer, address = server.accept()
    stack.enter_context(peer)
    return 0, address[0]


def test_addresses_have_their_turns():
    with contextlib.ExitStack() as stack:
        server = listening(stack)
        connect = SourceConnect(Source(("127.0.0.2-127.0.0.3", "127.0.0.9", "::1")))
        seen = [connected(stack, connect, server) for _ in range(6)]
    assert [code for code, _ in seen] == [0] * 6
    assert sorted(address for _, address in seen) == sorted(["127.0.0.2", "127.0.0.3", "127.0.0.9"] * 2)


def test_a_target_of_another_kind_is_connected_to_from_where_the_kernel_says():
    with contextlib.ExitStack() as stack:
        connect = SourceConnect(Source(("127.0.0.2",)))
        assert connected(stack, connect, listening(stack, "::1")) == (0, "::1")


def test_an_address_that_is_not_here_is_passed_over():
    with contextlib.ExitStack() as stack:
        server = listening(stack)
        connect = SourceConnect(Source(("203.0.113.1-203.0.113.2", "127.0.0.5")))
        assert [connected(stack, connect, server) for _ in range(4)] == [(0, "127.0.0.5")] * 4
        assert connected(stack, SourceConnect(Source(("203.0.113.1",))), server) == (errno.EADDRNOTAVAIL, None)


def test_when_the_ports_of_one_address_have_run_out_the_next_has_its_turn():
    """Four ports, three addresses, two servers: as many connections as that makes, and not one more."""

    def call():
        with contextlib.ExitStack() as stack:
            connect = SourceConnect(Source(("127.0.0.2-127.0.0.4",)))
            for server in (listening(stack, port=30001), listening(stack, port=30002)):
                seen = [connected(stack, connect, server) for _ in range(13)]
                assert [code for code, _ in seen] == [0] * 12 + [errno.EADDRNOTAVAIL]
                addresses = [address for _, address in seen[:12]]
                assert {address: addresses.count(address) for address in addresses} == {
                    "127.0.0.2": 4, "127.0.0.3": 4, "127.0.0.4": 4,
                }  # fmt: skip

    in_own_network(call, ipv4__ip_local_port_range="40000 40003")


def test_an_interface():
    def call():
        with contextlib.ExitStack() as stack:
            server = listening(stack)
            assert connected(stack, SourceConnect(Source(interface="lo")), server) == (0, "127.0.0.1")
            assert connected(stack, SourceConnect(Source(("127.0.0.7",), "lo")), server) == (0, "127.0.0.7")
            with pytest.raises(OSError, match="No such device"):
                connected(stack, SourceConnect(Source(interface="nosuch0")), server)

    in_own_network(call)


def test_the_client_s_own_address():
    """On loopback, whose way back is itself."""
    if transparent_fault():
        pytest.skip(NEEDS)
    with contextlib.ExitStack() as stack:
        connect = SourceConnect(Source(("127.0.0.9",), transparent=True))
        server = listening(stack)
        assert connected(stack, connect, server, "127.0.0.44") == (0, "127.0.0.44")
        assert connected(stack, connect, server) == (0, "127.0.0.9"), "a health check"
        assert connected(stack, connect, server, "::1") == (errno.EADDRNOTAVAIL, None)
        assert connected(stack, connect, listening(stack, "::1"), "::1") == (0, "::1")
