"""What a worker says of its sessions: lists with filters and pages, one session, its end; whatever thread it lives in."""

import dataclasses

import pytest

from tcp_proxy.dataplane.inquiry import PART, Inquiry, _ended
from tcp_proxy.dataplane.relay import session_thread
from tcp_proxy.wire.inquiries import (
    AskRequests,
    AskSession,
    AskSessions,
    CloseSession,
    RequestsTold,
    SessionClosed,
    SessionsTold,
    SessionTold,
)
from tcp_proxy.wire.messages import encode
from tcp_proxy.wire.records import Origin, Record
from tests.dataplane.house import House, blackhole
from tests.dataplane.http.rig import HttpHouse


class Rig(House):
    """A House that is asked."""

    def __init__(self, relays=True, **house):
        super().__init__(relays=relays, **house)
        self.said = []
        pool = self.relays if relays else type("NoRelays", (), {"threads": []})()
        self.inquiry = Inquiry(self.thread, pool, lambda: self.records, self.said.append)

    def ask(self, after=0, limit=100, **filters):
        """The sessions of the whole answer."""
        self.said.clear()
        wanted = {"app": "", "target": "", "client": "", "listener": "", **filters}
        self.inquiry.sessions(AskSessions(question=1, after=after, limit=limit, **wanted), [])
        self.until(lambda: self.said and self.said[-1].is_last)
        assert all(isinstance(part, SessionsTold) and part.question == 1 for part in self.said)
        assert all(encode(part) for part in self.said)
        return [session for part in self.said for session in part.sessions]

    def numbers(self, **wanted):
        return [session.number for session in self.ask(**wanted)]

    def look(self, number):
        self.said.clear()
        self.inquiry.session(AskSession(2, number), [])
        self.until(lambda: self.said)
        (told,) = self.said
        assert isinstance(told, SessionTold)
        return told

    def close_session(self, number):
        self.said.clear()
        self.inquiry.close(CloseSession(3, number), [])
        self.until(lambda: self.said)
        return self.said

    def send_away(self, session):
        session.thread.send_away(session)
        self.until(lambda: session.thread is not self.thread and session in session.thread.members)


def test_a_list_says_all_of_each_session():
    with Rig() as rig:
        client, server, session = rig.pair()
        client.sendall(b"abc")
        rig.until(lambda: session.up.moved == 3)
        assert server.recv(3) == b"abc"
        (view,) = rig.ask()
        assert (view.number, view.app, view.listener, view.target) == (1, "web", "127.0.0.1:1", "t0")
        assert view.client == "{}:{}".format(*client.getsockname())
        assert (view.state, view.thread, view.tried) == ("relaying", "test", ())
        assert (view.bytes_up, view.bytes_down) == (3, 0)
        assert 0 <= view.idle <= view.age < 60
        assert 0 <= view.connect_seconds <= view.age


def test_a_list_is_in_order_and_has_all_threads():
    with Rig() as rig:
        sessions = [rig.pair()[2] for _ in range(6)]
        for session in (sessions[1], sessions[4]):
            rig.send_away(session)
        found = rig.ask()
        assert [view.number for view in found] == [1, 2, 3, 4, 5, 6]
        assert [view.thread.startswith("relay-") for view in found] == [False, True, False, False, True, False]


def test_pages():
    with Rig() as rig:
        for _ in range(5):
            rig.pair()
        assert rig.numbers(limit=2) == [1, 2]
        assert rig.numbers(limit=2, after=2) == [3, 4]
        assert rig.numbers(limit=2, after=4) == [5]
        assert rig.numbers(after=5) == []
        assert rig.numbers(limit=0) == []
        assert rig.numbers(limit=-1) == []


def test_filters():
    with Rig(targets=2) as rig:
        clients = [rig.client()[0] for _ in range(4)]
        by_target = [view.number for view in rig.ask(target="t1")]
        assert len(by_target) == 2
        for right in ({"app": "web"}, {"listener": "127.0.0.1:1"}, {"client": "127.0.0.1"}):
            assert rig.numbers(**right) == [1, 2, 3, 4]
        for wrong in ({"app": "shop"}, {"listener": "127.0.0.1:2"}, {"client": "127.0.0.2"}):
            assert rig.numbers(**wrong) == []
        assert rig.numbers(client="{}:{}".format(*clients[2].getsockname())) == [3]
        assert rig.numbers(target="t1", after=by_target[0]) == by_target[1:]


def test_a_session_that_is_being_connected_names_the_target_that_it_waits_for():
    with Rig() as rig:
        target = rig.app.targets["t0"]
        address = blackhole(rig.stack)
        target.change("up", ((2, address),))
        rig.client()
        (view,) = rig.ask()
        assert (view.state, view.target, view.connect_seconds) == ("dialing", "t0", -1.0)
        assert rig.numbers(target="t0") == [1]


def test_many_sessions_are_told_in_parts_and_slices(monkeypatch):
    monkeypatch.setattr(session_thread, "SLICE", 7)
    with Rig() as rig:
        count = 2 * PART + PART // 2
        for _ in range(count):
            rig.client()
        assert rig.numbers(limit=1000) == list(range(1, count + 1))
        assert [len(part.sessions) for part in rig.said] == [PART, PART, PART // 2]
        assert rig.numbers(limit=PART, after=10) == list(range(11, PART + 11))
        assert len(rig.said) == 1


def test_sessions_that_end_while_the_list_is_made_are_left_out(monkeypatch):
    monkeypatch.setattr(session_thread, "SLICE", 2)
    with Rig() as rig:
        for _ in range(9):
            rig.client()
        rig.inquiry.sessions(AskSessions(1, "", "", "", "", 0, 100), [])
        rig.turn()
        rig.inquiry.close(CloseSession(2, 3), [])
        rig.until(lambda: any(isinstance(said, SessionsTold) and said.is_last for said in rig.said))
        told = [view.number for said in rig.said if isinstance(said, SessionsTold) for view in said.sessions]
        assert sorted({*told, 3}) == list(range(1, 10))


# -- one session


@pytest.mark.parametrize("moves", [False, True])
def test_one_session_while_it_goes_on_and_when_it_has_ended(moves):
    with Rig() as rig:
        client, server, session = rig.pair()
        if moves:
            rig.send_away(session)
        assert [view.number for view in rig.look(1).live] == [1]
        assert rig.look(1).ended == ()
        client.close()
        server.close()
        rig.record()
        assert rig.look(2).live == rig.look(2).ended == ()


def test_an_ended_session_is_told_by_its_record():
    with Rig() as rig:
        rig.servers[0].close()
        rig.client()
        rig.record()
        told = rig.look(1)
        assert told.live == ()
        (ended,) = told.ended
        assert (ended.id, ended.reason, ended.ended_by) == ("test-1", "connect_failed", "target")
        assert ended.errno == "ECONNREFUSED"
        assert [(tried.target, tried.error) for tried in ended.tried] == [("t0", "ECONNREFUSED")] * 2


def test_an_ended_session_is_told_with_all_that_its_record_has():
    record = Record(
        id="a-1", app="web", listener="127.0.0.1:80", client="192.0.2.1:7", target="t0", tried=(("t1", "ECONNREFUSED"),),
        connect_seconds=0.25, seconds=2.0, bytes_up=3, bytes_down=4, ended_by="client", reason="done", errno="",
        ended_at=5.0, peer="192.0.2.9:8", error="none", tls=("TLSv1.3", "AES", True, "db.example", "CN=x"),
        notes="sni=db.example", processes=(6, 7), trace=("8", "9", ""),
    )  # fmt: skip
    told = dataclasses.asdict(_ended(tuple(record)))
    assert told.pop("tried") == ({"target": "t1", "error": "ECONNREFUSED"},)
    assert tuple(told.pop("tls").values()) == record.tls
    assert told == {name: value for name, value in record._asdict().items() if name not in ("tried", "tls", "trace")}


# -- its end


@pytest.mark.parametrize("moves", [False, True])
def test_a_closed_session_is_reset_on_both_sides(moves):
    with Rig() as rig:
        client, server, session = rig.pair()
        if moves:
            rig.send_away(session)
        assert rig.close_session(1) == [SessionClosed(3, True)]
        for sock in (client, server):
            rig.turn(2)
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        record = rig.record()
        assert (record["reason"], record["ended_by"], record["errno"]) == ("closed_by_admin", "proxy", "")
        assert rig.close_session(1) == [SessionClosed(3, False)]


def test_a_session_without_a_target_can_be_closed_too():
    with Rig(relays=False) as rig:
        rig.app.targets["t0"].change("up", ((2, blackhole(rig.stack)),))
        client, _ = rig.client()
        assert rig.close_session(1) == [SessionClosed(3, True)]
        rig.turn(2)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert rig.record()["reason"] == "closed_by_admin"


def test_a_session_on_its_way_back_to_the_loop_is_found():
    """It has left its relay thread and not arrived here: the second look finds it."""
    with Rig() as rig:
        _, _, session = rig.pair()
        rig.send_away(session)
        relay = session.thread
        relay.loop.call_soon(relay.send_away, session)
        assert [view.number for view in rig.look(1).live] == [1]
        rig.until(lambda: session.thread is rig.thread)
        relay.loop.call_soon(lambda: None)
        assert rig.numbers() == [1]


def test_those_that_have_ended_since():
    with Rig(relays=False) as rig:
        for _ in range(3):
            _, _, session = rig.pair()
            rig.close_session(session.number)
        rig.said.clear()
        rig.inquiry.session(AskSession(4, 1, since=True), [])
        (told,) = rig.said
        assert encode(told)
        assert [view.id.rpartition("-")[2] for view in told.ended] == ["2", "3"]
        assert (told.live, told.newest, told.left_out) == ((), 3, 0)


# -- requests of mode http

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def told(house, session=0, number=0, own_id="", id=""):
    """What is known of these requests."""
    said = []
    pool = type("NoRelays", (), {"threads": []})()
    Inquiry(house.thread, pool, lambda: house.records, said.append).requests(AskRequests(4, session, number, own_id, id), [])
    (answer,) = said
    assert isinstance(answer, RequestsTold)
    assert encode(answer)
    return answer.requests


def test_requests_of_a_client_that_has_moved_here_are_known_by_the_id_of_its_session():
    with HttpHouse() as house:
        client, session = house.client()
        session.origin = Origin("w.0-7", (4,))
        server = house.ask(client, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        (now,) = told(house, -1, 1, id="w.0-7")
        assert (now.session_id, now.reason) == ("w.0-7", "")
        assert told(house, session.number, 1) == ()
        house.send(server, OK)
        assert house.receive(client, 8) == b"HTTP/1.1"
        house.turn(3)
        (ended,) = told(house, -1, 1, id="w.0-7")
        assert (ended.session_id, ended.reason) == ("w.0-7", "done")
        assert told(house, session.number, 1) == told(house, -1, 2, id="w.0-7") == ()
        session.origin = None  # as it came here, its record belongs here


def test_requests_are_known_while_they_go_on_and_when_they_have_ended():
    with HttpHouse() as house:
        client, session = house.client()
        server = house.ask(client, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        house.clock.now += 3
        house.turn()
        (now,) = told(house, session.number, 1)
        assert (now.line, now.target, now.status, now.answer_seconds, now.seconds) == (
            "GET /a HTTP/1.1", "t0", 0, -1.0, 3,
        )  # fmt: skip
        assert (now.reason, now.ended_at) == ("", 0.0)
        house.send(server, OK)
        assert house.receive(client, 8) == b"HTTP/1.1"
        house.turn(3)
        (ended,) = told(house, session.number, 1)
        assert (ended.status, ended.reason, ended.bytes_down, ended.answer_seconds) == (200, "done", 2, 3)
        assert (ended.app, ended.listener, ended.tried, ended.error) == ("web", "127.0.0.1:1", (), "")
        assert told(house, session.number, 2) == told(house, session.number + 1, 1) == ()


def test_requests_are_known_by_what_their_client_calls_them():
    with HttpHouse() as house:
        client, _ = house.client()
        server = house.ask(client, b"GET /1 HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine\r\n\r\n")
        assert [one.line for one in told(house, own_id="mine")] == ["GET /1 HTTP/1.1"]
        house.send(server, OK)
        house.turn(3)
        client.sendall(b"GET /2 HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine\r\n\r\n")
        house.turn(3)
        assert [(one.line, one.reason) for one in told(house, own_id="mine")] == [
            ("GET /2 HTTP/1.1", ""), ("GET /1 HTTP/1.1", "done"),
        ]  # fmt: skip
        assert told(house, own_id="other") == told(house, own_id="ü€") == ()
        house.read_head(server)
        house.send(server, OK)


def test_a_request_that_was_refused_is_known_too():
    with HttpHouse() as house:
        client, session = house.client()
        client.sendall(b"nons\x80\\\x1b[2J\r\n\r\n")
        house.turn(3)
        kept = told(house, session.number, session.requests)
        line = r"nons\x80\\\x1b[2J"
        assert [(one.line, one.status, one.reason, one.target) for one in kept] == [(line, 400, "protocol_error", "")]


def test_what_is_kept_is_bounded_whatever_clients_send():
    with HttpHouse() as house:
        client, session = house.client()
        server = house.ask(client, b"GET /%b HTTP/1.1\r\nHost: x\r\nX-Request-ID: %b\r\n\r\n" % (b"p" * 5000, b"i" * 5000))
        house.send(server, OK)
        house.turn(3)
        (known,) = told(house, own_id="i" * 200)
        assert (len(known.line), known.session) == (400, session.number)
