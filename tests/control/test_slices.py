"""Work in slices: one slice in each round, one piece of work after another, and a mistake stops no other."""

import pytest

from tcp_proxy.control.slices import Slices
from tcp_proxy.runtime.loop import Loop


@pytest.fixture
def loop():
    made = Loop("main")
    yield made
    made.close()


def work(said, name, slices):
    for number in range(slices):
        said.append(f"{name}{number}")
        yield
    said.append(f"{name} done")


def test_one_slice_a_round_and_one_work_after_another(loop):
    said, slices = [], Slices(loop)
    slices.do(work(said, "a", 2))
    slices.do(work(said, "b", 1))
    slices.when_idle(lambda: said.append("once"))
    assert said == ["a0"], "the first slice at once"
    assert repr(slices) == "<Slices working, 2 waiting>"
    rounds = []
    while not slices.is_idle or said[-1] != "once":
        loop.run_once(0)
        rounds.append(len(said))
    assert said == ["a0", "a1", "a done", "b0", "b done", "once"]
    assert rounds == [2, 3, 4, 5, 6]
    slices.when_idle(lambda: said.append("at once"))
    assert said[-1] == "at once"


def test_work_that_is_given_by_work_comes_after_it(loop):
    said, slices = [], Slices(loop)

    def outer():
        slices.do(work(said, "inner", 0))
        said.append("outer")
        yield
        said.append("outer done")

    slices.do(outer())
    for _ in range(3):
        loop.run_once(0)
    assert said == ["outer", "outer done", "inner done"]


def test_a_mistake_is_the_loop_s_and_the_next_work_goes_on(loop):
    said, slices, errors = [], Slices(loop), []
    loop.on_error = lambda _call, error: errors.append(str(error))

    def fails():
        yield
        raise ValueError("mine")

    slices.do(fails())
    slices.do(work(said, "b", 0))
    for _ in range(3):
        loop.run_once(0)
    assert (errors, said) == (["mine"], ["b done"])
