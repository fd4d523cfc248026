"""Limits by rate and by client, as clients come: at once, behind a header and access, delayed, refused and recorded."""

import os

import pytest

from kit.calls import Calls
from tcp_proxy.config.model import AcceptProxy, SessionLimits
from tcp_proxy.dataplane.client_limits import ClientLimits
from tcp_proxy.dataplane.edge.limits import LimitsStage
from tcp_proxy.dataplane.edge.policy import Edge
from tcp_proxy.dataplane.new_limits import NewLimits
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire import client_table
from tcp_proxy.wire.client_table import ClientTable
from tcp_proxy.wire.counters import ACTIVE, DELAYED, LIMITED
from tcp_proxy.wire.messages import Limits
from tests.dataplane.edge.gate import Gate
from tests.dataplane.edge.test_access import rules_of, was_reset


class Limited(Gate):
    """A gate whose app has such limits."""

    def __init__(self, accept_proxy=None, access=None, **limits):
        super().__init__()
        app, house = self.house.app, self.house
        fd = client_table.create(client_table.LEAST)
        app.limits = SessionLimits(**limits)
        app.client_limits = ClientLimits(ClientTable(fd, 0), 1, app.slot, house.row, app.limits)
        os.close(fd)
        rules = rules_of(house.spare_slot, **access) if access is not None else None
        app.edge = Edge(accept_proxy, None, None, rules, LimitsStage(house.loop, app, rules))

    def __exit__(self, *what):
        limits = self.house.app.client_limits
        for member in tuple(self.members):
            member.kill(Reason.SHUTDOWN, Side.PROXY)
        assert not limits.holders, "every session has given its place back"
        assert limits._table.sessions(0) == 0
        self.house.app.client_limits = self.house.app.edge = limits = None
        super().__exit__(*what)

    def limited(self, number):
        return self.house.row[self.house.app.slot + LIMITED + number]


def test_who_is_below_is_a_session_at_once_and_who_is_above_is_reset_and_recorded():
    with Limited(sessions_per_client=2) as gate:
        first = gate.connect(b"a")
        gate.connect(b"b")
        assert {type(member).__name__ for member in gate.members} == {"Session"}
        assert was_reset(gate.connect(b"c"))
        record = gate.house.records.all[-1]
        assert (record["reason"], record["ended_by"], record["target"], record["bytes_up"]) == ("limit", "proxy", "", 0)
        assert record["error"] == "it has as many sessions as limits.sessions_per_client allows (2)"
        assert gate.limited(2) == 1
        server = gate.target()
        first.close()
        server.close()
        gate.house.until(lambda: len(gate.members) == 1)
        gate.connect(b"d")
        assert len(gate.members) == 2


def test_another_address_is_another_client():
    with Limited(sessions_per_client=1) as gate:
        gate.connect()
        gate.connect(source="127.0.0.2")
        assert was_reset(gate.connect(source="127.0.0.2"))


def test_the_address_in_the_header_is_the_client_and_access_comes_first():
    header = "PROXY TCP4 192.0.2.{} 192.0.2.100 5000 80\r\n"
    with Limited(AcceptProxy(("127.0.0.0/8",)), {"deny": ["192.0.2.66"]}, rate_per_client=1.0, burst_per_client=1) as gate:
        for last in (1, 2, 66):
            gate.connect(header.format(last).encode())
        assert len(gate.members) == 2
        assert was_reset(gate.connect(header.format(1).encode()))
        assert [record["reason"] for record in gate.house.records.all] == ["denied", "limit"]
        assert gate.house.app.client_limits.admit(("192.0.2.66", 1), 0, gate.house.loop.now) is None, "it has used nothing"


def test_access_and_limits_count_a_client_once():
    with Limited(access={"allow": ["127.0.0.0/30"]}, rate=1.0, burst=1) as gate:
        gate.connect()
        assert was_reset(gate.connect())
        assert was_reset(gate.connect(source="127.0.0.9"))
        assert list(gate.house.row[gate.house.spare_slot :][:2]) == [2, 1]
        assert [record["reason"] for record in gate.house.records.all] == ["limit", "denied"]


def test_who_waits_for_its_turn_is_not_read_and_goes_on_then():
    with Limited(rate=10.0, burst=1, action="delay", queue_timeout=0.25) as gate:
        gate.connect(b"first")
        waiting = [gate.connect(b"second"), gate.connect(b"third")]
        assert was_reset(gate.connect(b"too late"))
        assert sorted(member.state.name for member in gate.members) == ["DELAYED", "DELAYED", "RELAYING"]
        assert gate.target().recv(9) == b"first"
        for data in (b"second", b"third"):
            assert not gate.has_session
            gate.house.pass_time(0.101)
            gate.house.turn(3)
            assert gate.target().recv(9) == data
        assert gate.house.row[gate.house.app.slot + DELAYED] == 2
        assert all(client.fileno() >= 0 for client in waiting)


def test_who_leaves_before_its_turn_is_never_sent():
    with Limited(rate=10.0, burst=1, action="delay", sessions_per_client=9) as gate:
        gate.connect()
        gate.target()
        gate.connect(b"question").close()
        gate.house.until(lambda: gate.house.records.all)
        assert gate.house.records.all[0]["reason"] == "client_gone"
        gate.house.pass_time(1)
        assert not gate.has_session
        assert len(gate.house.app.client_limits.holders) == 1


def test_who_waits_for_its_turn_is_counted_by_a_first_limit_of_the_app():
    """It has no place to wait for, and will be a session."""
    with Limited(rate=10.0, burst=1, action="delay") as gate:
        gate.connect()
        gate.connect()
        app, house = gate.house.app, gate.house
        app._limit_sessions(True)
        fd = os.eventfd(2, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
        new = NewLimits([app], Limits((app.slot,), 1, (4,)), [fd])
        new.adopt(house.thread, house.memory.rows[1:])
        assert house.memory.total(app.slot + ACTIVE) == 2
        assert not app.places.begin(9, house.row)
        app.places.leave(house.row)
        app.places = None


def test_one_that_is_killed_while_it_waits_has_one_record():
    with Limited(rate=1.0, burst=1, action="delay") as gate:
        gate.connect()
        gate.connect()
        (waiting,) = [member for member in gate.members if member.state.name == "DELAYED"]
        waiting.kill(Reason.CLOSED_BY_ADMIN, Side.PROXY)
        assert [record["reason"] for record in gate.house.records.all] == ["closed_by_admin"]
        gate.house.pass_time(2)
        assert len(gate.members) == 1


def test_before_its_table_has_come_everybody_is_let_in():
    with Limited(sessions_per_client=1) as gate:
        kept, gate.house.app.client_limits = gate.house.app.client_limits, None
        for _ in range(3):
            gate.connect()
        assert len(gate.members) == 3
        gate.house.app.client_limits = kept


@pytest.mark.parametrize("accept_proxy", [None, AcceptProxy(("127.0.0.0/8",), required=False)])
def test_the_stage_says_what_it_is(accept_proxy):
    with Limited(accept_proxy, rate=3.0) as gate:
        assert repr(gate.house.app.edge) in (
            "<Edge with <LimitsStage of web>>", "<Edge with headers, <LimitsStage of web>>",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "access", "most"),
    [
        ({"sessions_per_client": 9}, None, 8),
        ({"rate_per_client": 1e6}, None, 7),
        ({"sessions_per_client": 9, "rate_per_client": 1e6, "rate": 1e6}, {"allow": ["127.0.0.0/8"]}, 12),
    ],
)
def test_who_is_let_in_costs_so_many_calls(limits, access, most):
    """From the look at the edge to the session's end; what ctypes calls, as for the locks, is not seen."""
    with Limited(access=access, **limits) as gate:
        edge, row, ours = gate.house.app.edge, gate.house.row, gate.house.app.client_limits
        calls = Calls()
        assert edge.only.admits(("127.0.0.1", 5), row, 6), "from now on the client is known"
        for _ in range(3):
            with calls:
                is_in = edge.only.admits(("127.0.0.1", 5), row, 7)
                ours.release(7, row)
            assert is_in
        ours.release(6, row)
        assert calls.most <= most, "with that which ends the counting"
