"""Every session, byte and end is counted once, in the right place, whatever thread it ends in."""

import os
import socket

from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.dataplane import session_counters
from tcp_proxy.dataplane.record import REASON_INDEX
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import CONNECT_BUCKETS, CONNECT_SLOTS, CONNECTS, SESSION_SLOTS
from tests.dataplane.house import House, reset


class Count:
    """What stands in the counters of a House now."""

    def __init__(self, house, target=None):
        memory, app = house.memory, house.app
        block = memory.sums(app.slot if target is None else app.targets[target].slot, counters.TARGET_SLOTS)
        listener = memory.sums(house.listener_slot, counters.LISTENER_SLOTS)
        self.accepted, self.ended = listener[:2]
        self.active = block[counters.ACTIVE]
        self.bytes = block[counters.BYTES_UP], block[counters.BYTES_DOWN]
        self.connects = block[CONNECTS : CONNECTS + CONNECT_SLOTS]
        self.durations = block[counters.DURATIONS : counters.DURATIONS + SESSION_SLOTS]
        self.seconds = block[counters.SESSION_MICROSECONDS] / 1e6
        self.connect_seconds = block[counters.CONNECT_MICROSECONDS] / 1e6
        self.retries = block[counters.RETRIES]
        ends = {reason.value: block[counters.ENDS + index] for reason, index in REASON_INDEX.items()}
        self.ends = {reason: count for reason, count in ends.items() if count}


def test_a_session_counts_at_its_listener_and_its_target():
    with House() as house:
        client, server, _ = house.pair()
        now = Count(house, "t0")
        assert (now.accepted, now.ended, now.active, sum(now.connects), now.ends) == (1, 0, 1, 1, {})
        client.sendall(b"abc")
        house.until(lambda: house.sessions[0].up.moved == 3)
        server.sendall(b"defgh")
        house.until(lambda: house.sessions[0].down.moved == 5)
        assert (server.recv(9), client.recv(9)) == (b"abc", b"defgh")
        house.pass_time(0.2)
        client.close()
        server.close()
        house.record()
        now = Count(house, "t0")
        assert (now.accepted, now.ended, now.active, now.bytes) == (1, 1, 0, (3, 5))
        assert now.ends == {"done": 1}
        assert (now.durations.index(1), sum(now.durations)) == (4, 1), "0.2 s: above 0.1, at most 0.5"
        assert 0.19 < now.seconds < 0.21
        assert Count(house).ends == {}, "nothing at the app: it had a target"


def test_a_session_without_a_target_counts_at_its_app():
    with House(targets=2, retries=1) as house:
        for server in house.servers:
            server.close()
        house.client()
        assert house.record()["reason"] == "connect_failed"
        assert Count(house).ends == {"connect_failed": 1}
        assert sum(Count(house).durations) == 1
        now = [Count(house, name) for name in ("t0", "t1")]
        assert [(item.active, item.ends, sum(item.connects)) for item in now] == [(0, {}, 0)] * 2
        assert sorted(item.retries for item in now) == [0, 1], "the second connect is the retry"
        assert (now[0].accepted, now[0].ended) == (1, 1)


def test_the_bytes_of_a_long_session_are_seen_while_it_runs():
    with House() as house:
        client, server, session = house.pair()
        for total in (1000, 2000):
            client.sendall(bytes(1000))
            house.until(lambda total=total: session.up.moved == total)
            house.pass_time(2.5)
            house.pass_time(1.1)
            assert Count(house, "t0").bytes == (total, 0)
        client.sendall(bytes(500))
        house.until(lambda: session.up.moved == 2500)
        reset(server)
        assert house.record()["bytes_up"] == 2500
        assert Count(house, "t0").bytes == (2500, 0)


def test_what_the_proxy_holds_is_not_counted_as_delivered():
    """Else the counter would go back when the session ends before it is written."""
    with House() as house:
        client, server, session = house.pair()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        while not session.up.pending:
            try:
                client.send(bytes(1 << 16))
            except BlockingIOError:
                pass
            house.turn()
        house.pass_time(2.5)
        house.pass_time(1.1)
        before = Count(house, "t0").bytes[0]
        assert 0 < before <= session.up.moved - len(session.up.pending)
        session.kill(Reason.CLOSED_BY_ADMIN, Side.PROXY)
        assert Count(house, "t0").bytes[0] == house.record()["bytes_up"] >= before


def test_a_session_that_moves_counts_every_byte_once():
    with House(relays=True) as house:
        client, server, session = house.pair()
        client.sendall(b"x" * 1000)
        house.until(lambda: session.up.moved == 1000)
        session_counters.moved(session)
        session.thread.send_away(session)
        house.until(lambda: session.thread is not house.thread)
        server.sendall(b"y" * 500)
        assert client.recv(500, socket.MSG_WAITALL) == b"y" * 500
        assert server.recv(1000, socket.MSG_WAITALL) == b"x" * 1000
        client.sendall(b"z" * 10)
        assert server.recv(10, socket.MSG_WAITALL) == b"z" * 10
        client.close()
        server.close()
        record = house.record()
        assert (record["bytes_up"], record["bytes_down"]) == (1010, 500)
        now = Count(house, "t0")
        assert (now.bytes, now.ends, now.active, now.ended) == ((1010, 500), {"done": 1}, 0, 1)
        assert house.memory.rows[1][house.app.targets["t0"].slot + counters.BYTES_UP] == 1000, "each thread in its own row"


def test_in_a_relay_thread_bytes_are_seen_as_well():
    with House(relays=True) as house:
        client, server, session = house.pair()
        session.thread.send_away(session)
        house.until(lambda: session.thread is not house.thread)
        client.sendall(b"x" * 1000)
        assert server.recv(1000, socket.MSG_WAITALL) == b"x" * 1000
        house.until(lambda: Count(house, "t0").bytes == (1000, 0))


def test_every_kind_of_end_is_counted_by_its_reason():
    with House() as house:
        for reason in Reason:
            _, _, session = house.pair()
            session.kill(reason, Side.PROXY)
        assert Count(house, "t0").ends == dict.fromkeys([reason.value for reason in Reason], 1)


def test_a_session_ends_where_it_was_accepted_though_its_listener_went_to_another_app():
    with House() as house:
        house.pair()
        first = house.listener
        house.listener = session_counters.ListenerCounters(first.address, first.slot + 1)
        house.sessions[0].kill(Reason.SHUTDOWN, Side.PROXY)
        assert (Count(house).accepted, Count(house).ended) == (1, 1)


@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_a_histogram_holds_every_value_in_the_first_bucket_that_it_fits(values):
    memory, fd = counters.Counters.create(1, counters.TARGET_SLOTS)
    try:
        for value in values:
            session_counters.connected(memory.rows[0], 0, value)
        counted = memory.sums(CONNECTS, CONNECT_SLOTS)
        upto = [sum(counted[: n + 1]) for n in range(CONNECT_SLOTS)]
        assert upto == [sum(value <= bound for value in values) for bound in (*CONNECT_BUCKETS, float("inf"))]
        total = memory.rows[0][counters.CONNECT_MICROSECONDS] / 1e6
        assert abs(total - sum(values)) <= 1e-6 * len(values) + 1e-6 * sum(values)
    finally:
        memory.close()
        os.close(fd)
