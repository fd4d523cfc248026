"""A probe that talks, whatever it talks about: the rest of what test_http and test_exchange see from outside."""

import sys

import pytest

from tcp_proxy.config.model import Check
from tcp_proxy.control.health import talk, tls
from tcp_proxy.runtime.loop import MAX_EVENTS
from tcp_proxy.sansio.dialogue import Inbox, Refused, Reply, Silence, exchange
from tcp_proxy.sansio.pattern import text
from tests.control.health.bench import at


def lead(bench, server, dialogue):
    results = []
    talk.Talk(bench.loop, *at(server), Check(), results.append, "test", dialogue, None)
    bench.until(lambda: results, "the result")
    return results[0]


def test_several_turns_and_a_farewell(bench, service):
    heard = []

    def dialogue():
        inbox = Inbox()
        first = yield from inbox.line()
        second = yield from inbox.line(b"two\n")
        return Reply(f"{first!r} {second!r}", b"bye\n")

    server = service(greeting=b"one\n", answer=lambda data: heard.append(data) or data)
    assert lead(bench, server, dialogue()).text == r"test: b'one\n' b'two\n'"
    bench.until(lambda: b"bye\n" in heard, "the farewell")


def test_a_refusal_is_a_failure(bench, service):
    def dialogue():
        yield b"x"
        raise Refused("no")

    result = lead(bench, service(), dialogue())
    assert (result.success, result.text) == (False, "test: no")


def test_what_comes_without_end_is_cut_off(bench, service):
    def dialogue():
        while True:
            yield b""

    result = lead(bench, service(greeting=b"x" * 200_000), dialogue())
    assert result.text == "test: 65536 bytes came, and not the answer that was wanted"


@pytest.mark.parametrize("fin", [False, True], ids=["reset", "end and reset"])
@pytest.mark.parametrize("turns", [0, 1, 2])
def test_an_answer_before_a_reset_is_an_answer(bench, target, turns, fin):
    """Whether the loop hears of the answer or of the reset first is chance: some servers answer as soon as they accept."""
    server, results = target(), []
    talk.Talk(bench.loop, *at(server), Check(), results.append, "test", exchange(b"ask\n", text(b"yes")), None)
    bench.settle(turns)
    peer = server.accept().send(b"yes\n")
    if fin:
        peer.fin()
    peer.rst()
    bench.until(lambda: results)
    assert [(result.success, result.text) for result in results] == [(True, 'test: answered "yes"')]


@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize(
    ("said", "fin", "text_of_it"),
    [
        (b"", False, "test: connection reset by peer (ECONNRESET)"),
        (b"no", False, 'test: connection reset by peer (ECONNRESET) after "no"'),
        (b"", True, "without an answer"),
        (b"no", True, '"no"'),
    ],
)
def test_another_answer_before_a_reset_is_a_failure(bench, target, turns, said, fin, text_of_it):
    server, results = target(), []
    talk.Talk(bench.loop, *at(server), Check(), results.append, "test", exchange(b"ask\n", text(b"yes")), None)
    bench.settle(turns)
    peer = server.accept().send(said)
    if fin:
        peer.fin()
    peer.rst()
    bench.until(lambda: results)
    assert results[0].success is False
    if fin:  # the end is heard, or the reset after it
        assert results[0].text.endswith((text_of_it, "(EPIPE)", '(EPIPE) after "no"'))
    else:
        assert results[0].text == text_of_it


def test_who_answers_before_it_has_heard_everything_and_reads_no_more(bench, target):
    """The request does not fit into the sockets, and nobody takes the rest of it."""
    server, results = target(receive_buffer=4096), []
    talk.Talk(bench.loop, *at(server), Check(), results.append, "test", exchange(b"x" * (8 << 20), text(b"yes")), None)
    bench.settle()
    peer = server.accept().send(b"yes")
    bench.until(lambda: results)
    assert results[0].success is True
    peer.close()


def test_an_answer_that_has_come_in_time_counts_though_the_loop_is_late(bench, target):
    server, results = target(backlog=1024), []
    for _ in range(MAX_EVENTS + 30):
        talk.Talk(bench.loop, *at(server), Check(), results.append, "test", exchange(b"", text(b"yes")), None)
    bench.settle(5)
    peers = [server.accept().send(b"yes") for _ in range(MAX_EVENTS + 30)]
    bench.clock.turn(2.5)
    bench.until(lambda: len(results) == len(peers))
    assert {result.success for result in results} == {True}
    for peer in peers:
        peer.close()


@pytest.mark.parametrize("enough", [False, True])
def test_a_dialogue_may_have_heard_enough_when_the_time_is_over(bench, target, enough):
    def dialogue():
        inbox = Inbox()
        yield from inbox.line()
        try:
            yield from inbox.line()
        except Silence:
            if enough:
                return Reply("one is enough", b"bye\n")
            raise
        return Reply("two")

    server, results = target(), []
    talk.Talk(bench.loop, *at(server), Check(timeout=2.0), results.append, "test", dialogue(), None)
    bench.settle()
    peer = server.accept().send(b"one\n")
    bench.settle()
    bench.turn(1.9)
    assert not results
    bench.turn(0.2)
    text_of_it = "test: one is enough" if enough else 'test: timed out, nothing but "one\\n" in 2 s'
    assert [(result.success, result.text) for result in results] == [(enough, text_of_it)]
    if enough:
        peer.expect(b"bye\n")


def test_tls_is_one_context_for_all():
    assert tls.context() is tls.context()
    assert "ssl" in sys.modules
