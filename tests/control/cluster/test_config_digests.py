"""What nodes say of their files: short, the same for the same, and every difference has its app and key."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.control.cluster import config_digests as module
from tcp_proxy.control.cluster.config_digests import differences, of_all, of_app, read, written

USUAL = {"name": "x", "retries": 3, "targets": [], "ports": []}


def digests(**apps):
    return of_all({name: of_app({**USUAL, "name": name, **keys}, USUAL) for name, keys in apps.items()})


def test_the_same_is_the_same_wherever_it_listens():
    one, other = digests(web={"ports": [1], "retries": 2}), digests(web={"ports": [2], "bind": ["::1"], "retries": 2})
    assert differences(one, other) == []
    assert one == {"web": {"retries": one["web"]["retries"]}}, "what is at its default costs nothing"


def test_every_difference_has_its_app_and_key():
    one = digests(web={"retries": 2, "targets": ["a"]}, db={}, same={"retries": 1})
    other = digests(web={"targets": ["a", "b"]}, mail={}, same={"retries": 1})
    assert differences(one, other) == ["app db: only here", "app mail: only there", "app web: retries, targets"]


def test_of_very_many_apps_only_which(monkeypatch):
    monkeypatch.setattr(module, "MOST", 100)
    many = {f"app{number}": {"retries": 1} for number in range(9)}
    one, other = digests(**many), digests(**{**many, "app3": {"retries": 2}})
    assert all(isinstance(keys, str) for keys in one.values())
    assert differences(one, other) == ["app app3: something is different"]
    monkeypatch.undo()
    assert differences(one, digests(**many)) == []
    assert differences(digests(**many), other) == ["app app3: something is different"]


def test_it_goes_there_and_back():
    one = digests(web={"retries": 2}, db={})
    assert read(json.dumps(written(one))) == one


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"apps": 1}', '{"apps": {"a": 1}}', '{"apps": {"a": {"k": 1}}}', "[" * 9999]
)
def test_what_is_none(text):
    assert read(text) is None


@given(st.dictionaries(st.sampled_from("abc"), st.dictionaries(st.sampled_from(["retries", "x", "y"]), st.integers(0, 2))))
def test_nothing_differs_from_itself(apps):
    assert differences(digests(**apps), digests(**apps)) == []
