"""A new program takes over while requests of mode http are under way: they move into it, and the old workers end."""

import hashlib
import threading

import pytest

from kit.peer import Target
from kit.takeover import TOP, Succession
from tests.system.test_moving_http import DATE, GET, LAST, Stream, chunk, head, receive_chunks

CODED = b"Transfer-Encoding: chunked\r\n"


@pytest.fixture
def web(proxy, servers):
    target = servers.enter_context(Target())
    succession = Succession(proxy(targets=[target], mode="http", top={"workers": 2, **TOP}), servers)
    succession.target = target
    return succession


def asked(web, request):
    """A client, and the target that has its request."""
    client = web.now.connect().send(request)
    client.sock.settimeout(120)
    server = web.target.accept()
    head(server)
    return client, server


def test_an_upload_a_download_and_a_slow_answer_go_on_in_the_new_program(web):
    uploader, taker = asked(web, b"PUT /up HTTP/1.1\r\nHost: a\r\n" + LAST + CODED + b"\r\n")
    reader, giver = asked(web, b"GET /down HTTP/1.1\r\nHost: a\r\n" + LAST + b"\r\n")
    giver.send(b"HTTP/1.1 200 OK\r\n" + DATE + CODED + b"\r\n")
    head(reader)
    patient, slow = asked(web, GET)
    streams = Stream(uploader, chunk), Stream(giver, chunk)
    heard = hashlib.sha256(), hashlib.sha256()
    pairs = zip((taker, reader), heard, strict=True)
    readers = [threading.Thread(target=receive_chunks, args=pair, name="reader") for pair in pairs]
    for each in (*streams, *readers):
        each.start()
    try:
        for _ in range(2):
            web.upgrade()
            web.wait_old_workers()  # though no request has ended
    finally:
        for stream in streams:
            stream.over.set()
    for stream, source in zip(streams, (uploader, giver), strict=True):
        stream.join()
        source.send(b"0\r\n\r\n")
    for each in readers:
        each.join()
    assert [one.hexdigest() for one in heard] == [stream.hash.hexdigest() for stream in streams]
    for server, client in ((taker, uploader), (slow, patient)):
        server.send(b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 2\r\n\r\nok")
        assert head(client).startswith(b"HTTP/1.1 200 OK\r\n")
        client.expect(b"ok")
    for peer in (uploader, reader, patient, taker, giver, slow):
        peer.close()
    records = web.now.records(3)
    assert {(record["reason"], record["status"], len(record["processes"])) for record in records} == {("done", 200, 3)}
    assert sorted(record["bytes_up"] > 0 for record in records) == [False, False, True]
    web.end()
