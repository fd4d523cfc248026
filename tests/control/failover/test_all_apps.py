"""All apps that have a primary, as far as it does not take a program (that is tests/system/test_failover.py)."""

from types import SimpleNamespace

import pytest

from tcp_proxy.control.events import Events
from tcp_proxy.control.failover.all_apps import Failovers
from tcp_proxy.control.store.state import SavedPrimary


class Looked:
    """An app's Failover that only counts."""

    def __init__(self):
        self.looks = 0

    def hear(self, what):
        what(self)

    def look(self):
        self.looks += 1

    def stop(self):
        """Nothing is under way."""


@pytest.fixture
def failovers(bench):
    events = Events()
    context = SimpleNamespace(loop=bench.loop, events=events, targets=SimpleNamespace(apps={}), changed=None, listening={})
    made = Failovers(context)
    made._apps["one"], made._apps["two"] = Looked(), Looked()
    yield made
    made.stop()


def test_who_was_primary_is_known_while_another_is_looked_for(failovers):
    events, store = failovers._context.events, failovers._store
    for epoch, primary, last in ((1, "", ""), (1, "a", "a"), (2, "", "a"), (3, "", "a"), (3, "b", "b")):
        events.publish("election", {"app": "one", "primary": primary, "epoch": epoch})
        assert store.primary("one") == SavedPrimary("one", last, epoch)
    assert store.primary("two") == SavedPrimary("two", "", 0)


def test_of_a_thousand_targets_that_go_down_together_one_look_is_enough(bench, failovers):
    """Each look goes through all of them: a look for each would hold up the main thread for seconds."""
    events, looked = failovers._context.events, failovers._apps["one"]
    for number in range(1000):
        events.publish("target", {"app": "one", "target": f"t{number}"})
    bench.settle()
    assert (looked.looks, failovers._apps["two"].looks) == (1, 0)
    events.publish("target", {"app": "one", "target": "t1"})
    bench.settle()
    assert looked.looks == 2
