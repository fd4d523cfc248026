"""Clients of mode http that are slowed down: every byte comes, in its order, and no faster than it may."""

import contextlib
import types

import pytest
from dataplane.tls import tls_pair
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.dialogue import OK, OK_PASSED
from kit.waiting import wait_until
from tcp_proxy.config.model import Http, SessionLimits, Timeouts
from tcp_proxy.dataplane.http.paced_client import PacedClient
from tcp_proxy.dataplane.http.reader import READABLE
from tcp_proxy.dataplane.relay.paced_pump import chunk_of
from tcp_proxy.runtime.loop import EDGE, Loop
from tests.dataplane.http.rig import GET, HttpHouse, pair
from tests.dataplane.http.test_tunnel import EXEC, SIZED, SWITCH, SWITCHED

STEP = 0.05  # seconds of the clock in a round


class Paced(HttpHouse):
    """An app with bytes_per_second; a round of `exchange` is STEP seconds."""

    def __init__(self, rate, **how):
        super().__init__(**how)
        self.app.limits = SessionLimits(bytes_per_second=rate)
        self.app.is_paced = self.app.has_rates = True
        self.begun = self.clock.now

    @property
    def seconds(self):
        return self.clock.now - self.begun

    def move(self, source, data, sink, wanted):
        """All of `data` from one end to the other, while the clock runs; what came."""
        source.setblocking(False)
        sink.setblocking(False)
        got, rounds = b"", 0
        while len(got) < wanted:
            with contextlib.suppress(BlockingIOError):
                data = data[source.send(data) :] if data else data
            with contextlib.suppress(BlockingIOError):
                part = sink.recv(1 << 20)
                got += part
                assert part, f"it ended after {len(got)} of {wanted} bytes"
            self.pass_time(STEP)
            rounds += 1
            assert rounds < 20_000, f"only {len(got)} of {wanted} bytes came"
        return got


def most(rate, seconds):
    """Bytes that may have moved: those of a second at once, and a turn beyond."""
    return rate + rate * seconds + chunk_of(rate)


RATES = st.sampled_from([1000, 20_000, 500_000])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60_000), RATES, st.booleans(), st.booleans())
def test_every_byte_of_an_answer_comes_no_faster_than_it_may(size, rate, is_chunked, keeps):
    size = min(size, 10 * rate)
    body = bytes(n * 7 % 251 for n in range(size))
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (size, body) if is_chunked else body
    field = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % size
    answer = b"HTTP/1.1 200 OK\r\nDate: x\r\n%b\r\n\r\n" % field
    passed = b"HTTP/1.1 200 OK\r\nDate: x\r\n%b\r\nVia: 1.1 tcp_proxy\r\n" % field
    with Paced(rate, timeouts=Timeouts(response=5.0)) as house:
        client, _ = house.client()
        server = house.ask(client, GET)
        begun = house.seconds
        server.setblocking(False)
        got = house.move(server, answer + framed, client, len(framed) + 40)
        while not got.endswith(framed):
            got += house.move(server, b"", client, 1)
        assert len(got) <= most(rate, house.seconds - begun)
        assert passed.split(b"\r\n")[0] in got
        if keeps:  # and the connection goes on
            client.sendall(GET)
            for _ in range(60):
                house.pass_time(STEP)
            house.read_head(server)
            house.move(server, OK, client, len(OK_PASSED))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60_000), RATES)
def test_every_byte_of_a_request_comes_no_faster_than_it_may(size, rate):
    size = min(size, 10 * rate)
    body = bytes(n * 11 % 253 for n in range(size))
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    with Paced(rate, timeouts=Timeouts(response=5.0)) as house:
        client, _ = house.client()
        server = house.ask(client, head)
        begun = house.seconds
        got = house.move(client, body, server, size)
        assert got == body
        assert size + len(head) <= most(rate, house.seconds - begun)
        house.move(server, OK, client, len(OK_PASSED))


def test_pipelined_requests_come_one_after_another():
    with Paced(200) as house:
        client, _ = house.client()
        server = house.ask(client, GET * 20)
        for number in range(20):
            if number:
                for _ in range(400):
                    house.pass_time(STEP)
                house.read_head(server)
            house.move(server, OK, client, len(OK_PASSED))
        assert 20 * len(GET) <= most(200, house.seconds)


def test_a_head_that_we_slow_down_is_not_too_late():
    """A thousand bytes at a hundred a second take longer than `timeouts.request`."""
    with Paced(100, timeouts=Timeouts(request=2.0)) as house:
        client, session = house.client()
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        house.pass_time(STEP)
        client.sendall(b"X: %b\r\n\r\n" % (b"x" * 3000))
        for _ in range(1200):
            house.pass_time(STEP)
        server = house.accept()
        assert b"x" * 3000 in house.read_head(server)
        assert house.seconds > 20
        assert session.exchange is not None


def test_an_answer_that_we_slow_down_is_not_silence():
    with Paced(50, timeouts=Timeouts(response=1.0)) as house:
        client, _ = house.client()
        server = house.ask(client, GET)
        answer = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 3000\r\n\r\n" + b"y" * 3000
        got = house.move(server, answer, client, 3000)
        while got.count(b"y") < 3000:
            got += house.move(server, b"", client, 1)
        assert house.seconds > 15


def test_a_client_that_ends_while_it_is_paused_is_noticed():
    with Paced(100) as house:
        client, session = house.client()
        house.ask(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + b"z" * 2000)
        client.close()
        for _ in range(1000):
            house.pass_time(STEP)
        assert session.state.name == "DONE"
        assert house.record()["reason"] == "client_gone"


def test_a_tunnel_is_slowed_down_by_its_session():
    with Paced(1000, http=Http(upgrades=("tcp",))) as house:
        client, _ = house.client()
        server = house.ask(client, EXEC % (SIZED % 0))
        house.move(server, SWITCH, client, len(SWITCHED))
        (session,) = house.thread.members
        assert type(session.client).__name__ == "PacedSocket"
        begun = house.seconds
        for source, sink in ((server, client), (client, server)):
            assert house.move(source, b"t" * 5000, sink, 5000) == b"t" * 5000
        assert house.seconds - begun > 2 * 2.5
        client.close()
        server.close()
        for _ in range(200):
            house.pass_time(STEP)
        assert not house.thread.members


def test_an_end_of_tls_that_was_read_before_a_pause_is_heard_after_it():
    """close_notify without a FIN: epoll has nothing to tell."""
    with contextlib.ExitStack() as stack:
        near, far = pair(stack)
        peer, ours = map(stack.enter_context, tls_pair(far, near))
        loop = Loop("test")
        stack.callback(loop.close)
        app = types.SimpleNamespace(limits=SessionLimits(bytes_per_second=1000), client_limits=None)
        client = PacedClient(loop, ours.tls, 1, app)
        ended = []

        def ready(events):
            if events & READABLE:
                with contextlib.suppress(BlockingIOError):
                    ended.append(client.recv(65536) == b"")

        client.ready = ready
        peer.sendall(b"x" * 1020)
        peer.say_end()
        loop.watch(ours.fileno(), EDGE, ready)
        wait_until(lambda: loop.run_once(0.1) or True in ended, "the end")
        loop.unwatch(ours.fileno())


def test_what_tls_has_read_ahead_is_told_of():
    """Epoll knows nothing of it."""

    class ReadAhead:
        has_unread = True

        def fileno(self):
            return 0

        def recv(self, size, _flags):
            return b"x" * size

    loop = Loop("test")
    app = types.SimpleNamespace(limits=SessionLimits(bytes_per_second=1000), client_limits=None)
    client = PacedClient(loop, ReadAhead(), 1, app)
    told = []
    client.ready = told.append
    with contextlib.ExitStack() as stack:
        ours, _ = pair(stack)
        stack.callback(ours.close)
        client._sock.fileno = ours.fileno
        loop.watch(ours.fileno(), 0, told.append)
        assert client.recv(65536) == b"x" * 1024
        with pytest.raises(BlockingIOError):
            client.recv(65536)
        assert client.paused_until > loop.now
        while not told:
            loop.run_once()
        loop.unwatch(ours.fileno())
    loop.close()
