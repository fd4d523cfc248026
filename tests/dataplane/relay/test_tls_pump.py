"""Ends of sessions with TLS on one side or both; bytes and back-pressure are in test_pump.py, for every kind of pump."""

import socket
import struct

import pytest
from dataplane.relay.test_pump import TLS, Rig

from tcp_proxy.dataplane.relay.tls_socket import TlsSocket
from tcp_proxy.sansio.reasons import TLS_TRUNCATED

FROM_TLS = ["tls with the client", "tls with both"]
TO_TLS = ["tls with the target", "tls with both"]


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def said(rig, beginning):
    for _ in range(1000):
        if any(word.startswith(beginning) for word in rig.owner.said):
            return
        rig.loop.run_once(0.01)
    raise AssertionError(f"{beginning!r} was not said: {rig.owner.said}")


@pytest.mark.parametrize("kind", TO_TLS)
def test_an_end_is_close_notify_and_then_fin(kind):
    with Rig(kind) as rig:
        rig.client.sendall(b"hello")
        rig.client.shutdown(socket.SHUT_WR)
        assert rig.read_all(rig.target, 99) == b"hello"
        assert rig.target.is_ended, "not merely a FIN"
        rig.turn()
        assert rig.target.raw.recv(1) == b""


@pytest.mark.parametrize("kind", FROM_TLS)
def test_an_end_without_close_notify_is_a_failure_after_all_that_came(kind):
    with Rig(kind) as rig:
        rig.client.sendall(b"half a sen")
        rig.client.raw.shutdown(socket.SHUT_WR)
        said(rig, "read failed")
        assert rig.owner.codes == [TLS_TRUNCATED]
        assert rig.read_all(rig.target, 10) == b"half a sen"
        assert "done" not in rig.owner.said


@pytest.mark.parametrize("kind", FROM_TLS)
def test_an_end_that_comes_with_the_last_bytes_is_heard_without_a_fin(kind):
    """As of who waits for our close_notify before it closes: one event tells of all."""
    with Rig(kind) as rig:
        rig.turn()
        rig.client.sendall(b"one")
        says_end(rig.client)
        said(rig, "done")
        assert rig.read_all(rig.target, 99) == b"one"


def says_end(peer):
    """close_notify, and no FIN."""
    peer.say_end()
    peer.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # sends what waits for more


@pytest.mark.parametrize("kind", FROM_TLS)
@pytest.mark.parametrize("size", [10, 40_000])  # what has not arrived by then is lost: a close with bytes unread
def test_a_reset_behind_close_notify_is_an_end(kind, size):
    """A client closes, with session tickets in its socket that it has never read."""
    with Rig(kind) as rig:
        rig.client.sendall(bytes(size))
        rig.client.shutdown(socket.SHUT_WR)
        reset(rig.client)
        assert len(rig.read_all(rig.target, size + 1)) == size
        assert rig.owner.said == ["done"]


@pytest.mark.parametrize("kind", FROM_TLS)
def test_so_it_is_while_the_destination_is_full(kind):
    with Rig(kind, small=True) as rig:
        sent = 0
        while not rig.up.blocked:
            try:
                sent += rig.client.send(bytes(60_000))
            except BlockingIOError:
                pass
            rig.turn(1)
        while rig.client.has_unsent:
            rig.client.flush()
            rig.turn(1)
        try:
            rig.client.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pytest.skip("no room for its end")
        reset(rig.client)
        rig.turn()
        assert len(rig.read_all(rig.target, sent + 1)) == sent
        assert rig.owner.said == ["done"]


@pytest.mark.parametrize("kind", TO_TLS)
def test_a_broken_session_says_no_end(kind):
    """Only an end that the source has said is passed on as one."""
    with Rig(kind) as rig:
        rig.owner.broken = ("client", 104)
        rig.owner.pump_done = lambda _pump: rig.owner.said.append("done")
        rig.up.expect_no_more()
        rig.up._flushed()
        assert rig.owner.said == ["done"]
        with pytest.raises(BlockingIOError):
            rig.target.recv(1)
        assert not rig.target.is_ended


@pytest.mark.parametrize("kind", TO_TLS)
def test_the_end_waits_for_room(kind):
    with Rig(kind, small=True) as rig:
        up_side = rig.inner[1]
        while True:
            try:
                up_side.send(bytes(60_000), socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
        waiting = up_side._taken
        up_side._taken = 0
        rig.client.shutdown(socket.SHUT_WR)
        rig.turn(5)
        assert rig.owner.said == []
        assert rig.up.blocked
        got = rig.read_all(rig.target, 1 << 30)
        assert len(got) > waiting
        assert rig.target.is_ended
        assert rig.owner.said == ["done"]


@pytest.mark.parametrize("kind", TO_TLS)
def test_who_has_gone_after_his_own_end_is_not_missed(kind):
    with Rig(kind) as rig:
        rig.target.shutdown(socket.SHUT_WR)
        rig.wait_for("done")
        reset(rig.target)
        rig.turn()
        rig.client.shutdown(socket.SHUT_WR)
        for _ in range(100):
            rig.turn(1)
        assert rig.owner.said == ["done", "done"]


@pytest.mark.parametrize("kind", TLS)
def test_what_lies_decrypted_in_a_socket_is_taken_over(kind):
    """No event tells of it: a pump that begins looks by itself."""
    with Rig(kind) as rig:
        source = rig.inner[0] if kind in FROM_TLS else rig.inner[1]
        far = rig.client if kind in FROM_TLS else rig.target
        other = rig.target if kind in FROM_TLS else rig.client
        rig.turn()
        far.sendall(b"abcdef")
        while True:
            try:
                assert source.recv(3, socket.MSG_DONTWAIT) == b"abc"
                break
            except BlockingIOError:
                pass
        assert isinstance(source, TlsSocket)
        old = rig.up if kind in FROM_TLS else rig.down
        new = rig.make(kind, old.source, old.dest, True).take_over(old)
        new.opposite = old.opposite
        assert rig.read_all(other, 3) == b"def"
