"""The pumps of a session that meets a fault: of both directions or of one, and what its record and the counters say."""

import pytest

from tcp_proxy.dataplane.faults import Fault
from tcp_proxy.dataplane.faulty_pump import faulty_pump
from tcp_proxy.dataplane.relay.fault_pump import FaultPump
from tcp_proxy.dataplane.relay.pump import Pump
from tcp_proxy.sansio.address import Restored, notes_of
from tcp_proxy.wire.counters import FAULTED
from tcp_proxy.wire.views import FaultView
from tests.dataplane.house import House


def made(house, session, **said):
    faults, sockets = [Fault(FaultView(3, "latency=1", **said))], (session.client, session.upstream)
    up, session.up = session.up, None
    first = faulty_pump(faults, house.loop, session, *sockets, True, None)
    session.up = up
    return first, faulty_pump(faults, house.loop, session, *sockets[::-1], True, None)


@pytest.mark.parametrize(("direction", "kinds"), [("both", (1, 1)), ("up", (1, 0)), ("down", (0, 1))])
def test_the_direction_says_which_pump_is_special(direction, kinds):
    with House() as house:
        _, _, session = house.pair()
        pumps = made(house, session, latency=1.0, direction=direction)
        assert tuple(int(isinstance(pump, FaultPump)) for pump in pumps) == kinds
        assert type(session.up) is Pump, "a session without one has a plain pump"


def test_a_session_is_marked_and_counted():
    with House() as house:
        _, _, session = house.pair()
        before = house.row[house.app.slot + FAULTED]
        made(house, session, direction="down")
        assert notes_of(session.address) == "fault 3: latency=1"
        assert session.address[0] == "127.0.0.1"
        assert house.row[house.app.slot + FAULTED] == before + 1
        session.address = Restored("192.0.2.1", 7, ("127.0.0.1", 1), ("127.0.0.1", 2), (), "sni=x")
        made(house, session, direction="down")
        assert notes_of(session.address) == "sni=x fault 3: latency=1"


def test_of_several_each_is_met_in_its_direction_and_all_are_said():
    with House() as house:
        _, _, session = house.pair()
        faults = [Fault(FaultView(1, "a", slicer=9, direction="up")), Fault(FaultView(2, "b", slicer=5, direction="down")),
                  Fault(FaultView(3, "c", slicer=7))]  # fmt: skip
        plain, session.up = session.up, None
        up = faulty_pump(faults, house.loop, session, session.client, session.upstream, True, None)
        session.up = plain
        down = faulty_pump(faults, house.loop, session, session.upstream, session.client, True, None)
        assert (up.chunk, down.chunk) == (7, 5)
        assert notes_of(session.address) == "fault 1: a fault 2: b fault 3: c"
