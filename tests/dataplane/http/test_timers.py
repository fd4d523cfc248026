"""Who is silent, and who is only slow: the limits of mode http by a clock that the test turns."""

import socket
from contextlib import suppress

from kit.clogged import fill
from kit.dialogue import OK, OK_PASSED
from kit.waiting import settled, wait_until
from tcp_proxy.config.model import Timeouts
from tcp_proxy.runtime.loop import WRITE
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
        wait_until(lambda: settled(lambda: session.exchange.owed), "the kernel has no more room for it")
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
        house.until(lambda: session.exchange.owed == 0)
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
        assert session.writer.blocked
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
        without_target(house)
        client, session = house.client()
        fill_with_answers(house, client, session)
        for _ in range(5):
            house.receive(client, 200_000)  # more than its buffer: so much less is ours to see that it reads
            house.pass_time(40.0)
        assert session.state.name != "DONE"
        client.close()
        house.until(lambda: session.state.name == "DONE")


def without_target(house):
    """Requests are answered by ourselves, with 503."""
    house.servers[0].close()
    house.app.targets["t0"].change("down", ())
    house.app._sort()


def fill_with_answers(house, client, session):
    """Requests, until their answers are not taken any more. Little is in the kernel, and more requests than we read."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    session.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    client.setblocking(False)
    left = b""
    while not session.writer.blocked:
        left = left or GET * 1000
        with suppress(BlockingIOError):
            left = left[client.send(left) :]
        house.turn()


def test_who_stops_reading_answers_of_our_own_has_all_of_its_time():
    """It begins when an answer is not taken: of a client that has asked seldom before, nothing else has moved for long."""
    with HttpHouse(timeouts=TIMES) as house:
        without_target(house)
        client, session = house.client()
        for _ in range(4):
            house.pass_time(9.0)
            client.sendall(GET)
            house.turn(3)
            house.read_head(client)
            house.turn(2)
            house.receive(client, len("503 Service Unavailable: no target is up\n"))
            client.setblocking(True)
        session.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        fill(session.client)  # so that little of its next answers is taken, and no event tells of it
        began = house.clock.now
        client.sendall(GET * 1000)
        house.until(lambda: session.writer.blocked)
        while session.state.name != "DONE" and house.clock.now < began + 200:
            house.pass_time(1.0)
        assert 60 <= house.clock.now - began <= 76
        assert house.record()["reason"] == "idle_timeout"


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


def test_a_client_that_waits_for_leave_to_send_is_not_the_silent_one():
    expecting = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    for leave, wanted in ((b"", b"HTTP/1.1 504"), (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 408")):
        with HttpHouse(timeouts=TIMES) as house:
            client, session = house.client()
            server = house.ask(client, expecting)
            if leave:
                house.send(server, leave)
                house.read_head(client)
            wait_for_end(house, session)
            assert house.receive(client, 12) == wanted
