"""Writing to one socket: order, back-pressure, and errors that are raised once."""

import socket
from contextlib import ExitStack

import pytest

from kit.clogged import drain, fill
from tcp_proxy.dataplane.http.socket_writer import SocketWriter
from tcp_proxy.dataplane.relay.splice import PipePool, take_in
from tcp_proxy.runtime.loop import QUIET_EDGE, WRITE
from tests.dataplane.house import reset
from tests.dataplane.http.rig import pair, quiet_loop


@pytest.fixture
def rig():
    """(loop, writer, the other end)"""
    with ExitStack() as stack:
        loop, _ = quiet_loop()
        sock, peer = pair(stack, socket.AF_INET)
        writer = SocketWriter(loop, sock)
        loop.watch(sock.fileno(), QUIET_EDGE, lambda events: writer.blocked and events & WRITE and writer.flush())
        yield loop, writer, peer
        loop.drop(sock)
        loop.run_once(0)
        loop.close()


def arrive(loop, peer, size):
    got = b""
    while len(got) < size:
        got += drain(peer)
        loop.run_once(0.001)
    return got


def test_what_is_not_taken_goes_first_when_there_is_room(rig):
    loop, writer, peer = rig
    filled = fill(writer.sock)
    writer.write(b"one ")
    writer.write(b"two ")
    assert writer.blocked
    assert writer.waiting() == 8
    writer.write(b"three")
    assert arrive(loop, peer, filled + 13).endswith(b"xone two three")
    assert not writer.blocked
    assert writer.waiting() == 0


def test_a_write_that_is_taken_in_part(rig):
    loop, writer, peer = rig
    writer.write(bytes(32 << 20))
    assert 0 < writer.waiting() < 32 << 20
    assert arrive(loop, peer, 32 << 20) == bytes(32 << 20)


def test_the_bytes_of_the_pipe_go_before_those_of_the_program(rig):
    loop, writer, peer = rig
    pipes = PipePool()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as source:
        source.sendall(b"piped ")
        inner, _ = server.accept()
        with inner:
            inner.setblocking(False)
            writer.sock.setblocking(False)
            writer.pipe = pipes.take()
            filled = fill(writer.sock)
            take_in(writer.pipe, inner.fileno(), 6)
            writer.wait()
            writer.write(b"written")
    assert writer.waiting() == 13
    assert arrive(loop, peer, filled + 13).endswith(b"xpiped written")
    writer.give_back(pipes)
    assert (pipes.open, writer.pipe) == (1, None)
    pipes.close()


def test_an_error_is_raised_to_who_writes(rig):
    _, writer, peer = rig
    reset(peer)
    with pytest.raises(ConnectionResetError):
        writer.write(b"x")
    with pytest.raises(BrokenPipeError):
        writer.write(b"x")


def test_an_error_is_raised_to_who_flushes_and_after_giving_up_nothing_is_left_to_write(rig):
    _, writer, peer = rig
    fill(writer.sock)
    writer.write(b"x")
    reset(peer)
    with pytest.raises(ConnectionResetError):
        writer.flush()
    writer.give_up(PipePool())
    assert (writer.blocked, writer.waiting()) == (False, 0)
    assert writer.flush()
