"""Faults on purpose of an app: who meets one, and when it ends."""

from tcp_proxy.dataplane.faults import Bandwidth, Fault, Faults, configured, note_of, together
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


class Gate:
    opened = 0

    def open(self):
        self.opened += 1


def test_a_session_meets_all_that_are_for_it_and_what_waits_for_one_that_ends_goes_on():
    faults = configured(None, [FaultView(1, "a", share=0.0), FaultView(2, "b"), FaultView(3, "c")])
    assert isinstance(faults, Faults)
    found, gate = faults.find(5, HERE), Gate()
    assert note_of(found) == "fault 2: b fault 3: c"
    found[0].waiting.add(gate)
    assert configured(faults, [FaultView(3, "c")]) is faults
    assert (found[0].is_over, gate.opened) == (True, 1)
    assert note_of(faults.find(5, HERE)) == "fault 3: c"
    assert configured(faults, []) is None
    assert configured(None, ()) is None


def test_waits_of_several_add_up_the_smallest_piece_counts_and_what_is_over_counts_no_longer():
    one, other, third = (
        Fault(FaultView(1, "a", latency=1.0, slow_close=2.0)),
        Fault(FaultView(2, "b", latency=0.5, slicer=70, timeout=True)),
        Fault(FaultView(3, "c", slow_close=0.25, slicer=7)),
    )
    assert together([one]) is one
    all_ = together([one, other, third])
    assert (all_.delay(), all_.slow_close, all_.chunk, all_.is_stuck) == (1.5, 2.25, 7, True)
    other.end()
    assert (all_.delay(), all_.slow_close, all_.is_stuck, all_.is_over) == (1.0, 2.25, False, False)
    one.end()
    third.end()
    assert (all_.delay(), all_.is_over) == (0, True)


def test_who_waits_because_of_two_that_let_nothing_pass_goes_on_when_both_are_over():
    faults = [Fault(FaultView(number, "x", timeout=True)) for number in range(2)]
    both, gate, left = together(faults), Gate(), Gate()
    for each in (gate, left):
        both.waiting.add(each)
    both.waiting.discard(left)
    faults[0].end()
    assert gate.opened == 0
    assert gate in both.waiting
    faults[1].end()
    assert (gate.opened, left.opened) == (1, 0)
    both.waiting.discard(gate)
    assert not any(fault.waiting for fault in faults)


def test_each_has_a_bandwidth_of_its_own_and_the_least_of_them_counts():
    wide, narrow = (Fault(FaultView(number, "x", bandwidth=rate)) for number, rate in ((1, 1000), (2, 100)))
    bandwidth = Bandwidth([wide, narrow, Fault(FaultView(3, "x"))])
    assert bandwidth.rate == 100
    assert bandwidth.spend(200, 10.0) == 1.0
    narrow.end()
    assert bandwidth.spend(900, 10.0) == 0.1
    assert Bandwidth([]).spend(10**9, 0.0) == 0.0
