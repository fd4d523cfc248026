"""Dials that need the client's address, or the port it came to."""

import contextlib
import errno
import socket

import pytest
from dataplane.house import House

from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.wire import counters
from tcp_proxy.wire.views import AppView, TargetView


@pytest.fixture
def house():
    with House(targets=2) as house:
        yield house


def make_group(house, ports):
    """One target: the servers of the house, by port."""
    endpoints = [house.endpoint(server) for server in house.servers]
    servers = tuple((port, (endpoint,)) for port, endpoint in zip(ports, endpoints, strict=True))
    view = TargetView("t0", counters.PROCESS_SLOTS, 1, False, False, "up", tuple(endpoints), servers)
    house.app.configure(AppView("web", house.app.slot, "round_robin", 3, Timeouts(), (view,)))


@pytest.mark.parametrize(("address", "server"), [("127.0.0.1:5001", 0), ("[::1]:5002", 1)])
def test_a_group_has_a_server_for_each_listening_port(house, address, server):
    make_group(house, (5001, 5002))
    house.listener = ListenerCounters(address, house.listener_slot)
    for _ in range(2):
        client, inner, _ = house.pair(server)
        client.sendall(b"hello")
        house.turn(2)
        assert inner.recv(9) == b"hello"


def test_a_listener_that_has_left_the_group_finds_nobody(house):
    make_group(house, (5001, 5002))
    house.listener = ListenerCounters("127.0.0.1:5003", house.listener_slot)
    house.client()
    house.pass_time(0.2)
    record = house.record()
    assert (record["reason"], record["errno"]) == ("connect_failed", errno.errorcode[errno.EADDRNOTAVAIL])


def test_apps_without_such_targets_pay_nothing_for_them(house):
    assert house.app.is_special is False
    make_group(house, (5001, 5002))
    assert house.app.is_special is True


def test_source_hash_keeps_a_client_at_its_target():
    with House(targets=4, balance="source_hash") as house:
        for _ in range(5):
            _, session = house.client()
            targets = {other.target for other in house.sessions}
            assert session.target is not None
            assert len(targets) == 1
        assert house.sessions[0].address[0] == "127.0.0.1"
        assert house.sessions[0].client.family == socket.AF_INET


def test_least_time_knows_how_long_the_connect_to_the_target_itself_took():
    """Not what another one took that was tried before, nor what the client had waited for."""
    with House(targets=2, balance="least_time") as house:
        other = house.app.targets["t1"]
        house.stack.enter_context(contextlib.closing(house.servers[0]))
        house.servers[0].close()
        for _ in range(3):
            _, session = house.client()
            assert session.target is other
        assert set(house.app.latencies._known) == {"t1"}
        assert house.app.latencies._known["t1"][0] == 0.0, "by a clock that stands still"
        assert session.tried in ([], (), [("t0", "ECONNREFUSED")])


def test_another_policy_may_come_while_a_target_is_dialed():
    with House(balance="least_time") as house:
        client = house.stack.enter_context(socket.create_connection(house.listening.getsockname()))
        session = house.admit()
        assert session.state.name == "DIALING"
        target = TargetView("t0", house.app.targets["t0"].slot, 1, False, False, "up", house.app.targets["t0"].endpoints)
        house.app.configure(AppView("web", house.app.slot, "round_robin", 3, Timeouts(), (target,)))
        house.turn(3)
        server = house.stack.enter_context(house.servers[0].accept()[0])
        client.sendall(b"hello")
        assert house.receive(server, 5) == b"hello"
        client.close()
        server.close()
        assert house.record()["reason"] == "done"
