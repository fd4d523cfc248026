"""Who waits for a primary in a worker, how long, and who has waited in vain."""

import dataclasses
import errno
import socket
from types import SimpleNamespace

import pytest

from kit.waiting import Stopwatch, pause, wait_until
from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.all_threads import cut_off
from tcp_proxy.dataplane.primary_queue import GRAIN, PrimaryQueue, dequeue_all, enqueue_all, orphan
from tcp_proxy.dataplane.session_state import DIALING, QUEUED
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.wire.views import AppView
from tests.dataplane.house import House


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
    primary_queue = PrimaryQueue(view(), 0.0)
    assert primary_queue.holds
    primary_queue.set(1, "a", 1.0)
    assert not primary_queue.holds
    primary_queue.set(2, "", 2.0)
    assert primary_queue.holds


def test_it_receives_when_the_queue_has_waited_for_long_enough():
    primary_queue = PrimaryQueue(view(epoch=4), 0.0)
    assert not primary_queue.receive(3)  # of an election that is over
    assert primary_queue.receive(4)
    assert not primary_queue.holds
    primary_queue.set(5, "", 1.0)
    assert primary_queue.holds


def test_where_ports_are_closed_nobody_is_received():
    primary_queue = PrimaryQueue(view(refuses=True), 0.0)
    assert not primary_queue.receive(0)
    assert primary_queue.holds


def test_a_view_that_says_nothing_new_changes_nothing():
    primary_queue = PrimaryQueue(view("a", 3, since=1.0), 5.0)
    primary_queue.has_reported = True
    primary_queue.configure(view("a", 3, wait=5.0, since=2.0), 9.0)
    assert (primary_queue.since, primary_queue.has_reported, primary_queue.wait) == (1.0, True, 5.0)
    primary_queue.configure(view("b", 3, since=8.0), 9.0)
    assert (primary_queue.primary, primary_queue.since, primary_queue.has_reported) == ("b", 8.0, False)


def test_the_same_primary_again_keeps_its_age_and_hears_reports_again():
    primary_queue = PrimaryQueue(view("a", 3, since=1.0), 2.0)
    primary_queue.has_reported = True
    primary_queue.set(3, "a", 5.0)
    assert (primary_queue.since, primary_queue.has_reported) == (1.0, False)


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
    assert PrimaryQueue(view(), 0.0).takes(reason, code) is waits


def test_a_client_that_is_there_is_welcome(pair):
    _, accepted = pair
    assert PrimaryQueue(view("a", 1), 0.0).welcomes(accepted, 0.0, 0.0)
    assert PrimaryQueue(view(), 0.0).welcomes(accepted, 0.0, 0.0)


@pytest.fixture
def ended(pair):
    """An accepted client that has ended its direction."""
    client, accepted = pair
    client.shutdown(socket.SHUT_WR)
    wait_until(lambda: state(accepted) == 8, "its FIN has come")
    return accepted


def test_one_that_ended_its_direction_is_welcome_only_if_that_was_to_this_primary(ended):
    assert PrimaryQueue(view("a", 1), 0.0).welcomes(ended, 100.0, 100.0)  # a primary for a long time
    assert not PrimaryQueue(view("a", 1, since=100.0), 100.0).welcomes(ended, 100.0, 100.0)  # a new one
    assert not PrimaryQueue(view(), 0.0).welcomes(ended, 100.0, 100.0)


def test_nobody_has_waited_where_the_kernels_queue_was_empty_when_the_primary_was_there(ended):
    """Who is accepted later came later, and may end its direction in that very moment."""
    queue = PrimaryQueue(view(), 100.0)
    queue.set(1, "a", 100.0)
    queue.admit(100.001, has_waiting=False)
    assert queue.welcomes(ended, 100.002, 100.002)
    assert not queue.welcomes(ended, 100.001, 100.002), "it was accepted before it was known that nobody waits"
    queue.set(1, "a", 100.0)
    queue.admit(100.003, has_waiting=False)
    assert queue.welcomes(ended, 100.002, 100.004), "the same primary again"
    queue.set(2, "", 100.005)
    assert not queue.welcomes(ended, 100.002, 100.006)
    queue.set(2, "b", 100.007)
    assert not queue.welcomes(ended, 100.002, 100.008), "one that was here under the first"


def test_somebody_may_have_waited_in_the_kernels_queue(ended):
    queue = PrimaryQueue(view(), 100.0)
    queue.set(1, "a", 100.0)
    queue.admit(100.001, has_waiting=True)
    assert not queue.welcomes(ended, 100.002, 100.002)
    queue.admit(100.003, has_waiting=False)
    assert queue.welcomes(ended, 100.004, 100.004)
    queue.admit(100.005, has_waiting=True)
    assert not queue.welcomes(ended, 100.006, 100.006), "another listener, with a queue of its own"


def test_where_ports_are_closed_until_there_is_a_primary_nobody_can_have_waited(ended):
    queue = PrimaryQueue(view(refuses=True), 100.0)
    queue.configure(view("a", 1, refuses=True, since=100.0), 100.0)
    queue.admit(100.001, has_waiting=True)
    assert queue.welcomes(ended, 100.002, 100.002)
    late = PrimaryQueue(view("a", 1, refuses=True, since=100.0), 100.0)
    late.admit(100.001, has_waiting=True)
    assert late.welcomes(ended, 100.002, 100.002), "a worker that came later"


def test_where_there_is_no_primary_nobody_is_admitted(ended):
    queue = PrimaryQueue(view(), 100.0)
    queue.admit(100.0, has_waiting=False)
    queue.set(1, "a", 100.002)
    assert not queue.welcomes(ended, 100.001, 100.003)


def test_one_that_was_reset_is_not(pair):
    client, accepted = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    wait_until(lambda: state(accepted) == 7, "its reset has come")
    assert not PrimaryQueue(view("a", 1), 0.0).welcomes(accepted, 100.0, 100.0)


def test_what_was_waited_for_in_the_queue_counts(request):
    """The kernel counts since it heard of the client: at least since the pause, at most since before there was one."""
    before = Stopwatch()
    _, accepted = request.getfixturevalue("pair")
    primary_queue = PrimaryQueue(view(wait=1000.0), 0.0)
    assert primary_queue.wait_left(accepted) == 1000.0
    primary_queue.receive(0)
    pause(0.1)  # time is what is measured
    peer_watch = primary_queue.wait_left(accepted)
    assert 1000.0 - before.seconds - GRAIN < peer_watch <= 999.9 + GRAIN


# -- in a cluster


class Time:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def leased():
    """A queue whose primary counts for as long as is said, and the clock that it looks at."""
    clock = Time()
    given = dataclasses.replace(view("a", 3), is_leased=True)
    return PrimaryQueue(given, 100.0, clock), clock, given


def test_a_primary_counts_until_the_time_that_was_said(leased):
    queue, clock, _ = leased
    assert (queue.primary, queue.holds, queue.why_none) == ("", True, Reason.NO_QUORUM)
    assert not queue.renew(2, 110.0, 100.0), "of another epoch"
    assert queue.renew(3, 110.0, 100.0)
    assert (queue.primary, queue.holds, queue.since, queue.why_none) == ("a", False, 100.0, Reason.NO_TARGET)
    assert not queue.renew(3, 112.0, 104.0), "there was one"
    clock.now = 111.9
    assert not queue.lapse(111.9)
    clock.now = 112.0
    assert queue.is_over()
    assert queue.lapse(112.0)
    assert (queue.primary, queue.named, queue.holds, queue.since) == ("", "a", True, 112.0)
    assert not queue.lapse(113.0), "once"


def test_a_time_that_is_over_makes_nobody_primary(leased):
    queue, clock, _ = leased
    queue.set(4, "", 100.0)
    queue.set(4, "b", 101.0)
    assert (queue.primary, queue.named) == ("", "b")
    assert queue.renew(4, 120.0, 102.0)
    clock.now = 119.0
    queue.set(5, "", 119.0)
    queue.set(5, "a", 119.5)
    assert queue.primary == "a", "the time is the node's, not the epoch's"


def test_a_session_that_is_connected_when_the_time_is_over_is_given_up(leased):
    queue, clock, _ = leased
    queue.renew(3, 110.0, 100.0)
    session = SimpleNamespace(cut=7, target=SimpleNamespace(cut=7, cut_reason=None), armed=False)
    with socket.socket() as sock:
        queue.connected(session, sock)
        assert session.cut == 7
        clock.now = 110.0
        queue.connected(session, sock)
    assert session.cut != session.target.cut
    assert session.target.cut_reason is Reason.NO_QUORUM


def test_a_queue_is_leased_from_one_configuration_to_the_next(leased):
    queue, _, given = leased
    queue.renew(3, 110.0, 100.0)
    queue.configure(dataclasses.replace(given, is_leased=False), 101.0)
    assert (queue.primary, queue.is_over()) == ("a", False)
    queue.configure(given, 102.0)
    assert (queue.primary, queue.is_over()) == ("", True)
    assert queue.renew(3, 112.0, 103.0)


class Faulty:
    """A session that meets a bug in whatever is asked of it; `calls` has what has been asked of all."""

    target = "a target that is given up"

    def __init__(self, number, house, calls, state):
        self.number, self.thread, self.app, self.state, self._calls = number, house.thread, house.app, state, calls

    def __hash__(self):
        return self.number

    def _called(self):
        self._calls.append(self.number)
        raise ValueError(self.number)

    enqueue = recheck = dequeue = expire = cut_off = _called


@pytest.mark.parametrize("how", ["enqueue", "recheck", "dequeue", "orphan", "cut_off"])
def test_a_bug_in_one_session_is_not_the_others_end(how):
    with House(balance="failover") as house:
        bugs, calls = [], []
        house.loop.on_error = lambda call, error: bugs.append((call.__self__.number, str(error)))
        state = DIALING if how == "enqueue" else QUEUED
        sessions = [Faulty(number, house, calls, state) for number in (1, 2, 3)]
        if how == "dequeue":
            dequeue_all(house.app, sessions)
        elif how == "orphan":
            orphan(house.app, sessions)
        elif how == "cut_off":
            there = SimpleNamespace(members=sessions, guard=house.thread.guard)
            cut_off(frozenset([Faulty.target]), there)
        else:
            enqueue_all(house.app, sessions)
        asked = [1, 2, 3, 1, 2, 3] if how == "orphan" else [1, 2, 3]
        assert (calls, bugs) == (asked, [(number, str(number)) for number in asked])
