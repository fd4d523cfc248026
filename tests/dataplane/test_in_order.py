"""Messages in the order in which they came, whatever takes several rounds; none after the supervisor is gone."""

import os

import pytest

from tcp_proxy.dataplane.in_order import InOrder
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.messages import Configured, Limits, Ping, Pong


@pytest.fixture
def loop():
    made = Loop("test")
    yield made
    made.close()


class Diary(InOrder):
    """A Ping takes as many rounds as its number says, a Pong none."""

    def __init__(self, loop):
        self.said = []
        super().__init__(loop, {Ping: self._long, Pong: self._short, Limits: self._short, Configured: self._fails})

    def _long(self, message, _descriptors):
        for number in range(message.number):
            self.said.append(("slice", number))
            yield
        self.said.append("done")

    def _short(self, message, descriptors):
        self.said.append((message, *descriptors))

    def _fails(self, _message, _descriptors):
        raise LookupError("it fails")


def test_what_is_short_is_done_at_once(loop):
    diary = Diary(loop)
    diary.take(Pong(1), [])
    diary.take(Ping(0), [])
    assert diary.said == [(Pong(1),), "done"]
    assert repr(diary) == "<InOrder idle, 0 waiting>"


def test_a_slice_a_round_and_what_comes_meanwhile_waits(loop):
    diary = Diary(loop)
    for message in (Ping(2), Pong(1), Ping(1), Pong(2)):
        diary.take(message, [])
    assert repr(diary) == "<InOrder working, 3 waiting>"
    rounds = [len(diary.said)]
    while "idle" not in repr(diary):
        loop.run_once(0)
        rounds.append(len(diary.said))
    assert diary.said == [("slice", 0), ("slice", 1), "done", (Pong(1),), ("slice", 0), "done", (Pong(2),)]
    assert rounds == [1, 2, 5, 7]


def test_thousands_in_a_row_are_no_deep_recursion(loop):
    diary = Diary(loop)
    diary.take(Ping(1), [])
    for number in range(5000):
        diary.take(Ping(0), [])
        diary.take(Pong(number), [])
    loop.run_once(0)
    assert len(diary.said) == 2 + 2 * 5000


def test_what_waits_is_forgotten_with_its_descriptors_and_the_rest_of_the_work(loop):
    diary = Diary(loop)
    fd = os.dup(0)
    diary.take(Ping(5), [])
    diary.take(Limits((1,), 1), [fd])
    diary.forget()
    for _ in range(5):
        loop.run_once(0)
    assert diary.said == [("slice", 0)]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    diary.take(Pong(1), [])
    assert diary.said[-1] == (Pong(1),)


def test_a_mistake_is_the_caller_s(loop):
    with pytest.raises(LookupError, match="it fails"):
        Diary(loop).take(Configured(1), [])
