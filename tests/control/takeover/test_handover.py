"""The moment in which a new program becomes the owner: tests/system/test_takeover.py has the rest."""

import pytest

from kit.supervisor import Rig, SilentWorker
from tcp_proxy.control.takeover.listener import CannotTakeOver
from tcp_proxy.wire.moves import ImportSessions


class Taken:
    """Of an old program that goes on itself. `told`: what our workers had been sent by then."""

    def __init__(self, rig):
        self._rig = rig
        self.told = []

    def complete(self, _program, _updates):
        self.told = [[type(one) for one in worker.sent] for worker in self._rig.workers]
        raise CannotTakeOver


@pytest.fixture
def rig(monkeypatch):
    monkeypatch.setattr(SilentWorker, "keeps", True)
    made = Rig(monkeypatch, 2)
    yield made
    made.close()


def test_our_workers_load_what_moving_needs_before_sessions_come(rig):
    hand_over = rig.supervisor._hand_over
    hand_over._taken = taken = Taken(rig)
    with pytest.raises(CannotTakeOver):
        hand_over.look()
    hand_over._taken = None
    assert [told.count(ImportSessions) for told in taken.told] == [1, 1]
