"""A connection to a syslog server: datagrams, a stream, and servers that are not there, or go."""

import contextlib
import errno
import select
import socket

import pytest
from sansio.test_syslog import RFC_5424

from kit.ports import free_port
from tcp_proxy.runtime import syslog
from tcp_proxy.runtime.syslog import SyslogConnection
from tcp_proxy.sansio.syslog import header, parse

TEXTS = [f"id={number} app=web".encode() for number in range(5)]


@contextlib.contextmanager
def connection(text):
    found = SyslogConnection(parse(text))
    try:
        yield found
    finally:
        found.close()


def messages(to, texts=TEXTS):
    head = header(to.receiver, to.host, 1, "2026-11-21T07:33:44.123Z")
    return [head + text for text in texts]


def stream_to(server):
    return f"syslog+tcp://127.0.0.1:{server.getsockname()[1]}"


def texts(messages):
    return [RFC_5424.fullmatch(one).group(6) for one in messages]


def frames(data):
    """Of a stream, in the octet counting of RFC 6587."""
    found = []
    while data:
        size, _, rest = data.partition(b" ")
        found.append(rest[: int(size)])
        data = rest[int(size) :]
    return found


def receive(sock):
    sock.settimeout(5)
    return sock.recv(65536)


@pytest.fixture
def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def test_each_message_is_a_datagram(udp):
    with connection(f"syslog+udp://127.0.0.1:{udp.getsockname()[1]}") as to:
        assert to.send(messages(to)) == (5, None)
        assert texts([receive(udp) for _ in TEXTS]) == TEXTS


def test_ipv6_and_unix_too(tmp_path):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        with connection(f"syslog+udp://[::1]:{sock.getsockname()[1]}") as to:
            to.send(messages(to))
            assert texts([receive(sock)]) == TEXTS[:1]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "log"))
        with connection(f"syslog+unix://{tmp_path}/log") as to:
            to.send(messages(to))
            assert texts([receive(sock) for _ in TEXTS]) == TEXTS


def test_a_stream_has_them_one_after_another_and_is_kept():
    with socket.create_server(("127.0.0.1", 0)) as server, connection(stream_to(server)) as to:
        for _ in range(2):
            assert to.send(messages(to)) == (5, None)
        to.close()
        accepted, _ = server.accept()
        with accepted, accepted.makefile("rb") as stream:
            assert texts(frames(stream.read())) == 2 * TEXTS


def test_a_server_that_has_gone_is_connected_to_anew():
    """Not with the first messages that it throws away."""
    with socket.create_server(("127.0.0.1", 0)) as server, connection(stream_to(server)) as to:
        to.send(messages(to))
        server.accept()[0].close()
        select.select([to._socket], [], [], 5)
        assert to.send(messages(to)) == (5, None)
        to.close()
        accepted, _ = server.accept()
        with accepted, accepted.makefile("rb") as stream:
            assert texts(frames(stream.read())) == TEXTS


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_of_a_server_that_is_not_there_the_error_is_told(kind, tmp_path):
    where = f"127.0.0.1:{free_port()}" if kind == "tcp" else f"{tmp_path}/log"
    with connection(f"syslog+{kind}://{where}") as to:
        sent, error = to.send(messages(to))
        assert (sent, error.errno) == (0, errno.ECONNREFUSED if kind == "tcp" else errno.ENOENT)


def test_a_datagram_that_hears_of_the_one_before_is_sent_all_the_same(udp):
    """By UDP the refusal of a datagram is the error of the next call."""
    port = udp.getsockname()[1]
    udp.close()
    with connection(f"syslog+udp://127.0.0.1:{port}") as to:
        to.send(messages(to, TEXTS[:1]))
        select.select([], [], [to._socket], 0.2)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(("127.0.0.1", port))
            assert to.send(messages(to)) == (5, None)
            assert texts([receive(again) for _ in TEXTS]) == TEXTS


def test_a_server_that_takes_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(syslog, "WAIT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server, connection(stream_to(server)) as to:
        sent, error = to.send(messages(to, [b"x" * 8000] * 2000))
        assert 0 <= sent < 2000
        assert error.errno == errno.ETIMEDOUT
        assert error.strerror
