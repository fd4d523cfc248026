"""The least limit on descriptors of a configuration, and the sentence when there is less."""

import json
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.config.load import load_text
from tcp_proxy.control.listeners import descriptors
from tcp_proxy.sansio.descriptors import MIN_SESSIONS, marks


def config(*, listeners=1, limited=0, workers=1, apps=1):
    targets = [{"address": f"192.0.2.1:{9000 + i}", "max_connections": 5} for i in range(limited)]
    first = {"name": "app", "ports": list(range(5000, 5000 + listeners)), "targets": targets or ["192.0.2.1:1"]}
    others = [{"name": f"app{i}", "ports": [6000 + i], "targets": ["192.0.2.1:1"]} for i in range(1, apps)]
    return load_text(json.dumps({"workers": workers, "apps": [first, *others]}).encode(), "config.json")


@pytest.fixture
def limited(monkeypatch):
    """limited(100): the limit of this process, as far as the module sees."""
    return lambda number: monkeypatch.setattr(resource, "getrlimit", lambda _which: (number, number))


@given(
    listeners=st.integers(1, 200), limited=st.integers(0, 50), workers=st.integers(1, 16), apps=st.integers(1, 8),
)  # fmt: skip
def test_a_worker_has_room_for_the_least_sessions_with_the_least_limit(listeners, limited, workers, apps):
    least = descriptors.needed(config(listeners=listeners, limited=limited, workers=workers, apps=apps))
    own = descriptors.WORKER + listeners + limited + apps - 1
    assert marks(least - own).sessions >= MIN_SESSIONS


def test_the_least_limit_is_enough_and_one_less_is_not(limited):
    wanted = config(listeners=20, limited=3)
    least = descriptors.needed(wanted)
    limited(least)
    descriptors.require(wanted)
    limited(least - 1)
    with pytest.raises(descriptors.TooFewDescriptors) as caught:
        descriptors.require(wanted)
    assert str(caught.value) == (
        f"too few descriptors: a process may have {least - 1} (ulimit -n), and this configuration needs {least}, "
        "20 of them for listeners and 3 for limits of sessions, so that each worker has room for 16 sessions: raise the "
        "limit"
    )


def test_many_workers_and_apps_need_descriptors_in_the_supervisor(limited):
    assert descriptors.needed(config(workers=64)) == 40 + 5 * 64 + 3 + 1
    assert descriptors.needed(config(apps=30)) == 40 + 5 + 3 * 30 + 30


def test_what_is_spared_of_a_worker_is_half_of_its_reserve(limited):
    limited(20_000)
    assert descriptors.spare(config()) == 32
    limited(58 + 1)
    assert descriptors.spare(config()) == 5
