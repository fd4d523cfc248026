"""A connect_check at a target's addresses."""

import socket

import pytest

from kit import ports
from tcp_proxy.config.model import Check
from tcp_proxy.control.failover.connect_check import ConnectCheck
from tests.control.health.bench import at, no_descriptors


def connect_check(bench, *endpoints, seconds=5.0):
    answers = []
    made = ConnectCheck(bench.loop, endpoints, Check(timeout=seconds), lambda *answer: answers.append(answer))
    assert not answers  # never from within
    return made, answers


def nobody():
    return (socket.AF_INET, ("127.0.0.1", ports.free_port()))


def test_one_that_accepts(bench, service):
    _, answers = connect_check(bench, *at(service()))
    bench.until(lambda: answers)
    assert answers[0][0] is True


def test_one_address_of_several_is_enough(bench, service):
    _, answers = connect_check(bench, nobody(), *at(service()), nobody())
    bench.until(lambda: answers)
    bench.settle()
    assert [success for success, _ in answers] == [True]


@pytest.mark.parametrize("fin", [False, True], ids=["reset", "end and reset"])
def test_one_that_accepts_and_resets(bench, target, fin):
    server = target()
    _, answers = connect_check(bench, *at(server))
    peer = server.accept()
    if fin:
        peer.fin()
    peer.rst()
    bench.until(lambda: answers)
    assert answers[0][0] is True


def test_none_that_accepts(bench):
    _, answers = connect_check(bench, nobody(), nobody())
    bench.until(lambda: answers)
    assert answers[0][0] is False
    assert "ECONNREFUSED" in answers[0][1]


def test_without_an_address(bench):
    _, answers = connect_check(bench)
    bench.until(lambda: answers)
    assert answers == [(False, "it has no address")]


def test_an_error_of_this_machine_is_no_answer(bench):
    where = nobody()
    with no_descriptors():
        _, answers = connect_check(bench, where)
        bench.until(lambda: answers)
    assert answers[0][0] is None


def test_cancelled(bench):
    made, answers = connect_check(bench, nobody())
    made.cancel()
    bench.settle()
    assert not answers
