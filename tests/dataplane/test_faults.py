"""Faults on purpose of an app: who meets one, and when it ends."""

from tcp_proxy.dataplane.faults import Fault, Faults, configured
from tcp_proxy.wire.views import FaultView

HERE = ("127.0.0.1", 1)


def test_a_share_of_the_sessions_meets_it_the_same_ones_in_both_directions():
    fault = Fault(FaultView(7, "x", share=25.0))
    met = [number for number in range(4000) if fault.meets(number, HERE)]
    assert 900 < len(met) < 1100
    assert met == [number for number in range(4000) if fault.meets(number, HERE)]
    assert not any(Fault(FaultView(7, "x", reset=0.0)).resets(number) for number in range(100))
    assert all(Fault(FaultView(7, "x", reset=100.0)).resets(number) for number in range(100))


def test_a_network_says_whose_sessions_meet_it():
    fault = Fault(FaultView(1, "x", networks=("192.0.2.0/24", "2001:db8::/32")))
    assert fault.meets(1, ("192.0.2.9", 1))
    assert fault.meets(1, ("::ffff:192.0.2.9", 1, 0, 0))
    assert fault.meets(1, ("2001:db8::1%eth0", 1, 0, 0))
    assert not fault.meets(1, HERE)


def test_a_delay_is_around_the_latency():
    fault = Fault(FaultView(1, "x", latency=1.0, jitter=0.25))
    delays = [fault.delay() for _ in range(500)]
    assert 0.75 <= min(delays) < 0.85
    assert 1.15 < max(delays) <= 1.25
    assert Fault(FaultView(1, "x", slicer=1)).delay() == 0.0


def test_the_first_one_counts_and_what_waits_for_one_that_ends_goes_on():
    class Gate:
        opened = 0

        def open(self):
            self.opened += 1

    faults = configured(None, [FaultView(1, "a", share=0.0), FaultView(2, "b"), FaultView(3, "c")])
    assert isinstance(faults, Faults)
    found, gate = faults.find(5, HERE), Gate()
    assert found.view.number == 2
    found.waiting.add(gate)
    assert configured(faults, [FaultView(3, "c")]) is faults
    assert (found.is_over, gate.opened) == (True, 1)
    assert faults.find(5, HERE).view.number == 3
    assert configured(faults, []) is None
    assert configured(None, ()) is None
