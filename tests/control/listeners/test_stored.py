"""Names of sockets that a service manager keeps, and which of those that come back are used."""

import os
import socket

import pytest

from tcp_proxy.control.listeners.stored import is_stored, name_of, taken_back
from tcp_proxy.runtime.socket_options import refuse_new_connections
from tcp_proxy.sansio.address import ListenAddress
from tests.control.health.bench import in_own_network


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1", "listener/127.0.0.1/80"), ("*", "listener/*/80"), ("2001:db8::1", "listener/2001+db8++1/80"),
        ("fe80::1%eth0", "listener/fe80++1%eth0/80"),
    ],
)  # fmt: skip
def test_a_name_has_no_colon(host, name):
    assert name_of(ListenAddress(host, 80)) == name
    assert is_stored(name)


@pytest.mark.parametrize("name", ["tcp-proxy.socket", "web", "stored", "unknown", ""])
def test_those_of_others_are_told_apart(name):
    assert not is_stored(name)


def back(sock, host="127.0.0.1"):
    """taken_back of a copy, by the name of the address; None, or the socket, which is closed with the test's."""
    fd = os.dup(sock.fileno())
    found = taken_back(fd, name_of(ListenAddress(host, sock.getsockname()[1])))
    if found is None:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
        return None
    found[1].close()
    return found[0]


@pytest.mark.parametrize(
    ("family", "only", "bound", "host"),
    [
        (socket.AF_INET, True, "127.0.0.1", "127.0.0.1"), (socket.AF_INET6, True, "::1", "::1"),
        (socket.AF_INET6, True, "::", "::"), (socket.AF_INET6, False, "::", "*"),
    ],
)  # fmt: skip
def test_one_that_listens_where_its_name_says_is_used(family, only, bound, host):
    with socket.socket(family) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        sock.bind((bound, 0))
        sock.listen()
        assert back(sock, host) == ListenAddress(host, sock.getsockname()[1])


def test_it_answers_again_after_a_life_that_had_it_refuse():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        refuse_new_connections(sock)
        assert back(sock)
        with socket.create_connection(sock.getsockname(), 5), sock.accept()[0] as peer:
            peer.send(b"x")


def test_one_that_is_called_otherwise_is_not_and_who_waits_is_reset():
    with socket.create_server(("127.0.0.1", 0)) as sock, socket.create_connection(sock.getsockname(), 5) as waits:
        assert back(sock, "0.0.0.0") is None
        with pytest.raises(ConnectionResetError):
            waits.recv(1)


def test_what_does_not_listen_for_tcp_here_is_not(tmp_path):
    with socket.socket() as idle, socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as shared:
        for sock in (idle, udp, shared):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, sock is shared)
            sock.bind(("127.0.0.1", 0))
        shared.listen()
        assert [back(sock) for sock in (idle, udp, shared)] == [None] * 3
    with (tmp_path / "file").open("w") as file:
        fd = os.dup(file.fileno())
        assert taken_back(fd, "listener/127.0.0.1/80") is None
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
    assert taken_back(fd, "listener/127.0.0.1/80") is None


def test_one_of_another_network_is_not():
    found = []
    with socket.create_server(("127.0.0.1", 0)) as sock:
        in_own_network(lambda: found.append(back(sock)))
    assert found == [None]
