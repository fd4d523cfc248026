"""What nodes say of a target, beside files that are the same, that have changed, and that differ."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.config.diff import place_text
from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.control.changes.overrides import Override, Overrides
from tcp_proxy.control.changes.pool_entry import InFile, PoolEntry, digest, read, said_of, standing
from tcp_proxy.sansio.address import Address

A, B, C = (Target(name, Address("192.0.2.1", port)) for port, name in enumerate("abc", 1))


def app(*targets):
    return App("web", (), targets)


def overrides(*targets):
    return Overrides(Config((app(*targets),)))


def arrives(one, *targets, name="a"):
    """What it is on a node whose file has these targets."""
    said = json.dumps(said_of(one, "n"))
    entry = read(said)
    assert entry is not None, said
    return standing(InFile(app(*targets)), name, entry, None)


def test_what_is_said_is_the_same_beside_the_same_file():
    said = overrides(A, B)
    said.set("web", "a", "drain", 7)
    assert arrives(said.said["web", "a"], A, B) == ("a", said.said["web", "a"], "")
    said.remove("web", "a")
    assert arrives(said.said["web", "a"], A, B) == ("a", said.said["web", "a"], "")
    new = dataclasses.replace(C, name="a")
    said.add("web", new, json.dumps({"name": "a", "address": "192.0.2.1:3"}))
    assert arrives(said.said["web", "a"], A, B) == ("a", said.said["web", "a"], "")


def test_nothing_said_is_nothing():
    assert said_of(None, "n") is None
    assert said_of(Override(A), "n") is None


def test_a_file_that_was_changed_has_the_newer_word_key_by_key():
    said = overrides(A)
    said.set("web", "a", "drain", 7)
    heavy, drained = dataclasses.replace(A, weight=3), dataclasses.replace(A, weight=3, drain=True)
    _, one, fault = arrives(said.said["web", "a"], heavy)
    assert (one.admin, one.weight, fault) == ("drain", None, "weight 7, and this file says 3")
    _, one, fault = arrives(said.said["web", "a"], drained)
    assert (one, fault) == (None, "drain, and this file says drain; weight 7, and this file says 3")
    said.remove("web", "a")
    assert arrives(said.said["web", "a"], heavy) == ("a", None, "removed, and here another one")


def test_an_added_one_yields_to_the_files_own():
    said = overrides()
    said.add("web", A, '"192.0.2.1:1"')
    said.said["web", "a"] = dataclasses.replace(said.said["web", "a"], definition='{"name": "a", "address": "192.0.2.1:1"}')
    said.set("web", "a", "drain", 9)
    _, one, fault = arrives(said.said["web", "a"])
    assert (one.added, one.admin, one.weight, fault) == (A, "drain", 9, "")
    assert arrives(said.said["web", "a"], A)[1:] == (None, "added, and this file has it")


def test_another_name_at_the_same_place_is_the_same_one():
    said = overrides(A)
    said.set("web", "a", "drain", None)
    renamed = dataclasses.replace(A, name="z")
    assert arrives(said.said["web", "a"], renamed) == ("z", Override(renamed, "drain"), "")
    assert arrives(said.said["web", "a"], B) == ("a", None, ""), "this node does not have it"


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "1", '{"admin": "up"}', '{"admin": 1}', '{"weight": 257}', '{"weight": -1}', '{"weight": true}',
        '{"weight_file": 1.5}', '{"added": [1]}', '{"added": 1}', '{"node": "\\u0007"}', '{"removed": null}', "[" * 99_999,
        '{"node": "' + "x" * 300 + '"}', '{"place": {}}', '"' + "x" * 70_000 + '"',
    ],
)  # fmt: skip
def test_what_is_no_entry(text):
    assert read(text) is None


def test_a_later_version_may_say_more():
    assert read('{"admin": "drain", "colour": "blue"}') == PoolEntry(admin="drain")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.dictionaries(
            st.sampled_from(["admin", "weight", "added", "removed", "place", "name", "address"]) | st.text(), inner
        ),
    )
)
def test_whatever_is_read_is_an_override_or_nothing(value):
    entry = read(json.dumps(value))
    if entry is not None:
        name, one, fault = standing(InFile(app(A, B)), "a", entry, None)
        assert name in ("a", "b")
        assert one is None or isinstance(one, Override)
        assert isinstance(fault, str)


def test_digests_and_places():
    assert digest(A) == digest(dataclasses.replace(A))
    assert digest(A) != digest(dataclasses.replace(A, weight=2))
    assert place_text(A) != place_text(B)
    group = dataclasses.replace(A, ports=((80, Address("192.0.2.1", 1)),))
    assert place_text(group) != place_text(A)
