"""Upgrades of requests with a body: every byte of it, and of what comes behind it, in its order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.dialogue import OK, OK_PASSED
from tcp_proxy.config.model import Http
from tests.dataplane.http.rig import HttpHouse

EXEC = b"POST /exec HTTP/1.1\r\nHost: a\r\n%b\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
CHUNKED, SIZED = b"Transfer-Encoding: chunked", b"Content-Length: %d"
SWITCH = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 UPGRADED\r\nVia: 1.1 tcp_proxy\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
TCP = Http(upgrades=("tcp",))
BODY = b'{"Detach":false,"Tty":false}'
BODIES = [
    (SIZED % len(BODY), BODY, BODY),
    (CHUNKED, b"1c;a=b\r\n%b\r\n0;c\r\n\r\n" % BODY, b"1c\r\n%b\r\n0\r\n\r\n" % BODY),
]


def finish(house, client, server):
    """The relay carries both ways, and ends."""
    house.send(client, b"ping")
    assert house.receive(server, 4) == b"ping"
    house.send(server, b"pong")
    assert house.receive(client, 4) == b"pong"
    client.close()
    server.close()
    house.until(lambda: not house.thread.members)


@settings(max_examples=40)
@given(st.data(), st.sampled_from(BODIES), st.booleans())
def test_the_body_first_then_the_relay_however_it_is_cut(data, how, early):
    """`early`: the target switches before it has the whole body. What the client sends behind it is raw."""
    field, body, passed = how
    raw = b"raw\r\n0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body + raw)), max_size=4)))
    first, *parts = [(body + raw)[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    with HttpHouse(TCP) as house:
        client, _ = house.client()
        server = house.ask(client, EXEC % field + first)
        if early:
            house.send(server, SWITCH + b"hel", turns=3)
            house.send(server, b"lo")
        for part in parts:
            house.send(client, part)
        assert house.receive(server, len(passed)) == passed
        if not early:
            house.send(server, SWITCH + b"hello")
        assert house.receive(client, len(SWITCHED) + 5) == SWITCHED + b"hello"
        assert house.receive(server, len(raw)) == raw
        assert house.requests[-1][9] == len(passed)
        finish(house, client, server)


def send_some(house, client, count):
    """At most so many bytes, until nobody takes any more; how many were taken."""
    client.setblocking(False)
    sent = misses = 0
    while sent < count and misses < 5:
        try:
            sent += client.send(bytes(min(count - sent, 1 << 16)))
            misses = 0
        except BlockingIOError:
            misses += 1
        house.turn()
    return sent


def test_a_body_that_fills_the_target_s_buffers_is_whole_before_the_relay():
    """It goes by splice; the 101 waits for the last byte, and for those that wait in the pipe."""
    size = 32 << 20
    with HttpHouse(TCP) as house:
        client, session = house.client()
        server = house.ask(client, EXEC % (SIZED % size))
        house.send(server, SWITCH)
        left, got = size - send_some(house, client, size - 1), 0
        assert session.state.name == "EXCHANGING"
        while got < size:
            left -= send_some(house, client, left)
            got += len(house.receive(server, min(1 << 18, size - got)))
        assert house.receive(client, len(SWITCHED)) == SWITCHED
        finish(house, client, server)


def test_a_target_that_does_not_switch_answers():
    with HttpHouse(TCP) as house:
        client, _ = house.client()
        server = house.ask(client, EXEC % (SIZED % 5) + b"hello")
        assert house.receive(server, 5) == b"hello"
        house.send(server, OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED


@pytest.mark.parametrize("end", ["reset", "fault", "gone"])
def test_an_early_101_without_the_rest_of_the_request(end):
    """Who promised a body has to send it; a target that takes no more of it has not switched."""
    with HttpHouse(TCP) as house:
        client, _ = house.client()
        server = house.ask(client, EXEC % CHUNKED + b"5\r\nhel")
        house.send(server, SWITCH)
        house.turn(3)
        if end == "gone":
            client.close()
            house.until(lambda: not house.thread.members)
            return
        if end == "reset":
            server.close()  # with bytes unread: a reset
            house.turn(3)
            for part in (b"lo\r\n", b"0\r\n\r\n"):
                house.send(client, part, turns=3)
            wanted = b"HTTP/1.1 502 "
        else:
            house.send(client, b"lo!!")
            wanted = b"HTTP/1.1 400 "
        assert house.receive(client).startswith(wanted)


@pytest.mark.parametrize("named", [b"Upgrade: websocket\r\n", b"Upgrade: tcp, h2c\r\n", b""])
def test_a_101_to_another_protocol(named):
    with HttpHouse(Http(upgrades=("tcp", "websocket"))) as house:
        client, _ = house.client()
        server = house.ask(client, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c, tcp\r\n\r\n")
        house.send(server, b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\n" + named + b"\r\nhidden")
        head = house.read_head(client)
        assert head.startswith(b"HTTP/1.1 502 ")
        assert b"hidden" not in house.receive(client, int(head.split(b"Length: ")[1].split(b"\r")[0]))
