"""Reports of targets that are not well, as they come from other nodes and go to them."""

import pytest

from tcp_proxy.config.model import App, Target
from tcp_proxy.control.cluster.shared import SharedState
from tcp_proxy.control.cluster.shared_reports import SharedReports, read
from tcp_proxy.control.statistics.counter_slots import CounterSlots
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.sansio.address import Address
from tcp_proxy.wire.cluster import Shared, SharedValue

KEY = "unhealthy/web/t"
TEXT = '{"seconds": 5, "why": "disk", "node": "b"}'


class Reports:
    """What stands for the reports that count here."""

    def __init__(self):
        self.heard = []

    def hear(self, target, seconds, why):
        self.heard.append((target.config.name, seconds, why))


class Rig:
    is_joined = True

    def __init__(self):
        self.targets = Targets((App("web", (), (Target("t", Address("192.0.2.1", 1)),)),), CounterSlots())
        self.sent, self.reports = [], Reports()
        self.shared = SharedState(self.sent.append)
        known = self.targets, self.reports, self.shared, "a", lambda: self.is_joined, lambda call: call()
        self.node = SharedReports(*known)

    def hear(self, text, key=KEY, **how):
        self.shared.heard(Shared((SharedValue(key, text, 3),), 3, **how))


@pytest.fixture
def rig():
    return Rig()


def test_what_another_node_says_counts_for_its_time(rig):
    rig.hear(TEXT)
    rig.hear(TEXT)
    assert rig.reports.heard == [("t", 5.0, "disk, said on node b")]
    rig.hear("")
    rig.hear("")
    assert rig.reports.heard[1:] == [("t", 0.0, "")]
    rig.hear(TEXT, "unhealthy/web/unknown")
    rig.hear(TEXT, "unhealthy/web")
    assert len(rig.reports.heard) == 2


def test_all_there_is_is_all_there_is(rig):
    rig.hear(TEXT, begins=True, ends=True)
    rig.shared.heard(Shared((), 4, begins=True, ends=True))
    assert [seconds for _, seconds, _ in rig.reports.heard] == [5.0, 0.0]


def test_what_is_said_here_is_told_with_its_time_and_not_heard_again(rig):
    rig.node.said("web", "t", 7.5, "")
    message = rig.sent[0]
    assert (message.key, message.seconds) == (KEY, 8)
    rig.hear(message.value)
    assert rig.reports.heard == []
    rig.node.said("web", "t", 0.0, "")
    assert rig.sent[1].how == "delete"


def test_who_is_cut_off_tells_nobody(rig):
    rig.is_joined = False
    rig.node.said("web", "t", 7.5, "")
    assert rig.sent == []


def test_a_target_that_comes_later_is_told(rig):
    rig.hear(TEXT)
    rig.node.look()
    assert len(rig.reports.heard) == 2


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "1", "[" * 9999, '{"seconds": 0, "why": "", "node": ""}', '{"seconds": 1e9, "why": "", "node": ""}',
        '{"seconds": true, "why": "", "node": ""}', '{"seconds": 1, "why": 1, "node": ""}', '{"seconds": 1, "node": ""}',
        '{"seconds": 1, "why": "\\u0000", "node": ""}', '{"seconds": NaN, "why": "", "node": ""}',
    ],
)  # fmt: skip
def test_what_is_no_report(text):
    assert read(text) is None
