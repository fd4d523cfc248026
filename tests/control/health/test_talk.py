"""A probe that talks, whatever it talks about: the rest of what test_http and test_exchange see from outside."""

import sys

from tcp_proxy.config.model import Check
from tcp_proxy.control.health import talk
from tcp_proxy.sansio.dialogue import Inbox, Refused, Reply
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


def test_tls_is_one_context_for_all():
    assert talk.tls_context() is talk.tls_context()
    assert "ssl" in sys.modules
