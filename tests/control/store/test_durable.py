"""An answer comes when what was said is kept, and in any case soon."""

import pytest

from tcp_proxy.control.store.durable import WITHIN, Durable
from tcp_proxy.control.store.state import State
from tcp_proxy.runtime.loop import Loop
from tests.dataplane.house import Clock


class Slow(State):
    """Says when."""

    def when_durable(self, done):
        self.done = done


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def loop(clock):
    loop = Loop("test", clock=clock)
    yield loop
    loop.close()


def answers(later):
    found = []
    later.to(lambda status, body: found.append((status, body)))
    return found


def test_in_memory_it_is_kept_at_once(loop):
    found = answers(Durable(loop, State()).answer({"a": 1}))
    loop.run_once(0)
    assert found == [(200, {"a": 1})]


def test_it_waits_for_the_store(loop):
    store = Slow()
    found = answers(Durable(loop, store).answer("body"))
    loop.run_once(0)
    assert found == []
    store.done()
    loop.run_once(0)
    assert found == [(200, "body")]


def test_a_disk_that_hangs_is_not_waited_for_long(loop, clock):
    store = Slow()
    found = answers(Durable(loop, store).answer(None))
    loop.run_once(0)
    clock.now += WITHIN + 0.1
    loop.run_once(0)
    assert found == [(200, None)]
    store.done()
    loop.run_once(0)
    assert len(found) == 1
