"""Finding a target that answers: next ones, the lone one once more, deadlines, errors of this machine."""

import errno
import resource
import socket

import pytest

from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.session import State
from tcp_proxy.runtime.loop import WRITE
from tcp_proxy.sansio.reasons import FAILURES, failure_of
from tcp_proxy.wire import counters
from tests.dataplane.house import House, blackhole, reset

SHORT = Timeouts(connect=1.0, idle=10.0, half_closed=2.0)


def refuse(house, *numbers):
    """These targets are not there any more."""
    for number in numbers:
        house.servers[number].close()


def relaying(house, session):
    house.until(lambda: session.state is State.RELAYING)


def test_a_target_that_refuses_costs_the_client_nothing():
    with House(targets=3) as house:
        refuse(house, 0, 1)
        for _ in range(3):
            client, session = house.client()
            relaying(house, session)
            assert session.target.name == "t2"
            client.close()
            house.turn(3)
            house.servers[2].accept()[0].close()
            house.turn(3)
        tried = [record["tried"] for record in house.records.all]
        assert (("t0", "ECONNREFUSED"), ("t1", "ECONNREFUSED")) in [tuple(sorted(names)) for names in tried]
        assert all(record["reason"] == "done" for record in house.records.all)


def test_at_most_retries_further_targets_are_tried():
    with House(targets=4, retries=1) as house:
        refuse(house, 0, 1, 2, 3)
        client, _ = house.client()
        record = house.record()
        assert record["reason"] == "connect_failed"
        assert record["ended_by"] == "target"
        assert record["errno"] == "ECONNREFUSED"
        assert len(record["tried"]) == 2
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_without_retries_one_attempt_is_all():
    with House(targets=1, retries=0) as house:
        refuse(house, 0)
        house.client()
        assert len(house.record()["tried"]) == 1


def test_a_lone_target_is_tried_once_more_after_a_tenth_of_a_second():
    with House() as house:
        address = house.servers[0].getsockname()
        refuse(house, 0)
        client, session = house.client()
        assert session.state is State.DIALING
        house.servers[0] = house.stack.enter_context(socket.create_server(address))
        house.pass_time(0.09)
        assert session.state is State.DIALING
        house.pass_time(0.02)
        house.until(lambda: session.state is State.RELAYING)
        assert session.tried == [("t0", "ECONNREFUSED")]
        client.close()


def test_a_lone_target_that_refuses_twice_fails():
    with House() as house:
        refuse(house, 0)
        house.client()
        house.pass_time(0.11)
        assert house.record()["reason"] == "connect_failed"
        assert len(house.record()["tried"]) == 2


def test_a_client_that_leaves_during_the_wait_is_gone():
    with House() as house:
        refuse(house, 0)
        client, _ = house.client()
        reset(client)
        house.turn(3)
        assert house.record()["reason"] == "client_gone"
        house.pass_time(0.2)


def hung_up(house, target=0, said=b"", fin=False):
    """A client; while it is dialed, and before the loop hears of that, this target accepts, says so much and resets."""
    client = house.stack.enter_context(socket.create_connection(house.listening.getsockname()))
    client.settimeout(5)
    session = house.admit()
    server, _ = house.servers[target].accept()
    server.sendall(said)
    if fin:
        server.shutdown(socket.SHUT_WR)
    reset(server)
    return client, session


@pytest.mark.parametrize("fin", [False, True], ids=["reset", "end and reset"])
@pytest.mark.parametrize("said", [b"", b"-ERR too many connections\r\n"], ids=["silent", "spoken"])
def test_a_target_that_accepts_and_resets_was_connected_to(said, fin):
    """Whether the loop hears of the connection or of its reset first is chance, and makes no difference to the record."""
    with House(retries=0) as house:
        client, _ = hung_up(house, said=said, fin=fin)
        record = house.record()
        assert (record["reason"], record["ended_by"]) == ("target_reset", "target")
        assert record["errno"] == ("EPIPE" if fin else "ECONNRESET")
        assert record["bytes_down"] == len(said)
        assert client.recv(100) == said if said else True
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_target_that_resets_without_a_word_gives_way_to_the_next():
    with House(targets=2) as house:
        house.app.change_target("t1", "down", ())
        client, session = hung_up(house)
        house.app.change_target("t1", "up", (house.endpoint(house.servers[1]),))
        relaying(house, session)
        assert (session.target.name, list(session.tried)) == ("t1", [("t0", "ECONNRESET")])
        client.close()


def test_a_target_that_has_spoken_does_not():
    with House(targets=2) as house:
        house.app.change_target("t1", "down", ())
        client, session = hung_up(house, said=b"x")
        house.app.change_target("t1", "up", (house.endpoint(house.servers[1]),))
        assert house.receive(client, 1) == b"x"
        assert (house.record()["target"], session.tried) == ("t0", [])


@pytest.mark.parametrize("fin", [False, True], ids=["reset", "end and reset"])
def test_a_target_that_might_be_ourselves_and_resets(fin):
    """getpeername() knows no peer any more."""
    with House(retries=0) as house:
        house.app.targets["t0"].may_be_ourselves = True
        client, session = hung_up(house, fin=fin)
        assert house.record()["reason"] == "target_reset"
        assert session.state is State.DONE
        client.close()


def test_a_target_that_might_be_ourselves_and_resets_after_the_event():
    """Between the event that says connected and the question who is there."""
    with House(retries=0) as house:
        target = house.app.targets["t0"]
        target.may_be_ourselves = True
        client = house.stack.enter_context(socket.create_connection(house.listening.getsockname()))
        session = house.admit()
        dial, server = session.dial, house.servers[0].accept()[0]
        reset(server)
        dial._ready(WRITE)
        assert house.record()["reason"] == "target_reset"
        client.close()


def test_dial_ends_after_twice_connect():
    """Three black holes of one second each: the second is given up with the whole phase."""
    with House(targets=3, timeouts=SHORT) as house:
        hole = blackhole(house.stack)
        for name in house.app.targets:
            house.app.change_target(name, "up", ((socket.AF_INET, hole),))
        _client, session = house.client()
        house.pass_time(1.01)
        assert session.state is State.DIALING
        house.pass_time(1.01)
        record = house.record()
        assert record["reason"] == "connect_failed"
        assert record["tried"] == (("t0", "ETIMEDOUT"), ("t1", "ETIMEDOUT")) or len(record["tried"]) == 2
        assert record["seconds"] <= 2.2


def test_a_slow_target_gives_way_to_the_next_after_connect():
    with House(targets=2, timeouts=SHORT) as house:
        hole = blackhole(house.stack)
        house.app.change_target("t0", "up", ((socket.AF_INET, hole),))
        sessions = [house.client()[1] for _ in range(2)]
        house.pass_time(1.01)
        house.until(lambda: all(session.state is State.RELAYING for session in sessions))
        assert {session.target.name for session in sessions} == {"t1"}


def test_the_other_addresses_of_a_name_come_before_another_target():
    with House(targets=2) as house:
        dead = house.listen("tcp")
        address = dead.getsockname()
        dead.close()
        good = house.endpoint(house.servers[0])
        house.app.change_target("t0", "up", ((socket.AF_INET, address), good))
        house.app.change_target("t1", "down", ())
        for _ in range(4):
            _client, session = house.client()
            relaying(house, session)
            assert session.target.name == "t0"


def test_no_eligible_target_is_a_reset_at_once():
    with House() as house:
        house.app.change_target("t0", "down", (house.endpoint(house.servers[0]),))
        client, _ = house.client()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        record = house.record()
        assert (record["reason"], record["ended_by"], record["tried"]) == ("no_target", "proxy", ())


def test_a_failed_connect_asks_for_one_probe_a_second():
    with House(retries=0) as house:
        refuse(house, 0)
        house.client()
        house.client()
        assert house.asked == [("web", "t0", "ECONNREFUSED")]
        house.pass_time(1.1)
        house.client()
        assert len(house.asked) == 2
        assert house.row[house.app.targets["t0"].slot + counters.FAILURES + failure_of(errno.ECONNREFUSED)] == 3


def test_an_error_of_this_machine_is_counted_apart_and_asks_for_nothing():
    with House(retries=0) as house:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        client = socket.create_connection(house.listening.getsockname())
        house.stack.enter_context(client)
        next_free = client.fileno() + 2  # room for the accepted client, not for the connection to the target
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, hard))
        try:
            _ = house.stack.enter_context(house.listening)
            inner, address = house.listening.accept()
            from tcp_proxy.dataplane.session import Session

            raw = socket.SocketType(inner.family, socket.SOCK_STREAM, 0, inner.detach())
            session = Session(1, house.thread, house.app, house.listener, raw, address)
            house.sessions.append(session)
            session.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        record = house.record()
        assert (record["reason"], record["errno"]) == ("connect_failed", "EMFILE")
        assert house.asked == []
        assert house.row[house.app.targets["t0"].slot + counters.FAILURES + FAILURES.index("local")] == 1


def test_a_unix_target_that_does_not_listen_is_refused_like_any_other():
    with House(targets=2, family="unix") as house:
        refuse(house, 0)
        sessions = [house.client()[1] for _ in range(2)]
        house.until(lambda: all(session.state is State.RELAYING for session in sessions))
        assert {session.target.name for session in sessions} == {"t1"}


def test_a_unix_target_with_a_full_queue_is_waited_for():
    """A TCP target would merely queue the connection; a UNIX one says EAGAIN."""
    with House(family="unix", timeouts=SHORT) as house:
        house.servers[0].listen(0)
        first = house.client()[1]
        later = [house.client()[1] for _ in range(2)]
        assert first.state is State.RELAYING
        assert all(session.state is State.DIALING for session in later)
        house.servers[0].settimeout(5)
        for _ in range(3):
            house.stack.enter_context(house.servers[0].accept()[0])
            house.pass_time(0.15)
        assert all(session.state is State.RELAYING for session in later)
        assert house.asked == []


def test_a_unix_target_whose_queue_stays_full_fails_in_time():
    with House(family="unix", timeouts=SHORT, retries=0) as house:
        house.servers[0].listen(0)
        for _ in range(2):
            house.client()
        house.pass_time(0.5)
        assert not house.records.all
        house.pass_time(0.6)
        assert house.record()["errno"] == "ETIMEDOUT"
