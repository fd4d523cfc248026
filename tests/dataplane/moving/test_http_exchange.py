"""A client moves in the middle of its request, or of its answer, at any byte: nobody can tell, and there is one record."""

import contextlib
import os

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tcp_proxy.config.model import Http, StickyCookie, Timeouts
from tcp_proxy.dataplane.moving.http_exchange import refusal
from tcp_proxy.wire import counters
from tcp_proxy.wire.moved_exchange import MovedExchange
from tcp_proxy.wire.moved_session import EXCHANGE, MovedSession
from tests.dataplane.house import Clock
from tests.dataplane.moving.two_workers import ADDRESS, LISTENER, TARGET
from tests.dataplane.moving.web_workers import Talk, WebWorkers

HEAD = b"HTTP/1.1 200 OK\r\nDate: Mon, 30 Nov 2026 00:00:00 GMT\r\n"
LAST = b"Connection: close\r\n"
CHUNKED = b"5\r\nhello\r\n6;x=1\r\n world\r\n0\r\n\r\n"
TRAILED = b"5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nX-Sum: 7\r\n\r\n"
REQUESTS = {
    "none": (b"GET /a HTTP/1.1\r\nHost: a\r\n" + LAST + b"\r\n",),
    "head": (b"HEAD /a HTTP/1.1\r\nHost: a\r\n" + LAST + b"\r\n",),
    "length": (b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n" + LAST + b"\r\nhello world",),
    "chunks": (b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + LAST + b"\r\n" + CHUNKED,),
    "expects": (b"PUT /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n" + LAST + b"\r\nbody",),
    "old": (b"GET /a HTTP/1.0\r\n\r\n",),
    "odd": (
        b"PUT http://b/x?y HTTP/1.1\r\nHost: a\r\nX-Request-ID: mine\r\nContent-Length: 003\r\nX: \xe4\r\n%b\r\nabc" % LAST,
    ),
    "three": (
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /c HTTP/1.1\r\nHost: a\r\n" + LAST + b"\r\n",
    ),
}  # fmt: skip
ANSWERS = {
    "length": HEAD + b"Content-Length: 12\r\n\r\nan answer of",
    "empty": HEAD + b"Content-Length: 0\r\n\r\n",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "trailers": HEAD + b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" + TRAILED,
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + HEAD + b"Content-Length: 1\r\n\r\n.",
    "until close": HEAD + b"\r\nas much as there is",
    "none of HTTP": b"220 mail.example.org ESMTP\r\n",
    "odd chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
}


def heard(asked, answer, cuts, moves, is_refused=False, **view):
    """`cuts`: who says how many bytes; the client moves after each, where `moves`. What was said, and how often it moved."""
    closes = answer is ANSWERS["until close"]
    with WebWorkers(**view) as two:
        if is_refused:
            two.second.apps.clear()
        talk = Talk(two, b"".join(asked), [answer] * len(asked), closes)
        for is_client, size in cuts:
            (talk.say if is_client else talk.answer)(size)
            if moves:
                two.move_on()
        return talk.end(), two.moves


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(REQUESTS)),
    st.sampled_from(sorted(ANSWERS)),
    st.lists(st.tuples(st.booleans(), st.integers(1, 60)), min_size=1, max_size=12),
)
def test_a_talk_that_is_cut_and_moved_anywhere_is_the_same_to_all(request_name, answer_name, cuts):
    asked, answer = REQUESTS[request_name], ANSWERS[answer_name]
    stayed, none = heard(asked, answer, cuts, moves=False)
    moved, times = heard(asked, answer, cuts, moves=True)
    assert moved == stayed
    assert not none
    event(f"{times} moves")


@settings(max_examples=50)
@given(
    st.sampled_from(sorted(REQUESTS)),
    st.sampled_from(sorted(ANSWERS)),
    st.lists(st.tuples(st.booleans(), st.integers(1, 60)), min_size=1, max_size=12),
)
def test_one_that_is_refused_anywhere_goes_on_where_it_was(request_name, answer_name, cuts):
    asked, answer = REQUESTS[request_name], ANSWERS[answer_name]
    stayed, _ = heard(asked, answer, cuts, moves=False)
    assert heard(asked, answer, cuts, moves=True, is_refused=True) == (stayed, 0)


@pytest.mark.parametrize("name", ["length", "chunks"])
def test_it_moves_after_each_byte_of_request_and_answer(name):
    (asked,), answer = REQUESTS[name], ANSWERS[name]
    with WebWorkers() as two:
        talk = Talk(two, asked, [answer])
        for _ in range(len(asked)):
            talk.say(1)
            assert two.move_on().moved == 1, talk
        for _ in range(len(answer) - 1):
            talk.answer(1)
            assert two.move_on().moved == 1, talk
        said = talk.end()
        assert said.client.endswith(b"\r\n\r\n" + answer.partition(b"\r\n\r\n")[2].replace(b";x=1", b""))
        (request,), (record,) = said.requests, two.records
        assert (request[0], record["id"]) == ("w.0-1-1", "w.0-1")
        assert len(record["processes"]) == len(asked) + len(answer)
        assert len(two.requests[0][-1]) == record["processes"].count(os.getpid()) - asked.index(b"\r\n\r\n") - 3, "its own"
        assert record["bytes_up"] == request[5] == len(asked.partition(b"\r\n\r\n")[2].replace(b";x=1", b""))


class Wandering:
    """The client of these workers, which moves to and fro all the time."""

    def __init__(self, two):
        self.two, self._order = two, None

    def turn(self):
        two = self.two
        two.turn()
        if self._order is not None and all(told.order != self._order for told in two.giver.told):
            return  # it is on its way
        if self._order is not None and two.giver.told[-1].moved:
            two.where, two.moves = 1 - two.where, two.moves + 1
        self._order = two.order(two.giver, two.taker)

    def carry(self, sender, receiver, data, before):
        """What the receiver has when `before` bytes and these have come."""
        got, size = bytearray(), before + len(data)
        while len(got) < size:
            with contextlib.suppress(BlockingIOError):
                data = data[sender.send(data[:300_000]) :] if data else data
            with contextlib.suppress(BlockingIOError):
                got += receiver.recv(100_000)
            self.turn()
        return bytes(got)


def chunked(data):
    """Cut into chunks of odd sizes."""
    pieces = [data[at : at + 70_001] for at in range(0, len(data), 70_001)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("coded", [False, True], ids=["length", "chunks"])
def test_a_long_upload_and_a_long_download_are_whole_though_they_move_all_the_time(coded):
    """By copying and by splice; readers are slower than writers, so bytes wait for both sides."""
    body = os.urandom(6_000_000)
    framing = b"Transfer-Encoding: chunked\r\n\r\n" if coded else b"Content-Length: %d\r\n\r\n" % len(body)
    wire = chunked(body) if coded else body
    with WebWorkers() as two:
        wanders, client = Wandering(two), two.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing)
        server = two.accept()
        head = two.receive(server, 1)
        while not head.endswith(b"\r\n\r\n"):
            head += two.receive(server, 1)
        assert wanders.carry(client, server, wire, 0) == wire
        times = two.moves
        answer = HEAD + framing
        got = wanders.carry(server, client, answer + wire, len(b"Via: 1.1 tcp_proxy\r\n"))
        assert got.partition(b"\r\n\r\n")[2] == wire
        assert times > 20
        assert two.moves - times > 20
        client.close()
        two.until(lambda: two.records)
        (record,) = two.records
        assert (record["bytes_up"], record["bytes_down"]) == (len(wire), len(wire))
        assert sum(two.memory.total(TARGET + slot) for slot in (counters.BYTES_UP, counters.BYTES_DOWN)) == 2 * len(wire)


@pytest.mark.parametrize("is_refused", [False, True])
def test_what_waits_for_a_stopped_reader_comes_along(is_refused):
    """What is in a pipe, too."""
    body = os.urandom(40_000_000)
    with WebWorkers() as two:
        if is_refused:
            two.second.apps.clear()
        client = two.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        server, data = two.accept(), memoryview(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        misses = 0
        while misses < 50:  # nobody reads, and nobody takes any more
            try:
                data, misses = data[server.send(data[:300_000]) :], 0
            except BlockingIOError:
                misses += 1
            two.turn()
        writer = two.first.sessions[0].writer
        assert writer.pipe is not None
        assert writer.pipe.count, "some of it is in a pipe"
        assert two.move_on().moved == (not is_refused)
        got = bytearray()

        def whole():
            with contextlib.suppress(BlockingIOError):
                nonlocal data
                data = data[server.send(data[:300_000]) :] if data else data
            with contextlib.suppress(BlockingIOError):
                got.extend(client.recv(1 << 20))
            return len(got) >= len(body) + len(HEAD)

        two.until(whole)
        assert bytes(got).partition(b"\r\n\r\n")[2] == body
        client.close()


def asked(two, request=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
    """A client whose request the target has."""
    client = two.connect()
    client.send(request)
    server = two.accept()
    two.until(lambda: two.receive(server, 1))
    return client, server


@pytest.mark.parametrize("is_foreign", [False, True])
def test_its_places_go_along(is_foreign):
    with WebWorkers(limit=2) as two:
        if is_foreign:
            two.second.server.listen(1, LISTENER, two.second.app, ADDRESS, os.dup(two.listener.fileno()))
        client, server = asked(two)
        assert two.move_on(is_foreign=is_foreign).moved == 1
        assert two.memory.total(TARGET + counters.ACTIVE) == 1
        assert os.eventfd_read(two.tokens) == 1
        os.eventfd_write(two.tokens, 1)
        server.send(HEAD + b"Content-Length: 2\r\n\r\nok")
        assert two.receive(client, 5).startswith(b"HTTP/1.1 200")
        assert two.memory.total(TARGET + counters.ACTIVE) == 0
        assert [os.eventfd_read(two.tokens), os.eventfd_read(two.tokens)] == [1, 1]
        os.eventfd_write(two.tokens, 2)
        client.close()


def test_a_request_that_its_target_has_not_answered_is_sent_again_there():
    with WebWorkers() as two:
        client, server = asked(two)
        server.send(HEAD + b"Content-Length: 2\r\n\r\nok")
        two.receive(client, 1)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        two.receive(server, 1)
        assert two.move_on().moved == 1
        server.close()
        again = two.accept()
        two.until(lambda: two.receive(again, 1))
        again.send(HEAD + b"Content-Length: 0\r\n\r\n")
        assert two.receive(client, 15).startswith(b"HTTP/1.1 200 OK")
        client.close()


def test_the_time_for_an_answer_goes_on():
    clock = Clock()
    with WebWorkers(clock=clock, timeouts=Timeouts(response=10.0)) as two:
        client, _server = asked(two)
        clock.now += 6
        two.turn(2)
        assert two.move_on().moved == 1
        clock.now += 4.2
        assert two.receive(client, 12).startswith(b"HTTP/1.1 504")
        client.close()


def test_a_new_request_goes_by_another_connection_to_the_target():
    """How it was spoken to from the start only the other worker knows."""
    with WebWorkers() as two:
        client, server = asked(two)
        assert two.move_on().moved == 1
        server.send(HEAD + b"Content-Length: 2\r\n\r\nok")
        two.until(lambda: two.receive(client, 1))
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        two.accept().send(HEAD + b"Content-Length: 0\r\n\r\n")
        assert two.receive(server) == b"", "it was closed"
        client.close()


LOGIN = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM abc\r\n\r\n"
UPGRADE = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\n"


@pytest.mark.parametrize(("request_", "answer", "http"), [
    (LOGIN, b"", Http()),
    (UPGRADE, b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", Http(upgrades=("x",))),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"", Http(cookie=StickyCookie("c"))),
], ids=["login", "upgrade", "cookie"])  # fmt: skip
def test_what_cannot_be_told_stays(request_, answer, http):
    with WebWorkers(http=http) as two:
        client, server = asked(two, request_)
        server.send(answer)
        two.turn(4)
        assert two.move_on().moved == 0
        client.close()
        server.close()


def test_a_request_that_is_none_is_refused():
    moved = MovedSession(EXCHANGE, "w.0-1", (1,), "web", ADDRESS, ("127.0.0.1", 2), 2, 1.0, 2.0, 1.5, "t0", 2)
    assert refusal(moved) == "its request is none that this program knows: it is not whole"
    assert refusal(moved._replace(exchange=MovedExchange(b"GET / HTTP/1.1\r\n\r\n", 1.0, (1,)))).endswith("no Host")
    whole = MovedExchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1.0, (1,))
    assert not refusal(moved._replace(exchange=whole))
    assert "Repeats" in refusal(moved._replace(exchange=whole._replace(repeats=9)))
