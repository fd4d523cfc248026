"""Who waits for a primary in a worker, how long, and who has waited in vain."""

import errno
import socket

import pytest

from kit.waiting import Stopwatch, pause, wait_until
from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.parking import GRAIN, Parking
from tcp_proxy.messages import AppView
from tcp_proxy.sansio.reasons import Reason


def view(primary="", epoch=0, wait=30.0, refuses=False, since=0.0):
    return AppView("db", 0, "failover", 3, Timeouts(), (), primary, epoch, wait, refuses, since)


@pytest.fixture
def pair():
    """A client and what was accepted of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            yield client, accepted


def state(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def test_it_holds_while_there_is_no_primary():
    parking = Parking(view(), 0.0)
    assert parking.holds
    parking.set(1, "a", 1.0)
    assert not parking.holds
    parking.set(2, "", 2.0)
    assert parking.holds


def test_it_receives_when_the_queue_has_waited_for_long_enough():
    parking = Parking(view(epoch=4), 0.0)
    assert not parking.receive(3)  # of an election that is over
    assert parking.receive(4)
    assert not parking.holds
    parking.set(5, "", 1.0)
    assert parking.holds


def test_where_ports_are_closed_nobody_is_received():
    parking = Parking(view(refuses=True), 0.0)
    assert not parking.receive(0)
    assert parking.holds


def test_a_view_that_says_nothing_new_changes_nothing():
    parking = Parking(view("a", 3, since=1.0), 5.0)
    parking.has_reported = True
    parking.configure(view("a", 3, wait=5.0, since=2.0), 9.0)
    assert (parking.since, parking.has_reported, parking.wait) == (1.0, True, 5.0)
    parking.configure(view("b", 3, since=8.0), 9.0)
    assert (parking.primary, parking.since, parking.has_reported) == ("b", 8.0, False)


def test_the_same_primary_again_keeps_its_age_and_hears_reports_again():
    parking = Parking(view("a", 3, since=1.0), 2.0)
    parking.has_reported = True
    parking.set(3, "a", 5.0)
    assert (parking.since, parking.has_reported) == (1.0, False)


@pytest.mark.parametrize(
    ("reason", "code", "waits"),
    [
        (Reason.NO_TARGET, 0, True),
        (Reason.CONNECT_FAILED, errno.ECONNREFUSED, True),
        (Reason.CONNECT_FAILED, errno.ETIMEDOUT, True),
        (Reason.CONNECT_FAILED, errno.EMFILE, False),
        (Reason.CONNECT_FAILED, errno.EADDRNOTAVAIL, False),
        (Reason.LIMIT, 0, False),
    ],
)
def test_who_waits(reason, code, waits):
    assert Parking(view(), 0.0).takes(reason, code) is waits


def test_a_client_that_is_there_is_welcome(pair):
    _, accepted = pair
    assert Parking(view("a", 1), 0.0).welcomes(accepted, 0.0)
    assert Parking(view(), 0.0).welcomes(accepted, 0.0)


def test_one_that_ended_its_direction_is_welcome_only_if_that_was_to_this_primary(pair):
    client, accepted = pair
    client.shutdown(socket.SHUT_WR)
    wait_until(lambda: state(accepted) == 8, "its FIN has come")
    assert Parking(view("a", 1), 0.0).welcomes(accepted, 100.0)  # a primary for a long time
    assert not Parking(view("a", 1, since=100.0), 100.0).welcomes(accepted, 100.0)  # a new one
    assert not Parking(view(), 0.0).welcomes(accepted, 100.0)


def test_one_that_was_reset_is_not(pair):
    client, accepted = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    wait_until(lambda: state(accepted) == 7, "its reset has come")
    assert not Parking(view("a", 1), 0.0).welcomes(accepted, 100.0)


def test_what_was_waited_for_in_the_queue_counts(request):
    """The kernel counts since it heard of the client: at least since the pause, at most since before there was one."""
    before = Stopwatch()
    _, accepted = request.getfixturevalue("pair")
    parking = Parking(view(wait=1000.0), 0.0)
    assert parking.patience_of(accepted) == 1000.0
    parking.receive(0)
    pause(0.1)  # time is what is measured
    patience = parking.patience_of(accepted)
    assert 1000.0 - before.seconds - GRAIN < patience <= 999.9 + GRAIN
