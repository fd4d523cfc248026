"""One direction of an exchange: every byte of the body and not one behind it, by copying and by splice."""

import random
import socket
from contextlib import ExitStack

import pytest

from tcp_proxy.dataplane.http.body import SPLICE_FROM, Body
from tcp_proxy.dataplane.http.socket_writer import SocketWriter
from tcp_proxy.dataplane.relay.splice import PipePool
from tcp_proxy.runtime.loop import EDGE, READ, WRITE
from tcp_proxy.sansio.http1.fields import CHUNKED
from tcp_proxy.sansio.http1.responses import UNTIL_CLOSE
from tests.dataplane.http.rig import GET, HttpHouse, pair, quiet_loop

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
BEHIND = b"GET /next HTTP/1.1\r\n"


class Rig:
    """What a Body owns, and what it told."""

    def __init__(self, length, small=False, decode=False, pipes=None):
        self.stack = ExitStack()
        self.loop, _ = quiet_loop()
        self.pipes = pipes or PipePool()
        self.source, self.sender = pair(self.stack, socket.AF_INET)
        self.dest, self.receiver = pair(self.stack, socket.AF_INET)
        if small:
            self.dest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            self.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        self.writer = SocketWriter(self.loop, self.dest, armed=True)
        self.body = Body(self.loop, self, self.source, self.writer, length, decode)
        self.said = []
        self.loop.watch(self.source.fileno(), EDGE, self._readable)
        self.loop.watch(self.dest.fileno(), EDGE, self._writable)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.writer.give_back(self.pipes)
        self.pipes.close()
        assert self.pipes.open == 0
        for sock in (self.source, self.dest):
            self.loop.drop(sock)
        self.loop.run_once(0)
        self.loop.close()
        self.stack.close()

    def _readable(self, events):
        if events & READ and not self.writer.blocked:
            self.body.go_on()

    def _writable(self, events):
        if events & WRITE and self.writer.blocked and self.writer.flush():
            self.body.flushed()

    def body_done(self, _body):
        self.said.append("done")

    def body_broken(self, body):
        self.said.append(("broken", body.code))
        body.stop()

    def body_refused(self, _body, error):
        self.said.append(("refused", error.status))

    def writer_failed(self, _body, code):
        self.said.append(("writer", code))

    def move(self, data, pieces=lambda: 1 << 20, seconds=2000):
        """What arrives while `data` is sent in pieces, until something is said."""
        got = bytearray()
        self.sender.setblocking(False)
        self.receiver.setblocking(False)
        quiet = 0
        while quiet < 20:
            if data:
                try:
                    data = data[self.sender.send(data[: pieces()]) :]
                    quiet = 0
                except BlockingIOError:
                    pass
            self.loop.run_once(0.001 if quiet else 0)
            try:
                got += self.receiver.recv(1 << 20)
                quiet = 0
            except BlockingIOError:
                quiet += 1
        return bytes(got)


@pytest.mark.parametrize("small", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("size", [1, SPLICE_FROM - 1, SPLICE_FROM, SPLICE_FROM + 1, 3 << 20])
def test_the_body_and_not_a_byte_more(size, small):
    dice = random.Random(size)
    data = dice.randbytes(size)
    with Rig(size, small=small) as rig:
        assert rig.move(data + BEHIND, lambda: dice.choice((1, 1000, 65536, 1 << 20))) == data
        assert rig.said == ["done"]
        left = rig.body.rest
        rig.source.setblocking(False)
        while len(left) < len(BEHIND):
            left += rig.source.recv(100)
        assert left == BEHIND
        assert (rig.body.moved, rig.body.delivered) == (size, size)


def test_a_source_that_ends_early_is_broken_and_not_done():
    with Rig(SPLICE_FROM * 2) as rig:
        rig.sender.sendall(bytes(SPLICE_FROM))
        rig.sender.shutdown(socket.SHUT_WR)
        assert len(rig.move(b"")) == SPLICE_FROM
        assert rig.said == [("broken", 0)]


def test_an_end_is_the_end_where_the_length_was_not_said():
    with Rig(UNTIL_CLOSE) as rig:
        rig.sender.sendall(b"hello")
        assert rig.move(b"") == b"hello"
        assert rig.said == []
        rig.sender.shutdown(socket.SHUT_WR)
        rig.move(b"")
        assert rig.said == ["done"]


@pytest.mark.parametrize("decode", [False, True])
def test_chunks_in_any_pieces(decode):
    dice = random.Random(3)
    data = [dice.randbytes(size) for size in (1, 7, 70_000, 3)]
    wire = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in data) + b"0\r\nA: b\r\n\r\n"
    with Rig(CHUNKED, small=True, decode=decode) as rig:
        got = rig.move(wire + BEHIND, lambda: dice.choice((1, 2, 3, 1000, 65536)))
        assert got == (b"".join(data) if decode else wire)
        assert rig.said == ["done"]


def test_without_a_pipe_it_copies():
    with Rig(SPLICE_FROM * 2, pipes=PipePool(lambda: False)) as rig:
        assert len(rig.move(bytes(SPLICE_FROM * 2))) == SPLICE_FROM * 2
        assert rig.said == ["done"]


def test_a_pipe_with_bytes_in_it_is_nobody_else_s():
    """The receiver has gone, and what was meant for it lies in the pipe."""
    with Rig(8 << 20, small=True) as rig:
        rig.sender.setblocking(False)
        while not (rig.writer.pipe is not None and rig.writer.pipe.count):
            try:
                rig.sender.send(bytes(1 << 18))
            except BlockingIOError:
                pass
            rig.loop.run_once(0)
        rig.body.stop()
        assert rig.pipes.open == 1
        assert rig.body.delivered < rig.body.moved
        rig.writer.give_up(rig.pipes)
        assert rig.pipes.open == 0


PLACES = {"before the body": 0, "at its beginning": 1, "in the middle": 1 << 19, "at its end": (1 << 20) - 1}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_urgent_data_in_a_spliced_body(direction, where):
    """A splice stops before it and says that there is no more."""
    size, before = 1 << 20, PLACES[where]
    with HttpHouse() as house:
        client, _ = house.client()
        if direction == "up":
            sender, head = client, POST % size
        else:
            sender, head = house.ask(client, GET), b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        if where != "before the body":  # else it is there when the body begins
            house.send(sender, head)
            head = b""
        house.send(sender, head + bytes(before), turns=0 if head else 1)
        house.send(sender, b"!", socket.MSG_OOB)
        house.send(sender, bytes(size - before - 1))
        receiver = client if direction == "down" else house.accept()
        house.read_head(receiver)
        assert house.receive(receiver, size).index(b"!") == before


def test_an_end_of_tls_that_was_read_with_the_end_of_an_answer_is_the_connection_s():
    """close_notify without a FIN: no event will tell of it, and no other request is to go there."""
    with HttpHouse(retries=0) as house:
        client, session, peer = house.ask_over_tls()
        peer.sendall(b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\nhe")
        house.read_head(client)
        assert house.receive(client, 2) == b"he"
        peer.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        peer.sendall(b"llo")
        peer.say_end()
        peer.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        assert house.receive(client, 3) == b"llo"
        house.until(lambda: session.exchange is None)
        client.sendall(GET.replace(b"GET", b"POST"))
        house.turn(3)
        house.accept()
