"""The straight way of a right file leads where the other one does; whatever is wrong, or unusual, has no straight way."""

import json
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.calls import Calls
from tcp_proxy.config import load
from tcp_proxy.config.load import ConfigErrors, load_file, load_text
from tcp_proxy.config.schema import load_schema
from tcp_proxy.config.straight import load_straight
from tests.config.test_load import APPS, GUESSES, TOP_KEYS

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = [ROOT / "config.json", *sorted(ROOT.glob("examples/*.json")), *sorted(ROOT.glob("container/**/*.json"))]
SCHEMA = load_schema()
APP = {"name": "a", "ports": [5001], "targets": ["a:1"]}


def straight(text, environment=None):
    return load_straight(text, environment, SCHEMA)


def other_way(text, environment=None):
    """None for what is wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "load_straight", lambda *_: None)
        try:
            return load_text(text.encode(), "x", environment)
        except ConfigErrors:
            return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_examples(path):
    """`${…}` is expanded on both ways."""
    environment = {"PORT": "8080", "HOSTNAME": "h"}
    assert straight(path.read_text(), environment) == other_way(path.read_text(), environment)


def test_a_right_file_is_not_scanned(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"apps": [{**APP, "targets": [{"name": "x", "address": "a:1", "weight": 3}, "b:2"]}]}))
    monkeypatch.setattr(load, "scan", lambda *_: pytest.fail("it is scanned"))
    assert [target.weight for target in load_file(str(path)).apps[0].targets] == [3, 1]


def test_keys_in_any_case_and_variables():
    text = '{"Apps": [{"NAME": "${N:-a}", "ports": ["${P}"], "Targets": [{"Address": "${H}:1"}]}], "workers": "${W}"}'
    environment = {"P": "5001", "H": "a", "W": "2"}
    found = straight(text, environment)
    assert found is not None
    assert found == other_way(text, environment)
    assert (found.workers, found.apps[0].listeners[0].port) == (2, 5001)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", '{"apps": []}', '{"apps": [{"name": "a"}], "apps": []}', '{"apps": [{"name": "a", "Name": "b"}]}',
        '{"apps": NaN}', '{"apps": 1e999}', '{"apps": [], "workers": ' + "9" * 2000 + "}", "[" * 100_000,
        json.dumps({"apps": [{**APP, "name": "\ud800"}]}), json.dumps({"apps": [{**APP, "name": "\u00e4"}]}),
        json.dumps({"apps": [APP], "include": "x"}), json.dumps({"apps": [APP], "Include": "x"}),
        json.dumps({"apps": [APP, APP]}), json.dumps({"apps": [{**APP, "unknown": 1}]}),
        json.dumps({"apps": [{**APP, "targets": ["a:1", "a:1"]}]}), json.dumps({"apps": [{**APP, "name": "${NO}"}]}),
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_what_is_wrong_or_unusual_has_none(text):
    assert straight(text, {}) is None


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from(TOP_KEYS), GUESSES, max_size=2), st.lists(APPS, max_size=3))
def test_it_never_leads_elsewhere(top, apps):
    text = json.dumps({**top, "apps": apps}, ensure_ascii=False)
    text = text.encode(errors="replace").decode()
    found = straight(text)
    if found is not None:
        assert found == other_way(text)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.lists(
        st.fixed_dictionaries({"address": st.sampled_from(["a:1", "10.0.0.1:80", "[::1]:9", "unix:/x", "c"])}, optional={
            "weight": st.integers(0, 256) | st.just(2.0), "backup": st.booleans(), "name": st.sampled_from("abc"),
            "disabled": st.booleans(), "max_connections": st.integers(0, 9), "tls": st.booleans(), "zone": st.just("z"),
            "health": st.just([]), "send_proxy": st.sampled_from([1, 2]), "source": st.just("127.0.0.9"),
        }),
        max_size=4,
    )
)  # fmt: skip
def test_targets(targets):
    text = json.dumps({"apps": [{**APP, "targets": targets}]})
    assert straight(text) == other_way(text)


def test_what_a_target_costs_is_a_few_calls():
    """Beside what its app costs. It had been 123; that of 20,000 was a fifth of a start."""
    costs = []
    for count in (100, 1100):
        targets = [{"name": f"t{i}", "address": f"10.0.{i // 250}.{i % 250}:80", "weight": 1} for i in range(count)]
        text, calls = json.dumps({"apps": [{**APP, "targets": targets}]}), Calls()
        straight(text)
        with calls:
            straight(text)
        costs.append(calls.most)
    assert costs[1] - costs[0] < 70 * 1000
