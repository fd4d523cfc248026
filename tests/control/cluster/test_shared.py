"""Shared values in the supervisor: what etcd has, with what was said here on top, until etcd has that too."""

import json

import pytest

from tcp_proxy.control.cluster.shared import SharedState
from tcp_proxy.wire.cluster import (
    CREATE,
    DELETE,
    REPLACE,
    ChangeShared,
    Publish,
    Shared,
    SharedChanged,
    SharedValue,
    changed,
    parts_of,
    shared_key,
)


class Rig:
    def __init__(self):
        self.sent, self.told = [], []
        self.state = SharedState(self.sent.append)
        self.state.observe("pool", self.told.append)
        self.revision = 5

    def whole(self, **values):
        kvs = [SharedValue(f"pool/{key}", text, 3, 3) for key, text in values.items()]
        self.state.heard(Shared(tuple(kvs[:1]), 5, begins=True))
        self.state.heard(Shared(tuple(kvs[1:]), 5, ends=True))

    def event(self, key, text):
        self.revision += 1
        self.state.heard(Shared((SharedValue(key, text, self.revision, 3),), self.revision))

    def done(self, fault=""):
        """The first of those that wait."""
        number = next(iter(self.state._waiting))
        self.state.heard(SharedChanged(number, fault))


@pytest.fixture
def rig():
    return Rig()


def test_all_there_is_counts_when_it_has_come(rig):
    assert not rig.state.is_known
    rig.state.heard(Shared((SharedValue("pool/a", "1", 3, 3),), 5, begins=True))
    assert (rig.state.get("pool/a"), rig.told) == ("", [])
    rig.state.heard(Shared((SharedValue("pool/b", "2", 3, 3),), 5, ends=True))
    assert (rig.state.get("pool/a"), rig.told, rig.state.revision) == ("1", [None], 5)
    rig.whole(b="3")
    assert (rig.state.get("pool/a"), rig.state.get("pool/b")) == ("", "3")


def test_events_are_told_by_kind(rig):
    rig.whole()
    other = []
    rig.state.observe("pools", other.append)
    rig.event("pool/a", "1")
    rig.event("pool", "x")
    rig.event("pools/a", "y")
    assert rig.told == [None, ["pool/a"], ["pool"]]
    assert other == [["pools/a"]]
    rig.event("pool/a", "")
    assert rig.state.keys("pool") == []
    assert list(rig.state.each("pools")) == [("pools/a", "y")]


def test_what_was_said_here_counts_at_once_and_over_what_comes_in_between(rig):
    rig.whole(a='{"x": 1}')
    rig.state.change("pool", "a", value={"y": 2})
    assert json.loads(rig.state.get("pool/a")) == {"x": 1, "y": 2}
    assert rig.state.value("pool/a").value == '{"x": 1}'
    rig.event("pool/a", '{"x": 5, "y": 1}')
    assert json.loads(rig.state.get("pool/a")) == {"x": 5, "y": 2}
    rig.event("pool/a", '{"x": 5, "y": 2}')
    rig.done()
    assert json.loads(rig.state.get("pool/a")) == {"x": 5, "y": 2}
    assert rig.told[-1] == ["pool/a"]


def test_what_is_refused_counts_no_longer(rig):
    rig.whole()
    faults = []
    rig.state.change("pool", "a", how=REPLACE, value={}, done=faults.append)
    assert rig.state.keys("pool") == ["pool/a"]
    rig.done("too large")
    assert (rig.state.keys("pool"), faults) == ([], ["too large"])


def test_all_below_a_name_is_taken_away(rig):
    rig.whole(**{"web/a": "1", "web2/a": "2"})
    rig.state.change("pool", "web", how=DELETE, is_below=True)
    assert rig.state.keys("pool") == ["pool/web2/a"]
    rig.event("pool/web/a", "")
    rig.done()
    assert rig.state.keys("pool") == ["pool/web2/a"]


def test_another_agent_is_told_all_that_is_not_done(rig):
    rig.state.publish("config", "n", value={"a": 1})
    rig.state.publish("config", "n", value={"a": 1})
    rig.state.publish("health", "n", value={})
    rig.state.publish("health", "n", value=None)
    rig.state.change("pool", "a", how=CREATE, value=1, seconds=5, is_leased=True)
    first = list(rig.sent)
    assert [type(one) for one in first] == [Publish, Publish, Publish, ChangeShared]
    rig.sent.clear()
    rig.state.begin()
    assert rig.sent == [first[0], first[3]]
    rig.done()
    rig.state.heard(SharedChanged(99, ""))
    rig.sent.clear()
    rig.state.begin()
    assert rig.sent == [first[0]]


def test_a_guard_is_a_value_as_it_is_known(rig):
    lock = SharedValue("lead/web", "{}", 9, 7)
    rig.state.change("primary", "web", how=REPLACE, value={}, guard=lock)
    assert (rig.sent[0].guard, rig.sent[0].guarded) == ("lead/web", 9)


def test_what_waits_is_no_more_than_there_are_keys(rig):
    """However often an operator says something while etcd is gone."""
    rig.whole()
    for number in range(100):
        rig.state.change("pool", "a", value={"weight": number})
        rig.state.change("pool", "a", value={"admin": "drain"})
        rig.state.change("pool", "b", how=REPLACE, value=number)
    rig.sent.clear()
    rig.state.begin()
    assert len(rig.sent) == 3
    assert json.loads(rig.state.get("pool/a")) == {"weight": 99, "admin": "drain"}
    assert rig.state.get("pool/b") == "99"
    rig.state.change("pool", "a", how=DELETE)
    rig.sent.clear()
    rig.state.begin()
    assert [one.how for one in rig.sent] == [REPLACE, DELETE]


@pytest.mark.parametrize(
    ("before", "how", "value", "after"),
    [
        ('{"a": 1}', "merge", '{"b": 2}', '{"a": 1, "b": 2}'),
        ('{"a": 1}', "merge", '{"a": null}', "{}"),
        ("[1]", "merge", '{"a": 1}', '{"a": 1}'),
        ("no", "merge", '{"a": 1}', '{"a": 1}'),
        ("x", "replace", "y", "y"),
        ("x", "create", "y", "x"),
        ("", "create", "y", "y"),
        ("x", "delete", "", ""),
    ],
)
def test_what_a_change_makes(before, how, value, after):
    assert changed(before, ChangeShared(1, "k", how, value)) == after


@pytest.mark.parametrize("parts", [("pool", "a/b", "c d"), ("pool", "ä", "%2F"), ("x", "", "y")])
def test_names_and_keys(parts):
    assert parts_of(shared_key(*parts)) == parts
    assert shared_key(*parts).count("/") == len(parts) - 1
