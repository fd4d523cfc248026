"""Writing to one socket: order, back-pressure, and errors that are raised once."""

import socket
from contextlib import ExitStack

import pytest

from kit.clogged import drain, fill
from tcp_proxy.dataplane.http.outlet import Outlet
from tcp_proxy.dataplane.splice import PipePool, take_in
from tcp_proxy.loop import QUIET_EDGE, WRITE
from tests.dataplane.house import reset
from tests.dataplane.http.rig import pair, quiet_loop


@pytest.fixture
def rig():
    """(loop, outlet, the other end)"""
    with ExitStack() as stack:
        loop, _ = quiet_loop()
        sock, peer = pair(stack, socket.AF_INET)
        outlet = Outlet(loop, sock)
        loop.watch(sock.fileno(), QUIET_EDGE, lambda events: outlet.blocked and events & WRITE and outlet.flush())
        yield loop, outlet, peer
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
    loop, outlet, peer = rig
    filled = fill(outlet.sock)
    outlet.write(b"one ")
    outlet.write(b"two ")
    assert outlet.blocked
    assert outlet.waiting() == 8
    outlet.write(b"three")
    assert arrive(loop, peer, filled + 13).endswith(b"xone two three")
    assert not outlet.blocked
    assert outlet.waiting() == 0


def test_a_write_that_is_taken_in_part(rig):
    loop, outlet, peer = rig
    outlet.write(bytes(32 << 20))
    assert 0 < outlet.waiting() < 32 << 20
    assert arrive(loop, peer, 32 << 20) == bytes(32 << 20)


def test_the_bytes_of_the_pipe_go_before_those_of_the_program(rig):
    loop, outlet, peer = rig
    pipes = PipePool()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as source:
        source.sendall(b"piped ")
        inner, _ = server.accept()
        with inner:
            inner.setblocking(False)
            outlet.sock.setblocking(False)
            outlet.pipe = pipes.take()
            filled = fill(outlet.sock)
            take_in(outlet.pipe, inner.fileno(), 6)
            outlet.wait()
            outlet.write(b"written")
    assert outlet.waiting() == 13
    assert arrive(loop, peer, filled + 13).endswith(b"xpiped written")
    outlet.give_back(pipes)
    assert (pipes.open, outlet.pipe) == (1, None)
    pipes.close()


def test_an_error_is_raised_to_who_writes(rig):
    _, outlet, peer = rig
    reset(peer)
    with pytest.raises(ConnectionResetError):
        outlet.write(b"x")
    with pytest.raises(BrokenPipeError):
        outlet.write(b"x")


def test_an_error_is_raised_to_who_flushes_and_after_giving_up_nothing_is_left_to_write(rig):
    _, outlet, peer = rig
    fill(outlet.sock)
    outlet.write(b"x")
    reset(peer)
    with pytest.raises(ConnectionResetError):
        outlet.flush()
    outlet.give_up(PipePool())
    assert (outlet.blocked, outlet.waiting()) == (False, 0)
    assert outlet.flush()
