"""The operations by name: answers, refusals, answers that come later, and mistakes that end nobody."""

import json
import time

import pytest

from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.control.administration import Administration, Later, Refused
from tcp_proxy.control.events import Events
from tcp_proxy.control.slots import Slots
from tcp_proxy.control.targets import Targets
from tcp_proxy.sansio.address import Address, ListenAddress
from tcp_proxy.sansio.verdict import State

APP = App("web", (ListenAddress("127.0.0.1", 80),), tuple(Target(name, Address("127.0.0.1", 1)) for name in ("a", "b")))


class Rig:
    def __init__(self, *apps):
        self.config = Config(apps)
        self.targets = Targets(apps, Slots())
        self.events = Events()
        self.state = "serving"
        self.replies = []
        self.administration = Administration(
            lambda: self.config, self.targets, [], self.events, lambda: self.state, time.time()
        )

    def ask(self, operation, **arguments):
        self.replies.clear()
        self.administration.ask(operation, json.dumps(arguments), lambda *reply: self.replies.append(reply))
        (reply,) = self.replies
        json.dumps(reply)
        return reply


@pytest.fixture
def rig():
    return Rig(APP)


def test_an_operation_answers(rig):
    status, body = rig.ask("targets", app="web")
    assert status == 200
    assert [target["name"] for target in body] == ["a", "b"]


@pytest.mark.parametrize(("operation", "arguments"), [("app", {"app": "x"}), ("target", {"app": "web", "target": "x"})])
def test_what_is_not_there_is_refused(rig, operation, arguments):
    status, body = rig.ask(operation, **arguments)
    assert status == 404
    assert "'x'" in body["detail"]


@pytest.mark.parametrize("operation", ["nothing", "app", "__init__"])
def test_a_mistake_is_answered_and_logged_and_ends_nobody(rig, operation, caplog):
    assert rig.ask(operation)[0] == 500
    assert "internal error" in caplog.text
    assert rig.ask("status")[0] == 200


def test_readiness_takes_a_target_for_every_app(rig):
    assert rig.ask("ready") == (200, {"ready": True, "state": "serving", "lacking": 0})
    for name in "ab":
        rig.targets.find("web", name).health = State.DOWN
    assert rig.ask("ready")[1] == {"ready": False, "state": "serving", "lacking": 1}
    rig.targets.find("web", "b").health = State.UP
    rig.state = "stopping"
    assert not rig.ask("ready")[1]["ready"]


@pytest.mark.parametrize("early", [True, False])
def test_an_answer_may_come_later_and_comes_once(early):
    later, replies = Later(), []
    steps = [lambda: later.answer({"x": 1}), lambda: later.to(lambda *reply: replies.append(reply))]
    for step in steps if early else steps[::-1]:
        step()
    later.refuse(Refused(409, "too late"))
    assert replies == [(200, {"x": 1})]
