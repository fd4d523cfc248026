"""Mode http: a dialogue of a scripted client and a scripted target through the program."""

import signal

import pytest

from kit.api import Api, api_config
from kit.dialogue import GET, OK, OK_PASSED, closing, head, status, whole_status
from kit.ports import free_ports
from kit.waiting import pause, wait_until

# -- connections


def test_requests_of_all_clients_share_a_connection(http, target):
    server = target()
    program = http(server)
    one, other = program.connect(), program.connect()
    one.send(GET)
    upstream = server.accept()
    asked = head(upstream)
    assert asked.startswith(b"GET /x HTTP/1.1\r\nHost: a\r\nVia: 1.1 tcp_proxy\r\nX-Forwarded-For: 127.0.0.1\r\n")
    assert b"X-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nX-Request-ID: " in asked
    upstream.send(OK)
    one.expect(OK_PASSED)
    other.send(GET)
    head(upstream)
    upstream.send(OK)
    other.expect(OK_PASSED)
    one.send(GET)
    head(upstream)
    upstream.send(OK)
    one.expect(OK_PASSED)
    assert not server.has_client()


def test_answers_come_in_the_order_of_pipelined_requests(http, target):
    server = target()
    program = http(server)
    client = program.connect().send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(20)))
    upstream = server.accept()
    for n in range(20):
        assert head(upstream).startswith(b"GET /%d " % n)
        upstream.send(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 2\r\n\r\n%02d" % n)
    for n in range(20):
        head(client)
        client.expect(b"%02d" % n)


def test_what_lies_behind_a_long_body_is_seen(http, target):
    """The next request is in the kernel when the body ends, and no event comes of it."""
    server = target()
    program = http(server)
    for size in (100, 65536 - 64, 65536, 200_000, 1_000_000):
        post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
        client = program.connect().send(post + GET + post + GET)
        upstream = server.peers[0] if server.peers else server.accept()
        for length in (size, 0, size, 0):
            head(upstream)
            upstream.receive(length)
            upstream.send(OK)
            client.expect(OK_PASSED)


def test_a_request_in_single_bytes(http, target):
    server = target()
    program = http(server)
    client = program.connect()
    post = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n"
    for i in range(len(post)):
        client.send(post[i : i + 1])
    upstream = server.accept()
    head(upstream)
    upstream.expect(b"5\r\nhello\r\n0\r\nA: b\r\n\r\n")
    for i in range(len(OK)):
        upstream.send(OK[i : i + 1])
    client.expect(OK_PASSED)


@pytest.mark.parametrize("request_version", [b"1.0", b"1.1"])
def test_close_is_obeyed(http, target, request_version):
    server = target()
    program = http(server)
    client = program.connect().send(b"GET / HTTP/%b\r\nHost: a\r\nConnection: close\r\n\r\n" % request_version)
    upstream = server.accept()
    assert b"HTTP/1.1\r\n" in head(upstream)
    upstream.send(OK)
    assert b"Connection: close\r\n" in head(client)
    client.expect(b"hello").expect_fin()
    upstream.expect_silence(0.05)  # the target's connection stays


def test_http_1_0_may_keep(http, target):
    server = target()
    client = http(server).connect()
    for _ in range(2):
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        upstream = server.peers[0] if server.peers else server.accept()
        assert b"Host: 127.0.0.1:%d\r\n" % server.port in head(upstream)
        upstream.send(OK)
        assert b"Connection: keep-alive\r\n" in head(client)
        client.expect(b"hello")


def test_a_connection_with_unread_bytes_is_not_used_again(http, target):
    server = target()
    client = http(server).connect().send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    client.expect(OK_PASSED)
    upstream.read_to_end()
    client.send(GET)
    second = server.accept()
    head(second)
    second.send(OK)
    client.expect(OK_PASSED)


def test_bytes_that_come_while_it_is_idle_close_it(http, target):
    server = target()
    client = http(server).connect().send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED)
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    upstream.read_to_end()
    client.send(GET)
    second = server.accept()
    head(second)
    second.send(OK)
    client.expect(OK_PASSED)


def test_idle_connections_are_closed_in_time_and_kept_in_number(http, target):
    server = target()
    program = http(server, upstream_idle=0.2, upstream_connections=1)
    clients = [program.connect().send(GET) for _ in range(2)]
    peers = [server.accept() for _ in clients]
    for peer in peers:
        head(peer)
    for peer in peers:
        peer.send(OK)
    for client in clients:
        client.expect(OK_PASSED)
    for peer in peers:
        assert peer.read_to_end() == b""


# -- bodies


def test_head_has_no_body(http, target):
    server = target()
    client = http(server).connect().send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream = server.accept()
    head(upstream)
    upstream.send(OK[:-5])
    assert b"Content-Length: 5\r\n" in head(client)
    client.send(GET)
    head(upstream)
    upstream.send(b"HTTP/1.1 304 Not Modified\r\nDate: x\r\nContent-Length: 5\r\n\r\n")
    head(client)
    client.send(GET)
    head(upstream)
    upstream.send(b"HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n")
    assert b"Content-Length" not in head(client)
    client.send(GET)
    head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED)


def test_a_chunked_answer_passes_and_the_connections_stay(http, target):
    server = target()
    client = http(server).connect()
    body = b"3\r\nabc\r\n5\r\nhello\r\n0\r\nDigest: x\r\n\r\n"
    for cut in (0, 4, len(body)):
        client.send(GET)
        upstream = server.peers[0] if server.peers else server.accept()
        head(upstream)
        upstream.send(b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body[:cut])
        assert b"Transfer-Encoding: chunked\r\n" in head(client)
        upstream.send(body[cut:])
        client.expect(body)


def test_who_knows_no_chunks_gets_none(http, target):
    server = target()
    client = http(server).connect().send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    upstream = server.accept()
    head(upstream)
    upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nhello\r\n0\r\n\r\n")
    answer = head(client)
    assert b"chunked" not in answer
    assert b"Connection: close\r\n" in answer
    client.expect(b"abchello").expect_fin()


def test_an_answer_until_close(http, target):
    server = target()
    client = http(server).connect().send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(b"HTTP/1.0 200 OK\r\n\r\nhello ")
    assert b"Connection: close\r\n" in head(client)
    client.expect(b"hello ")
    upstream.send(b"world").fin()
    client.expect(b"world").expect_fin()


def test_continue_is_said_by_the_target(http, target):
    server = target()
    client = http(server).connect()
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    upstream = server.accept()
    assert b"Expect: 100-continue\r\n" in head(upstream)
    client.expect_silence(0.05)
    upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert status(client) == 100
    client.send(b"hello")
    upstream.expect(b"hello").send(b"HTTP/1.1 103 Early Hints\r\nLink: y\r\n\r\n" + OK)
    assert b"Link: y\r\n" in head(client)
    client.expect(OK_PASSED)
    client.send(GET)
    head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED)


def test_a_refused_expectation_ends_the_connection(http, target):
    server = target()
    client = http(server).connect()
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    upstream = server.accept()
    head(upstream)
    upstream.send(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    closing(client, 401)


def test_the_target_may_answer_before_it_has_read_all(http, target):
    server = target()
    client = http(server).connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    upstream = server.accept()
    head(upstream)
    upstream.expect(b"hello").send(OK)
    assert b"Connection: close\r\n" in head(client)
    client.expect(b"hello").send(b"world")
    upstream.expect(b"world")
    client.expect_fin()


def test_a_target_that_does_not_read_stops_the_client(http, target):
    """And nothing is held: 64 MiB wait in the client's hands."""
    server = target()
    program = http(server)
    client = program.connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 67108864\r\n\r\n")
    upstream = server.accept()
    with pytest.raises(TimeoutError):
        client.send(bytes(67108864), seconds=1)
    head(upstream)
    got = len(upstream.receive(client.sent - 64))
    assert got < 67108864
    client.close()
    upstream.read_to_end()


def test_a_client_that_does_not_read_stops_the_target(http, target):
    """And what it has not read when the target breaks off, it still gets."""
    server = target()
    program = http(server)
    client = program.connect(buffers=65536).send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
    with pytest.raises(TimeoutError):
        upstream.send(bytes(67108864), seconds=1)
    upstream.fin()
    assert status(client) == 200
    got = client.read_to_end()
    assert client.ended == "rst"
    assert 1 << 20 < len(got) <= upstream.sent < 67108864


def test_a_slow_reader_is_not_a_silent_one(http, target):
    """It takes a little at a time, so seldom that no event comes of it; one that takes nothing is cut off."""
    server = target()
    program = http(server, timeouts={"response": 0.6})
    slow, silent = program.connect(buffers=65536), program.connect(buffers=65536)
    for client in (slow, silent):
        client.send(GET)
        upstream = server.accept()
        head(upstream)
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
        with pytest.raises(TimeoutError):
            upstream.send(bytes(67108864), seconds=0.2)
    for _ in range(20):  # the kernel tells of 64 KiB at a time
        slow.receive(30_000)
        pause(0.1)
    slow.receive(100_000)
    silent.read_to_end()
    assert silent.ended == "rst"
    slow.receive(1_000_000)


def test_hints_without_end(http, target):
    """A target that talks on before it answers is not read while the client is not."""
    server = target()
    client = http(server).connect(buffers=65536).send(GET)
    upstream = server.accept()
    head(upstream)
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 60_000 + b"\r\n\r\n"
    with pytest.raises(TimeoutError):
        upstream.send(hint * 1000, seconds=1)
    count, rest = divmod(upstream.sent, len(hint))
    passed = hint[:-2] + b"Via: 1.1 tcp_proxy\r\n\r\n"
    client.expect(passed * count)
    upstream.send(hint[rest:] + OK)
    client.expect(passed + OK_PASSED)


# -- what goes wrong


def test_nobody_is_up(http, target):
    server = target()
    client = http({"address": server.address, "disabled": True}).connect().send(GET)
    answer = head(client)
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"Retry-After: " in answer
    client.receive(int(answer.split(b"Content-Length: ")[1].split(b"\r")[0]))
    client.send(GET)
    assert status(client) == 503


def test_nobody_can_be_connected_to(http, free_port):
    client = http(f"127.0.0.1:{free_port()}").connect().send(GET)
    assert status(client) == 502


def test_a_refused_connect_goes_to_the_next_target(http, target, free_port):
    server = target()
    client = http(f"127.0.0.1:{free_port()}", server.address, upstream_connections=0).connect()
    for _ in range(4):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        upstream = server.accept()
        head(upstream)
        upstream.expect(b"hi").send(OK)
        client.expect(OK_PASSED)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_target_that_says_nothing_and_ends(http, target, how):
    server = target()
    client = http(server).connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
    upstream = server.accept()
    head(upstream)
    upstream.expect(b"hi")
    getattr(upstream, how)()
    assert status(client) == 502
    assert not server.has_client(0.05)


def test_a_kept_connection_that_is_dead_costs_nothing(http, target):
    server = target()
    client = http(server).connect().send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED)
    upstream.rst()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
    second = server.accept()
    head(second)
    second.expect(b"hi").send(OK)
    client.expect(OK_PASSED)


@pytest.mark.parametrize(("method", "again"), [(b"GET", True), (b"DELETE", True), (b"POST", False)])
def test_retries_repeat_no_effect(http, target, method, again):
    """A kept connection ends when the request has arrived: only an idempotent one is sent once more."""
    server = target()
    client = http(server).connect().send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED)
    client.send(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    head(upstream)
    upstream.rst()
    if again:
        second = server.accept()
        head(second)
        second.send(OK)
        client.expect(OK_PASSED)
        client.send(GET)
        head(second)
        second.rst()
        third = server.accept()  # a second time for this one, the first for this connection
        head(third)
        third.rst()
    assert status(client) == 502
    assert not server.has_client(0.05)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("is_kept", [False, True])
def test_an_unanswered_request_goes_to_another_target_once(http, target, how, is_kept):
    """It was accepted by one that is about to die: nothing was heard of it, and a GET may be asked for twice."""
    one, two = target(), target()
    client = http(one, two).connect().send(GET)
    upstream = one.accept()
    head(upstream)
    if is_kept:
        upstream.send(OK)
        client.expect(OK_PASSED).send(GET)
        other = two.accept()
        head(other)
        other.send(OK)
        client.expect(OK_PASSED)
        other.close()
        client.send(GET)
        head(upstream)
        getattr(upstream, how)()
        upstream = one.accept()
        head(upstream)
    getattr(upstream, how)()
    second = two.accept()
    head(second)
    second.send(OK)
    client.expect(OK_PASSED)


def test_a_request_that_went_on_to_another_target_is_counted_at_both(http, target):
    one, two = target(), target()
    program = http(one, two, top={"api": api_config()})
    client = program.connect().send(GET)
    upstream = one.accept()
    head(upstream)
    upstream.rst()
    second = two.accept()
    head(second)
    second.send(OK)
    client.expect(OK_PASSED)
    client.close()
    app = Api.of(program).get("/api/v1/statistics").json["apps"]["app"]
    first, other = (app["targets"][server.address] for server in (one, two))
    assert (first["requests"]["failures"], other["requests"]["failures"]) == (1, 0)
    assert (first["connect_retries"], other["connect_retries"]) == (0, 1)


def test_an_unanswered_request_goes_to_one_other_target_only(http, target):
    servers = [target(), target(), target()]
    client = http(*servers).connect().send(GET)
    for _ in range(2):
        asked = wait_until(lambda: next((server for server in servers if server.has_client(0.01)), None), "a client")
        upstream = asked.accept()
        head(upstream)
        upstream.rst()
        servers.remove(asked)
    assert status(client) == 502
    assert not servers[0].has_client(0.05)


@pytest.mark.parametrize("request_", [b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", GET])
def test_what_may_have_an_effect_or_must_not_be_retried_goes_to_one_target(http, target, request_):
    one, two = target(), target()
    client = http(one, two, retries=0 if request_ is GET else 3).connect().send(request_)
    upstream = one.accept()
    head(upstream)
    upstream.rst()
    assert status(client) == 502
    assert not two.has_client(0.05)


@pytest.mark.parametrize("framing", [b"Content-Length: 10\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\na\r\n"])
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_an_answer_that_breaks_off_is_broken_off(http, target, framing, how):
    server = target()
    client = http(server).connect().send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(b"HTTP/1.1 200 OK\r\nDate: x\r\n" + framing + b"hello").wait_acknowledged()
    assert status(client) == 200
    getattr(upstream, how)()
    assert client.read_to_end().endswith(b"hello")
    assert client.ended == "rst"


def test_a_reset_is_no_end_of_an_answer_until_close(http, target):
    server = target()
    client = http(server).connect().send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert status(client) == 200
    client.expect(b"hello")
    upstream.rst()
    client.expect_rst()


def test_a_target_that_is_silent(http, target):
    server = target()
    client = http(server, timeouts={"response": 0.2}).connect().send(GET)
    upstream = server.accept()
    head(upstream)
    assert status(client) == 504
    assert upstream.read_to_end() == b""


def test_a_client_that_is_slow(http, target):
    program = http(target(), timeouts={"request": 0.2, "response": 0.3, "next_request": 0.2})
    closing(program.connect().send(b"GET / HT"), 408)
    program.connect().expect_fin()  # it has not asked
    closing(program.connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"), 408)


def test_a_client_that_leaves_takes_its_request_along(http, target):
    server = target()
    program = http(server)
    client = program.connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
    upstream = server.accept()
    head(upstream)
    upstream.expect(b"he")
    client.rst()
    upstream.read_to_end()
    assert upstream.ended == "rst"


def test_a_client_that_has_said_all_is_answered(http, target):
    server = target()
    client = http(server).connect().send(GET).fin()
    upstream = server.accept()
    head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED).expect_fin()


LIMITS = {"request_line": 100, "head": 300, "fields": 5, "body": 10}
TOO_MUCH = [
    (b"GET /" + b"a" * 100 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 300 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5 + b"\r\n", 431),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", 413),
    (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: a miracle\r\n\r\n", 417),
]


def test_limits(http, target):
    server = target()
    program = http(server, limits=LIMITS)
    for text, code in TOO_MUCH:
        closing(program.connect().send(text), code)
    assert not server.has_client()


# -- upgrades


SWITCH = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_after_101_it_is_a_relay(http, target):
    server = target()
    program = http(server, top={"access_log": "access.log"})
    client = program.connect().send(SWITCH + b"early")
    upstream = server.accept()
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in head(upstream)
    upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nwelcome")
    assert status(client) == 101
    client.expect(b"welcome")
    upstream.expect(b"early").send(b"\x00\xff" * 100_000)
    client.expect(b"\x00\xff" * 100_000).send(b"bye").fin()
    upstream.expect(b"bye").expect_fin().send(b"and you").fin()
    client.expect(b"and you").expect_fin()
    request, session = program.records(2)
    assert (request["status"], session["reason"], session["target"]) == (101, "done", server.address)


def test_an_upgrade_that_the_target_does_not_want(http, target):
    server = target()
    client = http(server).connect().send(SWITCH)
    upstream = server.accept()
    head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED)


def test_other_upgrades_are_not_passed_on(http, target):
    server = target()
    client = http(server, upgrades=["other"]).connect().send(SWITCH)
    upstream = server.accept()
    assert b"pgrade" not in head(upstream)
    upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert status(client) == 502


def test_of_several_upgrades_those_that_are_allowed_are_passed_on(http, target):
    server = target()
    client = http(server).connect().send(SWITCH.replace(b"websocket", b"h2c, websocket"))
    upstream = server.accept()
    assert head(upstream).endswith(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nwelcome")
    assert status(client) == 101
    client.expect(b"welcome").close()


def test_connect_when_it_is_allowed(http, target):
    server = target()
    client = http(server, allow_connect=True).connect().send(b"CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n")
    upstream = server.accept()
    assert head(upstream).startswith(b"CONNECT b:80 HTTP/1.1\r\n")
    upstream.send(b"HTTP/1.1 200 Fine\r\n\r\n")
    assert status(client) == 200
    client.send(b"ping")
    upstream.expect(b"ping").send(b"pong").fin()
    client.expect(b"pong").expect_fin()


# -- routes, headers, log


def test_a_host_with_nothing_in_it_is_passed_on(http, target):
    """Docker's plug-ins ask so (RFC 9112, 3.2)."""
    server = target()
    program = http(server)
    text = b"POST /Plugin.Activate HTTP/%b\r\nHost:\r\nContent-Length: 0\r\n\r\n"
    client = program.connect().send(text % b"1.1")
    upstream = server.accept()
    assert b"\r\nHost: \r\n" in head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED).send(text % b"1.0")
    assert b"\r\nHost: \r\n" in head(upstream)
    upstream.send(OK)
    closing(client, 200)


def test_max_forwards_end_here(http, target):
    server = target()
    client = http(server).connect()
    for method in (b"OPTIONS", b"TRACE"):
        client.send(b"%b / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nCookie: x\r\n\r\n" % method)
        assert whole_status(client) == 200
    client.send(b"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n")
    upstream = server.accept()
    assert b"\r\nMax-Forwards: 2\r\n" in head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED).send(b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: x\r\n\r\n")
    closing(client, 400)


def test_two_expectations_are_one(http, target):
    server = target()
    client = http(server).connect()
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nExpect: 100-Continue\r\n\r\n")
    upstream = server.accept()
    assert head(upstream).count(b"100-continue") == 1
    upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert status(client) == 100
    client.send(b"hello")
    upstream.expect(b"hello").send(OK)
    client.expect(OK_PASSED)


def test_no_answer_of_ours_to_head_has_a_body(http, target):
    """Also where only the method of the request could be read."""
    program = http(target(), timeouts={"request": 0.2}, limits={"head": 1024, "fields": 20})
    for code, text in {
        400: b"HEAD / HTTP/1.1\r\n\r\n", 505: b"HEAD / HTTP/2.0\r\nHost: a\r\n\r\n",
        431: b"HEAD / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 2000,
        414: b"HEAD /" + b"a" * 9000, 408: b"\r\nHEAD / HT",
        501: b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        417: b"HEAD / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n",
    }.items():  # fmt: skip
        assert closing(program.connect().send(text), code).endswith(b"\r\n\r\n"), code
    assert not closing(program.connect().send(b"GET / HTTP/1.1\r\n\r\n"), 400).endswith(b"\r\n\r\n")


def test_routes(http, target):
    one, two, three = target(), target(), target()
    names = [{"name": f"t{i}", "address": server.address} for i, server in enumerate((one, two, three))]
    routes = [
        {"path": "/api", "targets": ["t1"]},
        {"host": "*.example.org", "targets": ["t2"]},
        {"path": "/only", "targets": ["t0"]},
    ]
    client = http(*names, routes=routes).connect()
    table = [(b"/api/x", b"a", two), (b"/api", b"a", two), (b"/y", b"w.example.org", three), (b"/only", b"b", one)]
    for path, host, server in table:
        client.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host))
        upstream = server.peers[0] if server.peers else server.accept()
        assert head(upstream).startswith(b"GET %b HTTP/1.1\r\nHost: %b\r\n" % (path, host))
        upstream.send(OK)
        client.expect(OK_PASSED)
    client.send(b"GET /apis HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status(client) == 404


def test_host_and_trust(http, target):
    server = target()
    program = http(server, preserve_host=False, trusted_proxies=["127.0.0.0/8"], forwarded=True)
    client = program.connect().send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nX-Request-ID: mine\r\n\r\n")
    upstream = server.accept()
    asked = head(upstream)
    assert b"\r\nHost: %b\r\n" % server.address.encode() in asked
    assert b"X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n" in asked
    assert b'Forwarded: for=127.0.0.1;host="a";proto=http\r\n' in asked
    assert asked.count(b"X-Request-ID: mine\r\n") == asked.count(b"X-Request-ID:") == 1
    upstream.send(OK)
    client.expect(OK_PASSED)


@pytest.mark.parametrize("named", ["localhost", "LocalHost", "127.0.0.1"])
def test_a_target_is_called_what_it_is_written_as(http, service, named):
    """By its check, and by requests that have no host of their own or are not to keep it."""
    asked = []
    server = service(answer=lambda data: asked.append(data) or OK)
    written = f"{named}:{server.port}"
    program = http({"address": written}, preserve_host=False, health={"type": "http", "interval": 60, "timeout": 30})
    program.wait_log(f"target {written} is up")
    program.connect().send(GET).expect(OK_PASSED)
    closing(program.connect().send(b"GET / HTTP/1.0\r\n\r\n"), 200)
    assert [request.count(b"\r\nHost: %b\r\n" % written.encode()) for request in asked] == [1, 1, 1]


def test_the_access_log_has_a_line_for_each_request(http, target, tmp_path):
    server = target()
    log = tmp_path / "requests.log"
    program = http(server, top={"access_log": str(log), "log": {"format": "text"}})
    program._access_log = None  # its lines are no JSON
    client = program.connect().send(b'GET /"x HTTP/1.1\r\nHost: a\r\nUser-Agent: \xe4 "b"\r\nReferer: http://r/\r\n\r\n')
    upstream = server.accept()
    head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED).send(b"nonsense\r\n\r\n")
    client.read_to_end()
    wait_until(lambda: log.read_text().count("\n") == 2, "two lines")
    first, second = log.read_text().splitlines()
    assert first.startswith("127.0.0.1 - - [")
    assert f'] "GET /\\"x HTTP/1.1" 200 5 "http://r/" "\\xe4 \\"b\\"" app=app target={server.address} host=a id=' in first
    assert first.endswith(" up=0 reason=done error=- peer=- tls=- notes=-")
    assert '] "nonsense" 400 0 "-" "-" app=app target=- host=- id=' in second
    assert second.endswith(' reason=protocol_error error="a first line that is none of HTTP/1" peer=- tls=- notes=-')


def test_the_access_log_says_what_was_wrong(http, target, tmp_path):
    server = target()
    log = tmp_path / "requests.log"
    program = http(server, top={"access_log": str(log), "log": {"format": "text"}}, timeouts={"request": 0.2})
    program._access_log = None
    lines = {
        b'GET /\xff\x1b"\\ HTTP/1.1\r\nHost: a\r\n\r\n': (
            r"GET /\xff\x1b\"\\ HTTP/1.1",
            "a first line that is none of HTTP/1",
        ),
        b"\r\nPUT /x HTTP/1.1\r\nA : b\r\n\r\n": ("PUT /x HTTP/1.1", "space before a colon"),
        b"GET /half HT": ("GET /half HT", "the request did not come in time"),
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n": ("GET / HTTP/2.0", "a version other than HTTP/1"),
        b"GET /" + b"a" * 9000: ("GET /" + "a" * 1019, "a request line of more than 8192 bytes"),
        b"PUT /y HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n": ("PUT /y HTTP/1.1", "an expectation other than 100-continue"),
    }
    for text in lines:
        program.connect().send(text).read_to_end()
    client = program.connect().send(b"GET /z HTTP/1.1\r\nHost: a\r\n\r\n")
    upstream = server.accept()
    head(upstream)
    upstream.send(b"nothing of HTTP\r\n\r\n")
    assert status(client) == 502
    wait_until(lambda: log.read_text().count("\n") == len(lines) + 1, "all lines")
    *refused, last = log.read_text().splitlines()
    for text, (line, error) in zip(refused, lines.values(), strict=True):
        assert f'] "{line}" ' in text
        assert text.endswith(f' reason=protocol_error error="{error}" peer=- tls=- notes=-')
    assert ' reason=protocol_error error="the target\'s answer has a first line that is none of HTTP/1" ' in last


# -- a circle that the configuration does not show


def test_proxies_that_lead_to_each_other_answer_with_508(proxy):
    """Of one proxy's own apps the configuration shows it, or their names do when they are resolved (test_addresses)."""
    one, other = free_ports(2)
    common = {"mode": "http", "health": [], "upstream_connections": 0}
    programs = [
        proxy({"apps": [{"name": "one", "ports": [port], "targets": [f"localhost:{there}"], **common}], "access_log": None})
        for port, there in ((one, other), (other, one))
    ]
    for program in programs:
        program.uncounted = None
    client = programs[0].connect(one).send(GET)
    answer = head(client)
    assert answer.startswith(b"HTTP/1.1 508 Loop Detected\r\n")
    assert answer.count(b"Via: 1.1 tcp_proxy\r\n") == 11, "one of the hop that refused, one of each hop on the way back"


# -- the end of the program


def test_the_end_waits_for_answers_and_lets_idle_clients_go(http, target):
    server = target()
    program = http(server)
    idle, busy = program.connect(), program.connect()
    for client in (idle, busy):
        client.send(GET)
        upstream = server.peers[0] if server.peers else server.accept()
        head(upstream)
        if client is idle:
            upstream.send(OK)
            client.expect(OK_PASSED)
    program.workers()
    program.signal(signal.SIGTERM)
    idle.expect_fin()
    upstream.send(OK)
    assert b"Connection: close\r\n" in head(busy)
    busy.expect(b"hello").expect_fin()
    assert program.wait() == 0
