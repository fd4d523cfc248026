"""One client of mode http, request by request."""

import socket
from contextlib import suppress

import pytest

from kit.clogged import drain
from kit.dialogue import OK, OK_PASSED
from tcp_proxy.config.model import Http, Limits, Route
from tcp_proxy.dataplane.relay.pump import CHUNK
from tcp_proxy.wire.counters import HTTP_STATUS
from tests.dataplane.http.rig import GET, HttpHouse

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_who_is_trusted_may_change_for_clients_that_are_there():
    """Their next request is judged by what the app is by then."""
    claim = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
    with HttpHouse(Http(trusted_proxies=("127.0.0.0/8",))) as house:
        client, session = house.client()
        client.sendall(claim)
        house.turn(3)
        server = house.accept()
        assert b"X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n" in house.read_head(server)
        house.send(server, OK)
        house.receive(client, len(OK_PASSED))
        house.app.http, house.app.http_app = Http(), None
        house.app.needs_key = True
        house.send(client, claim)
        assert b"X-Forwarded-For: 127.0.0.1\r\n" in house.read_head(server)
        assert session.key == b"127.0.0.1"


@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_chunks_are_limited_too(pieces):
    """Whatever the chunks are like; what is told to be too much is not passed on."""
    with HttpHouse(Http(limits=Limits(body=3000))) as house:
        client, _ = house.client()
        chunk = b"%x\r\n%b\r\n" % (3000 // pieces, bytes(3000 // pieces))
        server = house.ask(client, CHUNKED)
        house.send(client, chunk * pieces + b"0\r\n\r\n")
        house.receive(server, len(chunk * pieces) + 5)
        house.send(server, OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        house.send(client, CHUNKED + chunk * pieces)
        house.read_head(server)
        assert house.receive(server, len(chunk) * pieces) == chunk * pieces
        house.send(client, b"1\r\nx\r\n0\r\n\r\n")
        assert house.receive(client).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(ConnectionResetError):
            house.receive(server)


def test_a_chunk_that_is_too_large_is_refused_when_it_is_announced():
    with HttpHouse(Http(limits=Limits(body=3000))) as house:
        client, _ = house.client()
        house.ask(client, CHUNKED)
        house.send(client, b"bb9\r\n")
        assert house.receive(client).startswith(b"HTTP/1.1 413 ")


def test_a_kept_client_is_one_session_however_many_requests():
    with HttpHouse() as house:
        client, session = house.client()
        server = house.ask(client, GET)
        for _ in range(5):
            house.send(server, OK)
            assert house.receive(client, len(OK_PASSED)) == OK_PASSED
            house.send(client, GET)
            house.read_head(server)
        assert session.requests == 6
        assert len(house.requests) == 5


def client_has_ended(client):
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False


def test_answers_of_our_own_that_nobody_reads_stop_the_client():
    """However many events tell of more; and they all come, though the client has ended meanwhile."""
    route = Route("", "/x", ("t0",))
    with HttpHouse(Http(routes=(route,))) as house:
        client, session = house.client()
        client.setblocking(False)
        for end in (client, session.client):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
        text, asked = GET * 3000, 0
        while not session.writer.blocked:
            with suppress(BlockingIOError):
                asked += client.send(text[asked % len(GET) :])
            house.turn()
        house.turn(2)
        held = len(session.reader.input)
        for _ in range(20):  # one event each
            with suppress(BlockingIOError):
                asked += client.send(text[asked % len(GET) :][: 3 * len(GET)])
            house.turn(2)
        assert len(session.reader.input) == held <= CHUNK + len(GET)
        got = bytearray()
        while asked % len(GET):  # the last one is whole
            got += drain(client)
            house.turn()
            with suppress(BlockingIOError):
                asked += client.send(text[asked % len(GET) : len(GET)])
        client.shutdown(socket.SHUT_WR)
        while not client_has_ended(client):
            got += drain(client)
            house.turn()
        assert got.count(b"HTTP/1.1 404 ") == asked // len(GET)


@pytest.mark.parametrize(("status", "place"), [(b"599", 5), (b"600", 5), (b"999", 5), (b"499", 4)])
def test_a_status_that_nobody_knows_is_counted_as_the_target_s_fault(status, place):
    """And in no other counter's place."""
    with HttpHouse() as house:
        client, session = house.client()
        server = house.ask(client, GET)
        row, statuses = house.thread.row, session.exchange.block + HTTP_STATUS
        before = list(row[statuses : statuses + 12])
        house.send(server, OK.replace(b"200 OK", status + b" Odd"))
        assert house.receive(client, len(OK_PASSED) + 1).startswith(b"HTTP/1.1 %b Odd\r\n" % status)
        changed = [after - was for after, was in zip(row[statuses : statuses + 6], before, strict=False)]
        assert changed == [int(index == place) for index in range(6)]
