"""A client between its accept and its session: counted, shown, ended like a session; what it has said is the session's."""

import itertools
import socket

import pytest

from tcp_proxy.dataplane.edge.arrival import DONE, NEW, SAY_EVERY, STEPS, EdgeState
from tcp_proxy.dataplane.inquiry import Inquiry
from tcp_proxy.sansio.proxyproto import LOCAL
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire import counters
from tcp_proxy.wire.inquiries import AskSessions
from tests.dataplane.edge.gate import Gate
from tests.dataplane.house import reset
from tests.kit.proxy_headers import VECTORS

V1 = VECTORS["v1-tcp4"][0][0]


def test_a_client_is_a_session_when_its_header_is_whole_and_the_target_has_the_rest():
    with Gate() as gate:
        client = gate.connect(V1 + b"hello")
        target = gate.target()
        assert gate.house.receive(target, 5) == b"hello"
        assert gate.member.address[:2] == ("192.0.2.7", 1111)
        assert gate.member.address.peer == client.getsockname()
        assert gate.member.address.destination == ("192.0.2.8", 2222)


@pytest.mark.parametrize("data", [V1 + b"hello", VECTORS["v2-tcp6"][0][0] + b"hello"])
def test_it_may_be_cut_at_every_byte(data):
    with Gate() as gate:
        for size in range(1, len(data)):
            client = gate.connect(data[:size])
            gate.say(client, data[size:])
            target = gate.target()
            assert gate.house.receive(target, 5) == b"hello"
            gate.member.kill(Reason.SHUTDOWN, Side.PROXY)
            gate.house.turn(2)


def test_a_session_is_as_old_as_its_client():
    with Gate() as gate:
        client = gate.connect(V1[:9])
        started = gate.house.loop.now
        gate.house.pass_time(2)
        gate.say(client, V1[9:])
        assert gate.member.started == started
        assert gate.member.target is not None


def test_a_server_that_speaks_first_is_connected_to_without_a_byte_of_the_client():
    with Gate() as gate:
        client = gate.connect(V1)
        gate.target().sendall(b"220 ready")
        assert gate.house.receive(client, 9) == b"220 ready"


def test_an_end_behind_the_header_is_passed_on_and_the_answer_arrives():
    with Gate() as gate:
        client = gate.connect(V1)
        client.shutdown(socket.SHUT_WR)
        target = gate.target()
        assert gate.house.receive(target) == b""
        target.sendall(b"answer")
        target.close()
        assert gate.house.receive(client) == b"answer"
        record = gate.house.record()
        assert (record["reason"], record["client"]) == ("done", "192.0.2.7:1111")
        assert record["peer"] == "{}:{}".format(*client.getsockname())


def test_an_end_that_comes_with_the_header_is_passed_on():
    with Gate() as gate:
        client = socket.create_connection(gate.address)
        gate.clients.append(client)
        client.sendall(V1 + b"all")
        client.shutdown(socket.SHUT_WR)
        gate.house.turn(3)
        assert gate.house.receive(gate.target()) == b"all"


# -- how it ends before it is a session


def test_a_header_that_is_wrong_is_a_reset_a_record_and_a_line():
    with Gate() as gate:
        client = gate.connect(VECTORS["v1-two-spaces"][0][0])
        with pytest.raises(ConnectionResetError):
            gate.house.receive(client)
        record = gate.house.record()
        assert (record["reason"], record["ended_by"], record["target"]) == ("protocol_error", "client", "")
        assert record["client"] == "{}:{}".format(*client.getsockname())
        assert record["peer"] == ""
        assert 'not "TCP4"' in record["error"]
        assert gate.said == [f"client {record['client']} at listener 127.0.0.1:80 of app web refused: {record['error']}"]
        assert not gate.has_session


def test_many_that_are_refused_are_one_line_a_second_and_all_are_counted():
    with Gate() as gate:
        for _ in range(5):
            gate.connect(b"GET / HTTP/1.1\r\n\r\n")
        assert len(gate.said) == 1
        gate.house.pass_time(SAY_EVERY)
        gate.connect(b"SSH-2.0-x\r\n")
        assert len(gate.said) == 2
        assert "(4 more since" in gate.said[1]
        assert len(gate.house.records.all) == 6
        slot = gate.house.app.slot + counters.ENDS + list(Reason).index(Reason.PROTOCOL_ERROR)
        assert gate.house.row[slot] == 6


@pytest.mark.parametrize("begun", [b"", b"P", V1[:-1], VECTORS["v2-tcp4"][0][0][:20]])
def test_one_that_is_not_whole_in_time_is_refused(begun):
    with Gate() as gate:
        client = gate.connect(begun)
        gate.house.pass_time(2.9)
        assert gate.member.state.name == "HEADER"
        gate.house.pass_time(0.2)
        with pytest.raises(ConnectionResetError):
            gate.house.receive(client)
        record = gate.house.record()
        assert record["reason"] == "protocol_error"
        assert "within 3 s" in record["error"]


@pytest.mark.parametrize("begun", [b"", b"P", V1[:-1]])
@pytest.mark.parametrize("end", [socket.socket.close, reset])
def test_a_client_that_goes_before_its_header_is_whole_has_gone(begun, end):
    with Gate() as gate:
        end(gate.connect(begun))
        record = gate.house.record()
        assert (record["reason"], record["ended_by"]) == ("client_gone", "client")
        assert not gate.said


def test_a_kill_ends_it_with_one_record():
    with Gate() as gate:
        client = gate.connect(b"PROXY ")
        gate.member.kill(Reason.CLOSED_BY_ADMIN, Side.PROXY)
        with pytest.raises(ConnectionResetError):
            gate.house.receive(client)
        assert [record["reason"] for record in gate.house.records.all] == ["closed_by_admin"]


def test_a_bug_in_a_stage_ends_its_client_alone():
    with Gate() as gate:
        errors = []

        def failed(handler, error):
            errors.append(error)
            handler.__self__.kill(Reason.INTERNAL_ERROR, Side.PROXY)

        gate.house.loop.on_error = failed
        other = gate.connect(b"PROXY ")
        (first,) = gate.members
        client = gate.connect(b"PROXY ")
        (broken,) = gate.members - {first}
        broken._stage = None.__class__
        gate.say(client, b"x")
        assert [type(error) for error in errors] == [AttributeError]
        gate.say(other, V1[6:])
        assert gate.target()
        assert gate.house.record()["reason"] == "internal_error"


# -- what is seen of it


def test_it_is_counted_and_shown_while_it_waits():
    with Gate() as gate:
        client = gate.connect(b"PROXY ")
        assert gate.server.sessions == 1
        told = []
        Inquiry(gate.house.thread, NoRelays(), lambda: gate.house.records, told.append).sessions(
            AskSessions(1, "web", "", "", "", 0, 10), []
        )
        (view,) = told[0].sessions
        assert (view.state, view.client, view.target) == ("header", "{}:{}".format(*client.getsockname()), "")
        gate.say(client, V1[6:])
        assert gate.server.sessions == 1
        told.clear()
        Inquiry(gate.house.thread, NoRelays(), lambda: gate.house.records, told.append).sessions(
            AskSessions(1, "web", "", "192.0.2.7", "", 0, 10), []
        )
        (view,) = told[0].sessions
        assert (view.client, view.peer) == ("192.0.2.7:1111", "{}:{}".format(*client.getsockname()))


class NoRelays:
    threads = ()


def test_it_counts_as_accepted_once_whatever_becomes_of_it():
    with Gate() as gate:
        gate.connect(b"no header\r\n")
        gate.connect(V1)
        row, slot = gate.house.row, gate.house.listener_slot
        assert row[counters.ACCEPTED] == 2
        assert row[slot + counters.LISTENER_ACCEPTED] == 2
        assert row[slot + counters.LISTENER_ENDED] == 1
        assert row[counters.SESSIONS] == 1


@pytest.mark.parametrize("end", ["a session", "refused", "gone", "killed", "a health check"])
def test_its_counters_are_its_own_from_the_start_to_the_end(end):
    """So a listener that has left keeps them until nobody can count there any more."""
    with Gate() as gate:
        row, arriving = gate.house.row, gate.house.listener_slot + counters.LISTENER_ARRIVING
        client = gate.connect(b"PROXY ")
        assert row[arriving] == 1
        if end == "a session":
            gate.say(client, V1[6:])
            gate.target()
        elif end == "refused":
            gate.say(client, b"nonsense\r\n")
        elif end == "killed":
            gate.member.kill(Reason.SHUTDOWN, Side.PROXY)
        elif end == "gone":
            client.close()
        else:
            other = gate.connect(LOCAL)
            assert row[arriving] == 2
            other.close()
            gate.house.until(lambda: row[arriving] == 1)
            client.close()
        gate.house.until(lambda: row[arriving] == 0)


def test_those_that_are_refused_are_counted_by_cause():
    with Gate() as gate:
        gate.connect(b"no header\r\n")
        gate.connect(b"PROXY TCP4 nobody\r\n")
        gate.connect(b"PROXY")
        gate.house.pass_time(gate.house.app.timeouts.first_bytes + 1)
        gate.connect(V1)
        gate.member.kill(Reason.SHUTDOWN, Side.PROXY)
        assert gate.refused == {"proxy_missing": 1, "proxy_malformed": 1, "proxy_late": 1}
    with Gate(networks=("192.0.2.0/24",)) as gate:
        gate.connect(V1)
        assert gate.refused == {"proxy_untrusted": 1}


def test_only_listed_steps_are_made():
    for state, to in itertools.product(EdgeState, EdgeState):
        with Gate() as gate:
            gate.connect(b"PROXY ")
            arrival = gate.member
            arrival.state = state
            if to in STEPS[state]:
                arrival._enter(to)
            else:
                with pytest.raises(AssertionError, match=to.name):
                    arrival._enter(to)
            arrival.state = EdgeState.HEADER
    assert STEPS[DONE] == ()
    assert NEW not in {state for steps in STEPS.values() for state in steps}
