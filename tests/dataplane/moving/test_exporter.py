"""Sessions go from one worker to another: no byte is lost, doubled or out of order, and none is in two places."""

import contextlib
import hashlib
import os
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.moving import moves
from tcp_proxy.dataplane.session_state import RELAYING
from tcp_proxy.wire import counters
from tcp_proxy.wire.moved_session import frames
from tcp_proxy.wire.moves import ExportSessions, ImportSessions
from tests.dataplane.house import reset
from tests.dataplane.moving.two_workers import ADDRESS, LISTENER, TARGET, TwoWorkers


def test_a_session_goes_on_in_the_other_worker_with_its_id_its_age_and_its_counters():
    with TwoWorkers() as two:
        client, server = two.pair()
        client.send(b"question")
        assert two.receive(server, 8) == b"question"
        (before,) = two.first.sessions
        told = two.move()
        assert (told.moved, told.refused, told.left, told.why) == (1, 0, 0, "")
        (after,) = two.second.sessions
        assert not two.first.sessions
        assert (after.started, after.last, after.connected_at) == (before.started, before.last, before.connected_at)
        server.send(b"answer!")
        assert two.receive(client, 7) == b"answer!"
        client.send(b"more")
        assert two.receive(server, 4) == b"more"
        client.close()
        assert two.receive(server) == b""
        server.close()
        two.until(lambda: two.records)
        (record,) = two.records
        assert (record["id"], record["processes"]) == (f"w.0-{before.number}", (os.getpid(), os.getpid()))
        assert (record["bytes_up"], record["bytes_down"], record["reason"]) == (12, 7, "done")
        assert two.memory.total(TARGET + counters.BYTES_UP) == 12
        assert two.memory.total(TARGET + counters.BYTES_DOWN) == 7


def test_the_gauges_go_from_one_worker_to_the_other():
    with TwoWorkers() as two:
        two.pair()
        rows = [two.memory.rows[1], two.memory.rows[1 + counters.ROWS_PER_WORKER]]
        slots = (counters.SESSIONS, TARGET + counters.ACTIVE)
        assert [[row[slot] for slot in slots] for row in rows] == [[1, 1], [0, 0]]
        two.move()
        assert [[row[slot] for slot in slots] for row in rows] == [[0, 0], [1, 1]]
        assert [row[LISTENER + counters.LISTENER_MOVED] for row in rows] == [-1, 1]


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("relays", [False, True])
def test_streams_are_whole_though_their_session_moves_back_and_forth_all_the_time(relays, family):
    size = 24_000_000 if relays else 6_000_000
    with TwoWorkers(relays=relays, family=family) as two:
        client, server = two.pair()
        data = {client: os.urandom(size), server: os.urandom(size)}
        sent, got = dict.fromkeys(data, 0), {client: hashlib.sha256(), server: hashlib.sha256()}
        left = dict.fromkeys(data, size)
        moves, order = 0, None

        def step():
            for sock, other in ((client, server), (server, client)):
                try:
                    if sent[sock] < size:
                        sent[sock] += sock.send(data[sock][sent[sock] : sent[sock] + 300_000])
                except BlockingIOError:
                    pass
                try:
                    piece = other.recv(100_000)
                except BlockingIOError:
                    continue
                got[other].update(piece)
                left[sock] -= len(piece)

        while any(left.values()):
            step()
            two.turn()
            giver, taker = two.sides[moves % 2], two.sides[1 - moves % 2]
            if order is None or any(told.order == order for told in giver.told):
                if order is not None and giver.told[-1].moved:
                    moves += 1
                    giver, taker = taker, giver
                order = two.order(giver, taker)
        assert moves > 20
        assert got[server].digest() == hashlib.sha256(data[client]).digest()
        assert got[client].digest() == hashlib.sha256(data[server]).digest()


@pytest.mark.parametrize("relays", [False, True])
def test_a_stopped_reader_with_many_megabytes_waiting_gets_them_all(relays):
    """What is in the pipe of a relay thread comes along."""
    with TwoWorkers(relays=relays) as two:
        client, server = two.pair()
        data = os.urandom(16_000_000)
        sent = 0

        def clogged():
            nonlocal sent
            try:
                sent += server.send(data[sent:])
            except BlockingIOError:
                (session,) = [one for side in two.sides for one in side.sessions] or [None]
                return session is not None and session.down.blocked and sent > 3_000_000
            return False

        two.until(clogged)
        for _ in range(3):
            assert two.move().moved == 1
            assert two.move(two.second, two.first).moved == 1
        (session,) = two.first.sessions
        assert session.down.blocked
        assert session.down.pending
        got = bytearray()
        while len(got) < len(data):
            try:
                sent += server.send(data[sent:]) if sent < len(data) else 0
            except BlockingIOError:
                pass
            two.turn()
            try:
                got += client.recv(1 << 20)
            except BlockingIOError:
                continue
        assert bytes(got) == data


def fill(two, sock, is_full):
    """Send until the proxy takes no more; how much that was."""
    size = 0
    while not is_full():
        with contextlib.suppress(BlockingIOError):
            size += sock.send(bytes(1 << 18))
        two.turn()
    return size


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_half_closed_session_stays_half_closed(first):
    with TwoWorkers(timeouts=Timeouts(half_closed=30.0)) as two:
        client, server = two.pair()
        one, other = (client, server) if first == "client" else (server, client)
        one.send(b"all")
        one.shutdown(socket.SHUT_WR)
        assert two.receive(other) == b"all"
        assert two.move().moved == 1
        (session,) = two.second.sessions
        assert session.half_closed
        other.send(b"a late answer")
        assert two.receive(one, 13) == b"a late answer"
        other.close()
        assert two.receive(one) == b""
        two.until(lambda: two.records)
        assert two.records[0]["ended_by"] == ("client" if first == "client" else "target")
        assert two.records[0]["reason"] == "done"


def test_a_shutdown_that_is_owed_is_done_there():
    with TwoWorkers() as two:
        client, server = two.pair()
        size = fill(two, client, lambda: two.first.sessions[0].up.blocked)
        client.shutdown(socket.SHUT_WR)
        assert two.move().moved == 1
        assert len(two.receive(server)) == size
        server.send(b"thanks")
        assert two.receive(client, 6) == b"thanks"


def test_a_reset_that_comes_on_the_way_is_a_reset():
    with TwoWorkers() as two:
        client, server = two.pair()
        order = two.order(two.first, two.second)
        reset(client)
        two.until(lambda: any(told.order == order for told in two.first.told))
        with pytest.raises(ConnectionResetError):
            two.receive(server)
        assert two.records[0]["reason"] == "client_reset"


def test_those_with_these_ids_move_or_so_many_the_oldest_first():
    with TwoWorkers() as two:
        pairs = [two.pair() for _ in range(5)]
        numbers = [session.number for session in two.first.sessions]
        assert two.move(ids=(f"w.0-{numbers[3]}", "w.0-9999")).moved == 1
        told = two.move(most=2)
        assert (told.moved, told.left) == (2, 2)
        assert [session.origin.id for session in two.second.sessions] == [f"w.0-{numbers[n]}" for n in (3, 0, 1)]
        assert two.move(ids=(f"w.0-{numbers[3]}",), giver=two.second, taker=two.first).moved == 1
        for client, server in pairs:
            client.send(b"x")
            assert two.receive(server, 1) == b"x"


def test_many_move_and_none_is_missed():
    with TwoWorkers() as two:
        pairs = [two.pair() for _ in range(300)]
        assert two.move().moved == 300
        assert len(two.second.sessions) == 300
        for number, (client, server) in enumerate(pairs):
            client.send(b"%d" % number)
            assert two.receive(server, len(str(number))) == b"%d" % number


def test_few_wait_at_a_time():
    """How long a session stands still is how long those on their way with it take."""
    with TwoWorkers() as two:
        for _ in range(100):
            two.pair()
        order, on_their_way = two.order(two.first, two.second), []

        def is_over():
            on_their_way.append(100 - len(two.first.sessions) - len(two.second.sessions))
            return any(told.order == order for told in two.first.told)

        two.until(is_over)
        assert 1 <= max(on_their_way) <= 8


def test_several_go_in_one_message_and_no_more_than_an_earlier_program_has_room_for():
    with TwoWorkers() as two:
        for _ in range(20):
            two.pair()
        ours, theirs = socket.socketpair()
        with theirs:
            two.first.moves.export(ExportSessions(7), [ours.detach()])
            two.until(lambda: len(two.first.sessions) == 12)
            data, fds, flags, _ = socket.recv_fds(theirs, 1 << 18, 8, socket.MSG_DONTWAIT)
            found = list(frames(bytearray(data)))
            assert (len(found), len(fds), flags & socket.MSG_CTRUNC) == (4, 8, 0)
            for fd in fds:
                os.close(fd)
        two.until(lambda: two.first.told)
        assert len(two.first.sessions) == 20


def test_a_message_that_is_cut_anywhere_has_every_session_with_its_own_sockets(monkeypatch):
    """The kernel takes a part of it, and all of its descriptors with that."""
    with TwoWorkers() as two:
        pairs = [two.pair() for _ in range(8)]
        ours, theirs = socket.socketpair()
        two.second.moves.take_in(ImportSessions(), [theirs.detach()])
        cut = Cutting(ours)
        monkeypatch.setattr(moves.socket, "socket", lambda fileno: cut)
        two.first.moves.export(ExportSessions(7), [ours.fileno()])
        monkeypatch.undo()
        two.until(lambda: two.first.told)
        assert two.first.told[0].moved == 8
        assert len(cut.sizes) > 40, "it was cut"
        for number, (client, server) in enumerate(pairs):
            client.send(b"%d" % number)
            assert two.receive(server, 1) == b"%d" % number


class Cutting:
    """A socket that takes a few bytes of each message."""

    def __init__(self, sock):
        self._sock = sock
        self.sizes = []

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def sendmsg(self, parts, rights):
        self.sizes.append(self._sock.sendmsg([b"".join(parts)[:67]], rights))
        return self.sizes[-1]


def test_what_is_no_relay_yet_or_any_more_stays():
    with TwoWorkers() as two:
        client, server = two.pair()
        dying, peer = two.pair()
        fill(two, peer, lambda: two.first.sessions[1].down.blocked)
        reset(peer)
        two.until(lambda: two.first.sessions[1].state is not RELAYING or two.first.sessions[1].broken)
        told = two.move()
        assert (told.moved, told.left) == (1, 1)
        client.send(b"x")
        assert two.receive(server, 1) == b"x"
        dying.close()


def test_who_is_refused_stays_and_the_reason_is_told():
    with TwoWorkers() as two:
        client, server = two.pair()
        del two.second.apps["web"]
        told = two.move()
        assert (told.moved, told.refused, told.why) == (0, 1, "there is no app web")
        client.send(b"x")
        assert two.receive(server, 1) == b"x"
        assert two.first.sessions[0].origin is None


@pytest.mark.parametrize("is_foreign", [False, True])
def test_a_token_of_max_connections_goes_along(is_foreign):
    """The semaphore is one for all workers; from another supervisor's none comes along, and one is bought, or owed."""
    with TwoWorkers(limit=3) as two:
        pairs = [two.pair() for _ in range(2)]
        two.second.server.listen(1, LISTENER, two.second.app, ADDRESS, os.dup(two.listener.fileno()))
        assert two.move(is_foreign=is_foreign).moved == 2
        two.until(lambda: two.memory.total(TARGET + counters.UNPAID) == 0)
        assert free_tokens(two) == 1
        for client, server in pairs:
            client.close()
            server.close()
        two.until(lambda: not two.second.sessions)
        assert free_tokens(two) == 3


def free_tokens(two):
    count = 0
    with contextlib.suppress(BlockingIOError):
        while os.eventfd_read(two.tokens):
            count += 1
    if count:
        os.eventfd_write(two.tokens, count)
    return count


def test_an_order_that_ends_sessions_finds_each_in_one_place():
    """Broken off in the middle: those that were taken are there, all others here, and every one of them goes on."""
    with TwoWorkers() as two:
        pairs = [two.pair() for _ in range(200)]
        order = two.order(two.first, two.second)
        two.turn(3)
        assert not two.first.told
        two.first.moves.settle()
        (told,) = two.first.told
        assert told.order == order
        assert told.moved == len(two.second.sessions)
        assert 0 < told.moved < 200
        assert len(two.first.sessions) == 200 - told.moved
        two.turn(2)
        assert told.moved == len(two.second.sessions)
        for client, server in pairs:
            client.send(b"x")
            assert two.receive(server, 1) == b"x"


def test_an_importer_that_breaks_off_has_those_that_it_took_and_no_others():
    with TwoWorkers() as two:
        pairs = [two.pair() for _ in range(200)]
        two.order(two.first, two.second)
        two.turn(3)
        two.second.moves.settle()
        taken = len(two.second.sessions)
        two.until(lambda: two.first.told)
        assert two.first.told[0].moved == taken
        assert two.first.told[0].why == "the importer is gone"
        assert len(two.first.sessions) == 200 - taken
        for client, server in pairs:
            client.send(b"x")
            assert two.receive(server, 1) == b"x"


def test_a_silent_importer_is_given_up_and_the_sessions_go_on():
    from tcp_proxy.dataplane.moving import exporter

    with TwoWorkers() as two:
        client, server = two.pair()
        ours, theirs = socket.socketpair()
        two.first.moves.export(exporter.ExportSessions(7), [ours.detach()])
        two.until(lambda: not two.first.sessions)
        client.send(b"x")
        two.until(lambda: two.first.told, 40_000)
        assert two.first.told[0].why == "the importer does not answer"
        assert two.receive(server, 1) == b"x"
        with pytest.raises(BrokenPipeError):
            theirs.send(b"too late")
        theirs.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_was_sent_and_wherever_it_is_cut_all_of_it_arrives(data):
    """Bytes of any number before, between and after moves, in both directions, ends and full buffers among them."""
    with TwoWorkers() as two:
        client, server = two.pair()
        sides = {"client": client, "server": server}
        said = {"client": bytearray(), "server": bytearray()}
        heard = {"client": bytearray(), "server": bytearray()}
        ended = set()
        here, there = two.first, two.second
        for _ in range(data.draw(st.integers(1, 12))):
            step = data.draw(st.sampled_from(["say", "hear", "end", "move", "turn"]))
            who = data.draw(st.sampled_from(["client", "server"]))
            if step == "say" and who not in ended:
                size = data.draw(st.sampled_from([1, 7, 65536, 700_001]))
                piece = bytes([data.draw(st.integers(1, 255))]) * size
                try:
                    said[who] += piece[: sides[who].send(piece)]
                except BlockingIOError:
                    pass
            elif step == "hear":
                try:
                    heard[who] += sides[who].recv(data.draw(st.sampled_from([1, 1000, 1 << 20])))
                except BlockingIOError:
                    pass
            elif step == "end" and who not in ended:
                ended.add(who)
                sides[who].shutdown(socket.SHUT_WR)
            elif step == "move" and len(ended) < 2:
                two.move(here, there)
                here, there = there, here
            two.turn(data.draw(st.integers(0, 2)))
        for who in {"client", "server"} - ended:
            sides[who].shutdown(socket.SHUT_WR)
        for who, other in (("client", "server"), ("server", "client")):
            heard[who] += two.receive(sides[who])
            assert heard[who] == said[other]
