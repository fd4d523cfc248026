"""What a supervisor does while another program is about to take over from it: tests/system/test_takeover.py has the rest."""

import pytest

from kit.supervisor import Rig, SilentWorker
from tcp_proxy.control.changes.reload import Stage
from tcp_proxy.control.takeover.freeze import Freeze
from tcp_proxy.wire.moves import ImportSessions


@pytest.fixture
def rig(monkeypatch):
    monkeypatch.setattr(SilentWorker, "keeps", True)
    made = Rig(monkeypatch, 2)
    yield made
    made.close()


def test_workers_load_what_moving_needs_before_a_session_waits_for_it(rig):
    held = []
    freeze = Freeze(rig.supervisor._hand_over._program, held.append)
    freeze.begin()
    rig.turn_until(lambda: held)
    assert held == [""]
    for worker in rig.workers:
        assert [type(one) for one in worker.sent].count(ImportSessions) == 1
    freeze.release()


def test_a_reload_that_is_under_way_is_waited_for_and_the_next_one_waits(rig):
    rig.text, rig.api.statuses = rig.file(2), []
    for _ in range(2):
        rig.api.ask("reload")
    assert rig.supervisor._reload.stage is Stage.READING
    held = []
    freeze = Freeze(rig.supervisor._hand_over._program, held.append)
    freeze.begin()
    rig.turn_until(lambda: held)
    assert held == [""]
    assert rig.api.statuses == [200]
    freeze.release()
    rig.turn_until(lambda: rig.api.statuses == [200, 200])
