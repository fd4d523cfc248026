"""What a request brought is judged outside the main thread, in order, one at a time, and whatever comes of it."""

import threading

import pytest

from kit.waiting import Deadline
from tcp_proxy.config.load import ConfigErrors
from tcp_proxy.config.model import Target
from tcp_proxy.control.changes.judge import Judge
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.address import Address

TARGET = Target(name="t", address=Address("127.0.0.1", 1))


@pytest.fixture
def loop():
    loop = Loop("test")
    yield loop
    loop.close()


def run_until(loop, condition):
    deadline = Deadline()
    while not condition():
        assert not deadline.is_over
        loop.run_once(0.05)


def test_the_loop_goes_on_while_a_thread_judges(loop):
    """However long it takes: until it is let go the loop has had its turns."""
    may_end, turns, answers = threading.Event(), [], []

    def question():
        assert may_end.wait(10)
        return TARGET

    Judge(loop).ask(question, answers.append)
    loop.call_later(0, lambda: turns.append(answers[:]))
    run_until(loop, lambda: turns)
    assert turns == [[]]
    may_end.set()
    run_until(loop, lambda: answers)
    assert answers == [TARGET]


def test_one_at_a_time_in_order_and_answered_in_the_loops_thread(loop):
    judge, running, answers = Judge(loop), [], []

    def question(number):
        running.append((number, threading.current_thread().name, threading.active_count()))
        return TARGET

    for number in range(20):
        judge.ask(lambda number=number: question(number), lambda _: answers.append(threading.current_thread()))
    assert "19 waiting" in repr(judge)
    run_until(loop, lambda: len(answers) == 20)
    assert [number for number, _, _ in running] == list(range(20))
    assert {name for _, name, _ in running} == {"judge"}
    assert set(answers) == {threading.current_thread()}
    assert repr(judge) == "<Judge idle, 0 waiting>"


def test_what_is_wrong_is_told_and_a_mistake_of_ours_ends_one_request(loop, caplog):
    judge, answers = Judge(loop), []
    wrong = ConfigErrors(())

    def refuse():
        raise wrong

    judge.ask(refuse, answers.append)
    judge.ask(lambda: 1 // 0, answers.append)
    judge.ask(lambda: TARGET, answers.append)
    run_until(loop, lambda: len(answers) == 3)
    assert answers[0] is wrong
    assert answers[1].startswith("internal error, please report it: ZeroDivisionError")
    assert answers[2] is TARGET
    assert "internal error" in caplog.text
