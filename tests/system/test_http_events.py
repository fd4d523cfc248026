"""Mode http: events in the order that hurts. Where two things must come at once, the worker is stopped meanwhile."""

import contextlib
import os
import pathlib
import signal
import socket
import threading

import pytest

from kit.dialogue import GET, OK, OK_PASSED, closing, head, status
from kit.waiting import wait_until

MIB = 1 << 20


@contextlib.contextmanager
def stopped(program):
    """What happens in here, the worker learns at once, and in this order."""
    (worker,) = program.workers()

    def wait_state(letter):
        wait_until(lambda: pathlib.Path(f"/proc/{worker}/stat").read_text().rpartition(") ")[2][0] == letter, letter)

    wait_state("S")  # it waits for events: nothing that it knows of is left to do
    os.kill(worker, signal.SIGSTOP)
    wait_state("T")
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def answered(client, server, new=False):
    """One exchange; the target's end of it."""
    client.send(GET)
    upstream = server.accept() if new or not server.peers else server.peers[-1]
    head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED)
    return upstream


def post(client, upstream, size, behind=b""):
    """A body that comes after its head, in one piece; the worker has read the head alone, and knows of nothing more."""
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    head(upstream)
    client.send(bytes(size) + behind)


def test_a_request_behind_a_body_that_is_spliced(http, target):
    """The splice takes exactly the body: the next request stays in the kernel, and no event tells of it."""
    server = target()
    program = http(server)
    client = program.connect()
    upstream = answered(client, server)
    for size in (4 * MIB, 4 * MIB):  # the kernel learns to take much at once
        post(client, upstream, size)
        upstream.receive(size)
        upstream.send(OK)
        client.expect(OK_PASSED)
    size = 300_000
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    head(upstream)
    with stopped(program):
        client.send(bytes(size) + GET).wait_acknowledged()
    upstream.receive(size)
    upstream.send(OK)
    client.expect(OK_PASSED)
    head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED)


def test_an_answer_behind_one_that_is_spliced_is_nobody_s(http, target):
    server = target()
    program = http(server)
    client, other = program.connect(), program.connect()
    upstream = answered(client, server)
    client.send(GET)
    head(upstream)
    upstream.send(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: %d\r\n\r\n" % MIB)
    head(client)
    upstream.send(bytes(MIB) + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    client.receive(MIB)
    answered(other, server, new=True)
    answered(client, server)


def test_what_comes_before_the_request_is_no_answer_to_it(http, target):
    """The client's event is seen first: what its connection to the target holds by then was not asked for."""
    server = target()
    program = http(server)
    client = program.connect()
    upstream = answered(client, server)
    with stopped(program):
        client.send(GET).wait_acknowledged()
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison").wait_acknowledged()
    second = server.accept()
    head(second)
    second.send(OK)
    client.expect(OK_PASSED)


def test_a_reset_that_sending_meets_is_no_end_either(http, target):
    """It is told once: whoever reads after that is told of a plain end."""
    server = target(receive_buffer=65536)
    client = http(server).connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    upstream = server.accept()
    head(upstream)
    with pytest.raises(TimeoutError):
        client.send(b"8000\r\n%b\r\n" % bytes(0x8000) * 1000, seconds=1)
    upstream.send(b"HTTP/1.1 200 OK\r\n\r\nhello").wait_acknowledged()
    assert status(client) == 200
    client.expect(b"hello")
    upstream.rst()
    client.expect_rst()


def test_a_target_that_has_given_a_hint_is_not_asked_again(http, target):
    server = target()
    client = http(server).connect()
    upstream = answered(client, server)
    client.send(GET)
    head(upstream)
    upstream.send(b"HTTP/1.1 103 Early Hints\r\nLink: y\r\n\r\n")
    assert status(client) == 103
    upstream.rst()
    assert status(client) == 502
    assert not server.has_client(0.05)


def test_chunks_that_are_none_are_told_while_nothing_was_passed_on(http, target):
    server = target()
    client = http(server).connect().send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert status(client) == 502


def test_a_connect_has_no_body(http, target):
    server = target()
    program = http(server, allow_connect=True)
    closing(program.connect().send(b"CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\nContent-Length: 5\r\n\r\nhello"), 400)
    assert not server.has_client()


def test_a_route_s_target_that_cannot_be_connected_to(http, target, free_port):
    one, other = {"name": "t", "address": f"127.0.0.1:{free_port()}"}, target()
    targets = [one, {"name": "u", "address": other.address}]
    program = http(*targets, routes=[{"path": "/x", "targets": ["t"]}, {"path": "/y", "targets": ["t", "u"]}])
    assert status(program.connect().send(GET)) == 502
    for _ in range(2):
        client = program.connect().send(GET.replace(b"/x", b"/y"))
        upstream = other.peers[0] if other.peers else other.accept()
        assert head(upstream).startswith(b"GET /y ")
        upstream.send(OK)
        client.expect(OK_PASSED)


NO_ROUTE = b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n"


def test_who_is_answered_by_us_alone_leaves_room_for_others(http, target):
    server = target()
    program = http({"name": "t", "address": server.address}, routes=[{"path": "/x", "targets": ["t"]}])
    other, hog = program.connect(), program.connect()
    upstream = answered(other, server)
    over = threading.Event()

    def ask():
        with contextlib.suppress(OSError, TimeoutError):
            while not over.is_set():
                hog.send(NO_ROUTE * 3000)

    def listen():
        with contextlib.suppress(OSError):
            while not over.is_set():
                hog.read_first()

    threads = [threading.Thread(target=one) for one in (ask, listen)]
    for thread in threads:
        thread.start()
    wait_until(lambda: hog.received > MIB, "the hog is served")
    try:
        other.send(GET)
        upstream.receive_line(seconds=2)
    finally:
        over.set()
        hog.sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def test_an_answer_that_was_under_way_is_the_last_when_the_end_came(http, target):
    server = target()
    program = http(server)
    client = program.connect().send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(OK[:-5])
    assert b"Connection" not in head(client)
    idle = program.connect()
    program.signal(signal.SIGTERM)
    idle.expect_fin()  # the worker knows
    upstream.send(b"hello")
    client.expect(b"hello").expect_fin()
    assert program.wait() == 0


def test_who_asks_nothing_makes_room_when_descriptors_are_short(http, service):
    """Else new clients would wait until the time for a next request is over."""
    origin = service(answer=lambda data: OK * data.count(b"\r\n\r\n"))
    program = http(origin, descriptors=256)
    for _ in range(200):
        program.connect().send(GET).expect(OK_PASSED)
    program.wait_log("accepting pauses")
    program.clients[0].expect_fin()
    program.clients[-1].send(GET).expect(OK_PASSED)
