"""The connections that are kept: how many, how long, and which are never used again."""

import dataclasses
import os
import select
import socket
from contextlib import ExitStack

import pytest

from tcp_proxy.dataplane.http import upstreams
from tcp_proxy.dataplane.http.upstreams import RESTED, Upstreams
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.relay.splice import PipePool
from tcp_proxy.runtime.loop import EDGE, MAX_EVENTS, READ, Loop
from tcp_proxy.wire.counters import HTTP_CONNECTIONS
from tcp_proxy.wire.views import TargetView
from tests.dataplane.house import Clock, first_slot, reset
from tests.dataplane.http.rig import pair

HERE, THERE = (int(socket.AF_INET), ("127.0.0.1", 1)), (int(socket.AF_INET), ("127.0.0.1", 2))


class Rig:
    def __init__(self):
        self.clock = Clock()
        self.loop = Loop("test", self.clock)
        self.stack = ExitStack()
        self.row = memoryview(bytearray(8 * 4096)).cast("q")
        self.pool = Upstreams(self.loop, self.row, PipePool())
        self.target = self.make_target()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.clear()
        self.loop.run_once(0)
        self.loop.close()
        self.stack.close()
        assert self.pool.open == 0
        assert not any(self.row)

    def make_target(self, number=0, **how):
        return LiveTarget(self.view(number, **how), [])

    def view(self, number, **how):
        return TargetView(f"t{number}", first_slot(number), 1, False, False, "up", (HERE,), **how)

    def connection(self, target=None, port=80):
        """An upstream that is in use, and the target's end of it."""
        sock, peer = pair(self.stack, socket.AF_INET)
        upstream = self.pool.adopt(sock, target or self.target, port)
        self.loop.watch(sock.fileno(), EDGE, upstream.ready)
        upstream.owner = self
        upstream.is_drained = True
        return upstream, peer

    def upstream_ready(self, _events):
        pass

    def keep(self, upstream, most=10, seconds=60.0):
        self.pool.put(upstream, most, seconds)
        self.turn()

    def turn(self, seconds=0.0):
        self.clock.now += seconds
        for _ in range(3):
            self.loop.run_once(0)

    def take(self, target=None, port=80):
        return self.pool.take(target or self.target, port)


def is_closed(peer):
    peer.settimeout(5)
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True


def test_the_one_that_was_used_last_is_used_first():
    with Rig() as rig:
        one, two = rig.connection()[0], rig.connection()[0]
        rig.keep(one)
        rig.keep(two)
        assert rig.pool.idle == 2
        assert rig.take() is two
        assert rig.take() is one
        assert rig.take() is None
        for upstream in (one, two):
            rig.pool.close(upstream)


def test_those_to_each_target_are_counted_until_they_are_closed_or_somebody_else_s():
    with Rig() as rig:
        other = rig.make_target(1)
        (one, _), (two, _), (three, _) = rig.connection(), rig.connection(other), rig.connection(other)

        def counted():
            return [rig.row[target.slot + HTTP_CONNECTIONS] for target in (rig.target, other)]

        assert counted() == [1, 2]
        rig.keep(one)
        assert counted() == [1, 2]
        rig.pool.forget(two)
        rig.pool.close(three)
        assert counted() == [1, 0]
        rig.pool.clear()
        assert counted() == [0, 0]
        two.sock.close()


def test_no_more_are_kept_than_are_wanted():
    with Rig() as rig:
        (one, _), (two, peer) = rig.connection(), rig.connection()
        rig.keep(one, most=1)
        rig.keep(two, most=1)
        assert (rig.pool.idle, rig.pool.open) == (1, 1)
        assert is_closed(peer)


def test_idle_ones_go_when_their_time_is_over():
    with Rig() as rig:
        (one, old), (two, young) = rig.connection(), rig.connection()
        rig.keep(one, seconds=5.0)
        rig.turn(3.0)
        rig.keep(two, seconds=5.0)
        rig.turn(2.5)
        assert is_closed(old)
        assert rig.take() is two
        rig.keep(two, seconds=5.0)
        rig.turn(5.5)
        assert is_closed(young)
        assert rig.pool.open == 0


@pytest.mark.parametrize("what", ["bytes", "end", "reset"])
@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
def test_one_on_which_something_happened_is_never_used_again(what, told):
    with Rig() as rig:
        upstream, peer = rig.connection()
        rig.keep(upstream)
        if what == "bytes":
            peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        elif what == "end":
            peer.shutdown(socket.SHUT_WR)
        else:
            reset(peer)
        if told:
            rig.turn()
            assert rig.pool.idle == 0
        assert rig.take() is None
        rig.turn()
        assert rig.pool.open == 0


@pytest.fixture
def looks(monkeypatch):
    """The descriptors that were looked at, each time."""

    class Poll:
        def __init__(self):
            self.looked, self._poll = [], select.poll()

        def register(self, fd, events):
            self.looked.append(fd)
            self._poll.register(fd, events)

        def __getattr__(self, name):
            return getattr(self._poll, name)

    poll = Poll()
    monkeypatch.setattr(upstreams, "_POLL", poll)
    return poll.looked


def in_a_batch(rig, call, then):
    """What `call` returns, made by the first event of a batch of the loop; what `then` does comes in the same batch."""
    found = []
    ours, theirs = pair(rig.stack, socket.AF_INET)
    rig.loop.watch(ours.fileno(), READ, lambda _events: found.append(call()))
    theirs.sendall(b"go")
    then()
    rig.loop.run_once(5)
    rig.loop.unwatch(ours.fileno())
    ours.close()
    return found[0]


@pytest.mark.parametrize("what", ["bytes", "end", "reset"])
def test_one_of_which_the_batch_at_hand_tells_later_is_not_used(what):
    with Rig() as rig:
        upstream, peer = rig.connection()
        rig.keep(upstream)
        then = {
            "bytes": lambda: peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n"),
            "end": lambda: peer.shutdown(socket.SHUT_WR),
            "reset": lambda: reset(peer),
        }[what]
        assert in_a_batch(rig, rig.take, then) is None
        rig.turn()
        assert rig.pool.open == 0


def test_one_of_which_the_batch_says_nothing_is_not_looked_at(looks):
    with Rig() as rig:
        upstream, _peer = rig.connection()
        rig.keep(upstream)
        assert in_a_batch(rig, rig.take, lambda: None) is upstream
        assert looks == []
        rig.pool.close(upstream)


def test_those_that_came_to_rest_in_this_round_are_used_last(looks):
    """They must be looked at; if there is no other, they are."""
    with Rig() as rig:
        early, late = rig.connection()[0], rig.connection()[0]
        last = rig.connection()[0]
        rig.keep(early)
        rig.keep(late)
        for one in (early, late, last):
            one.is_drained = True

        def take_all():
            rig.pool.put(last, 10, 60.0)
            return [rig.take(), rig.take(), list(looks), rig.take(), rig.take()]

        assert in_a_batch(rig, take_all, lambda: None) == [late, early, [], last, None]
        assert looks == [last.sock.fileno()]
        for one in (early, late, last):
            rig.pool.close(one)


def test_one_of_this_round_is_used_before_one_that_has_rested_for_long(looks):
    """Either must be looked at, and the older one's server may be about to end it."""
    with Rig() as rig:
        early, late = rig.connection()[0], rig.connection()[0]
        rig.keep(early)
        rig.turn(RESTED)

        def put_and_take():
            rig.pool.put(late, 10, 60.0)
            return [rig.take(), rig.take()]

        assert in_a_batch(rig, put_and_take, lambda: None) == [late, early]
        assert looks == [late.sock.fileno(), early.sock.fileno()]
        for one in (early, late):
            rig.pool.close(one)


def test_one_of_this_round_that_goes_is_not_counted_among_those_any_more(looks):
    with Rig() as rig:
        early, late = rig.connection()[0], rig.connection()[0]
        rig.keep(early)
        early.is_drained = True

        def put_discard_take():
            rig.pool.put(late, 10, 60.0)
            rig.pool.discard(late)
            return rig.take()

        assert in_a_batch(rig, put_discard_take, lambda: None) is early
        assert looks == []
        rig.pool.close(early)


def fill_batch(rig, stack):
    """Behind what is ready already."""
    for _ in range(MAX_EVENTS - 1):
        fd = os.eventfd(1)
        stack.callback(os.close, fd)
        rig.loop.watch(fd, READ, lambda _events: None)
        stack.callback(rig.loop.unwatch, fd)


@pytest.mark.parametrize(
    "why", ["it came to rest in this round", "it has rested for long", "the batch is full", "more may have come"]
)
def test_one_is_looked_at_where_the_batch_does_not_tell(why, looks):
    with Rig() as rig, ExitStack() as stack:
        upstream, peer = rig.connection()
        fd = upstream.sock.fileno()
        if why != "it came to rest in this round":
            rig.keep(upstream)
        if why == "it has rested for long":
            rig.clock.now += RESTED
        upstream.is_drained = why != "more may have come"

        def take():
            if why == "it came to rest in this round":
                rig.pool.put(upstream, 10, 60.0)
                peer.sendall(b"x")  # it is not in the batch
                assert select.select([upstream.sock], [], [], 5)[0]
            return rig.take()

        found = in_a_batch(rig, take, lambda: fill_batch(rig, stack) if why == "the batch is full" else None)
        assert looks == [fd]
        if found is None:
            assert why == "it came to rest in this round"
            return
        rig.pool.close(upstream)


def test_one_that_is_in_order_is_found_behind_one_that_is_not():
    with Rig() as rig:
        (good, _), (bad, peer) = rig.connection(), rig.connection()
        rig.keep(good)
        rig.keep(bad)
        peer.sendall(b"x")
        assert rig.take() is good
        rig.pool.close(good)


@pytest.mark.parametrize("change", [("down", (HERE,)), ("draining", (HERE,)), ("up", (THERE,))])
def test_those_of_a_target_that_has_changed_go(change):
    with Rig() as rig:
        upstream, peer = rig.connection()
        rig.keep(upstream)
        rig.target.change(*change)
        rig.turn(1.5)
        assert is_closed(peer)
        assert rig.pool.open == 0


@pytest.mark.parametrize("what", ["tls", "send_proxy"])
def test_one_is_not_used_where_its_target_is_spoken_to_otherwise_now(what):
    """It would have requests in clear, or from whom it was not told of."""
    with Rig() as rig:
        upstream, peer = rig.connection()
        rig.keep(upstream)
        setattr(rig.target, what, object())
        assert rig.take() is None
        assert not upstream.is_private_still
        rig.turn()
        assert is_closed(peer)


def test_a_target_that_is_down_keeps_none():
    with Rig() as rig:
        upstream, peer = rig.connection()
        rig.target.change("down", (HERE,))
        rig.keep(upstream)
        assert is_closed(peer)


def test_a_group_has_connections_of_its_own_for_each_port():
    with Rig() as rig:
        group = rig.make_target(1, servers=((80, (HERE,)), (81, (THERE,))))
        one, two = rig.connection(group, 80)[0], rig.connection(group, 81)[0]
        rig.keep(one)
        rig.keep(two)
        assert rig.take(group, 80) is one
        assert rig.take(group, 80) is None
        assert rig.take(group, 81) is two
        for upstream in (one, two):
            rig.pool.close(upstream)


def test_nothing_is_remembered_of_targets_that_have_nothing():
    with Rig() as rig:
        rig.keep(rig.connection()[0], most=0)
        assert rig.pool._idle == {}
        rig.keep(rig.connection()[0], seconds=5.0)
        rig.turn(7.0)
        assert rig.pool._idle == {}


def test_a_connection_that_is_gone_has_a_host_all_the_same():
    """The request is written, and sending tells."""
    with Rig() as rig:
        upstream, peer = rig.connection(rig.make_target(1, hosts=((0, "shop.example"),)))
        reset(peer)
        with pytest.raises(OSError, match="not connected"):
            upstream.sock.getpeername()
        assert upstream.host == b"shop.example"
        rig.pool.close(upstream)


def test_a_target_is_named_as_it_is_written():
    with Rig() as rig:
        named = rig.make_target(1, hosts=((0, "shop.example:8080"),))
        upstream, _ = rig.connection(named)
        assert upstream.host == b"shop.example:8080"
        named.configure(dataclasses.replace(rig.view(1), hosts=((0, "shop.example"),)))
        assert upstream.host == b"shop.example", "what it is called now"
        rig.keep(upstream)
        group = rig.make_target(2, servers=((80, (HERE,)), (81, (HERE,))), hosts=((80, "a"), (81, "b:81")))
        for port, host in ((80, b"a"), (81, b"b:81")):
            upstream, _ = rig.connection(group, port)
            assert upstream.host == host
            rig.keep(upstream)
        group.leave()
        assert upstream.host == b"b:81", "a request that is under way still says it"
