"""How exchanges end where the order of events hurts: by real sockets, turn by turn."""

import socket

import pytest

from kit.dialogue import OK, OK_PASSED
from tcp_proxy.config.model import Http, Limits
from tcp_proxy.sansio.reasons import Reason
from tests.dataplane.house import reset
from tests.dataplane.http.rig import GET, HttpHouse

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
MIB = 1 << 20
LONG_HEADS = Http(limits=Limits(head=16 * MIB))


def stuffed(house, client, size=64 * MIB):
    """A target that takes no more of an upload: its end."""
    server = house.ask(client, POST % size)
    house.fill(client)
    return server


def status(house, client):
    head = house.read_head(client)
    return int(head.split(b" ")[1]), head


def test_a_target_that_reads_no_more_is_heard_out():
    """A UNIX target may close its reading side alone: each write fails from then on, whatever it still says."""
    with HttpHouse(family="unix") as house:
        client, session = house.client()
        server = stuffed(house, client)
        server.shutdown(socket.SHUT_RD)
        server.recv(MIB)  # so that there is room, and the write fails
        house.until(lambda: session.exchange.up_failed)
        house.send(server, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        assert status(house, client)[0] == 103
        house.send(server, b"HTTP/1.1 413 No\r\nContent-Length: 10\r\n\r\nhello")
        code, head = status(house, client)
        assert (code, b"\r\nConnection: close\r\n" in head) == (413, True)
        assert house.receive(client, 5) == b"hello"
        house.send(server, b"world")
        assert house.receive(client, 5) == b"world"
        assert house.receive(client) == b""
        client.close()
        house.turn(3)
        assert house.requests[0][8] == 413
        assert 0 < house.requests[0][9] < 64 * MIB
        assert house.http.upstreams.open == 0


FRAMED = {
    "length": b"Content-Length: 5\r\n\r\nhello",
    "chunks": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("framing", FRAMED)
def test_an_early_answer_before_a_reset_is_delivered(framing):
    """The usual 413: the target answers, closes, and what it has not read makes that a reset."""
    with HttpHouse() as house:
        client, _ = house.client()
        server = stuffed(house, client)
        server.setblocking(True)
        server.sendall(b"HTTP/1.1 413 No\r\nConnection: close\r\n" + FRAMED[framing])
        server.close()  # with bytes unread
        house.turn(5)
        code, _ = status(house, client)
        assert code == 413
        assert house.receive(client) == FRAMED[framing].partition(b"\r\n\r\n")[2]


def test_an_answer_to_half_a_head_ends_the_connection_to_the_target():
    """What waits in the outlet is no beginning of the next request."""
    with HttpHouse(LONG_HEADS) as house:
        house.servers[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client, session = house.client()
        house.send(client, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + bytes(6 * MIB).replace(b"\0", b"x") + b"\r\n\r\n")
        house.until(lambda: session.exchange is not None and session.exchange.upstream is not None)
        server = house.accept()
        assert session.exchange.upstream.outlet.blocked
        server.setblocking(True)
        server.sendall(OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        house.turn(2)
        assert house.http.upstreams.open == 0
        second = house.ask(client, GET)
        second.sendall(OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED


def test_a_dead_kept_connection_and_a_long_head():
    """It fails while the head waits: the request is sent once more, whole, and that connection may be kept."""
    with HttpHouse(LONG_HEADS) as house:
        house.servers[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client, session = house.client()
        server = house.ask(client, GET)
        server.sendall(OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + bytes(6 * MIB).replace(b"\0", b"x") + b"\r\n"
        house.send(client, head + b"\r\n")
        house.until(lambda: session.exchange is not None and session.exchange.upstream is not None)
        assert session.exchange.upstream.outlet.blocked
        reset(server)
        house.until(lambda: session.exchange.upstream is not None and session.exchange.retried)
        second = house.accept()
        assert house.read_long_head(second).startswith(head)
        second.setblocking(True)
        second.sendall(OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        house.turn(2)
        assert house.http.upstreams.idle == 1


def test_a_head_in_single_bytes_is_looked_at_once():
    """Else who sends 60 KiB, and then byte by byte, costs milliseconds for each of them."""
    with HttpHouse() as house:
        client, session = house.client()
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 1000
        house.send(client, head)
        for byte in b"y\r\n":
            assert session.seen == len(session.input) == len(head)
            head += bytes([byte])
            house.send(client, bytes([byte]))
        server = house.ask(client, b"\r\n")
        assert session.seen == 0
        answer = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\nhello"
        for number, byte in enumerate(answer):
            exchange = session.exchange
            house.send(server, bytes([byte]))
            if number < answer.index(b"\r\n\r\n") + 3:
                assert exchange.seen == len(exchange.heard) == number + 1
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED


HINT = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 600_000 + b"\r\n\r\n"
PASSED_HINT = HINT[:-2] + b"Via: 1.1 tcp_proxy\r\n\r\n"


def test_a_client_that_ends_its_direction_hears_what_waits_for_it():
    """Our last answer waits behind hints that the client has not read, when its end comes."""
    with HttpHouse(LONG_HEADS) as house:
        client, session = house.client()
        session.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        server = house.ask(client, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        house.send(server, HINT)
        house.until(lambda: session.outlet.blocked)
        session.exchange.target.cut_reason = Reason.TARGET_DOWN
        session.cut_off()
        assert (session.state.name, session.outlet.blocked) == ("CLOSING", True)
        client.shutdown(socket.SHUT_WR)
        house.turn(3)
        got = house.receive(client)
        assert got.startswith(PASSED_HINT + b"HTTP/1.1 502 ")
        assert got.endswith(b"taken out of service\n")


def test_hints_that_wait_go_before_the_upgrade():
    with HttpHouse(LONG_HEADS) as house:
        client, session = house.client()
        session.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        server = house.ask(client, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        house.send(server, HINT[:-2])
        house.send(server, HINT[-2:] + switch + b"welcome")
        house.until(lambda: session.state.name == "DONE")
        got = house.receive(client, len(PASSED_HINT))
        assert got == PASSED_HINT
        assert house.read_head(client).startswith(b"HTTP/1.1 101 ")
        assert house.receive(client, 7) == b"welcome"
        client.setblocking(True)
        client.sendall(b"bye")
        assert house.receive(server, 3) == b"bye"
        client.close()
        server.close()
        house.until(lambda: not house.home.members)


def test_who_stops_in_its_body_still_hears_the_answer():
    """A client that has been refused early says no more, and reads on."""
    with HttpHouse() as house:
        client, _ = house.client()
        server = house.ask(client, POST % 10 + b"hello")
        assert house.receive(server, 5) == b"hello"
        house.send(server, b"HTTP/1.1 413 No\r\nContent-Length: 10\r\n\r\nhello")
        assert status(house, client)[0] == 413
        assert house.receive(client, 5) == b"hello"
        client.shutdown(socket.SHUT_WR)
        house.turn(3)
        house.send(server, b"world")
        assert house.receive(client) == b"world"
        with pytest.raises(ConnectionResetError):
            house.receive(server)
