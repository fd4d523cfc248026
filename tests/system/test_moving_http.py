"""The running program moves clients of mode http in the middle of their requests: uploads, downloads, slow answers. The
target is the test's own, so each end knows what it has sent and heard."""

import hashlib
import os
import threading

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.peer import Target
from kit.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"Connection: close\r\n"
DATE = b"Date: Mon, 30 Nov 2026 00:00:00 GMT\r\n"
SIZE = 48 << 20


@pytest.fixture
def web(proxy):
    with Target() as target:
        started = proxy(targets=[target], mode="http", top={"workers": 2, "api": api_config()})
        started.target = target
        yield started
        started.close_clients()
    started.baseline.clear()  # the memory that has grown keeps a descriptor; so this is looked at here:
    family = started.family()
    wait_until(lambda: all(set(procfs.tcp_sockets(pid)) <= {"LISTEN"} for pid in family), "no session's socket is left")
    wait_until(lambda: not any(procfs.waiting_in_pipes(pid) for pid in family), "no byte is left in a pipe")
    started.uncounted = None


def head(peer):
    """What it hears until the end of a head."""
    peer.sock.settimeout(120)
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        got += peer.sock.recv(1)
    return got


def pass_on(web):
    """The worker that has the session is emptied, while it goes on; it has ended."""
    api = Api.of(web)
    (session,) = api.get("/api/v1/sessions").json["sessions"]
    pid = next(worker["pid"] for worker in api.get("/api/v1/workers").json if worker["index"] == session["worker"])
    api.post(f"/api/v1/workers/{session['worker']}/empty", status=202)
    wait_until(lambda: not procfs.is_running(pid) and len(web.workers()) == 2, "it has ended, and another one is there", 60)
    return pid


def life(web, session):
    """How it ended, and the processes that it has lived in."""
    api = Api.of(web)
    ended = lambda: api.get(f"/api/v1/sessions/{session}/why").json  # noqa: E731
    wait_until(lambda: ended()["state"] == "ended", "it has ended")
    found = ended()["session"]
    return found["reason"], found["processes"]


class Stream(threading.Thread):
    """Sends bytes until it is stopped, or so many. `digest` of what it has sent."""

    def __init__(self, peer, frame=lambda data: data, size=None):
        super().__init__(name="stream")
        self._peer, self._frame, self._left = peer, frame, size
        self.over = threading.Event()
        self.hash, self.sent = hashlib.sha256(), 0

    def run(self):
        data = os.urandom(1 << 18)
        while not self.over.is_set() and self._left != 0:
            data = data[77:] + data[:77]
            piece = data if self._left is None else data[: self._left]
            self._peer.sock.sendall(self._frame(piece))
            self.hash.update(piece)
            self.sent += len(piece)
            self._left = self._left and self._left - len(piece)


def receive(peer, size, digest):
    while size:
        piece = peer.sock.recv(min(size, 1 << 18))
        assert piece
        digest.update(piece)
        size -= len(piece)


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def receive_chunks(peer, digest):
    file = peer.sock.makefile("rb")
    while size := int(file.readline(), 16):
        digest.update(file.read(size))
        assert file.readline() == b"\r\n"
    assert file.readline() == b"\r\n"


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_long_body_of_known_length_is_whole_though_its_workers_are_emptied(web, way):
    client = web.connect()
    length = b"Content-Length: %d\r\n" % SIZE
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\n" + LAST + length + b"\r\n" if way == "up" else GET)
    server = web.target.accept()
    head(server)
    if way == "down":
        server.send(b"HTTP/1.1 200 OK\r\n" + DATE + length + b"\r\n")
        head(client)
    source, dest = (client, server) if way == "up" else (server, client)
    client.sock.settimeout(120)
    stream, got = Stream(source, size=SIZE - 1), hashlib.sha256()
    stream.start()
    receive(dest, SIZE // 3, got)
    pids = [pass_on(web)]  # with what waits for a reader that has stopped
    receive(dest, SIZE // 3, got)
    pids.append(pass_on(web))
    receive(dest, SIZE - 2 * (SIZE // 3) - 1, got)
    stream.join()
    assert got.hexdigest() == stream.hash.hexdigest()
    source.send(b"x")  # the kernel might have had all of it before
    dest.expect(b"x")
    if way == "up":
        server.send(b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 2\r\n\r\nok")
        assert head(client).startswith(b"HTTP/1.1 200")
        client.expect(b"ok")
    client.close()
    server.close()
    (record,) = web.records(1)
    assert record["processes"][:2] == pids
    assert len(record["processes"]) == 3
    assert record["bytes_up" if way == "up" else "bytes_down"] == SIZE


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_stream_of_chunks_is_whole_though_its_workers_are_emptied_while_it_flows(web, way):
    client = web.connect()
    coded = b"Transfer-Encoding: chunked\r\n"
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\n" + LAST + coded + b"\r\n" if way == "up" else GET)
    server = web.target.accept()
    head(server)
    if way == "down":
        server.send(b"HTTP/1.1 200 OK\r\n" + DATE + coded + b"\r\n")
        head(client)
    source, dest = (client, server) if way == "up" else (server, client)
    client.sock.settimeout(120)
    stream, got = Stream(source, chunk), hashlib.sha256()
    reader = threading.Thread(target=receive_chunks, args=(dest, got), name="reader")
    stream.start()
    reader.start()
    try:
        for _ in range(3):
            pass_on(web)
    finally:
        stream.over.set()
    stream.join()
    source.send(b"0\r\n\r\n")
    reader.join()
    assert got.hexdigest() == stream.hash.hexdigest()
    if way == "up":
        server.send(b"HTTP/1.1 204 No Content\r\n" + DATE + b"\r\n")
        assert head(client).startswith(b"HTTP/1.1 204")
    client.close()
    server.close()
    (record,) = web.records(1)
    assert (record["reason"], len(record["processes"])) == ("done", 4)


def test_a_slow_answer_goes_on_byte_by_byte_and_its_client_asks_again(web):
    client = web.connect().send(GET)
    server = web.target.accept()
    head(server)
    pass_on(web)  # before the answer
    said = b"HTTP/1.1 200 OK\r\n" + DATE + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"
    server.send(said[:9])
    pass_on(web)  # in the middle of its head
    server.send(said[9:])
    assert head(client).endswith(b"Transfer-Encoding: chunked\r\nVia: 1.1 tcp_proxy\r\n\r\n")
    client.expect(b"5\r\nhel")
    pass_on(web)  # in the middle of a chunk
    server.send(b"lo\r\n0\r\n\r\n")
    client.expect(b"lo\r\n0\r\n\r\n")
    client.send(GET)
    other = web.target.accept()
    head(other)
    other.send(b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 2\r\n\r\nok")
    head(client)
    client.expect(b"ok")
    for peer in (client, server, other):
        peer.close()
    first, second = web.records(2)
    assert (first["reason"], len(first["processes"]), "processes" in second) == ("done", 4, False)
    reason, processes = life(web, first["id"].rpartition("-")[0])
    assert (reason, processes) == ("done", first["processes"])


def test_what_comes_to_an_end_in_the_new_worker_is_told_as_anywhere(web):
    """An answer that breaks off: its client is reset, and the record says why."""
    client = web.connect().send(GET)
    server = web.target.accept()
    head(server)
    server.send(b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 5\r\n\r\nhel")
    head(client)
    pass_on(web)
    server.close()
    client.expect(b"hel")
    with pytest.raises(ConnectionResetError):
        client.sock.recv(1)
    (record,) = web.records(1)
    assert (record["reason"], record["status"], len(record["processes"])) == ("target_reset", 200, 2)
    assert life(web, record["id"].rpartition("-")[0]) == ("target_reset", record["processes"])
