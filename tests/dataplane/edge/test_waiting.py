"""A client that has no place in its app: it waits unread, before its header and behind a look at who it is."""

import dataclasses
import os

import pytest

from tcp_proxy.config.model import AcceptProxy, SessionLimits
from tcp_proxy.dataplane.edge.policy import Edge
from tcp_proxy.dataplane.place_queues import PlaceQueues
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire.counters import ACTIVE
from tcp_proxy.wire.views import AppView
from tests.dataplane.edge.gate import Gate
from tests.dataplane.edge.test_access import rules_of
from tests.kit.proxy_headers import CLIENT, VECTORS

V1 = VECTORS["v1-tcp4"][0][0]


class Full:
    """A Gate whose app has one place."""

    def __init__(self, queue=5, edge=None):
        self.gate = gate = Gate()
        self.house, self.app = gate.house, gate.house.app
        self.app.edge = edge
        view = AppView("web", self.app.slot, "round_robin", 3, self.app.timeouts, (), limited=True)
        self.view = dataclasses.replace(view, limits=SessionLimits(sessions=1, queue=queue, queue_timeout=9))
        self.app._limit_sessions(True)
        self.queues = PlaceQueues(gate.house.loop, os.eventfd(0, os.EFD_NONBLOCK), gate.house.memory.rows, gate.house.row)
        self.queues.configure(self.app, self.view)
        self.app.places.adopt(os.eventfd(1, os.EFD_SEMAPHORE | os.EFD_NONBLOCK), gate.house.memory.rows[1:])

    def __enter__(self):
        return self.gate

    def __exit__(self, *_):
        for member in tuple(self.gate.members):
            member.kill(Reason.SHUTDOWN, Side.PROXY)
        assert self.gate.house.memory.total(self.app.slot + ACTIVE) == 0
        self.app.places.lift()
        self.app.places = None
        self.gate.__exit__()
        self.queues._bell.close()


def states(gate):
    return sorted(member.state.name for member in gate.members)


def test_one_waits_unread_and_goes_on_when_there_is_a_place():
    with Full() as gate:
        first = gate.connect(b"first")
        second = gate.connect(b"second")
        assert states(gate) == ["RELAYING", "WAITING"]
        server = gate.target()
        first.close()
        server.close()
        gate.house.until(lambda: states(gate) == ["RELAYING"])
        assert gate.house.receive(gate.target(), 6) == b"second"
        assert gate.member.address == second.getsockname()


def test_its_header_is_read_when_it_has_a_place():
    with Full(edge=Edge(AcceptProxy(("127.0.0.0/8",)))) as gate:
        first = gate.connect(V1 + b"first")
        gate.connect(V1 + b"second")
        assert states(gate) == ["RELAYING", "WAITING"]
        server = gate.target()
        first.close()
        server.close()
        gate.house.until(lambda: states(gate) == ["RELAYING"])
        assert gate.house.receive(gate.target(), 6) == b"second"
        assert gate.member.address[:2] == CLIENT[:2]


def test_without_a_queue_it_is_reset():
    with Full(queue=0) as gate:
        gate.connect()
        client = gate.connect(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        record = gate.house.record()
        assert (record["reason"], record["ended_by"]) == ("limit", "proxy")


def test_a_client_that_may_not_connect_does_not_wait():
    with Full() as gate:
        gate.house.app.edge = Edge(None, access=rules_of(gate.house.spare_slot, deny=("127.0.0.9",)))
        gate.connect()
        client = gate.connect(source="127.0.0.9")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert gate.house.record()["reason"] == "denied"
        gate.connect()
        assert states(gate) == ["RELAYING", "WAITING"]


@pytest.mark.parametrize("how", ["fin", "killed", "late"])
def test_one_that_ends_has_left_the_queue(how):
    with Full() as gate:
        gate.connect()
        client = gate.connect(b"never")
        (waits,) = [member for member in gate.members if member.state.name == "WAITING"]
        if how == "fin":
            client.shutdown(1)
            gate.house.until(lambda: waits not in gate.members)
        elif how == "killed":
            waits.kill(Reason.CLOSED_BY_ADMIN, Side.PROXY)
        else:
            gate.house.pass_time(9.1)
        reasons = {"fin": "client_gone", "killed": "closed_by_admin", "late": "queue_timeout"}
        assert gate.house.record()["reason"] == reasons[how]
        assert len(gate.house.app.queue) == 0
