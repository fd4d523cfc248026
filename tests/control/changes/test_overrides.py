"""What was said at run time beside the file: who wins, for how long."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.config.delta import of_target
from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.control.changes import saved_overrides
from tcp_proxy.control.changes.comparison import compare
from tcp_proxy.control.changes.overrides import ADMINS, Overrides, admin_of
from tcp_proxy.control.store.state import State
from tcp_proxy.sansio.address import Address

A, B, C = (Target(name, Address("192.0.2.1", port)) for port, name in enumerate("abc", 1))


def config(*targets, name="web"):
    return Config((App(name, (), targets),))


def targets(overrides):
    return {target.name: target for app in overrides.apply().apps for target in app.targets}


@pytest.fixture
def said():
    return Overrides(config(A, B))


def test_nothing_said_is_the_file(said):
    assert said.apply() is said.file


@pytest.mark.parametrize("admin", ADMINS)
def test_what_is_said_wins(said, admin):
    said.set("web", "a", admin, None)
    assert admin_of(targets(said)["a"]) == admin
    assert targets(said)["b"] == B
    said.set("web", "a", None, 7)
    assert (admin_of(targets(said)["a"]), targets(said)["a"].weight) == (admin, 7)


def test_it_survives_a_reload_of_other_things(said):
    said.set("web", "a", "drain", 7)
    said.rebase(config(dataclasses.replace(A, max_connections=5), C))
    assert targets(said)["a"] == dataclasses.replace(A, max_connections=5, drain=True, weight=7)


def test_the_files_own_change_of_that_key_is_the_newer_word(said):
    said.set("web", "a", "drain", 7)
    said.rebase(config(dataclasses.replace(A, weight=3), B))
    assert targets(said)["a"] == dataclasses.replace(A, weight=3, drain=True)
    said.rebase(config(dataclasses.replace(A, weight=3, disabled=True), B))
    assert targets(said)["a"] == dataclasses.replace(A, weight=3, disabled=True)
    assert said.said == {}


def test_ready_overrules_the_file(said):
    said.rebase(config(dataclasses.replace(A, disabled=True), B))
    said.set("web", "a", "ready", None)
    assert targets(said)["a"] == A


def test_a_target_that_leaves_the_file_takes_it_along(said):
    said.set("web", "a", "disabled", None)
    said.rebase(config(B))
    said.rebase(config(A, B))
    assert targets(said)["a"] == A


def test_an_added_target_stays_until_the_file_has_it_or_its_app_leaves(said):
    said.add("web", C, '"192.0.2.1:3"')
    said.set("web", "c", "drain", 2)
    assert targets(said)["c"] == dataclasses.replace(C, drain=True, weight=2)
    said.rebase(config(A))
    assert list(targets(said)) == ["a", "c"]
    own = dataclasses.replace(C, max_connections=1)
    assert targets(said.rebased(config(A, own)))["c"] == own
    said.rebase(config(A, name="other"))
    assert said.said == {}


def test_an_added_target_can_be_removed_again(said):
    said.add("web", C, "")
    said.remove("web", "c")
    assert said.apply() == said.file


def test_a_removed_target_comes_back_when_its_entry_changes(said):
    said.remove("web", "a")
    assert list(targets(said)) == ["b"]
    said.rebase(config(A, B, C))
    assert list(targets(said)) == ["b", "c"]
    said.rebase(config(dataclasses.replace(A, backup=True), B))
    assert list(targets(said)) == ["a", "b"]


def test_a_target_with_another_name_in_the_file_is_the_same_by_its_address(said):
    said.set("web", "a", "drain", 7)
    other = dataclasses.replace(A, name="first")
    said.rebase(config(B, other))
    assert targets(said) == {"b": B, "first": dataclasses.replace(other, drain=True, weight=7)}
    said.rebase(config(A, dataclasses.replace(other, address=C.address)))
    assert targets(said)["first"].drain, "the name is what counts first"
    assert not targets(said)["a"].drain


def test_a_removed_target_with_another_name_comes_back(said):
    said.remove("web", "a")
    said.rebase(config(dataclasses.replace(A, name="first"), B))
    assert list(targets(said)) == ["first", "b"]


def test_an_added_target_ends_when_the_file_has_its_address(said):
    said.add("web", C, "")
    own = dataclasses.replace(C, name="third", weight=3)
    said.rebase(config(A, own))
    assert targets(said) == {"a": A, "third": own}


def test_an_added_target_at_an_address_that_the_file_had_already_stays(said):
    second = dataclasses.replace(A, name="second")
    said.add("web", second, "")
    said.rebase(config(A, C))
    assert targets(said) == {"a": A, "c": C, "second": second}


def test_one_added_in_place_of_a_removed_one(said):
    """Of the same name: one target, which stays until the file's entry changes."""
    other = dataclasses.replace(A, address=Address("192.0.2.9", 9))
    said.remove("web", "a")
    said.add("web", other, "{}")
    assert said.apply().apps[0].targets == (B, other)
    said.set("web", "a", None, 7)
    said.rebase(config(A, B, C))
    assert said.apply().apps[0].targets == (B, C, dataclasses.replace(other, weight=7))
    ahead = said.rebased(config(B))
    assert ahead.apply().apps[0].targets == (B, dataclasses.replace(other, weight=7)), "it no longer depends on the file"
    said.rebase(config(dataclasses.replace(A, weight=3), B))
    assert targets(said) == {"a": dataclasses.replace(A, weight=3), "b": B}
    said.remove("web", "a")
    said.add("web", other, "{}")
    said.remove("web", "a")
    assert targets(said) == {"b": B}, "both are gone"


entries = st.builds(lambda name, port, weight: Target(name, Address("192.0.2.1", port), weight),
                    st.sampled_from("abc"), st.integers(1, 4), st.integers(1, 2))  # fmt: skip
files = st.lists(entries, min_size=1, max_size=3, unique_by=lambda target: target.name)
steps = st.lists(
    st.tuples(st.just("set"), st.sampled_from("abc"), st.sampled_from([None, *ADMINS]), st.sampled_from([None, 1, 5]))
    | st.tuples(st.just("add"), entries) | st.tuples(st.just("remove"), st.sampled_from("abc"))
    | st.tuples(st.just("rebase"), files) | st.just(("restart",)),
    max_size=12,
)  # fmt: skip


@given(files, steps)
def test_whatever_is_said_no_name_is_there_twice_and_a_restart_changes_nothing(file, steps):
    said = Overrides(config(*file))
    for what, *how in steps:
        there = targets(said)
        if what == "rebase":
            said.rebase(config(*how[0]))
        elif what == "restart":
            store = State()
            saved_overrides.save(store, said)
            again = saved_overrides.load(store, said.file)
            assert targets(again) == there
            said = again
        elif what == "add" and how[0].name not in there:
            said.add("web", how[0], "{}")
        elif what in ("set", "remove") and how[0] in there:
            getattr(said, what)("web", *how)
        found = [target.name for target in said.apply().apps[0].targets]
        assert len(found) == len(set(found))


def test_looking_ahead_changes_nothing(said):
    said.set("web", "a", "drain", None)
    said.rebased(config(B))
    assert targets(said)["a"].drain


words = st.sampled_from(("set", "add", "remove"))
orders = st.lists(st.tuples(words, st.sampled_from("abcd"), st.sampled_from(ADMINS), st.integers(1, 3)), max_size=8)


@given(orders)
def test_one_target_after_another_is_what_all_of_it_together_is(said):
    """What is applied to the configuration that runs by one target at a time is what a restart or a reload begins with."""
    overrides, running = Overrides(config(A, B, C)), config(A, B, C)
    for order, name, admin, weight in said:
        there = next((target for target in running.apps[0].targets if target.name == name), None)
        if (order == "add") is (there is not None):
            continue
        if order == "set":
            overrides.set("web", name, admin, weight)
        elif order == "add":
            overrides.add("web", Target(name, Address("192.0.2.9", weight)), "{}")
        else:
            overrides.remove("web", name)
        now = overrides.target("web", name)
        if now != there:
            running = Config((of_target(running.apps[0], there, now)[0],))
        assert running == overrides.apply()


@given(orders)
def test_what_is_kept_of_one_target_after_another_is_what_is_kept_of_all(said):
    one, other, overrides = State(), State(), Overrides(config(A, B, C))
    for order, name, admin, weight in said:
        if order == "add":
            overrides.add("web", Target(name, Address("192.0.2.9", weight)), "{}")
        elif order == "remove":
            overrides.remove("web", name)
        elif overrides.target("web", name):
            overrides.set("web", name, admin, weight)
        saved_overrides.save_one(one, overrides, ("web", name))
        saved_overrides.save(other, overrides)
        assert one.load() == other.load()


def test_what_stands_is_told_with_the_file_s_value(said):
    said.set("web", "a", "drain", 7)
    said.set("web", "b", "ready", None)
    said.add("web", C, "")
    said.set("web", "c", None, 2)
    assert [tuple(one)[1:] for one in said.standing()] == [
        ("a", "admin", "drain", "ready"), ("a", "weight", 7, 1), ("b", "admin", "ready", "ready"),
        ("c", "added", True, False), ("c", "weight", 2, 1),
    ]  # fmt: skip
    assert said.of("web", "b") == list(said.standing())[2:3]
    assert said.of("web", "nobody") == []
    assert str(said.of("web", "a")[1]) == "app web: target a: weight 7, said at run time; the file says 1"


def test_the_removed_of_an_app_are_known_as_soon_as_they_are(said):
    assert said.removed("web") == []
    said.remove("web", "b")
    assert (said.removed("web"), said.removed("other")) == (["b"], [])
    said.become(said.without("web", "b"))
    assert said.removed("web") == []


@pytest.mark.parametrize(
    ("of", "left"), [(("", ""), []), (("web", ""), []), (("web", "a"), ["b", "c"]), (("other", ""), ["a", "b", "c"])]
)
def test_what_is_taken_back_is_the_file_s_again(said, of, left):
    said.set("web", "a", "drain", 7)
    said.remove("web", "b")
    said.add("web", C, "")
    without = said.without(*of)
    assert [target for _, target in without.said] == left
    if not left:
        assert without.apply() == said.file


@pytest.mark.parametrize("order", ["set", "remove"])
def test_a_comparison_that_a_thread_makes_while_something_is_said_is_out_of_date(said, order):
    """It may come between any two steps; what is said may be what the file says, so that nothing else shows it."""
    found = []

    class Said(dict):
        def __setitem__(self, key, one):
            found.append(compare(said.file, said, said.file))
            super().__setitem__(key, one)

        def pop(self, *key):
            found.append(compare(said.file, said, said.file))
            return super().pop(*key)

    said.said = Said()
    if order == "remove":
        said.add("web", Target("new", Address("192.0.2.9", 9)), "{}")
    found.clear()
    said.set("web", "a", "ready", None) if order == "set" else said.remove("web", "new")
    (comparison,) = found
    assert not comparison.is_with(said.file, said)
