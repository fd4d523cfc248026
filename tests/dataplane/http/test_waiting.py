"""Who is silent, and who is only slow: the limits of mode http by a clock that the test turns."""

import socket

from kit.dialogue import OK, OK_PASSED
from tcp_proxy.config.model import Timeouts
from tcp_proxy.loop import WRITE
from tests.dataplane.http.rig import GET, HttpHouse

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
TIMES = Timeouts(response=60.0, next_request=20.0, request=10.0)


def narrow(house):
    """The target's connections hold little in the kernel."""
    house.servers[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)


def wait_for_end(house, session):
    """Seconds until it has no exchange any more."""
    for second in range(200):
        if session.exchange is None:
            return second
        house.pass_time(1.0)
    raise AssertionError(f"{session} goes on for ever")


def test_a_target_that_reads_slowly_is_not_silent():
    with HttpHouse(timeouts=TIMES) as house:
        narrow(house)
        client, session = house.client()
        server = house.ask(client, POST % (64 << 20))
        house.fill(client)
        for _ in range(10):
            for _ in range(4):
                house.receive(server, 50_000)
            house.pass_time(50.0)
            assert session.exchange is not None
        assert 60 <= wait_for_end(house, session) <= 77
        client.setblocking(False)
        assert house.receive(client, 12) == b"HTTP/1.1 504"


def test_the_wait_for_an_answer_begins_when_the_target_has_the_request():
    """All of it is in the kernel, and we have nothing more to do; the target takes it without an event for us."""
    with HttpHouse(timeouts=TIMES) as house:
        narrow(house)
        client, session = house.client()
        server = house.ask(client, POST % 600_000)
        client.setblocking(True)
        client.settimeout(0.01)
        sent = 0
        while sent < 600_000:
            sent += client.send(bytes(min(50_000, 600_000 - sent)))
            house.turn(2)
        assert session.exchange.up.done
        for _ in range(6):
            house.receive(server, 100_000)
            house.pass_time(50.0)
        assert session.exchange is not None
        assert wait_for_end(house, session) <= 77
        assert house.receive(client, 12) == b"HTTP/1.1 504"


def test_who_sends_on_behind_its_request_does_not_keep_a_silent_target_waited_for():
    with HttpHouse(timeouts=TIMES) as house:
        client, session = house.client()
        house.ask(client, GET)
        for byte in GET[:6]:
            house.pass_time(9.0)
            client.send(bytes([byte]))
            house.turn()
        assert wait_for_end(house, session) <= 8


def test_a_target_that_sends_on_does_not_keep_a_client_that_reads_nothing():
    with HttpHouse(timeouts=TIMES) as house:
        client, session = house.client()
        server = house.ask(client, GET)
        server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        house.fill(server)
        assert session.outlet.blocked
        seconds = 0
        while session.exchange is not None and seconds < 100:
            session.exchange.upstream_ready(WRITE)
            house.pass_time(5.0)
            seconds += 5
        assert 60 <= seconds <= 80
        assert house.record()["reason"] == "idle_timeout"


def test_answers_of_our_own_that_a_slow_client_reads_are_not_cut_off():
    """Neither by the time for its next request, nor because the last of them ends the connection."""
    with HttpHouse(timeouts=TIMES) as house:
        house.servers[0].close()
        house.app.targets["t0"].change("down", ())
        house.app._sort()
        client, session = house.client()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.setblocking(False)
        asked, left = 0, b""
        while not session.outlet.blocked:
            left = left or GET * 1000
            left = left[client.send(left) :]
            asked += 0 if left else 1000
            house.turn()
        house.until(lambda: session.outlet.blocked)
        got = 0
        for _ in range(10):
            got += len(house.receive(client, 200_000))
            house.pass_time(40.0)
        assert session.state.name != "DONE"
        client.close()
        house.until(lambda: session.state.name == "DONE")


def test_a_kept_client_has_its_time_for_the_next_request():
    with HttpHouse(timeouts=TIMES) as house:
        client, session = house.client()
        server = house.ask(client, GET)
        house.pass_time(59.0)
        server.sendall(OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        house.pass_time(19.0)
        assert session.state.name == "READING"
        house.pass_time(2.0)
        assert house.receive(client) == b""
