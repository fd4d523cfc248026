"""A pump that is slowed down: what it reads, when it reads on, how it ends. The contract is in test_pump."""

import pytest

from tcp_proxy.dataplane.relay.paced_pump import LEAST_CHUNK, READS, PacedPump, chunk_of
from tcp_proxy.dataplane.relay.pump import CHUNK
from tests.dataplane.house import Clock
from tests.dataplane.relay.test_pump import Rig


class Paced(Rig):
    """Its pumps may move `rate` bytes a second, and what they tell of is written down. The clock is turned by the test."""

    rate = READS * LEAST_CHUNK

    def __init__(self, kind="paced"):
        self.clock, self.told, self.full_at = Clock(), [], 0.0
        super().__init__(kind)
        self.loop._clock = self.clock
        self.turn()

    def make(self, _kind, source, dest, tcp):
        return PacedPump(self.loop, self.owner, source, dest, tcp, self.rate, self.spend)

    def spend(self, count):
        """As a bucket without a burst."""
        self.told.append(count)
        self.full_at = max(self.full_at, self.clock.now) + count / self.rate
        return self.full_at - self.clock.now

    def pass_time(self, seconds):
        self.clock.now += seconds
        self.turn(6)


@pytest.mark.parametrize(("rate", "chunk"), [(1, 1024), (65536, 1024), (1 << 20, 16384), (1e12, CHUNK)])
def test_a_slow_one_reads_in_small_pieces(rate, chunk):
    assert chunk_of(rate) == chunk


def test_nothing_is_read_before_its_time_and_all_comes_in_the_end():
    with Paced() as rig:
        sent = bytes(range(256)) * 80
        rig.client.sendall(sent)
        rig.turn(10)
        assert rig.told == [4 * LEAST_CHUNK], "one turn"
        assert "paused" in repr(rig.up._pace)
        rig.pass_time(3.9 / READS)
        assert len(rig.told) == 1
        rig.pass_time(0.2 / READS)
        assert len(rig.told) == 2
        for _ in range(10):
            rig.pass_time(1.0)
        assert rig.read_all(rig.target, len(sent)) == sent
        assert sum(rig.told) == rig.up.moved == len(sent)


def test_the_other_direction_is_not_held_up():
    with Paced() as rig:
        rig.client.sendall(bytes(20_000))
        rig.turn(10)
        rig.full_at = 0.0
        rig.target.sendall(b"welcome")
        rig.turn(10)
        assert rig.client.recv(99) == b"welcome"


def test_an_end_that_comes_while_it_waits_is_passed_on_behind_everything():
    with Paced() as rig:
        rig.client.sendall(bytes(10_000))
        rig.turn(10)
        rig.client.close()
        rig.turn(10)
        assert rig.owner.said == []
        for _ in range(6):
            rig.pass_time(1.0)
        assert len(rig.read_all(rig.target, 10_001)) == 10_000
        assert rig.owner.said == ["done"]


def test_one_that_is_stopped_while_it_waits_reads_no_more():
    with Paced() as rig:
        rig.client.sendall(bytes(10_000))
        rig.turn(10)
        rig.up.stop()
        rig.pass_time(9.0)
        assert rig.told == [4 * LEAST_CHUNK]
        assert "paused" not in repr(rig.up._pace)


def test_it_is_never_bulk():
    """It stays in the loop's thread, where its client's bucket is."""
    with Paced() as rig:
        rig.rate = 1e12
        sent = bytes(1 << 20)
        rig.client.setblocking(False)
        total = 0
        while total < len(sent):
            try:
                total += rig.client.send(sent[total:])
            except BlockingIOError:
                pass
            rig.pass_time(1.0)
            rig.target.recv(1 << 20)
        assert "bulk" not in rig.owner.said


def test_what_another_pump_has_moved_is_not_told_of():
    with Paced() as rig:
        old, rig.up.moved = rig.up, 5000
        new = PacedPump(rig.loop, rig.owner, old.source, old.dest, True, rig.rate, rig.spend).take_over(old)
        rig.client.sendall(b"x")
        new.opposite = rig.down
        new.fill()
        assert rig.told == [1]
        new.stop()
