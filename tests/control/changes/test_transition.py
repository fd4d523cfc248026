"""An app with a primary becomes another one in slices: its election hears what happens meanwhile when that is over."""

import signal
import socket

import pytest

from kit.supervisor import Idle, Rig, SilentWorker
from tcp_proxy.control.failover import primary
from tcp_proxy.wire.messages import Configure, ConnectFailed, Drain, Primary, Targets

TARGETS = 1500  # more than in five slices


class Servers:
    """Of t0 and t1, who can be primary; the others are nowhere."""

    def __init__(self):
        self.sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in self.sockets]
        self.first = 0  # that is a target

    def target(self, n, weight):
        n += self.first
        own = {"address": self.addresses[n]} if n < 2 else {"address": f"127.0.{n >> 8}.{n & 255}:{8000 + weight}"}
        return {"name": f"t{n}", **own}

    def close(self):
        for one in self.sockets:
            one.close()


@pytest.fixture
def servers():
    made = Servers()
    yield made
    made.close()


@pytest.fixture
def rig(monkeypatch, servers):
    monkeypatch.setattr(SilentWorker, "keeps", True)
    made = Rig(monkeypatch, TARGETS, workers=1, app={"balance": "failover"}, target=servers.target)
    made.turn_until(lambda: made.supervisor._context.targets.apps["web"].primary)
    made.turn_until(lambda: made.supervisor._said_ready)
    yield made
    made.close()


def kinds(rig):
    return [type(message) for message in rig.workers[0].sent]


def begin(rig):
    """A reload whose commit is done in part."""
    rig.text, rig.api.statuses = rig.file(2), []
    rig.api.ask("reload")
    before = len(rig.workers[0].sent)
    rig.turn_until(lambda: len(rig.workers[0].sent) > before)
    assert kinds(rig)[-1] is Targets
    return len(rig.workers[0].sent)


def primaries(rig, since):
    return [(message.epoch, message.target) for message in rig.workers[0].sent[since:] if isinstance(message, Primary)]


def test_a_primary_that_is_lost_meanwhile_is_followed_by_another_one_of_the_new_configuration(rig, servers):
    since = begin(rig)
    servers.sockets[0].close()
    rig.supervisor._received(rig.workers[0], ConnectFailed("web", "t0", "ECONNREFUSED"))
    app = rig.supervisor._context.targets.apps["web"]
    rig.turn_until(lambda: rig.api.statuses)
    assert rig.api.statuses == [200]
    rig.turn_until(lambda: app.primary_name == "t1")
    order = kinds(rig)[since:]
    assert Primary not in order[: order.index(Configure)], "workers know the targets by then"
    assert primaries(rig, since) == [(2, ""), (2, "t1")]
    assert app.held is None


def test_one_that_is_lost_and_leaves_is_given_up_once(rig, servers):
    servers.first = 1
    since = begin(rig)
    rig.supervisor._received(rig.workers[0], ConnectFailed("web", "t0", "ECONNREFUSED"))
    app = rig.supervisor._context.targets.apps["web"]
    rig.turn_until(lambda: app.primary_name == "t1" and rig.api.statuses)
    for _ in range(5):
        rig.turn()
    assert primaries(rig, since) == [(2, ""), (2, "t1")]


def test_the_answer_of_a_candidate_that_has_left_changes_nothing(rig, servers, monkeypatch):
    """It can be primary, says who was asked before the commit; it is no target after it."""
    asked = []

    def ask(_loop, _app, target, done):
        asked.append((target.config.name, done))
        return Idle()

    monkeypatch.setattr(primary, "ask", ask)
    rig.supervisor._received(rig.workers[0], ConnectFailed("web", "t0", "ECONNREFUSED"))
    for name in ("t0", "t0"):  # is it lost, and can it be primary all the same?
        rig.turn_until(lambda: asked)
        found, done = asked.pop()
        assert found == name
        done(False, "refused")
    rig.turn_until(lambda: asked)
    found, done = asked.pop()
    assert found == "t1"
    servers.first = 2
    since = begin(rig)
    done(True, "accepted")
    assert not asked
    rig.turn_until(lambda: rig.api.statuses and asked)
    assert [name for name, _ in asked] == ["t2"]
    assert primaries(rig, since) == [(3, "")]


def test_the_program_ends_in_the_middle_of_it(rig, servers):
    begin(rig)
    servers.sockets[0].close()
    rig.supervisor._received(rig.workers[0], ConnectFailed("web", "t0", "ECONNREFUSED"))
    rig.supervisor._stop(signal.SIGTERM)
    rig.turn_until(lambda: Drain in kinds(rig))
    assert Configure not in kinds(rig)
