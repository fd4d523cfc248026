"""What we end ourselves: the target is reset at once, whatever its client does; the client has what was read before."""

import contextlib
import fcntl
import socket
import termios

import pytest

from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.session import State
from tcp_proxy.sansio.reasons import Reason
from tests.dataplane.house import House, blackhole, reset
from tests.dataplane.test_session import clog

SHORT = Timeouts(connect=1.0, idle=100.0, half_closed=2.0)


def cut(session, reason=Reason.DEMOTED):
    session.target.cut_reason = reason
    session.target.cut += 1
    session.cut_off()


def drained(sock):
    """What is there, until the reset that must be there, too."""
    got = 0
    sock.setblocking(True)
    sock.settimeout(5)
    with pytest.raises(ConnectionResetError):
        while data := sock.recv(1 << 20):
            got += len(data)
    return got


def unread(sock):
    """Bytes in the receive queue of this side."""
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)), "little")


def test_the_target_is_reset_at_once_while_its_client_does_not_read():
    with House(timeouts=SHORT) as house:
        client, server, session = house.pair()
        clog(house, session, server)
        clog(house, session, client)
        assert session.up.blocked
        assert session.down.blocked
        cut(session)
        house.turn(2)
        there = unread(server)
        assert session.state is not State.DONE, "the client is still to have what was read"
        assert drained(server) == there, "what the kernel still held for the old target was thrown away"
        client.setblocking(False)
        got = 0
        with pytest.raises(ConnectionResetError):
            while True:
                house.pass_time(0.01)
                try:
                    got += len(client.recv(1 << 20))
                except BlockingIOError:
                    continue
        record = house.record()
        assert (record["reason"], record["ended_by"], record["bytes_down"]) == ("demoted", "proxy", got)


def test_a_client_that_takes_nothing_is_reset_after_half_closed():
    with House(timeouts=SHORT) as house:
        _client, server, session = house.pair()
        clog(house, session, server)
        cut(session)
        for _ in range(3):
            house.pass_time(0.5)
        assert not house.records.all
        for _ in range(3):
            house.pass_time(0.5)
        assert house.record()["reason"] == "demoted"


def test_a_client_that_is_gone_leaves_nothing_for_the_old_target():
    """It was reset, and what it had sent is still on its way to the target when the target is given up."""
    with House(timeouts=SHORT) as house:
        client, server, session = house.pair()
        clog(house, session, client)
        reset(client)
        house.until(lambda: session.half_closed)
        assert session.state is not State.DONE
        cut(session)
        house.turn(2)
        there = unread(server)
        assert drained(server) == there
        assert house.record()["reason"] == "client_reset"


def test_a_client_that_has_ended_its_direction_leaves_nothing_for_the_old_target():
    with House(timeouts=SHORT) as house:
        client, server, session = house.pair()
        sent = clog(house, session, client)
        client.shutdown(socket.SHUT_WR)
        house.turn(3)
        cut(session)
        house.turn(2)
        assert drained(server) < sent
        assert drained(client) == 0
        assert house.record()["reason"] == "demoted"


def test_an_order_that_comes_twice_is_one():
    with House(timeouts=SHORT) as house:
        _client, server, session = house.pair()
        clog(house, session, server)
        cut(session)
        house.turn(2)
        cut(session)
        house.pass_time(0.5)
        assert session.state is not State.DONE


def test_a_session_that_is_about_to_move_stays_when_its_target_is_cut():
    with House(timeouts=SHORT, relays=True) as house:
        client, server, session = house.pair()
        session.bulk(session.down)
        assert session.placement.is_due
        cut(session)
        house.turn(3)
        for sock in (client, server):
            sock.settimeout(5)
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_in_a_relay_thread_with_bytes_in_the_pipe():
    with House(timeouts=SHORT, relays=True) as house:
        client, server, session = house.pair()
        clog(house, session, server)
        house.until(lambda: session.thread is not house.thread or session.down.blocked)
        client.setblocking(False)
        got = 0
        while session.thread is house.thread:  # until it is bulk, and has moved
            try:
                got += len(client.recv(1 << 18))
            except BlockingIOError:
                pass
            clog(house, session, server)
        clog(house, session, server)
        house.until(lambda: session.down.blocked)
        session.thread.loop.call_soon(cut, session)
        server.settimeout(5)
        with pytest.raises(ConnectionResetError):
            server.recv(1)
        assert not house.records.all
        with pytest.raises(ConnectionResetError):
            while True:
                house.turn(1)
                try:
                    got += len(client.recv(1 << 20))
                except BlockingIOError:
                    continue
        record = house.record()
        assert (record["reason"], record["bytes_down"]) == ("demoted", got)


def test_the_first_bytes_of_a_client_are_not_sent_to_a_target_that_was_cut_during_the_dial():
    with House(timeouts=SHORT) as house:
        hole, good = blackhole(house.stack), house.endpoint(house.servers[0])
        house.app.targets["t0"].change("up", (good, (socket.AF_INET, hole)))
        house.app._sort()
        client = house.stack.enter_context(socket.create_connection(house.listening.getsockname()))
        client.sendall(b"INSERT")
        session = house.admit()
        house.turn(2)
        assert session.state is State.DIALING
        house.app.targets["t0"].cut += 1
        house.pass_time(1.01)
        assert house.record()["reason"] == "target_down"
        house.turn(2)
        house.servers[0].setblocking(False)
        with contextlib.suppress(BlockingIOError):  # the reset came before the handshake was over
            assert drained(house.stack.enter_context(house.servers[0].accept()[0])) == 0
