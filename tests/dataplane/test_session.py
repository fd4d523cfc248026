"""A session's life as a dialogue: every order of ends, every deadline, exactly one record, nothing left behind."""

import itertools
import os
import socket

import pytest

from kit.docstrings import docstring_of
from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.relay.handover import Placement
from tcp_proxy.dataplane.session import STEPS, State
from tcp_proxy.sansio.reasons import Reason, Side
from tests.dataplane.house import House, blackhole, reset

SHORT = Timeouts(connect=1.0, idle=10.0, half_closed=2.0)


def test_bytes_go_both_ways_and_the_record_counts_them():
    with House() as house:
        client, server, _ = house.pair()
        client.sendall(b"question")
        assert house.receive(server, 8) == b"question"
        server.sendall(b"answer!")
        assert house.receive(client, 7) == b"answer!"
        client.close()
        house.turn(3)
        assert house.receive(server) == b""
        server.close()
        record = house.record()
        assert (record["bytes_up"], record["bytes_down"]) == (8, 7)
        assert (record["ended_by"], record["reason"], record["errno"]) == ("client", "done", "")
        assert record["target"] == "t0"
        assert record["tried"] == ()


@pytest.mark.parametrize("first", ["client", "target"])
def test_half_close_orders(first):
    """What was sent before a FIN arrives, then the FIN; the other direction goes on."""
    with House() as house:
        client, server, _ = house.pair()
        one, other = (client, server) if first == "client" else (server, client)
        one.sendall(b"request")
        one.shutdown(socket.SHUT_WR)
        assert house.receive(other) == b"request"
        other.settimeout(5)
        other.sendall(b"late answer")
        assert house.receive(one, 11) == b"late answer"
        other.close()
        assert house.receive(one) == b""
        assert house.record()["ended_by"] == first
        assert house.record()["reason"] == "done"


@pytest.mark.parametrize(("who", "reason"), [("client", "client_reset"), ("target", "target_reset")])
def test_a_reset_is_passed_on_as_a_reset_after_all_that_came_before(who, reason):
    with House() as house:
        client, server, _ = house.pair()
        one, other = (client, server) if who == "client" else (server, client)
        data = os.urandom(100_000)
        one.sendall(data)
        got = house.receive(other, len(data))
        reset(one)
        house.turn(3)
        with pytest.raises(ConnectionResetError):
            house.receive(other)
        assert got == data
        record = house.record()
        assert (record["ended_by"], record["reason"], record["errno"]) == (who, reason, "ECONNRESET")


def test_data_then_reset_is_delivered_to_a_slow_reader_first():
    """SO_LINGER 0 would throw away what send() had accepted (4.2 MB accepted, 0.1 MB arrived)."""
    with House() as house:
        client, server, session = house.pair()
        data = os.urandom(4_000_000)
        server.setblocking(False)
        sent = 0
        while sent < len(data):
            try:
                sent += server.send(data[sent:])
            except BlockingIOError:
                house.turn(1)
                client.setblocking(False)
                break
        reset(server)
        house.turn(20)
        assert session.state is not State.DONE, "the client has not read yet"
        got = bytearray()
        with pytest.raises(ConnectionResetError):
            while True:
                house.turn(1)
                house.clock.now += 0.01
                try:
                    got += client.recv(1 << 16)
                except BlockingIOError:
                    continue
        assert len(got) > 0
        assert bytes(got) == data[: len(got)]
        assert house.record()["bytes_down"] == len(got)


def test_a_survivor_that_never_acknowledges_is_reset_after_half_closed():
    with House(timeouts=SHORT) as house:
        _client, server, session = house.pair()
        server.setblocking(False)
        for _ in range(100):
            try:
                server.send(bytes(1 << 20))
            except BlockingIOError:
                house.turn(1)
        reset(server)
        house.until(lambda: session.half_closed)
        assert session.state is not State.DONE
        begun = house.clock.now
        for _ in range(60):  # each acknowledgement that the kernel still had under way begins the time anew
            if not house.records.all:
                house.pass_time(0.5)
        assert house.record()["reason"] == "target_reset"
        assert house.clock.now - begun >= SHORT.half_closed


def test_a_reset_while_the_other_direction_is_blocked_ends_both():
    with House(timeouts=SHORT) as house:
        client, server, session = house.pair()
        client.setblocking(False)
        for _ in range(100):
            try:
                client.send(bytes(1 << 20))
            except BlockingIOError:
                house.turn(1)
        assert session.up.blocked
        reset(server)
        house.turn(5)
        assert house.record()["reason"] == "target_reset"
        with pytest.raises(ConnectionResetError):
            client.setblocking(True)
            client.recv(1)


@pytest.mark.parametrize("order", [("client", "target"), ("target", "client")])
@pytest.mark.parametrize("ends", list(itertools.product(["fin", "rst"], repeat=2)))
def test_every_order_of_fin_and_rst_ends_the_session_once(order, ends):
    with House() as house:
        client, server, session = house.pair()
        for who, end in zip(order, ends, strict=True):
            sock = client if who == "client" else server
            if end == "rst":
                reset(sock)
            else:
                sock.close()
            house.turn(3)
        house.until(lambda: session.state is State.DONE)
        assert len(house.records.all) == 1
        expected = {"fin": "done", "rst": f"{order[0]}_reset"}[ends[0]]
        if ends == ("fin", "rst"):
            assert house.record()["reason"] in ("done", f"{order[1]}_reset")
        else:
            assert house.record()["reason"] == expected


def test_a_session_without_a_byte_for_idle_is_reset_on_both_sides():
    with House(timeouts=SHORT) as house:
        client, server, _ = house.pair()
        house.pass_time(9.0)
        client.sendall(b"x")
        assert house.receive(server, 1) == b"x"
        house.pass_time(9.0)
        assert not house.records.all
        house.pass_time(1.2)
        record = house.record()
        assert (record["reason"], record["ended_by"]) == ("idle_timeout", "proxy")
        for sock in (client, server):
            sock.settimeout(5)
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_a_half_closed_session_without_a_byte_is_reset():
    with House(timeouts=SHORT) as house:
        client, server, _ = house.pair()
        client.shutdown(socket.SHUT_WR)
        assert house.receive(server) == b""
        house.pass_time(1.5)
        server.sendall(b"x")
        assert house.receive(client, 1) == b"x"
        house.pass_time(1.0)
        house.pass_time(0.5)
        assert not house.records.all
        for _ in range(8):  # an acknowledgement that comes late counts as a byte
            house.pass_time(0.5)
        assert house.record()["reason"] == "half_closed_timeout"


def clog(house, session, sender):
    """Send until nothing moves; how much was sent."""
    sent = 0
    sender.setblocking(False)
    for _ in range(200):
        try:
            sent += sender.send(bytes(1 << 18))
        except BlockingIOError:
            house.turn(1)
    return sent


def test_a_slow_reader_is_not_a_silent_one():
    """Everything was sent and FIN; the client takes its time, and the kernel's buffer drains without an event for us."""
    with House(timeouts=SHORT) as house:
        client, server, session = house.pair()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sent = clog(house, session, server)
        server.close()
        client.setblocking(False)
        got = 0
        while got < sent:
            house.pass_time(0.5)  # far longer in all than half_closed and idle
            try:
                got += len(client.recv(sent // 40))
            except BlockingIOError:
                continue
        assert house.receive(client) == b""
        client.close()
        house.turn(3)
        assert house.record()["reason"] == "done"
        assert house.record()["bytes_down"] == sent


def test_a_reader_that_stopped_is_ended_by_idle_not_before():
    with House(timeouts=Timeouts(unacked=1.0, idle=10.0)) as house:
        _client, server, session = house.pair()
        clog(house, session, server)
        for _ in range(30):
            house.pass_time(0.3)
        assert not house.records.all, "nine seconds without an acknowledgement of more, but the peer lives"
        while not house.records.all:  # a busy kernel may have acknowledged the last of it late
            house.pass_time(0.3)
        assert house.record()["reason"] == "idle_timeout"


@pytest.mark.parametrize("order", [("client", "target"), ("target", "client")])
def test_fin_and_reset_in_one_report_are_a_reset(order):
    """After a FIN recv says 0, whatever came behind it."""
    with House() as house:
        client, server, _session = house.pair()
        one, other = (client, server) if order[0] == "client" else (server, client)
        one.sendall(b"last words")
        one.shutdown(socket.SHUT_WR)
        reset(one)
        house.turn(5)
        other.settimeout(5)
        assert other.recv(100) == b"last words"
        with pytest.raises(ConnectionResetError):
            while other.recv(100):
                pass
        record = house.record()
        assert (record["ended_by"], record["reason"]) == (order[0], f"{order[0]}_reset")


def test_bytes_that_a_failed_send_did_not_take_are_not_counted():
    with House() as house:
        client, server, session = house.pair()
        reset(server)
        client.sendall(b"x" * 5000)
        session.up.ready(1)  # the client's event comes first
        house.turn(3)
        assert house.record()["bytes_up"] == 0


def test_a_lost_target_leaves_time_to_deliver_after_a_long_silence():
    with House(timeouts=Timeouts(idle=1000.0, half_closed=2.0)) as house:
        client, server, session = house.pair()
        clog(house, session, server)
        for _ in range(10):
            house.pass_time(10.0)
        session.cut_off()
        house.turn(3)
        assert session.state is not State.DONE
        client.setblocking(False)
        got = 0
        with pytest.raises(ConnectionResetError):
            while True:
                house.pass_time(0.01)
                try:
                    got += len(client.recv(1 << 20))
                except BlockingIOError:
                    continue
        assert house.record()["bytes_down"] == got


def test_a_target_ended_from_above_during_the_dial_is_lost_on_arrival():
    with House(timeouts=SHORT) as house:
        hole, good = blackhole(house.stack), house.endpoint(house.servers[0])
        house.app.change_target("t0", "up", (good, (socket.AF_INET, hole)))  # the rotation begins with the second
        _client, session = house.client()
        assert session.state is State.DIALING
        house.app.targets["t0"].cut += 1
        house.pass_time(1.01)
        assert house.record()["reason"] == "target_down"


def test_who_leaves_while_we_dial_is_gone():
    with House(timeouts=SHORT) as house:
        hole = blackhole(house.stack)
        house.app.change_target("t0", "up", ((socket.AF_INET, hole),))
        client, session = house.client()
        assert session.state is State.DIALING
        reset(client)
        house.turn(3)
        record = house.record()
        assert (record["reason"], record["ended_by"], record["target"]) == ("client_gone", "client", "")
        assert record["connect_seconds"] == -1.0


def test_a_request_and_fin_before_the_target_answers_the_connect_arrive():
    with House(timeouts=SHORT, targets=2) as house:
        hole = blackhole(house.stack)
        house.app.change_target("t0", "up", ((socket.AF_INET, hole),))
        house.app.change_target("t1", "up", ((socket.AF_INET, hole), house.endpoint(house.servers[1])))
        client, session = house.client()
        client.sendall(b"early")
        client.shutdown(socket.SHUT_WR)
        house.turn(3)
        for _ in range(3):
            if session.state is State.DIALING:
                house.pass_time(1.0)
        house.servers[1].settimeout(5)
        server = house.stack.enter_context(house.servers[1].accept()[0])
        assert house.receive(server) == b"early"
        server.close()
        house.turn(5)
        assert house.record()["reason"] == "done"


def test_a_target_that_goes_down_resets_its_clients_after_what_it_said():
    with House() as house:
        client, server, session = house.pair()
        server.sendall(b"last words")
        house.turn(3)
        house.app.targets["t0"].cut_reason = Reason.TARGET_DOWN
        session.cut_off()
        house.turn(3)
        client.settimeout(5)
        assert client.recv(100) == b"last words"
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert (house.record()["reason"], house.record()["ended_by"]) == ("target_down", "proxy")


def test_kill_resets_both_sides():
    with House() as house:
        client, server, session = house.pair()
        session.kill(Reason.SHUTDOWN, Side.PROXY)
        session.kill(Reason.SHUTDOWN, Side.PROXY)
        house.turn(1)
        for sock in (client, server):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert house.record()["reason"] == "shutdown"


@pytest.mark.parametrize(("was", "becomes"), list(itertools.product(State, State)))
def test_every_unlisted_step_is_refused(was, becomes):
    with House() as house:
        _client, session = house.client()
        keep, session.state = session.state, was
        if becomes in STEPS[was]:
            session._enter(becomes)
        else:
            with pytest.raises(AssertionError, match=becomes.name):
                session._enter(becomes)
        session.state = keep


def test_a_session_ends_once_and_relays_once():
    with House() as house:
        _client, _server, session = house.pair()
        with pytest.raises(AssertionError, match="cannot relay"):
            session._relay(session.upstream)
        session.kill(Reason.SHUTDOWN, Side.PROXY)
        with pytest.raises(AssertionError, match="cannot end"):
            session._finish(Reason.DONE, Side.CLIENT, 0, reset=False)


def test_the_drawing_names_every_state():
    from tcp_proxy.dataplane import session

    assert all(state.name in docstring_of(session) for state in State)


def test_a_finished_session_is_freed_without_the_collector():
    import gc
    import weakref

    with House() as house:
        client, server, session = house.pair()
        with pytest.raises(TypeError, match="weak reference"):
            weakref.ref(session)  # so look at what only a session holds
        pump = session.up
        session.placement = Placement(session)  # it was bulk
        gc.disable()
        try:
            client.close()
            server.close()
            house.until(lambda: session.state is State.DONE)
            assert session.up is session.placement is None
            assert not hasattr(pump, "opposite")
        finally:
            gc.enable()
        assert weakref.getweakrefcount(house) == 0


def test_a_session_that_lives_on_notices_a_dead_target():
    with House(timeouts=Timeouts(keepalive=7)) as house:
        _client, _server, session = house.pair()
        tcp, sock = socket.IPPROTO_TCP, session.upstream
        assert sock.getsockopt(tcp, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        house.pass_time(2.01)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(tcp, socket.TCP_KEEPIDLE) == 7
        assert session.state is State.RELAYING
