"""How exchanges end where the order of events hurts: by real sockets, turn by turn."""

import gc
import socket
from types import SimpleNamespace

import pytest

from kit.dialogue import OK, OK_PASSED
from tcp_proxy.config.model import Http, Limits, Timeouts
from tcp_proxy.dataplane.delivery import Delivery
from tcp_proxy.dataplane.dial import Dial
from tcp_proxy.dataplane.http.closing import Closing
from tcp_proxy.dataplane.http.connection import HttpConnection
from tcp_proxy.dataplane.http.exchange import INTERIMS, Exchange
from tcp_proxy.dataplane.http.repeats import RENEWED
from tcp_proxy.dataplane.relay.session_thread import member_of
from tcp_proxy.sansio.http1.states import DONE
from tcp_proxy.sansio.reasons import Reason
from tests.dataplane.house import blackhole, reset
from tests.dataplane.http.rig import GET, HttpHouse

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
MIB = 1 << 20
PARTS = (HttpConnection, Exchange, Closing)
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
        assert house.http.shared.upstreams.open == 0


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


def hung_up(house, said, fin):
    """A client with a request; the target accepts, says so much and resets, all before the loop hears of the connection."""
    client = house.stack.enter_context(socket.create_connection(house.listening.getsockname()))
    client.sendall(GET)
    house.app.targets["t0"].is_near = False  # else the request goes out with the connection, and this order cannot be had
    session = house.admit()
    server, _ = house.servers[0].accept()
    server.sendall(said)
    if fin:
        server.shutdown(socket.SHUT_WR)
    reset(server)
    return client, session


@pytest.mark.parametrize("fin", [False, True], ids=["reset", "end and reset"])
@pytest.mark.parametrize("framing", FRAMED)
def test_a_target_that_answers_a_connection_and_resets_it_has_answered(framing, fin):
    """The usual 503 or 408 of a server that takes no more."""
    with HttpHouse(retries=0) as house:
        client, _ = hung_up(house, b"HTTP/1.1 503 Full\r\nConnection: close\r\n" + FRAMED[framing], fin)
        assert status(house, client)[0] == 503
        assert house.receive(client, 5)
        client.close()
        house.turn(3)
        assert house.requests[0][8] == 503


@pytest.mark.parametrize("fin", [False, True], ids=["reset", "end and reset"])
def test_an_answer_until_the_end_that_a_reset_cut_off_is_not_whole(fin):
    with HttpHouse(retries=0) as house:
        client, _ = hung_up(house, b"HTTP/1.1 200 OK\r\n\r\nhel", fin)
        assert status(house, client)[0] == 200
        assert house.receive(client, 3) == b"hel"
        if fin:  # its end was heard before the reset
            assert house.receive(client) == b""
        else:
            with pytest.raises(ConnectionResetError):
                house.receive(client)


@pytest.mark.parametrize("fin", [False, True], ids=["reset", "end and reset"])
def test_a_target_that_resets_each_connection_is_502(fin):
    with HttpHouse(retries=0) as house:
        client, _ = hung_up(house, b"", fin)
        code, head = status(house, client)
        assert code == 502
        assert b"reset its connection (" in head + house.receive(client, 70)
        client.close()


def test_an_end_of_tls_that_was_read_with_half_a_head_is_heard():
    """close_notify without a FIN: no event will tell of it."""
    with HttpHouse(retries=0) as house:
        client, _, peer = house.ask_over_tls()
        peer.sendall(b"HTTP/1.1 200 O")
        peer.say_end()
        peer.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # sends what waits for more
        assert status(house, client)[0] == 502


def test_an_answer_to_half_a_head_ends_the_connection_to_the_target():
    """What waits in the writer is no beginning of the next request."""
    with HttpHouse(LONG_HEADS) as house:
        house.servers[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client, session = house.client()
        house.send(client, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + bytes(6 * MIB).replace(b"\0", b"x") + b"\r\n\r\n")
        house.until(lambda: session.exchange is not None and session.exchange.upstream is not None)
        server = house.accept()
        assert session.exchange.upstream.writer.blocked
        server.setblocking(True)
        server.sendall(OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        house.turn(2)
        assert house.http.shared.upstreams.open == 0
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
        assert session.exchange.upstream.writer.blocked
        reset(server)
        house.until(lambda: session.exchange.upstream is not None and session.exchange.repeats is RENEWED)
        second = house.accept()
        assert house.read_long_head(second).startswith(head)
        second.setblocking(True)
        second.sendall(OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        house.turn(2)
        assert house.http.shared.upstreams.idle == 1


HINT = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 600_000 + b"\r\n\r\n"
PASSED_HINT = HINT[:-2] + b"Via: 1.1 tcp_proxy\r\n\r\n"


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
        house.until(lambda: not house.thread.members)


SHORT_HINT = b"HTTP/1.1 102 Processing\r\n\r\n"
PASSED_SHORT = SHORT_HINT[:-2] + b"Via: 1.1 tcp_proxy\r\n\r\n"


def waiting_bytes(sock):
    try:
        return len(sock.recv(MIB, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return 0


def test_interim_answers_without_end_leave_others_their_turn():
    """All of them are passed on, some in each turn: others are served in between, and what is not passed on is not read."""
    with HttpHouse() as house:
        client, _ = house.client()
        server = house.ask(client, GET)
        other, _ = house.client()
        others_server = house.ask(other, GET)
        client.setblocking(False)
        other.setblocking(False)
        server.sendall(SHORT_HINT * 2000)
        others_server.sendall(OK)
        before, turns = 0, 0
        while not waiting_bytes(other):
            house.turn()
            now = waiting_bytes(client)
            assert now - before <= 2 * INTERIMS * len(PASSED_SHORT)  # by an event, and by what was left before
            before, turns = now, turns + 1
        assert turns <= 3
        assert house.receive(other, len(OK_PASSED)) == OK_PASSED
        server.sendall(SHORT_HINT * 10 + OK)
        passed = PASSED_SHORT * 2010 + OK_PASSED
        assert house.receive(client, len(passed)) == passed
        house.turn(2)
        assert house.http.shared.upstreams.idle == 2


@pytest.mark.parametrize("end", ["target", "client", "wrong"])
def test_an_end_among_interim_answers_that_wait_for_their_turn(end):
    with HttpHouse() as house:
        client, session = house.client()
        server = house.ask(client, GET)
        server.sendall(SHORT_HINT * 500 + (b"nonsense\r\n\r\n" if end == "wrong" else b""))
        house.turn()
        assert session.exchange.hears_later
        if end == "client":
            reset(client)
        elif end == "target":
            server.close()
        if end != "client":
            assert house.receive(client, 500 * len(PASSED_SHORT)) == PASSED_SHORT * 500
            assert status(house, client)[0] == 502
        else:
            house.until(lambda: session.state.name == "DONE")


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


def test_a_target_that_was_given_up_during_the_dial_hears_nothing_of_the_request():
    with HttpHouse(timeouts=Timeouts(connect=1.0)) as house:
        hole, good = blackhole(house.stack), house.endpoint(house.servers[0])
        house.app.change_target("t0", "up", (good, (socket.AF_INET, hole)))  # the rotation begins with the second
        client, session = house.client()
        house.send(client, GET)
        house.until(lambda: session.dial is not None)
        house.app.targets["t0"].cut += 1
        house.pass_time(1.01)
        assert house.receive(client, 20).startswith(b"HTTP/1.1 502 ")
        server = house.accept()
        server.setblocking(True)
        server.settimeout(5)
        with pytest.raises(ConnectionResetError):
            server.recv(100)


def test_a_client_that_ends_its_direction_hears_what_waits_for_it():
    """Our last answer waits behind hints that the client has not read, when its end comes."""
    with HttpHouse(LONG_HEADS) as house:
        client, session = house.client()
        session.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        server = house.ask(client, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        house.send(server, HINT)
        house.until(lambda: session.writer.blocked)
        session.exchange.target.cut_reason = Reason.TARGET_DOWN
        session.cut_off()
        assert (session.state.name, session.writer.blocked) == ("CLOSING", True)
        client.shutdown(socket.SHUT_WR)
        house.turn(3)
        got = house.receive(client)
        assert got.startswith(PASSED_HINT + b"HTTP/1.1 502 ")
        assert got.endswith(b"taken out of service\n")


def test_a_head_in_single_bytes_is_looked_at_once():
    """Else who sends 60 KiB, and then byte by byte, costs milliseconds for each of them."""
    with HttpHouse() as house:
        client, session = house.client()
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 1000
        house.send(client, head)
        for byte in b"y\r\n":
            assert session.reader.seen == len(session.reader.input) == len(head)
            head += bytes([byte])
            house.send(client, bytes([byte]))
        server = house.ask(client, b"\r\n")
        assert session.reader.seen == 0
        answer = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\nhello"
        for number, byte in enumerate(answer):
            reader = session.exchange.upstream.reader
            house.send(server, bytes([byte]))
            if number < answer.index(b"\r\n\r\n") + 3:
                assert reader.seen == len(reader.heard) == number + 1
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED


def test_a_kept_connection_of_a_target_that_has_left_is_not_dialed_anew():
    """A reload has removed it, and it ends the connection without an answer: there is no address to try again."""
    with HttpHouse() as house:
        client, session = house.client()
        server = house.ask(client, GET)
        server.sendall(OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        house.send(client, GET)
        house.until(lambda: session.exchange is not None and session.exchange.upstream is not None)
        session.exchange.upstream.target.leave()
        server.close()
        assert house.receive(client, 12) == b"HTTP/1.1 502"
        house.turn(2)


def test_a_bug_met_in_a_part_of_a_client_ends_that_client_alone():
    """What the worker's handler of errors goes up by: each part that the loop calls knows the member it belongs to."""
    with HttpHouse() as house:
        client, session = house.client()
        house.send(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 10)
        house.until(lambda: session.exchange is not None and session.exchange.up is not None)
        exchange = session.exchange
        for part in (exchange, exchange.up, exchange.upstream):
            assert member_of(part) is session
        assert hasattr(Closing, "owner")
        assert hasattr(Delivery, "owner")


@pytest.mark.parametrize(("trailers", "idle"), [(b"", 1), (b"X-Sum: 7\r\n", 0)])
def test_a_connection_that_has_had_trailers_is_not_used_again(trailers, idle):
    """There are servers that leave them unread, before the next request: it would be another client's."""
    with HttpHouse() as house:
        client, _ = house.client()
        body = b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n"
        server = house.ask(client, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        assert house.receive(server, len(body)) == body
        server.setblocking(True)
        server.sendall(OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        house.turn(2)
        assert house.http.shared.upstreams.open == idle
        if not idle:
            assert house.receive(server, 1) == b""
            server = house.ask(client, GET)
        else:
            client.sendall(GET)
            house.read_head(server)
        server.setblocking(True)
        server.sendall(OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED


ANSWER = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: %d\r\n\r\n%b"


def test_what_comes_behind_an_early_answer_is_nobody_s():
    """The rest of the request is awaited; the event that tells of it is the only one."""
    with HttpHouse() as house:
        client, session = house.client()
        server = house.ask(client, POST % 10 + b"hello")
        house.send(server, ANSWER % (5, b"early"))
        house.send(server, ANSWER % (5, b"wrong"), turns=3)
        house.send(client, b"world")
        assert house.receive(server, 10) == b"helloworld"
        house.until(lambda: session.exchange is None)
        house.ask(house.client()[0], GET)


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_what_comes_behind_an_answer_that_waits_for_the_client_is_nobody_s(method):
    with HttpHouse() as house:
        client, session = house.client()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        session.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        server = house.ask(client, GET)
        house.send(server, ANSWER % (5, b"hello"))
        house.read_head(client)
        house.receive(client, 5)
        client.setblocking(True)
        client.sendall(GET.replace(b"GET", method))
        house.read_head(server)
        house.send(server, ANSWER % (51_200, bytes(51_200)), turns=3)
        assert session.writer.blocked
        house.send(server, ANSWER % (5, b"wrong"), turns=3)
        house.read_head(client)
        assert house.receive(client, 51_200) == bytes(51_200)
        house.until(lambda: session.exchange is None)
        house.ask(house.client()[0], GET)


def test_what_comes_while_interim_answers_wait_for_their_turn_is_nobody_s():
    with HttpHouse() as house:
        client, session = house.client()
        server = house.ask(client, GET)
        server.sendall(SHORT_HINT * 3 * INTERIMS + ANSWER % (5, b"hello"))
        house.turn()
        assert session.exchange.hears_later
        server.sendall(ANSWER % (5, b"wrong"))
        house.until(lambda: session.exchange is None)
        assert house.receive(client, 3 * INTERIMS * len(PASSED_SHORT)) == PASSED_SHORT * 3 * INTERIMS
        house.ask(house.client()[0], GET)


def test_a_dial_that_is_over_is_freed_without_the_collector():
    """Else each holds its client's connection until garbage is searched for, and for ever where that is left out of it."""
    with HttpHouse() as house:
        client, _ = house.client()
        gc.disable()
        before = sum(type(one) is Dial for one in gc.get_objects())
        try:
            server = house.ask(client, GET)
            house.send(server, OK)
            assert house.receive(client, len(OK_PASSED)) == OK_PASSED
            assert sum(type(one) is Dial for one in gc.get_objects()) == before
        finally:
            gc.enable()


@pytest.mark.parametrize("how", ["at rest", "waiting", "an upload", "an answer", "refused", "broken off", "a tunnel"])
def test_a_clients_connection_is_freed_without_the_collector(how):
    """What the search leaves out (runtime.memory), as of each time when an app had its first client, stays for ever."""
    with HttpHouse(Http(upgrades=("websocket",))) as house:
        house.ask(house.client()[0], GET)  # whatever is made once
        gc.disable()
        before = sum(type(one) in PARTS for one in gc.get_objects())
        try:
            _come_and_go(house, how)
            house.turn(3)
            assert sum(type(one) in PARTS for one in gc.get_objects()) == before
        finally:
            gc.enable()


def _come_and_go(house, how):
    client, session = house.client()
    _until_its_end(house, client, how)
    reset(client)
    house.until(lambda: session.state is DONE)
    known = SimpleNamespace(number=session.number, thread=session.thread, state=DONE, kill=lambda *_: None)
    house.sessions[-1] = known


def _until_its_end(house, client, how):
    if how == "refused":
        house.send(client, b"GET\r\n\r\n")
        status(house, client)
        return
    if how == "a tunnel":
        server = house.ask(client, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        house.send(server, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert status(house, client)[0] == 101
        server.close()
        return
    server = house.ask(client, POST % 100 if how == "an upload" else GET)
    if how == "at rest":
        house.send(server, OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
    elif how in ("an answer", "broken off"):
        house.send(server, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        assert status(house, client)[0] == 200
        if how == "broken off":
            reset(server)
            house.turn(3)
