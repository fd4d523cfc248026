"""What was said of targets survives a restart; a file that was changed meanwhile has the newer word."""

import dataclasses
import json
import logging

import pytest

from tcp_proxy.config.model import App, Check, Config, Target
from tcp_proxy.control import saved_overrides
from tcp_proxy.control.overrides import Overrides
from tcp_proxy.control.state import SavedTarget, State, StateFile
from tcp_proxy.sansio.address import Address

A, B, C = (Target(name, Address("192.0.2.1", port)) for port, name in enumerate("abc", 1))
VERDICT = {"verdict": "down", "results": 1, "evidence": "refused"}


def config(*targets, name="web"):
    return Config((App(name, (), targets),))


FILE = config(A, B)


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    store = State() if request.param == "memory" else StateFile.open(str(tmp_path / "state.db"), pytest.fail)
    yield store
    store.close()


@pytest.fixture
def said():
    return Overrides(FILE)


def restarted(store, said, file=FILE):
    """What runs after a restart: the targets by name."""
    saved_overrides.save(store, said)
    known = saved_overrides.load(store, file)
    return {target.name: target for app in known.apply().apps for target in app.targets}


def test_nothing_said(store, said):
    assert restarted(store, said) == {"a": A, "b": B}
    assert store.load() == {}


@pytest.mark.parametrize(
    ("admin", "drain", "disabled"), [("drain", True, False), ("disabled", False, True), ("ready", False, False)]
)
def test_admin_and_weight(store, said, admin, drain, disabled):
    said.set("web", "a", admin, 7)
    assert restarted(store, said) == {"a": dataclasses.replace(A, weight=7, drain=drain, disabled=disabled), "b": B}


def test_checks_of_a_targets_own(store):
    check = Check("http", headers=(("Host", "x"),), status=("200", "3xx"))
    file = config(dataclasses.replace(A, health=(check, Check())), dataclasses.replace(B, health=()))
    said = Overrides(file)
    said.set("web", "a", "drain", None)
    said.set("web", "b", "drain", None)
    assert {target.drain for target in restarted(store, said, file).values()} == {True}


def test_a_target_that_was_added(store, said):
    said.add("web", C, '{"address": "c"}')
    said.set("web", "c", "drain", None)
    assert restarted(store, said)["c"] == dataclasses.replace(C, drain=True)
    assert saved_overrides.load(store, FILE).said == said.said


def test_a_target_that_was_removed_stays_away(store, said):
    said.remove("web", "a")
    assert restarted(store, said) == {"b": B}
    said = saved_overrides.load(store, FILE)
    assert restarted(store, said) == {"b": B}, "over a second restart too"


def test_an_added_one_that_was_removed_is_forgotten(store, said):
    said.add("web", C, "{}")
    saved_overrides.save(store, said)
    said.remove("web", "c")
    assert restarted(store, said) == {"a": A, "b": B}
    assert store.load() == {}


def test_a_file_changed_while_nothing_ran_has_the_newer_word(store, said):
    said.set("web", "a", "drain", 7)
    said.remove("web", "b")
    a, b = dataclasses.replace(A, weight=3), dataclasses.replace(B, weight=3)
    assert restarted(store, said, config(a, b)) == {"a": dataclasses.replace(a, drain=True), "b": b}


def test_a_target_that_left_the_file_takes_it_along(store, said):
    said.set("web", "a", "drain", None)
    assert restarted(store, said, config(B)) == {"b": B}
    assert restarted(store, saved_overrides.load(store, config(B))) == {"a": A, "b": B}


def test_verdicts_are_kept_beside(store, said):
    store.save(SavedTarget("web", "a", **VERDICT))
    said.set("web", "a", "drain", None)
    saved_overrides.save(store, said)
    assert (store.get("web", "a").verdict, store.get("web", "a").admin) == ("down", "drain")
    saved_overrides.save(store, Overrides(FILE))
    assert store.get("web", "a") == SavedTarget("web", "a", **VERDICT)


@pytest.mark.parametrize("definition", ["no json", "[]", "{}", json.dumps({"target": {"name": "a"}, "as": ""})])
def test_what_cannot_be_read_is_left_out(store, definition, caplog):
    store.save(SavedTarget("web", "a", admin="drain", definition=definition))
    store.save(SavedTarget("web", "b", admin="drain"))
    with caplog.at_level(logging.WARNING):
        assert saved_overrides.load(store, FILE).said == {}
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("app web: target a: what was said of it")


def test_the_log_says_what_is_still_true(store, said, caplog):
    said.set("web", "a", "disabled", 7)
    said.remove("web", "b")
    said.add("web", C, "{}")
    with caplog.at_level(logging.INFO):
        restarted(store, said)
    assert sorted(caplog.messages) == [
        "app web: target a: disabled, weight 7, as it was said before the restart",
        "app web: target b: removed, as it was said before the restart",
        "app web: target c: added, as it was said before the restart",
    ]


def test_another_name_in_a_file_that_was_changed_meanwhile(store, said):
    said.set("web", "a", "drain", None)
    other = dataclasses.replace(A, name="first")
    assert restarted(store, said, config(other, B)) == {"first": dataclasses.replace(other, drain=True), "b": B}
