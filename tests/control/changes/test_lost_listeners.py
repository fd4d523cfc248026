"""Listeners that come back while another configuration is applied are that one's, or are closed again."""

import json
import socket

import pytest

from kit.ports import free_port
from kit.supervisor import Rig
from tcp_proxy.sansio.address import ListenAddress

TARGETS = 1500  # more than in five slices


@pytest.fixture
def rig(monkeypatch):
    made = Rig(monkeypatch, TARGETS, workers=1)
    yield made
    made.close()


def lost(rig, address):
    """Nobody listens there, as after a reload that had closed it in vain."""
    context = rig.supervisor._context
    (item,) = [item for item in context.listening.values() if item.address == address]
    del context.listening[item.number]
    item.sock.close()
    for worker in rig.workers:
        worker.open_listeners.clear()


def is_open(address):
    with socket.socket() as client:
        return client.connect_ex((address.host, address.port)) == 0


def test_one_that_comes_back_in_the_middle_of_a_reload_without_it_is_closed_again(rig):
    context, reload = rig.supervisor._context, rig.supervisor._reload
    old, new = ListenAddress("127.0.0.1", rig._port), ListenAddress("127.0.0.1", free_port())
    lost(rig, old)
    file = json.loads(rig.file(2))
    file["apps"][0]["ports"] = [new.port]
    rig.text, rig.api.statuses = json.dumps(file).encode(), []
    rig.api.ask("reload")
    rig.turn_until(lambda: context.slices.is_hidden)
    assert [address for app in context.config.apps for address in app.listeners] == [old]
    reload._lost.bring_back([old])
    assert is_open(old)
    rig.turn_until(lambda: rig.api.statuses == [200])
    assert [item.address for item in context.listening.values()] == [new]
    assert (is_open(old), is_open(new)) == (False, True)
