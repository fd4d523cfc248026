"""The channel on real socket pairs: any cut of the stream, descriptors, a full socket, the other end's end."""

import array
import contextlib
import itertools
import os
import resource
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.clock import Clock
from kit.clogged import drain, fill
from kit.waiting import Deadline
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.channel import MADE_AT_ONCE, RETRY, Channel
from tcp_proxy.wire.messages import MAX_DESCRIPTORS, Limits, Logged, Ping, Pong, encode

SOME = st.lists(
    st.one_of(
        st.builds(Ping, st.integers(0, 9)),
        st.builds(Logged, st.integers(0, 50), st.text(max_size=40)),
        st.builds(lambda count: Limits(tuple(range(count)), count), st.integers(0, 4)),
    ),
    max_size=8,
)


class End:
    """A channel with a diary of what it said."""

    def __init__(self, loop, sock, received=None):
        self.heard = []
        self.descriptors = []
        self.ends = 0
        self._then = received
        self.channel = Channel(loop, sock, self._hear, self._end)

    def _hear(self, message, descriptors):
        self.heard.append(message)
        self.descriptors.append(descriptors)
        if self._then is not None:
            self._then(message)

    def _end(self):
        self.ends += 1

    @property
    def flat(self):
        return [fd for part in self.descriptors for fd in part]


class Rig:
    """One loop, a channel on one end of a socket pair, and the raw other end, which the test reads and writes."""

    def __init__(self, received=None):
        self.clock = Clock()
        self.before = opened()
        self.loop = Loop("test", self.clock)
        ours, self.raw = socket.socketpair()
        self.end = End(self.loop, ours, received)
        self.channel = self.end.channel
        self.other = None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for end in (self.end, self.other):
            if end is not None:
                end.channel.close()
                close_all(end.flat)
        self.loop.run_once(0)
        self.raw.close()
        self.loop.close()
        if kind is None:  # the test has not failed before
            assert opened() == self.before, "every descriptor was given back"

    def open_other(self):
        self.other = End(self.loop, self.raw)
        return self.other

    def turn(self, rounds=5):
        for _ in range(rounds):
            self.loop.run_once(0)

    def until(self, condition):
        deadline = Deadline()
        while not condition():
            assert not deadline.is_over, "it did not happen"
            self.loop.run_once(0.01)


def opened():
    return len(os.listdir("/proc/self/fd"))


def close_all(descriptors):
    for fd in descriptors:
        os.close(fd)


@contextlib.contextmanager
def some(count):
    """Descriptors that can be told apart: each is a memfd with its own number inside."""
    with contextlib.ExitStack() as stack:
        made = [os.memfd_create(f"mark {number}", os.MFD_CLOEXEC) for number in range(count)]
        stack.callback(close_all, made)
        for number, fd in enumerate(made):
            os.write(fd, b"%d" % number)
        yield made


def marks(descriptors):
    return [int(os.pread(fd, 20, 0)) for fd in descriptors]


@pytest.fixture
def rig():
    with Rig() as rig:
        yield rig


# -- the stream


def test_a_message_arrives_whole(rig):
    other = rig.open_other()
    rig.channel.send(Ping(1))
    other.channel.send(Pong(1))
    rig.until(lambda: other.heard and rig.end.heard)
    assert (other.heard, rig.end.heard) == ([Ping(1)], [Pong(1)])
    assert other.descriptors == [[]]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(sent=SOME, data=st.data())
def test_any_cut_of_the_stream(sent, data):
    """The kernel may hand over the bytes in any pieces; a message's descriptors come with its first byte."""
    with Rig() as rig:
        stream = b"".join(encode(message) for message in sent)
        starts, at = {}, 0
        for message in sent:
            starts[at] = getattr(message, "descriptors", 0)
            at += len(encode(message))
        cuts = {*data.draw(st.lists(st.integers(0, len(stream)), max_size=12)), *starts, len(stream)} - {0}
        with some(sum(starts.values())) as descriptors:
            queue, begin = list(descriptors), 0
            for end in sorted(cuts):
                count = starts.get(begin, 0)
                rights, queue = queue[:count], queue[count:]
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", rights))] if rights else []
                rig.raw.sendmsg([stream[begin:end]], ancillary)
                begin = end
                if data.draw(st.booleans()):
                    rig.turn(1)
        rig.until(lambda: len(rig.end.heard) == len(sent))
        assert rig.end.heard == sent
        assert [len(part) for part in rig.end.descriptors] == [getattr(message, "descriptors", 0) for message in sent]
        assert marks(rig.end.flat) == list(range(sum(starts.values())))


def test_many_messages_in_one_piece(rig):
    stream = b"".join(encode(Ping(number)) for number in range(5000))
    rig.raw.setblocking(False)
    while stream:
        try:
            stream = stream[rig.raw.send(stream) :]
        except BlockingIOError:
            rig.turn(1)
    rig.until(lambda: len(rig.end.heard) == 5000)
    assert rig.end.heard == [Ping(number) for number in range(5000)]


def test_a_message_far_larger_than_the_socket_arrives_whole(rig):
    text = "x" * 5_000_000
    other = rig.open_other()
    rig.channel.send(Logged(20, text))
    rig.channel.send(Ping(1))
    rig.until(lambda: len(other.heard) == 2)
    assert other.heard == [Logged(20, text), Ping(1)]


def test_a_stream_that_is_out_of_step_is_never_taken_for_messages(rig):
    rig.raw.send(b"\xff" * 8)
    with pytest.raises(AssertionError, match="out of step"):
        rig.turn()
    assert rig.end.heard == []


# -- descriptors


def test_descriptors_reach_the_message_that_announced_them(rig):
    other = rig.open_other()
    with some(6) as descriptors:
        rig.channel.send(Limits((1,), 1), descriptors[:1])
        rig.channel.send(Ping(1))
        rig.channel.send(Limits((2, 3, 4), 3), descriptors[1:4])
        rig.channel.send(Limits((5, 6), 2), descriptors[4:])
        rig.until(lambda: len(other.heard) == 4)
        assert [marks(part) for part in other.descriptors] == [[0], [], [1, 2, 3], [4, 5]]
        assert marks(descriptors) == list(range(6)), "the sender keeps its own"


def test_as_many_descriptors_as_a_message_may_have(rig):
    other = rig.open_other()
    with some(MAX_DESCRIPTORS) as descriptors:
        for _ in range(3):
            rig.channel.send(Limits(tuple(range(MAX_DESCRIPTORS)), MAX_DESCRIPTORS), descriptors)
        rig.until(lambda: len(other.heard) == 3)
    assert marks(other.flat) == 3 * list(range(MAX_DESCRIPTORS))


@pytest.mark.parametrize(("message", "count"), [(Ping(1), 1), (Limits((1, 2), 2), 1), (Limits((1,), 1), 0)])
def test_descriptors_must_be_announced(rig, message, count):
    with some(count) as descriptors, pytest.raises(AssertionError):
        rig.channel.send(message, descriptors)


def test_the_sender_may_close_its_descriptors_at_once_even_when_the_peer_is_clogged(rig):
    fill(rig.channel._socket)
    with some(3) as descriptors:
        rig.channel.send(Limits((1, 2, 3), 3), descriptors)
    assert drain(rig.raw)
    other = rig.open_other()
    rig.until(lambda: other.heard)
    assert marks(other.flat) == [0, 1, 2]


def test_a_clogged_peer_loses_nothing(rig):
    """What the socket does not take waits, in order, descriptors too: 100 messages with 2,000 descriptors."""
    junk = fill(rig.channel._socket)
    with some(20) as descriptors:
        for number in range(100):
            rig.channel.send(Limits(tuple(range(number, number + 20)), 20), descriptors)
            rig.channel.send(Ping(number))
            rig.turn(1)
        assert rig.channel.is_waiting
        assert "200 waiting" in repr(rig.channel)
        assert opened() > 2000
        assert len(drain(rig.raw)) == junk
        other = rig.open_other()
        rig.until(lambda: len(other.heard) == 200)
        assert other.heard[::2] == [Limits(tuple(range(number, number + 20)), 20) for number in range(100)]
        assert other.heard[1::2] == [Ping(number) for number in range(100)]
        assert marks(other.flat) == 100 * list(range(20))
        assert not rig.channel.is_waiting


def test_a_socket_that_takes_a_part_of_a_message_gets_its_descriptors_once(rig):
    """The descriptors went with the first part; the rest is sent without."""
    with some(1) as descriptors:
        rig.channel.send(Limits(tuple(range(200_000)), 1), descriptors)
    assert rig.channel.is_waiting, "it is longer than the socket takes"
    other = rig.open_other()
    rig.until(lambda: other.heard)
    assert marks(other.flat) == [0]


def limits(number, descriptors, numbers=(0, 1)):
    """What is sent in turn, as a caller makes it."""
    return lambda: (Limits(tuple(range(number, number + len(numbers))), len(numbers)), [descriptors[n] for n in numbers])


def test_what_is_sent_in_turn_waits_without_a_descriptor_of_its_own(rig):
    """100 messages with 2,000 descriptors, among others: in order, and nothing is duplicated."""
    fill(rig.channel._socket)
    with some(20) as descriptors:
        before = opened()
        for number in range(100):
            rig.channel.send_in_turn(limits(number, descriptors, range(20)))
            rig.channel.send(Ping(number))
        rig.turn()
        assert opened() == before
        drain(rig.raw)
        other = rig.open_other()
        rig.until(lambda: len(other.heard) == 200)
    assert other.heard[::2] == [Limits(tuple(range(number, number + 20)), 20) for number in range(100)]
    assert other.heard[1::2] == [Ping(number) for number in range(100)]
    assert marks(other.flat) == 100 * list(range(20))
    assert not rig.channel.is_waiting


def test_what_is_sent_in_turn_is_made_when_its_turn_comes_and_may_be_nothing_by_then(rig):
    wanted = []
    fill(rig.channel._socket)
    rig.channel.send(Ping(0))
    with some(2) as descriptors:
        rig.channel.send_in_turn(lambda: limits(5, descriptors)() if wanted else None)
        rig.channel.send_in_turn(lambda: None)
        rig.channel.send(Ping(1))
        rig.channel.send_in_turn(lambda: None)
        wanted.append(1)
        drain(rig.raw)
        other = rig.open_other()
        rig.until(lambda: not rig.channel.is_waiting and len(other.heard) == 3)
    assert other.heard == [Ping(0), Limits((5, 6), 2), Ping(1)]


def test_a_round_makes_a_few_only(rig):
    made = []
    other = rig.open_other()
    with some(2) as descriptors:
        for number in range(3 * MADE_AT_ONCE):
            rig.channel.send_in_turn(lambda number=number: made.append(number) or limits(number, descriptors)())
        assert len(made) <= MADE_AT_ONCE
        while rig.channel.is_waiting:
            before = len(made)
            rig.turn(1)
            assert len(made) - before <= MADE_AT_ONCE
        rig.until(lambda: len(other.heard) == len(made))
    assert made == [*range(3 * MADE_AT_ONCE)]


def test_the_end_releases_what_was_to_be_sent_in_turn(rig):
    fill(rig.channel._socket)
    rig.channel.send_in_turn(lambda: pytest.fail("nobody is there"))
    rig.raw.close()
    rig.until(lambda: rig.end.ends)
    rig.channel.send_in_turn(lambda: pytest.fail("nobody is there"))


@contextlib.contextmanager
def room_for_descriptors(count):
    """The limit that leaves exactly so many numbers free."""
    taken = {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}
    free = (number for number in itertools.count() if number not in taken)
    limit = next(itertools.islice(free, count, None))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_descriptors_are_sent_when_there_is_no_room_for_duplicates(rig):
    other = rig.open_other()
    with some(5) as descriptors:
        with room_for_descriptors(0):
            rig.channel.send(Limits(tuple(range(5)), 5), descriptors)
        rig.until(lambda: other.heard)
    assert marks(other.flat) == list(range(5))


def test_descriptors_that_can_be_neither_sent_nor_kept_are_an_error_of_the_caller_and_leave_nothing(rig):
    fill(rig.channel._socket)
    with some(5) as descriptors:
        before = opened()
        with room_for_descriptors(3), pytest.raises(OSError, match="Too many open files"):
            rig.channel.send(Limits(tuple(range(5)), 5), descriptors)
        assert opened() == before
    drain(rig.raw)
    other = rig.open_other()
    rig.channel.send(Ping(2))
    rig.until(lambda: other.heard)
    assert other.heard == [Ping(2)], "the channel goes on"


def test_too_many_descriptors_on_their_way_are_waited_for(rig):
    """ETOOMANYREFS: a user without privileges may have only so many descriptors in flight, in all sockets together."""
    sent = 0
    with some(40) as descriptors, room_for_descriptors(40), unprivileged():
        while not rig.channel.is_waiting:
            rig.channel.send(Limits(tuple(range(sent, sent + 40)), 40), descriptors)
            sent += 1
        rig.turn()
        rig.clock.turn(RETRY)
        rig.turn()
        assert rig.channel.is_waiting
        assert rig.channel.is_open
    assert sent > 1
    other = rig.open_other()
    rig.clock.turn(RETRY)
    rig.until(lambda: len(other.heard) == sent)
    assert marks(other.flat) == sent * list(range(40))
    assert not rig.channel.is_waiting


@contextlib.contextmanager
def unprivileged():
    """One that nobody else is: what is on the way of all processes of a user is counted together."""
    if os.geteuid():
        yield
        return
    os.seteuid(100_000 + os.getpid())
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_receiver_without_room_for_descriptors_says_so(rig):
    with some(5) as descriptors:
        rig.raw.sendmsg([encode(Limits((1,), 1))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
        with room_for_descriptors(2), pytest.raises(OSError, match="Too many open files"):
            rig.turn()
    assert rig.end.heard == []


# -- the end


def test_the_peers_end_is_reported_once(rig):
    rig.raw.close()
    rig.turn()
    assert rig.end.ends == 1
    rig.channel.send(Ping(1))
    rig.channel.close()
    rig.channel.drain()
    rig.turn()
    assert rig.end.ends == 1
    assert not rig.channel.is_open
    assert "ended" in repr(rig.channel)


def test_what_the_peer_said_before_its_end_is_heard_first(rig):
    for number in range(5000):
        rig.raw.sendall(encode(Pong(number)))
        if number % 100 == 99:
            rig.turn(1)
    rig.raw.close()
    rig.until(lambda: rig.end.ends)
    assert rig.end.heard == [Pong(number) for number in range(5000)]


def test_drain_takes_what_a_dead_process_had_said_without_another_round(rig):
    """Half a message is none."""
    rig.raw.send(b"".join(encode(Pong(number)) for number in range(3000)) + encode(Pong(3000))[:-1])
    rig.raw.close()
    rig.channel.drain()
    assert rig.end.heard == [Pong(number) for number in range(3000)]
    assert rig.end.ends == 1


def test_drain_of_a_living_peer_does_not_wait(rig):
    rig.raw.send(encode(Pong(1)))
    rig.channel.drain()
    assert (rig.end.heard, rig.end.ends, rig.channel.is_open) == ([Pong(1)], 0, True)


def test_an_end_that_a_send_meets_is_reported_once(rig):
    rig.raw.close()
    rig.channel.send(Ping(1))
    assert rig.end.ends == 1
    rig.turn()
    assert rig.end.ends == 1


def test_the_peers_end_releases_descriptors_that_wait(rig):
    fill(rig.channel._socket)
    with some(50) as descriptors:
        rig.channel.send(Limits(tuple(range(50)), 50), descriptors)
        rig.raw.close()
        rig.turn()
    assert rig.end.ends == 1


def test_close_releases_what_waits_and_reports_nothing(rig):
    """Descriptors queued to be sent, and descriptors received for a message that is not whole yet."""
    fill(rig.channel._socket)
    with some(50) as descriptors:
        before = opened()
        rig.channel.send(Limits(tuple(range(50)), 50), descriptors)
        rights = array.array("i", descriptors)
        rig.raw.sendmsg([encode(Limits((1,), 50))[:-1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        rig.turn()
        assert opened() == before + 100
        rig.channel.close()
        rig.channel.close()
        rig.turn()
        assert opened() == before - 1, "the socket too"
    assert (rig.end.ends, rig.end.heard) == (0, [])


def test_a_handler_may_close_the_channel_that_called_it():
    closing = []

    def received(message):
        if message == Ping(1):
            closing[0].close()

    with Rig(received) as rig:
        closing.append(rig.channel)
        with some(3) as descriptors:
            rights = array.array("i", descriptors)
            rig.raw.send(encode(Ping(0)) + encode(Ping(1)) + encode(Ping(2)))
            rig.raw.sendmsg([encode(Limits((1, 2, 3), 3))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            rig.turn()
        assert rig.end.heard == [Ping(0), Ping(1)], "nothing is heard after it"
        assert rig.end.ends == 0


def test_a_handler_may_answer_and_meet_the_end_in_doing_so():
    channels = []
    with Rig(lambda _message: channels[0].send(Pong(1))) as rig:
        channels.append(rig.channel)
        rig.raw.send(encode(Ping(1)) + encode(Ping(2)))
        rig.raw.close()
        rig.turn()
        assert (rig.end.heard, rig.end.ends) == ([Ping(1)], 1)


def test_a_channel_that_waits_for_nothing_does_not_spin(rig):
    fill(rig.channel._socket)
    rig.channel.send(Ping(1))
    drain(rig.raw)
    rig.turn()
    drain(rig.raw)
    rig.turn()
    assert rig.loop._epoll.poll(0) == [], "nobody asks whether it could write"
