"""What is kept of the last rounds."""

import itertools

from tcp_proxy.control.health.history import KEPT, History, Probed
from tcp_proxy.control.health.probe import Result


def test_the_last_twenty_are_kept_oldest_first():
    clock = itertools.count(1000.0)
    history = History(lambda: next(clock))
    for n in range(25):
        history.add(n / 100, Result(n % 2 == 0, f"round {n}"))
    kept = list(history)
    assert len(kept) == KEPT == 20
    assert kept[0] == Probed(1005.0, 0.05, False, "round 5")
    assert kept[-1] == Probed(1024.0, 0.24, True, "round 24")
    assert repr(history) == "<History of 20 rounds>"
