"""The straight way of plain requests says and does what the general way does, whatever comes in between; and it is taken."""

import contextlib
import os
import re
import select
import socket
import stat

import pytest

from kit.waiting import PATIENCE, Deadline
from tcp_proxy.config.model import Http
from tcp_proxy.dataplane.http.plain_way import PlainWay
from tcp_proxy.wire import counters
from tests.dataplane.http.rig import GET, HttpHouse

ESTABLISHED, SYN_SENT, SYN_RECEIVED = 1, 2, 3  # tcpi_state
DATED = b"Date: Sat, 28 Nov 2026 00:00:00 GMT\r\n"
OK = b"HTTP/1.1 200 OK\r\n" + DATED + b"Content-Length: 5\r\n\r\nhello"
REQUESTS = {
    "plain": GET,
    "another": b"GET /other HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n",
    "with an id": GET[:-2] + b"X-Request-ID: mine\r\n\r\n",
    "for the last time": GET[:-2] + b"Connection: close\r\n\r\n",
    "with a body": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "of HTTP/1.0": b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "for the head": b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "counted": GET[:-2] + b"Max-Forwards: 3\r\n\r\n",
}
TRACED = {
    "traced": b"Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nTracestate: a=1\r\n",
    "not traced": b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\ntracestate: a=1\r\n",
    "traced wrongly": b"traceparent: 00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n",
}
PARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-([0-9a-f]{2})")
ANSWERS = {
    "plain": OK,
    "without a date": OK.replace(DATED, b""),
    "without a body": b"HTTP/1.1 304 Not Modified\r\n" + DATED + b"\r\n",
    "in chunks": b"HTTP/1.1 200 OK\r\n" + DATED + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "for the last time": OK.replace(DATED, DATED + b"Connection: close\r\n"),
    "after an interim one": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
    "with more than there should be": OK + b"!",
    "that is none": b"NOTHING LIKE IT\r\n\r\n",
    "with a login": OK.replace(DATED, DATED + b"WWW-Authenticate: NTLM x\r\n"),
}


def settle(house, ends):
    """Until nobody has anything to do: whatever was sent has been delivered, which the kernel does a moment later when it is
    busy, and another round of the loop sends nothing."""
    deadline, before = Deadline(), None
    while True:
        house.turn(3)
        flows = flows_of(house, ends)
        if flows == before and not any(on_its_way(house, flows)):
            return
        assert not deadline.is_over, flows
        before = flows


def flows_of(house, ends):
    """By (its address, its peer's), of all connected sockets of both sides: what each has sent, and what has come to it."""
    flows = {}
    for fd in (*house.loop._handlers, *(end.fileno() for end in ends)):
        if fd < 0 or not stat.S_ISSOCK(os.fstat(fd).st_mode):
            continue
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 216)
            received, sent, again = (int.from_bytes(info[at : at + 8], "little") for at in (128, 200, 208))
            waiting = int.from_bytes(info[144:148], "little")  # tcpi_notsent_bytes: what Nagle's algorithm holds back
            flows[sock.getsockname(), sock.getpeername()] = (info[0], sent - again + waiting, received)
    return flows


def on_its_way(house, flows):
    for (here, there), (state, sent, _) in flows.items():
        peer = flows.get((there, here))
        if state in (SYN_SENT, SYN_RECEIVED) or (peer is not None and peer[2] < sent):
            yield here, there
        elif peer is None and there == house.servers[0].getsockname() and state == ESTABLISHED:
            assert select.select([house.servers[0]], [], [], PATIENCE)[0]  # it can be accepted


def dialogue(request, answer, is_straight, cut=None, sample=None):
    """A plain request, so that there is a kept connection, then `request` and `answer`, then a plain one again. What the
    client and the targets have heard of it all, the requests' records, and how many connections there were."""
    with HttpHouse() as house:
        client, session = house.client()
        ends = [client]
        session.http_app.takes_plain = is_straight
        house.records.sample = sample
        heard, served, targets = b"", [], 0
        for asked, said in ((GET, OK), (request, answer), (GET, OK)):
            client.setblocking(False)
            pieces = [asked] if cut is None else [asked[:cut], asked[cut:]]
            try:
                for piece in pieces:
                    client.sendall(piece)
                    settle(house, ends)
            except OSError:
                break  # it was told that it had asked for the last time
            house.servers[0].setblocking(False)
            try:
                server, _ = house.servers[0].accept()
                ends.append(house.stack.enter_context(server))
                targets += 1
            except BlockingIOError:
                pass
            settle(house, ends)
            server.setblocking(False)
            try:
                served.append(server.recv(1 << 16))
                for piece in [said] if cut is None else [said[:cut], said[cut:]]:
                    server.sendall(piece)
                    settle(house, ends)
            except OSError:
                pass
            try:
                heard += client.recv(1 << 16)
            except BlockingIOError:
                pass
        rows = [house.memory.total(house.app.targets["t0"].slot + counters.HTTP_STATUS + digit) for digit in range(6)]
        client.close()
        house.turn(3)
        return heard, served, [record[5:17] for record in house.requests], rows, targets


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_both_ways_are_one(request_, answer):
    straight, general = (dialogue(REQUESTS[request_], ANSWERS[answer], way) for way in (True, False))
    assert _timeless(straight) == _timeless(general)


@pytest.mark.parametrize("cut", range(1, len(OK), 3))
def test_both_ways_are_one_wherever_it_is_cut(cut):
    assert _timeless(dialogue(REQUESTS["plain"], OK, True, cut)) == _timeless(dialogue(REQUESTS["plain"], OK, False, cut))


@pytest.mark.parametrize("request_", [*REQUESTS, "traced", "not traced", "traced wrongly"])
def test_both_ways_are_one_where_requests_are_traced(request_):
    asked = {**REQUESTS, **{name: GET[:-2] + line + b"\r\n" for name, line in TRACED.items()}}[request_]
    straight, general = (dialogue(asked, OK, way, sample=1.0) for way in (True, False))
    assert straight[1][0].count(b"traceparent: 00-") == 1
    for told in (straight, general):
        told[1][:] = [PARENT.sub(rb"00-TRACE-SPAN-\1", head) for head in told[1]]
    assert _timeless(straight) == _timeless(general)


def _timeless(told):
    """The date that we say ourselves is the wall clock's."""
    heard, *rest = told
    return [line for line in heard.split(b"\r\n") if not line.startswith(b"Date: ")], *rest


def test_it_is_taken_once_a_connection_is_kept():
    with HttpHouse() as house:
        client, session = house.client()
        server = house.ask(client, GET)
        assert session.exchange.upstream.owner is session.exchange, "the first has dialed"
        house.send(server, OK)
        house.receive(client, len(OK) + len(b"Via: 1.1 tcp_proxy\r\n"))
        client.setblocking(True)
        client.sendall(GET)
        house.turn(3)
        assert isinstance(session.exchange.upstream.owner, PlainWay)
        assert session.exchange.upstream.owner.owner is session
        house.send(server, OK)
        house.turn(2)
        assert session.exchange is None


@pytest.mark.parametrize("http", [Http(preserve_host=False), Http()], ids=["another host", "the client's host"])
def test_a_request_goes_on_as_the_app_wants_it(http):
    with HttpHouse(http=http) as house:
        client, _ = house.client()
        server = house.ask(client, GET)
        first = server.recv(0)
        house.send(server, OK)
        house.read_head(client)
        house.receive(client, 5)
        client.setblocking(True)
        client.sendall(GET)
        head = first + house.read_head(server)
        host = b"Host: a\r\n" if http.preserve_host else b"Host: localhost\r\n"
        assert host in head
        assert b"X-Request-ID: test-1-2\r\n" in head


def test_an_answer_that_the_client_does_not_take_waits_for_it():
    with HttpHouse() as house:
        client, session = house.client()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        session.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        server = house.ask(client, GET)
        house.send(server, OK)
        house.read_head(client)
        house.receive(client, 5)
        body = bytes(range(256)) * 200
        client.setblocking(True)
        client.sendall(GET)
        house.turn(3)
        assert isinstance(session.exchange.upstream.owner, PlainWay)
        house.send(server, OK.replace(b"Content-Length: 5\r\n\r\nhello", b"Content-Length: %d\r\n\r\n" % len(body)) + body)
        house.turn(3)
        assert session.writer.blocked
        assert session.exchange is not None, "it is not over before the client has it"
        house.read_head(client)
        assert house.receive(client, len(body)) == body
        house.until(lambda: session.exchange is None)
        assert house.requests[-1][10] == len(body)
