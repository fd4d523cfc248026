"""A pump that meets a fault on purpose: when it reads, when it ends, and that the end of the fault lets it go on."""

import pytest

from tcp_proxy.dataplane.relay.fault_pump import FaultPump
from tests.dataplane.house import Clock
from tests.dataplane.relay.test_pump import Rig


class Said:
    """Effects, as a test says them."""

    is_over = is_stuck = False
    chunk = 0
    slow_close = 0.0
    latency = 0.0

    def __init__(self, **said):
        self.waiting = set()
        vars(self).update(said)

    def delay(self):
        return self.latency

    def end(self):
        self.is_over = True
        for gate in tuple(self.waiting):
            gate.open()


class Faulty(Rig):
    pump = FaultPump

    def __init__(self, kind="copy", resets=None, **said):
        self.clock, self.effects, self.resets = Clock(), Said(**said), resets
        super().__init__(kind)
        self.loop._clock = self.clock
        self.turn()

    def make(self, _kind, source, dest, tcp):
        return self.pump(self.loop, self.owner, source, dest, tcp, self.effects, self.spend, self.resets)

    def spend(self, _count):
        return 0.0

    def pass_time(self, seconds):
        self.clock.now += seconds
        self.turn(6)

    def arrived(self):
        try:
            return self.target.recv(1 << 20)
        except BlockingIOError:
            return b""


def test_what_comes_waits_for_its_latency_each_time():
    with Faulty(latency=1.0) as rig:
        for text in (b"one", b"two"):
            rig.client.sendall(text)
            rig.turn(6)
            rig.pass_time(0.9)
            assert rig.arrived() == b""
            rig.pass_time(0.2)
            assert rig.arrived() == text


def test_an_end_waits_too_and_comes_behind_everything():
    with Faulty(latency=1.0) as rig:
        rig.client.sendall(b"last")
        rig.client.close()
        rig.turn(6)
        assert rig.owner.said == []
        rig.pass_time(1.1)
        rig.pass_time(1.1)
        assert rig.arrived() == b"last"
        assert rig.owner.said == ["done"]


def test_what_is_stuck_goes_on_when_the_fault_is_over():
    with Faulty(is_stuck=True) as rig:
        rig.client.sendall(b"held")
        rig.pass_time(1000.0)
        assert rig.arrived() == b""
        rig.effects.end()
        rig.turn(6)
        assert rig.arrived() == b"held"
        rig.client.sendall(b"free")
        rig.turn(6)
        assert rig.arrived() == b"free"


def test_an_end_is_passed_on_late():
    with Faulty(slow_close=2.0) as rig:
        rig.client.sendall(b"x")
        rig.client.close()
        rig.turn(6)
        assert rig.arrived() == b"x"
        assert rig.owner.said == []
        rig.pass_time(2.1)
        assert rig.owner.said == ["done"]


def test_one_that_is_stopped_while_it_waits_does_nothing_more():
    with Faulty(latency=1.0, slow_close=1.0) as rig:
        rig.client.sendall(b"x")
        rig.turn(6)
        rig.up.stop()
        rig.pass_time(5.0)
        assert rig.arrived() == b""
        assert rig.owner.said == []
        assert not rig.effects.waiting


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_pieces_are_of_that_size_and_all_of_them_come(size):
    with Faulty(chunk=size) as rig:
        data = bytes(range(256)) * 8
        rig.client.sendall(data)
        rig.turn(2 * len(data) // size + 20)
        assert rig.read_all(rig.target, len(data)) == data


def test_the_first_byte_resets():
    called = []

    def resets():
        called.append(1)
        return False

    with Faulty(resets=resets) as rig:
        rig.turn(4)
        assert called == []
        rig.client.sendall(b"x")
        rig.turn(4)
        assert called


@pytest.mark.parametrize("said", [{"latency": 500.0}, {"slow_close": 500.0}])
def test_whoever_waits_for_a_time_does_not_wait_beyond_the_fault(said):
    with Faulty(**said) as rig:
        rig.client.sendall(b"held")
        rig.client.close()
        rig.turn(6)
        rig.effects.end()
        rig.turn(6)
        assert rig.arrived() == b"held"
        assert rig.owner.said == ["done"]
        assert not rig.effects.waiting
