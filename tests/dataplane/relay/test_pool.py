"""Bulk sessions move to a relay thread and back, as a whole, and nothing of them is lost on the way."""

import hashlib
import os
import threading

import pytest

from tcp_proxy.dataplane.relay import pool
from tcp_proxy.dataplane.relay.handover import Placement
from tcp_proxy.dataplane.relay.splice import SplicePump
from tcp_proxy.dataplane.session import State
from tcp_proxy.sansio.reasons import Reason, Side
from tests.dataplane.house import House


class Stream(threading.Thread):
    """Sends random bytes from one socket and reads them at another, from outside of the loop."""

    def __init__(self, source, dest, size):
        super().__init__(name="stream")
        self.source, self.dest, self.size = source, dest, size
        self.sent, self.got, self.count = hashlib.sha256(), hashlib.sha256(), 0
        self.writer = threading.Thread(target=self.write, name="stream-writer")
        self.writer.start()
        self.start()

    def write(self):
        block = os.urandom(1 << 20)
        for _ in range(self.size >> 20):
            self.source.sendall(block)
            self.sent.update(block)

    def run(self):
        while self.count < self.size:
            data = self.dest.recv(1 << 18)
            if not data:
                break
            self.got.update(data)
            self.count += len(data)

    def check(self, house):
        while self.is_alive() or self.writer.is_alive():
            house.turn(1, 0.005)
        self.join()
        self.writer.join()
        assert self.count == self.size
        assert self.sent.hexdigest() == self.got.hexdigest()


def moved(session):
    return type(session.up) is SplicePump


def test_a_bulk_session_is_spliced_in_another_thread():
    with House(relays=True) as house:
        client, server, session = house.pair()
        up, down = Stream(client, server, 64 << 20), Stream(server, client, 64 << 20)
        house.until(lambda: moved(session))
        assert session not in house.thread.members
        up.check(house)
        down.check(house)
        client.close()
        server.close()
        house.until(lambda: session.state is State.DONE)
        record = house.record()
        assert (record["bytes_up"], record["bytes_down"], record["reason"]) == (64 << 20, 64 << 20, "done")
        assert house.relays.pipes <= 8 * 2


def test_a_session_that_is_bulk_no_more_comes_back():
    with House(relays=True) as house:
        client, server, session = house.pair()
        Stream(client, server, 16 << 20).check(house)
        assert moved(session)
        for _ in range(400):  # small talk, until the relay thread has had a calm second
            client.sendall(b"ping")
            assert server.recv(4) == b"ping"
            house.turn(1, 0.005)
            if not moved(session):
                break
        house.until(lambda: not moved(session))
        assert session in house.thread.members
        client.sendall(b"still here")
        assert house.receive(server, 10) == b"still here"


def test_orders_reach_a_session_wherever_it_is():
    with House(relays=True) as house:
        client, server, session = house.pair()
        stream = Stream(client, server, 16 << 20)
        house.until(lambda: moved(session))
        stream.check(house)
        for thread in house.relays.threads:
            thread.loop.call_soon(session.kill, Reason.SHUTDOWN, Side.PROXY)
        house.until(lambda: session.state is State.DONE)
        assert house.record()["reason"] == "shutdown"


def test_who_arrives_in_a_closing_home_is_reset():
    with House(relays=True) as house:
        client, server, session = house.pair()
        Stream(client, server, 16 << 20).check(house)
        assert moved(session)
        house.thread.closing = Reason.SHUTDOWN
        session.thread.loop.call_soon(Placement(session).move, 0)
        house.until(lambda: session.state is State.DONE)
        assert house.record()["reason"] == "shutdown"


def test_a_target_cut_off_during_a_hand_over_is_noticed_on_arrival():
    with House(relays=True) as house:
        client, server, session = house.pair()
        Stream(client, server, 16 << 20).check(house)
        house.app.targets["t0"].cut += 1
        session.thread.loop.call_soon(Placement(session).move, 0)
        house.until(lambda: session.state is State.DONE)
        assert house.record()["reason"] == "target_down"
        server.close()


def test_without_a_thread_to_be_had_sessions_stay_and_go_on(monkeypatch):
    def no_thread(_self):
        raise RuntimeError("can't start new thread")

    with House(relays=True) as house:
        client, server, session = house.pair()
        with monkeypatch.context() as patch:
            patch.setattr(pool.threading.Thread, "start", no_thread)
            house.turn(1)
            assert not house.relays.adopt(session)
        assert session in house.thread.members
        assert house.relays.threads == []
        Stream(client, server, 16 << 20).check(house)


class Broken:
    """A session that no thread can take."""

    def __init__(self, session):
        self._session = session

    def __getattr__(self, name):
        return getattr(self._session, name)

    def arrive(self, thread):
        self._session.thread = thread
        raise OSError("no more watches")

    def kill(self, *why):
        self._session.kill(*why)


def test_a_bug_on_arrival_ends_one_session_and_not_the_thread():
    with House(relays=True) as house:
        met = []

        def on_error(call, error):
            met.append(error)
            call.__self__.kill(Reason.INTERNAL_ERROR, Side.PROXY)

        house.relays._on_error = on_error
        client, server, session = house.pair()
        house.loop.call_again(Placement(Broken(session)).move)
        house.until(lambda: session.state is State.DONE)
        assert house.record()["reason"] == "internal_error"
        assert len(met) == 1
        other_client, other_server, other = house.pair()
        Stream(other_client, other_server, 16 << 20).check(house)
        assert moved(other)
        assert client
        assert server


def test_relay_threads_have_names_and_start_when_needed():
    with House(relays=True) as house:
        names = {thread.name for thread in threading.enumerate()}
        assert not any(name.startswith("relay-") for name in names)
        client, server, session = house.pair()
        Stream(client, server, 16 << 20).check(house)
        assert moved(session)
        assert "relay-0" in {thread.name for thread in threading.enumerate()}


def test_a_relay_thread_does_not_take_the_cpu_from_who_has_it():
    with House(relays=True) as house:
        client, server, session = house.pair()
        Stream(client, server, 16 << 20).check(house)
        assert moved(session)
        (os_thread,) = house.relays._os_threads
        assert os.sched_getscheduler(os_thread.native_id) == os.SCHED_BATCH


def test_all_that_are_spliced_are_in_one_thread():
    with House(relays=True) as house:
        pairs = [house.pair() for _ in range(3)]
        for client, server, session in pairs:
            Stream(client, server, 16 << 20).check(house)
            assert moved(session)
        assert {session.thread.loop.name for *_, session in pairs} == {"relay-0"}
        assert len(house.relays.threads) == 1


@pytest.mark.parametrize(
    ("cpus", "workers", "threads"),
    [(1, 1, 1), (2, 1, 1), (3, 1, 2), (8, 1, 7), (2, 2, 1), (8, 8, 1), (8, 3, 1), (8, 2, 3), (2, 4, 1)],
)
def test_a_relay_thread_that_splices_has_a_cpu_that_no_loop_needs(cpus, workers, threads):
    assert pool.threads_with_cpu(workers, cpus) == threads


class Veil:
    """All that another object has, but for what is said."""

    def __init__(self, inner, **instead):
        self.inner = inner
        self.__dict__.update(instead)

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Staying(Veil):
    """A session that stays where it arrives."""

    def __init__(self, session, **instead):
        super().__init__(session, home=None, **instead)

    def arrive(self, thread):
        thread.members.add(self)
        self.home = thread


def homes(house, sessions):
    """Of sessions that are handed over one after another."""
    for session in sessions:
        assert house.relays.adopt(session)
        house.until(lambda session=session: session.home is not None)
    names = [session.home.loop.name for session in sessions]
    for thread in house.relays.threads:
        thread.members.clear()
    return names


def test_those_that_are_spliced_are_in_as_many_threads_as_have_a_cpu():
    with House(relays=True, splicing=2) as house:
        pairs = [house.pair() for _ in range(3)]
        assert homes(house, [Staying(session) for *_, session in pairs]) == ["relay-0", "relay-1", "relay-0"]


def test_those_with_tls_are_spread_over_all_threads():
    with House(relays=True) as house:
        pairs = [house.pair() for _ in range(3)]
        sessions = [Staying(session, client=Veil(session.client, stream="TLS")) for *_, session in pairs]
        assert homes(house, sessions) == ["relay-0", "relay-1", "relay-0"]


def test_a_turn_that_was_queued_before_the_hand_over_does_nothing_after_it():
    with House(relays=True) as house:
        client, server, session = house.pair()
        old = session.up
        house.loop.call_again(Placement(session).move)
        house.loop.call_again(old.resume)
        client.sendall(b"not for the old pump")
        house.loop._run_again()
        assert old.moved == 0
        assert server.recv(100) == b"not for the old pump"
