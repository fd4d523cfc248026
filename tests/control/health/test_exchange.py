"""The exchange check, and the presets on servers: the real PostgreSQL and Redis; for MySQL and SMTP some of our own."""

import re
import socket

import pytest

from kit import programs
from tcp_proxy.config.model import Check
from tcp_proxy.control.health import exchange
from tests.control.health.bench import at
from tests.sansio.test_presets import GREETING, NEW_DENIED, SWITCH


def probe(bench, endpoint, **check):
    return bench.result_of(exchange.start, endpoint, Check(type="exchange", **check))


def test_send_and_expect_with_escapes(bench, service):
    heard = []
    server = service(answer=lambda data: heard.append(data) or b"\x00\x01ready\xff")
    result = probe(bench, *at(server), send=r"\x02hello\r\n", expect=r"\x01ready")
    assert (result.success, result.text) == (True, rf'exchange {server.address}: answered "\x01ready"')
    assert heard == [b"\x02hello\r\n"]


def test_the_target_speaks_first(bench, service):
    server = service(greeting=b"220 mail.example ESMTP\r\n")
    assert probe(bench, *at(server), expect_regex=r"^220 [a-z.]+ ").text.endswith('answered "220 mail.example "')


def test_expect_is_no_pattern(bench, service):
    server = service(greeting=b"a.c", hang_up=True)
    assert probe(bench, *at(server), expect="a.c").success is True
    result = probe(bench, *at(service(greeting=b"abc", hang_up=True)), expect="a.c")
    assert (result.success, result.text.split(": ")[1]) == (False, 'ended the connection after "abc"')


def test_another_answer_is_waited_out(bench, target):
    server, results = target(), []
    exchange.start(bench.loop, *at(server), Check(type="exchange", send="x", expect="yes"), results.append)
    bench.settle()
    peer = server.accept()
    peer.expect(b"x").send(b"no\r\n")
    bench.settle()
    bench.turn(1.9)
    assert not results
    bench.turn(0.2)
    assert results[0].text.endswith(r'timed out, nothing but "no\r\n" in 2 s')
    peer.close()


def test_much_is_sent_to_a_slow_reader(bench, target):
    server, results = target(receive_buffer=4096), []
    data = "x" * 65536
    exchange.start(bench.loop, *at(server), Check(type="exchange", send=data, expect="thanks"), results.append)
    bench.settle()
    peer = server.accept()
    got = b""
    while len(got) < len(data):
        bench.settle()
        got += peer.receive(min(4096, len(data) - len(got)))
    peer.send(b"thanks")
    bench.until(lambda: results)
    assert results[0].success is True
    peer.close()


# -- presets


@pytest.mark.slow
def test_postgres(bench, servers, tmp_path):
    server = programs.postgres(tmp_path)
    servers.callback(server.close)
    server.wait_listening()
    endpoint = socket.AF_INET, ("127.0.0.1", server.port)
    name = f"postgres 127.0.0.1:{server.port}"
    assert probe(bench, endpoint, preset="postgres").text == f"{name}: answered, ready for queries"
    stranger = probe(bench, endpoint, preset="postgres", user="nobody-knows-me")
    assert stranger.success is True
    assert '"nobody-knows-me" does not exist" (28000)' in stranger.text
    assert probe(bench, endpoint, preset="redis").success is False
    log = server.log.read_text()
    assert "unexpected EOF" not in log
    assert "incomplete startup packet" not in log


@pytest.mark.slow
def test_redis(bench, servers, tmp_path):
    server = programs.redis(tmp_path)
    servers.callback(server.close)
    server.wait_listening()
    endpoint = socket.AF_INET, ("127.0.0.1", server.port)
    assert probe(bench, endpoint, preset="redis").text == f'redis 127.0.0.1:{server.port}: answered "+PONG"'
    programs.run("redis-cli", "-p", server.port, "config", "set", "requirepass", "secret")
    result = probe(bench, endpoint, preset="redis")
    assert result.success is True
    assert "-NOAUTH" in result.text
    assert probe(bench, endpoint, send=r"PING\r\n", expect_regex=r"^(\+PONG|-NOAUTH)").success is True


class Conversation:
    """A server that knows what to answer: `lines` is (pattern, answer); `heard` is all that was said to it."""

    def __init__(self, *lines):
        self.lines, self.heard = lines, []

    def answer(self, data):
        self.heard.append(data)
        return next((answer for pattern, answer in self.lines if re.search(pattern, data)), b"")


def test_smtp(bench, service):
    talk = Conversation((rb"^EHLO [a-z-]+\r\n$", b"250-mail.example\r\n250 SIZE 1000\r\n"), (rb"^QUIT\r\n$", b"221 bye\r\n"))
    server = service(greeting=b"220-mail.example\r\n220 ESMTP\r\n", answer=talk.answer)
    assert probe(bench, *at(server), preset="smtp").text == f'smtp {server.address}: answered "220 ESMTP"'
    bench.until(lambda: b"QUIT\r\n" in talk.heard, "its farewell")
    busy = service(greeting=b"421 too many connections\r\n", hang_up=True)
    assert probe(bench, *at(busy), preset="smtp").text.endswith('answered "421 too many connections", wanted 220')


def test_mysql(bench, service):
    talk = Conversation((rb"(?s)^...\x01.*mysql_native_password\0$", SWITCH), (rb"^\0\0\0\x03$", NEW_DENIED))
    server = service(greeting=GREETING, answer=talk.answer)
    result = probe(bench, *at(server), preset="mysql")
    assert (result.success, result.text) == (True, f'mysql {server.address}: answered as version "8.0.36"')
    assert len(talk.heard) == 2
