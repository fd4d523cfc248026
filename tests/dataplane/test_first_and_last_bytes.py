"""What a client says before it is accepted, and what a side says just before its end: fewer packets, not a byte less."""

import errno
import random
import select
import socket
import threading

import pytest

from tcp_proxy.dataplane.session import State
from tcp_proxy.sansio.reasons import Side
from tests.dataplane.house import House, blackhole, reset


def spoken(house, words):
    """A client whose words wait in its socket when its session starts."""
    client = house.stack.enter_context(socket.create_connection(house.listening.getsockname()))
    client.settimeout(5)
    client.sendall(words)
    return client, house.admit()


def test_what_was_said_before_the_accept_leaves_with_the_connect():
    with House() as house:
        _client, session = spoken(house, b"question")
        assert session.state is State.RELAYING, "in the accept itself: not one event was waited for"
        server = house.stack.enter_context(house.servers[0].accept()[0])
        assert server.recv(100, socket.MSG_DONTWAIT) == b"question"


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("size", [1, 65536, 65537, 3_000_000])
def test_nothing_of_the_first_bytes_is_lost_or_doubled(family, size):
    words = random.Random(size).randbytes(size)
    with House(family=family) as house:
        client = house.stack.enter_context(socket.create_connection(house.listening.getsockname()))
        sender = threading.Thread(target=client.sendall, args=(words,))
        sender.start()
        select.select([house.listening], [], [], 5)
        session = house.admit()
        house.until(lambda: session.state is State.RELAYING)
        server = house.stack.enter_context(house.servers[0].accept()[0])
        assert house.receive(server, size) == words
        sender.join()
        client.close()
        assert house.receive(server) == b""
        server.close()
        assert house.record()["bytes_up"] == size


def test_first_bytes_go_to_the_target_that_answers():
    with House(targets=2) as house:
        house.servers[0].close()
        for _ in range(2):  # round robin begins with the dead one once
            _client, session = spoken(house, b"question")
            house.until(lambda session=session: session.state is State.RELAYING)
            server = house.stack.enter_context(house.servers[1].accept()[0])
            assert house.receive(server, 8) == b"question"
        tried = [list(session.tried) for session in house.sessions]
        assert sorted(tried) == [[], [("t0", "ECONNREFUSED")]]


def test_first_bytes_wait_for_a_target_that_is_slow_to_accept():
    with House() as house:
        address = blackhole(house.stack)
        house.app.change_target("t0", "up", ((int(socket.AF_INET), address),))
        client, session = spoken(house, b"question")
        assert session.state is State.DIALING
        reset(client)
        assert house.record()["reason"] == "client_gone"


@pytest.mark.parametrize(("words", "reason"), [(b"", "client_gone"), (b"x", "client_reset")])
def test_a_client_that_was_reset_before_it_was_accepted(words, reason):
    """Without a word nobody is called for it; what it said is delivered, as if it had been accepted in time."""
    with House() as house:
        client = house.stack.enter_context(socket.create_connection(house.listening.getsockname()))
        client.sendall(words)
        reset(client)
        house.admit()
        record = house.record()
        assert (record["reason"], record["ended_by"], record["errno"]) == (reason, "client", "ECONNRESET")
        assert record["bytes_up"] == len(words)
        assert record["target"] == ("t0" if words else "")


def segments_in(sock):
    """tcpi_segs_in of struct tcp_info."""
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)[140:144], "little")


def test_the_last_bytes_and_the_end_travel_in_one_packet():
    with House() as house:
        client, server, _ = house.pair()
        before = segments_in(client)
        server.sendall(b"answer")
        server.close()
        house.turn(2)
        assert client.recv(100) == b"answer"
        assert client.recv(100) == b""
        assert segments_in(client) - before == 1


def test_what_was_held_back_for_an_end_is_sent_when_there_is_none():
    """A session that is broken already resets instead of shutting down, after everything was delivered."""
    with House() as house:
        client, server, session = house.pair()
        server.sendall(b"answer")
        server.shutdown(socket.SHUT_WR)
        session._break(Side.TARGET, errno.ECONNRESET)
        house.turn(2)
        assert client.recv(100, socket.MSG_DONTWAIT) == b"answer"
        house.until(lambda: session.state is State.DONE)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_session_that_waits_costs_no_event():
    with House() as house:
        client, server, _ = house.pair()
        client.sendall(b"a")
        assert house.receive(server, 1) == b"a"
        assert house.loop._epoll.poll(0) == []
