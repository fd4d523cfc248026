"""A knock at a target's addresses."""

import socket

from kit import ports
from tcp_proxy.control.knock import Knock
from tests.control.health.bench import at, no_descriptors


def knock(bench, *endpoints, seconds=5.0):
    answers = []
    made = Knock(bench.loop, endpoints, seconds, lambda *answer: answers.append(answer))
    assert not answers  # never from within
    return made, answers


def nobody():
    return (socket.AF_INET, ("127.0.0.1", ports.free_port()))


def test_one_that_accepts(bench, service):
    _, answers = knock(bench, *at(service()))
    bench.until(lambda: answers)
    assert answers[0][0] is True


def test_one_address_of_several_is_enough(bench, service):
    _, answers = knock(bench, nobody(), *at(service()), nobody())
    bench.until(lambda: answers)
    bench.settle()
    assert [success for success, _ in answers] == [True]


def test_none_that_accepts(bench):
    _, answers = knock(bench, nobody(), nobody())
    bench.until(lambda: answers)
    assert answers[0][0] is False
    assert "ECONNREFUSED" in answers[0][1]


def test_without_an_address(bench):
    _, answers = knock(bench)
    bench.until(lambda: answers)
    assert answers == [(False, "it has no address")]


def test_an_error_of_this_machine_is_no_answer(bench):
    where = nobody()
    with no_descriptors():
        _, answers = knock(bench, where)
        bench.until(lambda: answers)
    assert answers[0][0] is None


def test_cancelled(bench):
    made, answers = knock(bench, nobody())
    made.cancel()
    bench.settle()
    assert not answers
