"""A file that is read again: what stands there as it stood is taken as it was built, and what comes out is the same."""

import gc
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.calls import Calls
from kit.certificates import Authority
from tcp_proxy.config.last_file import LastFile
from tcp_proxy.config.load import ConfigErrors, load_file, load_text
from tests.config.test_load import APPS

FEW = {"name": "few", "ports": [5000], "targets": ["a:1"]}


def app(number, **more):
    targets = [{"name": f"t{target}", "address": f"127.0.1.{target}:{number}", "weight": 2} for target in range(1, 21)]
    return {"name": f"app{number}", "ports": [6000 + number], "targets": targets, **more}


def read(last, *apps, **top):
    return load_text(json.dumps({**top, "apps": [FEW, *apps]}).encode(), "x", last=last)


def test_who_is_as_before_is_the_same_object():
    last = LastFile()
    before = read(last, app(1), app(2), app(3))
    after = read(last, app(3), app(2, retries=7), app(4))
    assert after == read(None, app(3), app(2, retries=7), app(4))
    assert after.apps[1] is before.apps[3], "wherever it stands"
    assert after.apps[2].retries == 7
    assert read(last, app(1)).apps[1] is not before.apps[1], "what has left is forgotten"


def test_nothing_is_left_that_only_a_search_for_garbage_finds():
    """None is made while a configuration is read, and what there is then stays (runtime.memory)."""
    last = LastFile()
    texts = [json.dumps({"apps": [FEW, app(n, health=[{"interval": 1}], timeouts={"idle": n})]}).encode() for n in (1, 2)]
    gc.collect()
    for text in texts:
        load_text(text, "x", last=last)
    assert not gc.collect()


def test_what_an_app_says_with_the_top_level():
    last = LastFile()
    read(last, app(1))
    assert read(last, app(1), zone="here").apps[1].zone == "here"
    assert read(last, app(1)).apps[1].zone == ""


def test_a_number_of_another_kind_is_judged():
    last = LastFile()
    read(last, app(1, retries=1))
    with pytest.raises(ConfigErrors, match="retries"):
        read(last, app(1, retries=True))


@pytest.mark.parametrize("more", [[app(1)], [{**app(2), "ports": [6001]}], [{**app(1), "name": "few"}]])
def test_apps_that_meet_are_found(more):
    last = LastFile()
    read(last, app(1))
    for apps in ([app(1), *more], [*more, app(1)]):
        with pytest.raises(ConfigErrors) as found:
            read(last, *apps)
        with pytest.raises(ConfigErrors) as expected:
            read(None, *apps)
        assert str(found.value) == str(expected.value)


def test_after_a_wrong_file_the_last_right_one_is_known():
    last = LastFile()
    before = read(last, app(1))
    with pytest.raises(ConfigErrors):
        read(last, app(1), app(1))
    assert read(last, app(1)).apps[1] is before.apps[1]


def of_access(folder):
    (folder / "list").write_text("127.0.0.1\n")
    yield {"access": {"allow": [f"@{folder}/list"]}}
    (folder / "list").write_text("127.0.0.2\n")


def of_tls(folder):
    yield {"tls": {"certificates": [Authority().issue("a.test").write(folder)]}}
    Authority().issue("a.test").write(folder)


def of_target_tls(folder):
    (folder / "ca").write_text(Authority().pem)
    yield {"targets": [{"address": "a:1", "tls": {"ca": str(folder / "ca")}}]}
    (folder / "ca").write_text(Authority().pem)


def of_script(folder):
    script = folder / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    yield {"health": [{"type": "script", "command": [str(script)]}]}
    script.unlink()


def outcome(path, last):
    try:
        return load_file(path, last)
    except ConfigErrors as errors:
        return str(errors)


@pytest.mark.parametrize("make", [of_access, of_tls, of_target_tls, of_script])
def test_who_names_other_files_is_read_anew(tmp_path, make):
    last, path, steps = LastFile(), str(tmp_path / "config.json"), make(tmp_path)
    more = next(steps)
    (tmp_path / "config.json").write_text(json.dumps({"apps": [FEW, {**app(1), **more}]}))
    before = outcome(path, last)
    assert not isinstance(before, str), before
    assert next(steps, None) is None
    after = outcome(path, last)
    assert after != before
    assert after == outcome(path, None)


def test_variables_are_looked_up_again(tmp_path, monkeypatch):
    last, path = LastFile(), tmp_path / "config.json"
    path.write_text(json.dumps({"apps": [FEW, app(1, balance="${POLICY}")]}))
    for policy in ("least_connections", "random_two", "least_connections"):
        monkeypatch.setenv("POLICY", policy)
        assert load_file(str(path), last).apps[1].balance == policy


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.lists(APPS, max_size=3), min_size=2, max_size=3))
def test_it_is_as_if_it_were_read_for_the_first_time(files):
    last = LastFile()
    for apps in files:
        found = []
        for one in (last, None):
            try:
                found.append(read(one, *apps))
            except ConfigErrors as errors:
                found.append(str(errors))
        assert found[0] == found[1]


def test_which_files_were_read_with_it(tmp_path):
    last, path, folder, secret = LastFile(), tmp_path / "config.json", tmp_path / "apps", str(tmp_path / "secret")
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(app(1)))
    (tmp_path / "secret").write_text("x")
    checked = app(2, health=[{"type": "http", "headers": {"A": f"@{secret}"}}])
    for apps, more, files in (
        ([FEW, checked], {}, (secret,)),
        ([FEW, checked], {"include": "apps"}, (str(folder), str(folder / "a.json"), secret)),
        ([FEW], {}, ()),
        ([checked], {"zone": "\u00e9"}, (secret,)),
    ):
        path.write_text(json.dumps({"apps": apps, **more}))
        load_file(str(path), last)
        assert last.files == files


def test_what_a_change_of_one_app_costs_does_not_grow_with_the_targets_of_others():
    last, calls = LastFile(), Calls()
    apps = [app(number) for number in range(1, 101)]
    with calls:
        read(last, *apps)
    first, calls.most = calls.most, 0
    with calls:
        read(last, *apps[1:], app(1, retries=7))
    assert calls.most < first / 5, "most of it is JSON"
