"""The event loop, on real descriptors and a clock that the test turns."""

import os
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.clock import Clock
from tcp_proxy.runtime.loop import EDGE, FAILED, MAX_EVENTS, RDHUP, READ, WRITE, Loop


class Resource:
    """Something to close; says when it was."""

    def __init__(self, diary, name="resource"):
        self.diary, self.name = diary, name

    def close(self):
        self.diary.append(f"{self.name} closed")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def loop(clock):
    loop = Loop("test", clock)
    yield loop
    loop.close()


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


# -- descriptors


def test_a_ready_descriptor_is_reported_to_its_handler(loop, pair):
    ours, theirs = pair
    seen = []
    loop.watch(ours.fileno(), READ, seen.append)
    loop.run_once(0)
    assert seen == []
    theirs.send(b"x")
    loop.run_once(0)
    assert seen == [READ]


def test_rewatch_changes_what_is_asked_for(loop, pair):
    ours, _ = pair
    seen = []
    loop.watch(ours.fileno(), READ, seen.append)
    loop.rewatch(ours.fileno(), READ | WRITE)
    loop.run_once(0)
    assert seen == [WRITE]


def test_an_edge_is_reported_once_and_again_when_there_is_news(loop, pair):
    ours, theirs = pair
    seen = []
    loop.watch(ours.fileno(), EDGE, seen.append)
    loop.run_once(0)
    assert seen == [WRITE]
    theirs.send(b"x")
    loop.run_once(0)
    loop.run_once(0)
    assert seen == [WRITE, READ | WRITE]
    theirs.send(b"y")
    loop.run_once(0)
    assert len(seen) == 3
    theirs.close()
    loop.run_once(0)
    assert seen[3] & RDHUP
    assert seen[3] & FAILED


def test_handle_gives_a_descriptor_another_handler(loop, pair):
    ours, theirs = pair
    first, second = [], []
    loop.watch(ours.fileno(), READ, first.append)
    loop.attend(ours.fileno(), READ, second.append)
    theirs.send(b"x")
    loop.run_once(0)
    assert (first, second) == ([], [READ])


def test_an_unwatched_descriptor_is_heard_of_no_more(loop, pair):
    ours, theirs = pair
    seen = []
    loop.watch(ours.fileno(), READ, seen.append)
    assert loop.is_watched(ours.fileno())
    theirs.send(b"x")
    loop.unwatch(ours.fileno())
    loop.run_once(0)
    assert seen == []
    assert not loop.is_watched(ours.fileno())
    loop.watch(ours.fileno(), READ, seen.append)
    loop.run_once(0)
    assert seen == [READ]


def test_an_event_of_a_descriptor_unwatched_in_the_same_batch_is_dropped(loop):
    """Whichever of two ready sockets is first unwatches the other, whose event is already in the batch."""
    pairs = [socket.socketpair() for _ in range(2)]
    seen = []

    def handler(mine, other):
        def called(_events):
            seen.append(mine)
            loop.unwatch(pairs[other][0].fileno())

        return called

    for n, (ours, theirs) in enumerate(pairs):
        loop.watch(ours.fileno(), READ, handler(n, 1 - n))
        theirs.send(b"x")
    loop.run_once(0)
    assert len(seen) == 1
    for sock in (*pairs[0], *pairs[1]):
        sock.close()


def test_a_reused_number_never_gets_a_stale_event(loop):
    """docs/rules.md, R3: closed after the batch, so that a new socket made in the batch cannot have the old one's number."""
    pairs = [socket.socketpair() for _ in range(2)]
    numbers = [ours.fileno() for ours, _ in pairs]
    made, stale = [], []

    def called(n):
        def handler(_events):
            other = pairs[1 - n][0]
            if other.fileno() < 0 or made:
                return
            loop.drop(other)
            made.extend(socket.socketpair())
            loop.watch(made[0].fileno(), READ, lambda events: stale.append(events))

        return handler

    for n, (ours, theirs) in enumerate(pairs):
        loop.watch(ours.fileno(), READ, called(n))
        theirs.send(b"x")
    loop.run_once(0)
    loop.run_once(0)
    assert made[0].fileno() not in numbers
    assert stale == []
    loop.unwatch(made[0].fileno())
    closed = [ours for ours, _ in pairs if ours.fileno() < 0]
    assert len(closed) == 1, "and closed it was, when the batch was over"
    for sock in (*pairs[0], *pairs[1], *made):
        sock.close()


def test_drop_leaves_the_kernel_nothing_once_the_descriptor_is_closed(loop):
    """No epoll_ctl and no EBADF: the number can be watched again at once."""
    for _ in range(20):
        ours, theirs = socket.socketpair()
        loop.watch(ours.fileno(), EDGE, lambda _events: None)
        loop.drop(ours)
        loop.run_once(0)
        theirs.close()


def test_more_events_than_a_batch_are_all_served(loop):
    count = MAX_EVENTS + 50
    pairs = [socket.socketpair() for _ in range(count)]
    seen = set()
    for n, (ours, theirs) in enumerate(pairs):
        loop.watch(ours.fileno(), EDGE & ~WRITE, lambda _events, n=n: seen.add(n))
        theirs.send(b"x")
    for _ in range(3):
        loop.run_once(0)
    assert len(seen) == count
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_bug_in_a_handler_goes_to_on_error_and_the_others_go_on(loop):
    pairs = [socket.socketpair() for _ in range(3)]
    seen, errors = [], []
    loop.on_error = lambda handler, error: errors.append(str(error))

    def handler(n):
        def called(_events):
            seen.append(n)
            raise ValueError(n)

        return called

    for n, (ours, theirs) in enumerate(pairs):
        loop.watch(ours.fileno(), EDGE & ~WRITE, handler(n))
        theirs.send(b"x")
    loop.call_again(handler(3))
    loop.run_once(0)
    assert sorted(seen) == [0, 1, 2, 3]
    assert sorted(errors) == ["0", "1", "2", "3"]
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_without_on_error_a_bug_ends_the_loop(loop, pair):
    ours, theirs = pair
    loop.watch(ours.fileno(), READ, lambda _events: [][0])
    theirs.send(b"x")
    with pytest.raises(IndexError):
        loop.run()


# -- calls


def test_calls_are_made_in_order(loop):
    seen = []
    for n in range(5):
        assert loop.call_soon(seen.append, n)
    loop.run_once()
    assert seen == [0, 1, 2, 3, 4]


def test_a_call_from_another_thread_wakes_the_loop(loop):
    """Without a timeout: it would wait for ever if it were not woken."""
    thread = threading.Thread(target=loop.call_soon, args=(loop.stop,), name="caller")
    thread.start()
    loop.run()
    thread.join()


def test_calls_of_many_threads_are_all_made_each_thread_s_in_order(loop):
    seen, threads, count = [], 8, 500

    def call(n):
        for i in range(count):
            assert loop.call_soon(seen.append, (n, i))

    started = [threading.Thread(target=call, args=(n,), name=f"caller-{n}") for n in range(threads)]
    for thread in started:
        thread.start()
    while len(seen) < threads * count:
        loop.run_once(1)
    for thread in started:
        thread.join()
    for n in range(threads):
        assert [i for who, i in seen if who == n] == list(range(count))


def test_calls_that_queue_calls_do_not_starve_the_sockets(loop, pair):
    """One pass over the queue is bounded: what a call queues is made in the next round."""
    ours, theirs = pair
    made, seen = [], []

    def again():
        made.append(len(seen))
        loop.call_soon(again)

    loop.watch(ours.fileno(), READ, lambda _events: seen.append(ours.recv(1)))
    loop.call_soon(again)
    for byte in (b"a", b"b", b"c"):
        theirs.send(byte)
        loop.run_once(0)
    assert seen == [b"a", b"b", b"c"]
    assert made == [1, 2, 3]
    loop._calls.clear()


def test_call_again_is_the_next_round_s_and_once_only(loop):
    seen = []
    loop.call_again(seen.append)
    loop.run_once()
    loop.run_once(0)
    assert seen == [0]


def test_call_again_from_a_handler_waits_for_the_other_sockets(loop, pair):
    ours, theirs = pair
    rounds = []

    def more(_events):
        rounds.append("more")
        if len(rounds) < 5:
            loop.call_again(more)

    loop.call_again(more)
    loop.watch(ours.fileno(), READ, lambda _events: rounds.append(ours.recv(1)))
    loop.run_once()
    theirs.send(b"x")
    loop.run_once()
    assert rounds == ["more", b"x", "more"]


def test_after_close_calls_are_refused(clock):
    loop = Loop("test", clock)
    loop.close()
    assert loop.call_soon(print) is False
    loop.stop_soon()
    loop.close()


def test_close_makes_the_calls_that_wait(clock):
    loop, seen = Loop("test", clock), []
    assert loop.call_soon(seen.append, 1)
    assert loop.call_soon(lambda: seen.append(loop.call_soon(seen.append, 2)))
    loop.close()
    assert seen == [1, False], "a call during the close is refused, and says so"


def test_true_means_made_whatever_the_moment_of_the_close():
    """Threads call while the loop closes: what was promised is made, and nobody's descriptor is written to."""
    for _ in range(30):
        loop, made, promised = Loop("test"), [], []
        go = threading.Barrier(4)

        def call(loop=loop, made=made, promised=promised, go=go):
            go.wait()
            while loop.call_soon(made.append, 1):
                promised.append(1)

        threads = [threading.Thread(target=call, name=f"caller-{n}") for n in range(3)]
        for thread in threads:
            thread.start()
        go.wait()
        loop.run_once(1)
        loop.close()
        for thread in threads:
            thread.join()
        assert len(made) == len(promised)


def test_stop_soon_comes_after_the_calls_before_it(loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.stop_soon()
    loop.call_soon(seen.append, 2)
    loop.run()
    assert seen == [1, 2], "the round is finished"


# -- timers


@given(st.lists(st.integers(0, 50), max_size=20), st.lists(st.integers(1, 30), max_size=8))
def test_timers_fire_in_order_once_and_never_early(delays, turns):
    clock, fired = Clock(), []
    loop = Loop("test", clock)
    for n, delay in enumerate(delays):
        loop.call_later(delay, lambda n=n, delay=delay: fired.append((delay, n)))
    passed = 0
    for turn in [0, *turns]:
        clock.turn(turn)
        passed += turn
        loop.run_once(0)
        assert sorted(fired) == sorted((delay, n) for n, delay in enumerate(delays) if delay <= passed)
        assert [delay for delay, _ in fired] == sorted(delay for delay, _ in fired)
    loop.close()


def test_now_is_read_once_a_poll(loop, clock):
    seen = []
    loop.call_soon(lambda: (clock.turn(5), seen.append(loop.now)))
    loop.run_once()
    assert seen == [1000.0]
    loop.run_once(0)
    assert loop.now == 1005.0


def test_a_cancelled_timer_does_not_fire(loop, clock):
    fired = []
    timer = loop.call_later(1, fired.append, "no")
    loop.call_later(2, fired.append, "yes")
    timer.cancel()
    timer.cancel()
    clock.turn(3)
    loop.run_once(0)
    assert fired == ["yes"]
    assert "cancelled" in repr(timer)


def test_a_timer_may_cancel_one_that_is_due_with_it(loop, clock):
    fired = []
    second = loop.call_later(2, fired.append, "second")
    loop.call_later(1, second.cancel)
    clock.turn(5)
    loop.run_once(0)
    assert fired == []


def test_a_timer_may_set_another(loop, clock):
    fired = []
    loop.call_later(1, loop.call_later, 1, fired.append, "later")
    clock.turn(1)
    loop.run_once(0)
    assert fired == []
    clock.turn(1)
    loop.run_once(0)
    assert fired == ["later"]


def test_the_loop_waits_for_its_next_timer_with_the_real_clock():
    loop, fired = Loop("test"), []
    start = loop.now
    loop.call_later(0.03, lambda: fired.append(loop.now - start))
    rounds = 0
    while not fired:
        loop.run_once()
        rounds += 1
    assert fired[0] >= 0.03
    assert rounds <= 2, "it slept, it did not spin"
    loop.close()


def test_a_cancelled_timer_does_not_wake_the_loop():
    loop = Loop("test")
    start = loop.now
    loop.call_later(0.001, print).cancel()
    loop.run_once(0.05)
    assert loop.now - start >= 0.05
    assert not loop._timers
    loop.close()


# -- the end


def test_what_is_to_be_closed_is_closed_when_the_batch_is_over(loop):
    diary = []
    loop.call_soon(lambda: (loop.close_after_batch(Resource(diary)), diary.append("batch goes on")))
    loop.call_soon(diary.append, "another call")
    loop.run_once()
    assert diary == ["batch goes on", "another call", "resource closed"]


def test_close_releases_everything_it_owns(clock):
    before = set(os.listdir("/proc/self/fd"))
    loop, diary = Loop("test", clock), []
    loop.close_after_batch(Resource(diary))
    loop.call_later(1, print)
    loop.close()
    assert diary == ["resource closed"]
    assert set(os.listdir("/proc/self/fd")) == before
    assert "closed" in repr(loop)


def test_its_repr(loop, pair):
    loop.watch(pair[0].fileno(), READ, print)
    loop.call_later(1, print)
    assert repr(loop) == "<Loop test running watching 1, 1 timers>"
    loop.stop()
    assert "stopping" in repr(loop)
