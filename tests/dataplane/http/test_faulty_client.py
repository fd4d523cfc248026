"""Clients of mode http that meet a fault on purpose: what waits, for how long, and that every byte passes in its order."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.dialogue import OK, OK_PASSED
from tcp_proxy.config.model import Http, SessionLimits, Timeouts
from tcp_proxy.dataplane.http.faulty_client import PIECES, FaultyClient
from tcp_proxy.sansio.address import notes_of
from tcp_proxy.wire.counters import FAULTED
from tcp_proxy.wire.views import FaultView
from tests.dataplane.house import reset
from tests.dataplane.http.rig import GET, HttpHouse
from tests.dataplane.http.test_tunnel import EXEC, SIZED, SWITCH, SWITCHED

STEP = 0.05  # seconds of the clock in a round
LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
PATIENT = Timeouts(request=1000.0, response=1000.0)


class Faulty(HttpHouse):
    """An app with one fault, or more: `also`."""

    def __init__(self, rate=0, timeouts=PATIENT, http=None, also=(), **said):
        super().__init__(timeouts=timeouts, http=http)
        self.app.limits = SessionLimits(bytes_per_second=rate)
        self.app.has_rates = rate > 0
        self.app.meet((FaultView(3, "x", **said), *also))

    def over(self):
        self.app.meet(())
        self.turn(5)

    def wait(self, seconds):
        for _ in range(round(seconds / STEP)):
            self.pass_time(STEP)

    def got(self, sock):
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            return sock.recv(1 << 20)
        return None

    def pull(self, sock, is_enough):
        """What comes, while the clock runs, until it is enough."""
        got = b""
        for _ in range(40_000):
            if is_enough(got):
                return got
            part = self.got(sock)
            assert part != b"", f"it ended after {len(got)} bytes: {got[:200]}"
            got += part or b""
            self.pass_time(STEP)
        raise AssertionError(f"only {len(got)} bytes came: {got[:200]}")

    def head(self, sock):
        return self.pull(sock, lambda got: b"\r\n\r\n" in got)


def body_of(message):
    return message.partition(b"\r\n\r\n")[2]


def test_requests_and_answers_wait_for_their_latency_each_time():
    with Faulty(latency=1.0) as house:
        client, session = house.client()
        server = None
        for _ in range(2):
            client.sendall(GET)
            house.wait(0.9)
            assert session.state.name == "READING"
            house.wait(0.2)
            server = server or house.accept()
            house.read_head(server)
            server.sendall(OK)
            house.wait(0.9)
            assert house.got(client) is None
            house.wait(0.2)
            assert house.got(client) == OK_PASSED


@pytest.mark.parametrize(("direction", "waits"), [("up", True), ("down", False)])
def test_a_direction_says_what_waits(direction, waits):
    with Faulty(timeout=True, direction=direction) as house:
        client, session = house.client()
        client.sendall(GET)
        house.wait(1)
        assert (session.state.name == "READING") is waits
        if not waits:
            server = house.accept()
            house.read_head(server)
            server.sendall(OK)
            house.wait(1)
            assert house.got(client) is None
            house.over()
            assert house.got(client) == OK_PASSED
        else:
            house.over()
            assert session.state.name != "READING"


def test_the_end_of_a_fault_lets_everything_go_on_and_plain():
    with Faulty(latency=500.0) as house:
        client, _ = house.client()
        client.sendall(GET)
        house.wait(1)
        house.over()
        server = house.accept()
        house.read_head(server)
        for _ in range(2):
            server.sendall(OK)
            house.turn(3)
            assert house.got(client) == OK_PASSED
            client.sendall(GET)
            house.turn(3)
            house.read_head(server)


def test_it_is_marked_and_counted_and_others_are_plain():
    with Faulty(latency=1.0, networks=("127.0.0.0/8",)) as house:
        client, session = house.client()
        assert isinstance(session.client, FaultyClient)
        assert notes_of(session.address) == "fault 3: x"
        assert house.row[house.app.slot + FAULTED] == 1
        client.sendall(GET)
        house.wait(1.1)
        house.accept().sendall(OK)
        assert house.head(client) == OK_PASSED
        client.close()
        house.wait(5)
        assert house.record()["notes"] == "fault 3: x"
        assert "fault 3: x" in house.requests[-1]
        house.app.meet((FaultView(4, "y", networks=("192.0.2.0/24",)),))
        _, other = house.client()
        assert not isinstance(other.client, FaultyClient)


def test_the_client_is_reset_after_its_first_bytes():
    with Faulty(reset=100.0) as house:
        client, _ = house.client()
        client.sendall(GET)
        house.turn(4)
        assert house.record()["reason"] == "closed_by_admin"
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_the_end_of_a_connection_comes_late():
    with Faulty(slow_close=5.0) as house:
        client, _ = house.client()
        server = house.ask(client, LAST)
        server.sendall(OK)
        house.turn(5)
        assert house.got(client).startswith(b"HTTP/1.1 200")
        house.wait(4.8)
        assert house.got(client) is None
        house.wait(0.4)
        assert house.got(client) == b""


def test_an_end_of_the_client_is_heard_late():
    with Faulty(slow_close=5.0, direction="up") as house:
        client, session = house.client()
        client.close()
        house.wait(4.8)
        assert session.state.name == "READING"
        house.wait(0.4)
        assert house.record()["reason"] == "done"


def test_a_slicer_cuts_into_pieces_and_gives_others_their_turn():
    with Faulty(slicer=7) as house:
        client, _ = house.client()
        client.sendall(GET * 50)
        house.turn(1)
        server = house.accept()
        assert house.read_head(server)
        server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n" + b"z" * 4000)
        house.turn(2)
        assert len(house.got(client)) <= 2 * 7 * PIECES


# -- cases of others, by their names there


@pytest.mark.parametrize(
    ("said", "waits_up", "waits_down"),
    [
        pytest.param({"latency": 0.1, "direction": "up"}, 0.1, 0.0, id="Toxiproxy TestUpstreamLatency"),
        pytest.param({"latency": 0.1, "direction": "down"}, 0.0, 0.1, id="Toxiproxy TestDownstreamLatency"),
        pytest.param({"latency": 0.1}, 0.1, 0.1, id="Toxiproxy TestFullstreamLatencyEven, Envoy FixedDelayNonZeroDuration"),
        pytest.param({"slicer": 65536}, 0.0, 0.0, id="Toxiproxy TestZeroLatency, Envoy FixedDelayZeroDuration"),
    ],
)
def test_a_latency_is_the_same_in_every_round(said, waits_up, waits_down):
    """Of 32 KiB there and back, twice."""
    body = b"a" * 32768
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with Faulty(**said) as house:
        client, _ = house.client()
        server = None
        for _ in range(2):
            begun = house.clock.now
            client.sendall(post)
            while not (server or house.app.targets["t0"].active):
                house.pass_time(STEP)
            server = server or house.accept()
            house.pull(server, lambda got: body in got)
            assert waits_up <= house.clock.now - begun <= 2 * waits_up + 10 * STEP
            begun = house.clock.now
            server.sendall(answer)
            house.pull(client, lambda got: body in got)
            assert waits_down <= house.clock.now - begun <= 2 * waits_down + 10 * STEP


@pytest.mark.parametrize("ends", [True, False])
def test_a_client_leaves_while_it_waits_and_the_fault_ends(ends):
    """Toxiproxy's TestLatencyToxicCloseRace and TestTimeoutToxicCausesDeadlock, Envoy's TimerResetAfterStreamReset."""
    for said in ({"latency": 0.2}, {"timeout": True}):
        with Faulty(**said) as house:
            for number in range(5):
                client, session = house.client()
                client.sendall(GET)
                house.turn(number)
                reset(client)
                if ends:
                    house.over()
                    house.app.meet((FaultView(number + 4, "x", **said),))
                house.wait(0.5)
                if not ends:
                    assert session.state.name == "DONE", "and nobody was sent its request"
                    assert not house.app.targets["t0"].active
            assert not any(fault.waiting for fault in house.app.faults._known.values())


EFFECTS = st.fixed_dictionaries(
    {},
    optional={
        "latency": st.sampled_from([0.06, 0.3]),
        "jitter": st.sampled_from([0.05, 0.2]),
        "bandwidth": st.sampled_from([3000, 100_000]),
        "slicer": st.sampled_from([1, 7, 1000]),
        "slow_close": st.just(0.2),
        "direction": st.sampled_from(["both", "up", "down"]),
        "rate": st.sampled_from([0, 50_000]),
    },
)


@settings(max_examples=25, deadline=None)
@given(EFFECTS, st.integers(0, 12_000), st.integers(0, 12_000), st.booleans(), st.booleans())
def test_every_byte_passes_in_its_order_whatever_the_fault(effects, up_size, down_size, is_chunked, ends_early):
    up, down = (bytes(n * by % 251 for n in range(size)) for by, size in ((7, up_size), (11, down_size)))
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(down), down) if is_chunked and down else down
    field = b"Content-Length: %d" % len(down) if framed is down else b"Transfer-Encoding: chunked"
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(up), up)
    with Faulty(**effects) as house:
        client, _ = house.client()
        target, server = house.app.targets["t0"], None
        for _ in range(2):  # the second one meets a connection to the target that is kept
            client.sendall(post)
            while not (server or target.active):
                house.pass_time(STEP)
            server = server or house.accept()
            request = house.pull(server, lambda got: b"\r\n\r\n" in got and len(body_of(got)) >= len(up))
            assert body_of(request) == up
            server.sendall(b"HTTP/1.1 200 OK\r\nDate: x\r\n%b\r\n\r\n%b" % (field, framed))
            if ends_early:
                house.over()
            answer = house.pull(client, lambda got: b"\r\n\r\n" in got and len(body_of(got)) >= len(framed))
            assert body_of(answer) == framed


def test_a_tunnel_meets_it_too_and_is_marked_once():
    with Faulty(http=Http(upgrades=("tcp",)), latency=0.1) as house:
        client, _ = house.client()
        client.sendall(EXEC % (SIZED % 0))
        house.wait(0.2)
        server = house.accept()
        house.read_head(server)
        server.sendall(SWITCH)
        assert house.head(client) == SWITCHED
        (session,) = house.thread.members
        assert type(session.client).__name__ == "PacedSocket"
        assert notes_of(session.address) == "fault 3: x"
        client.sendall(b"ping")
        house.turn(3)
        assert house.got(server) is None
        house.wait(0.2)
        assert house.got(server) == b"ping"
        client.close()
        server.close()
        house.wait(1)


def test_several_are_met_at_once_each_in_its_direction():
    with Faulty(latency=1.0, direction="up", also=(FaultView(4, "y", latency=2.0), FaultView(5, "z", share=0.0))) as house:
        client, session = house.client()
        assert notes_of(session.address) == "fault 3: x fault 4: y"
        client.sendall(GET)
        house.wait(2.9)
        assert session.state.name == "READING", "up both count: three seconds"
        house.wait(0.2)
        server = house.accept()
        house.read_head(server)
        server.sendall(OK)
        house.wait(1.9)
        assert house.got(client) is None, "down the second one alone: two seconds"
        house.wait(0.2)
        assert house.got(client) == OK_PASSED


def test_one_of_two_that_ends_leaves_the_other():
    with Faulty(timeout=True, also=(FaultView(4, "y", timeout=True),)) as house:
        client, session = house.client()
        client.sendall(GET)
        house.wait(1)
        house.app.meet((FaultView(4, "y", timeout=True),))
        house.wait(1)
        assert session.state.name == "READING"
        house.over()
        assert session.state.name != "READING"
