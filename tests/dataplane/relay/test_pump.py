"""The Pump contract, run on every kind of pump with real sockets: order, completeness, ends, errors, back-pressure."""

import contextlib
import os
import socket
import struct
from contextlib import ExitStack

import pytest
from dataplane.tls import tls_pair
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.dataplane.relay.paced_pump import PacedPump
from tcp_proxy.dataplane.relay.pump import BULK_AFTER, CHUNK, Pump
from tcp_proxy.dataplane.relay.splice import HAS_SPLICE, PipePool, SplicePump
from tcp_proxy.dataplane.relay.tls_pump import TlsPump
from tcp_proxy.runtime.loop import EDGE, Loop

PLAIN = ["copy", "splice", "splice without pipes", "paced"]
TLS = ["tls with the client", "tls with the target", "tls with both"]
KINDS = PLAIN + TLS


class Owner:
    """Writes down what the pumps say."""

    def __init__(self):
        self.last = 0.0
        self.said = []
        self.codes = []  # of reads that failed
        self.promotes = False
        self.broken = None

    def pump_done(self, pump):
        self.said.append("done")
        pump.dest.shutdown(socket.SHUT_WR)

    def read_failed(self, pump, code):
        self.codes.append(code)
        self.said.append(f"read failed {os.strerror(code)}")
        pump.stop()

    def write_failed(self, pump, code):
        self.said.append(f"write failed {os.strerror(code)}")
        pump.stop()

    def source_failed(self, pump):
        self.said.append("source failed")

    def bulk(self, _pump):
        self.said.append("bulk")
        return self.promotes

    def emptied(self, _pump):
        pass


def tcp_pair(stack):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = stack.enter_context(socket.socket())
        near.connect(listener.getsockname())
        far = stack.enter_context(listener.accept()[0])
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    return near, far


class Rig:
    """client <-> (source, dest) <-> target, with a pump for each direction of the middle."""

    def __init__(self, kind, family="tcp", small=False):
        self.stack = ExitStack()
        self.loop = Loop("test")
        self.stack.callback(self.loop.close)
        pair = tcp_pair if family == "tcp" else lambda stack: [stack.enter_context(s) for s in socket.socketpair()]
        self.client, client_side = pair(self.stack)
        target_side, self.target = pair(self.stack)
        if kind in ("tls with the client", "tls with both"):
            self.client, ours = map(self.stack.enter_context, tls_pair(self.client, client_side))
            client_side = ours.tls
        if kind in ("tls with the target", "tls with both"):
            ours, self.target = map(self.stack.enter_context, tls_pair(target_side, self.target))
            target_side = ours.tls
        self.inner = (client_side, target_side)
        for sock in (client_side, target_side, self.client, self.target):
            sock.setblocking(False)
            if small:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        self.owner = Owner()
        self.pool = PipePool(lambda: kind == "splice")
        self.up = self.make(kind, client_side, target_side, family == "tcp")
        self.down = self.make(kind, target_side, client_side, family == "tcp")
        self.up.opposite, self.down.opposite = self.down, self.up
        self.loop.watch(client_side.fileno(), EDGE, self.up.ready)
        self.loop.watch(target_side.fileno(), EDGE, self.down.ready)
        self.stack.callback(self.pool.close)
        self.stack.callback(self.up.stop)
        self.stack.callback(self.down.stop)

    def make(self, kind, source, dest, tcp):
        if kind in TLS:
            return TlsPump(self.loop, self.owner, source, dest, tcp)
        if kind == "paced":
            return PacedPump(self.loop, self.owner, source, dest, tcp, 1e9, lambda _count: 0.0)
        if kind == "copy":
            return Pump(self.loop, self.owner, source, dest, tcp)
        return SplicePump(self.loop, self.owner, source, dest, tcp, self.pool)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def turn(self, rounds=3):
        for _ in range(rounds):
            self.loop.run_once(0)

    def read_all(self, sock, size):
        """Turn the loop until `size` bytes have come."""
        got = bytearray()
        for _ in range(200_000):
            self.loop.run_once(0.0 if len(got) < size else 0)
            try:
                data = sock.recv(1 << 20)
            except BlockingIOError:
                continue
            if not data:
                break
            got += data
            if len(got) >= size:
                break
        return bytes(got)

    def wait_for(self, word):
        for _ in range(1000):
            if word in self.owner.said:
                return
            self.loop.run_once(0.01)
        raise AssertionError(f"{word!r} was not said: {self.owner.said}")


every_kind = pytest.mark.parametrize("kind", KINDS)
plain_kinds = pytest.mark.parametrize("kind", PLAIN)  # of what only a socket without TLS has


def test_this_python_can_splice():
    assert HAS_SPLICE


@every_kind
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_bytes_and_then_the_end_arrive(kind, family):
    with Rig(kind, family) as rig:
        rig.client.sendall(b"hello")
        rig.client.shutdown(socket.SHUT_WR)
        assert rig.read_all(rig.target, 99) == b"hello"
        assert rig.owner.said == ["done"]
        assert rig.up.moved == 5


@every_kind
def test_each_direction_ends_by_itself(kind):
    with Rig(kind) as rig:
        rig.client.shutdown(socket.SHUT_WR)
        rig.wait_for("done")
        rig.target.sendall(b"late answer")
        assert rig.read_all(rig.client, 11) == b"late answer"
        assert rig.up.done
        assert not rig.down.done


@every_kind
def test_a_full_destination_stops_the_reading_and_loses_nothing(kind):
    with Rig(kind, small=True) as rig:
        data = os.urandom(16_000_000)
        sent = 0
        for _ in range(2000):  # until nothing moves any more
            try:
                sent += rig.client.send(data[sent:])
            except BlockingIOError:
                pass
            rig.loop.run_once(0)
        assert rig.up.blocked
        assert sent < 14_000_000, "memory is bounded by back-pressure"
        got = bytearray()
        while len(got) < len(data):
            if sent < len(data):
                try:
                    sent += rig.client.send(data[sent:])
                except BlockingIOError:
                    pass
            rig.loop.run_once(0)
            try:
                got += rig.target.recv(1 << 20)
            except BlockingIOError:
                pass
        assert bytes(got) == data
        assert not rig.up.blocked


@every_kind
def test_data_and_then_a_reset_is_data_and_then_an_error(kind):
    with Rig(kind) as rig:
        rig.client.sendall(b"last words")
        rig.turn()
        rig.client.sendall(b" and more")
        rig.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        rig.client.close()
        rig.wait_for("read failed Connection reset by peer")
        assert rig.read_all(rig.target, 10).startswith(b"last words")
        assert "done" not in rig.owner.said


@every_kind
def test_a_reset_destination_is_a_write_failure(kind):
    with Rig(kind) as rig:
        rig.target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        rig.down.ended = True  # nobody reads there, as after its end of file
        rig.target.close()
        rig.turn()
        rig.client.sendall(b"x")
        rig.turn()
        rig.client.sendall(b"y")
        rig.turn()
        assert any(word.startswith("write failed") for word in rig.owner.said)


@plain_kinds
def test_urgent_data_stays_in_line(kind):
    with Rig(kind) as rig:
        rig.client.send(b"abc")
        rig.client.send(b"!", socket.MSG_OOB)
        rig.client.send(b"def")
        rig.client.shutdown(socket.SHUT_WR)
        assert rig.read_all(rig.target, 99) == b"abc!def"
        assert rig.owner.said == ["done"]


@plain_kinds
def test_descriptors_beside_bytes_do_not_look_like_an_end(kind):
    """A UNIX peer's SCM_RIGHTS cuts reads short; the bytes around it all arrive."""
    with Rig(kind, "unix") as rig:
        rig.client.send(b"one")
        socket.send_fds(rig.client, [b"two"], [0])
        rig.client.send(b"three")
        rig.client.shutdown(socket.SHUT_WR)
        assert rig.read_all(rig.target, 99) == b"onetwothree"


def test_many_full_reads_in_a_row_are_bulk():
    """Over UNIX sockets, whose room does not shrink while the whole machine's TCP is short of memory."""
    with Rig("copy", "unix") as rig:
        data = bytes(CHUNK)
        rig.client.setblocking(False)
        for _ in range(5_000):
            with contextlib.suppress(BlockingIOError):
                while True:
                    rig.client.send(data)
            rig.turn(1)
            with contextlib.suppress(BlockingIOError):
                while True:
                    rig.target.recv(1 << 20)
            if "bulk" in rig.owner.said:
                return
        raise AssertionError(f"not bulk after {rig.up.moved} bytes, {rig.up.full} full reads of {BULK_AFTER}")


def test_a_pump_that_is_taken_over_goes_on_where_the_old_one_stopped():
    with Rig("copy", small=True) as rig:
        data = os.urandom(9_000_000)
        sent = 0
        while not rig.up.blocked:
            try:
                sent += rig.client.send(data[sent : sent + 30000])
            except BlockingIOError:
                pass
            rig.turn(1)
        old = rig.up
        new = rig.make("splice", old.source, old.dest, True).take_over(old)
        old.retire()
        rig.up, new.opposite, rig.down.opposite = new, rig.down, new
        rig.loop.unwatch(old.source.fileno())
        rig.loop.watch(old.source.fileno(), EDGE, new.ready)
        got = bytearray()
        while len(got) < len(data):
            if sent < len(data):
                try:
                    sent += rig.client.send(data[sent:])
                except BlockingIOError:
                    pass
            rig.loop.run_once(0)
            try:
                got += rig.target.recv(1 << 20)
            except BlockingIOError:
                pass
        assert bytes(got) == data


@pytest.mark.parametrize("family", ["tcp", "unix"])
@every_kind
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["up", "down", "turn", "read"]), st.integers(1, 70_000)), min_size=1, max_size=40
    )
)
@settings(deadline=None, max_examples=40)
def test_any_cut_and_any_order_arrives_whole(kind, family, steps):
    with Rig(kind, family, small=True) as rig:
        ends = {"up": (rig.client, rig.target), "down": (rig.target, rig.client)}
        sent = {"up": bytearray(), "down": bytearray()}
        got = {"up": bytearray(), "down": bytearray()}
        counter = 0

        def read():
            for way, (_, far) in ends.items():
                try:
                    got[way] += far.recv(1 << 16)
                except BlockingIOError:
                    pass

        for step, size in steps:
            if step in ends:
                counter += 1
                data = (counter.to_bytes(4, "little") * (size // 4 + 1))[:size]
                try:
                    sent[step] += data[: ends[step][0].send(data)]
                except BlockingIOError:
                    pass
            elif step == "turn":
                rig.turn(1)
            else:
                read()
        rig.client.shutdown(socket.SHUT_WR)
        rig.target.shutdown(socket.SHUT_WR)
        for _ in range(100_000):
            rig.loop.run_once(0)
            read()
            if rig.owner.said.count("done") == 2 and all(len(got[w]) == len(sent[w]) for w in ends):
                break
        assert got == sent
        assert rig.owner.said.count("done") == 2
        assert rig.pool.open == len(rig.pool._free), "every pipe is given back"


def test_urgent_data_that_meets_a_blocked_splice_is_read_all_the_same():
    with Rig("splice", small=True) as rig:
        sent = bytearray()
        while not rig.up.blocked:
            try:
                sent += bytes(1 << 16)[: rig.client.send(bytes(1 << 16))]
            except BlockingIOError:
                pass
            rig.turn(1)
        rig.target.setblocking(False)
        got = bytearray()
        rig.client.setblocking(False)
        while True:
            try:
                rig.client.send(b"!", socket.MSG_OOB)
                break
            except BlockingIOError:
                rig.turn(1)
                got += rig.target.recv(1 << 16)
        sent += b"!"
        tail = b"-tail-after-urgent"
        while tail:
            try:
                count = rig.client.send(tail)
                sent += tail[:count]
                tail = tail[count:]
            except BlockingIOError:
                rig.turn(1)
                got += rig.target.recv(1 << 16)
        for _ in range(100_000):
            rig.loop.run_once(0)
            try:
                got += rig.target.recv(1 << 18)
            except BlockingIOError:
                pass
            if len(got) == len(sent):
                break
        assert got == sent


def test_one_turn_is_queued_once_however_many_events_come():
    with Rig("copy") as rig:
        rig.client.setblocking(False)
        for _ in range(50):
            try:
                rig.client.send(bytes(1 << 18))
            except BlockingIOError:
                break
        rig.up.fill()
        rig.up.ready(1)
        rig.up.ready(1)
        assert len(rig.loop._again) == 1
