"""How fast sessions move: each for itself, all of a client together, by the clock of the loop."""

import contextlib
import os
import socket
import types

import pytest

from tcp_proxy.config.model import SessionLimits
from tcp_proxy.dataplane.client_limits import ClientLimits
from tcp_proxy.dataplane.pacing import PacedSocket, Pacing, paced_pump
from tcp_proxy.dataplane.relay.paced_pump import PacedPump, chunk_of
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire import client_table
from tcp_proxy.wire.client_table import ClientTable
from tcp_proxy.wire.counters import APP_SLOTS

LOOP = types.SimpleNamespace(now=100.0)


@pytest.fixture
def make():
    """Call it for a worker's app, with a session of each of these numbers."""
    fd = client_table.create(client_table.LEAST)

    def app(number=0, sessions=(), **limits):
        limits, row = SessionLimits(**limits), memoryview(bytearray(8 * APP_SLOTS)).cast("q")
        by_client = ClientLimits(ClientTable(fd, number), 1, 0, row, limits) if limits.table else None
        for session in sessions:
            assert by_client.admit(("192.0.2.1", 5), session, 100.0) is None
        return types.SimpleNamespace(limits=limits, client_limits=by_client, row=row, faults=None)

    yield app
    os.close(fd)


def session(app, number):
    return types.SimpleNamespace(app=app, number=number, client="client")


@pytest.fixture
def loop():
    loop = Loop("test", lambda: LOOP.now)
    yield loop
    loop.close()


def pump(loop, session):
    client, target = socket.SocketType(), socket.SocketType()
    with contextlib.closing(client), contextlib.closing(target):
        return paced_pump(loop, session, client, target, True, True)


def test_a_session_has_the_bytes_of_a_second_at_once_and_then_its_rate(make):
    pacing = Pacing(LOOP, session(make(bytes_per_second=1000), 1), True)
    assert pacing(1000) == 0
    assert pacing(500) == pytest.approx(0.5)
    assert Pacing(LOOP, pacing._session, False)(1000) == 0, "the other direction is for itself"


def test_all_sessions_of_a_client_share_its_rate_over_all_workers(make):
    one = make(0, (1, 2), bytes_per_second_per_client=1000)
    other = make(1, (1,), bytes_per_second_per_client=1000)
    first, second, third = (Pacing(LOOP, session(*who), True) for who in ((one, 1), (one, 2), (other, 1)))
    assert [first(600), second(400), third(250), first(250)] == pytest.approx([0, 0, 0.25, 0.5])
    assert Pacing(LOOP, session(one, 1), False)(1000) == 0
    one.client_limits.release(2, one.row)
    assert second(1000) == 0, "it is over"


def test_the_stricter_one_counts(make, loop):
    app = make(0, (1,), bytes_per_second=100, bytes_per_second_per_client=1000)
    assert Pacing(LOOP, session(app, 1), True)(300) == pytest.approx(2.0)
    assert pump(loop, session(app, 1)).chunk == chunk_of(100)


def test_who_is_counted_for_bytes_alone_may_have_any_number_of_sessions(make):
    assert len(make(0, range(1, 2000), bytes_per_second_per_client=9).client_limits.holders) == 1999


def test_a_limit_that_is_gone_holds_nobody_up(make, loop):
    app = make(0, (1,), bytes_per_second_per_client=10)
    pacing = Pacing(LOOP, session(app, 1), True)
    app.client_limits = None
    assert pacing(10**9) == 0
    assert isinstance(pump(loop, session(app, 1)), PacedPump)
    assert PacedSocket.__mro__[1].__name__ == "socket"
