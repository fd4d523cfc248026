"""What was said of targets survives a restart; a file that was changed meanwhile has the newer word."""

import dataclasses
import json
import logging

import pytest

from kit.calls import Calls
from kit.certificates import Authority
from tcp_proxy.config.load import load_target
from tcp_proxy.config.model import App, Check, Config, SendProxy, Target
from tcp_proxy.config.target_model import Source
from tcp_proxy.control.changes import saved_overrides
from tcp_proxy.control.changes.overrides import Overrides
from tcp_proxy.control.store.state import SavedTarget, State, StateFile
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


def test_headers_and_sources_of_a_saved_target_are_what_they_were(store):
    ours = dataclasses.replace(A, send_proxy=SendProxy(2, ("ssl",)), source=Source(("192.0.2.1",), "eth1"))
    said = Overrides(config(ours, B))
    said.set("web", "a", "drain", None)
    found = restarted(store, said, config(ours, B))
    assert found["a"] == dataclasses.replace(ours, drain=True)
    assert hash(found["a"])


EVERY_KEY = Check(
    "script", headers=(("Host", "x"), ("A", "b")), status=("200", "3xx"), command=("/x", "y"), environment=("HOME", "A=b")
)


@pytest.mark.parametrize("check", [Check(), EVERY_KEY])
def test_the_checks_of_a_saved_target_are_what_they_were(store, said, check):
    """Equal to the file's, so that what was said is still meant; hashable, as the health threads want them."""
    lists = [field.name for field in dataclasses.fields(Check) if "tuple" in str(field.type)]
    assert all(getattr(EVERY_KEY, name) for name in lists), "a key is missing above"
    said.add("web", dataclasses.replace(C, health=(check,)), "{}")
    (found,) = restarted(store, said)["c"].health
    assert (found, hash(found)) == (check, hash(check))
    file = config(dataclasses.replace(A, health=(check,)), B)
    removed = Overrides(file)
    removed.remove("web", "a")
    assert set(restarted(store, removed, file)) == {"b"}


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


def test_those_that_were_added_come_in_the_order_in_which_they_were(said, tmp_path):
    """Which a failover app goes by. One that has the name of one of the file is where it was added."""
    said.remove("web", "a")
    for name, number in (("z", 9), ("a", 1), ("m", 8)):
        said.add("web", Target(name, Address("192.0.2.9", number)), "{}")
        said.set("web", name, "drain", None)
    said.remove("web", "z")
    said.add("web", Target("c", Address("192.0.2.9", 7)), "{}")
    for _ in range(2):
        store = StateFile.open(str(tmp_path / "state.db"), pytest.fail)
        assert list(restarted(store, said)) == ["b", "a", "m", "c"]
        store.close()


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


# -- TLS


@pytest.fixture
def spoken(tmp_path):
    """A target with a certificate of ours and an authority of its own; as a file says it."""
    authority = Authority()
    (tmp_path / "ca.pem").write_text(authority.pem)
    own = authority.issue("proxy").write(tmp_path, password="open sesame")
    tls = {"ca": str(tmp_path / "ca.pem"), "certificate": own, "alpn": ["x"]}
    entry = {"address": "192.0.2.1:4", "name": "d", "tls": tls}
    return load_target(entry, FILE.apps[0]), json.dumps(entry)


def test_a_target_with_tls_is_what_it_was_and_no_key_is_in_the_store(store, said, spoken):
    target, definition = spoken
    said.add("web", target, definition)
    assert restarted(store, said)["d"] == target
    text = "".join(repr(saved) for saved in store.load().values())
    assert target.tls.certificate.key_file in text
    assert "BEGIN" not in text
    assert target.tls.certificate.key.splitlines()[2] not in text


def test_one_of_the_file_that_was_removed_stays_away(store, spoken):
    target, _ = spoken
    file = config(A, target)
    said = Overrides(file)
    said.remove("web", "d")
    assert restarted(store, said, file) == {"a": A}


def test_one_whose_files_are_gone_is_left_out_with_a_warning(store, said, spoken, tmp_path, caplog):
    target, definition = spoken
    said.add("web", target, definition)
    (tmp_path / "server.key").unlink()
    with caplog.at_level(logging.WARNING):
        assert restarted(store, said) == {"a": A, "b": B}
    assert "target d: what was said of it at run time cannot be read" in caplog.text
    assert "there is no such file" in caplog.text


def test_apps_of_which_nothing_is_said_are_not_looked_at(store):
    """Each had been made anew for each start, and each looked through all that is said."""
    costs = []
    for count in (10, 110):
        many = Config(tuple(App(f"app{n}", (), (A, B)) for n in range(count)))
        said, calls = Overrides(many), Calls()
        said.set("app5", "a", "drain", None)
        saved_overrides.save(store, said)
        with calls:
            known = saved_overrides.load(store, many).apply()
        assert [app is other for app, other in zip(known.apps, many.apps, strict=True)].count(False) == 1
        assert known.apps[5].targets[0].drain
        costs.append(calls.most)
    assert costs[1] - costs[0] < 10 * 100
