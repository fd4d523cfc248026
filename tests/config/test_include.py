"""Apps in files of their own: they come behind those of the main file, and what is wrong is said with its own place."""

import json
import os
import pathlib

import pytest
from jsonschema import Draft202012Validator

from tcp_proxy.config.load import ConfigErrors, load_file, load_text

SCHEMA = json.loads((pathlib.Path(__file__).parents[2] / "tcp_proxy" / "config" / "schema.json").read_bytes())


def app(name, port, **keys):
    return {"name": name, "ports": [port], "targets": ["t:1"], **keys}


@pytest.fixture
def files(tmp_path):
    """files(main, name=app, …): the path of the main file; a text is written as it is."""

    def write(main, folder="apps", /, **others):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, value in {"main": main, **others}.items():
            path = tmp_path / "main.json" if name == "main" else tmp_path / folder / f"{name}.json"
            text = value if isinstance(value, str | bytes) else json.dumps(value)
            path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(tmp_path / "main.json")

    return write


def faults(path):
    with pytest.raises(ConfigErrors) as refusal:
        load_file(path)
    return [str(error).replace(os.path.dirname(path) + "/", "") for error in refusal.value.errors]


def names(path):
    return [app.name for app in load_file(path).apps]


def test_apps_come_in_the_order_of_the_names_of_their_files_behind_the_others(files):
    path = files({"include": "apps", "apps": [app("first", 1)]}, **{"20-b": app("b", 2), "10-z": app("z", 3)})
    assert names(path) == ["first", "z", "b"]


def test_the_main_file_needs_no_apps_then(files):
    assert names(files({"include": "apps"}, a=app("a", 1))) == ["a"]
    assert names(files({"INCLUDE": "apps", "Apps": [app("x", 9)]}, a=app("a", 1))) == ["x", "a"]
    Draft202012Validator(SCHEMA).validate({"include": "apps"})


def test_what_is_no_file_of_an_app_is_not_read(files, tmp_path):
    path = files({"include": "apps"}, a=app("a", 1), **{".hidden": "{"})
    (tmp_path / "apps" / "notes.txt").write_text("{")
    (tmp_path / "apps" / "more").mkdir()
    assert names(path) == ["a"]


def test_the_folder_is_relative_to_the_file_and_may_have_variables(files, tmp_path, monkeypatch):
    path = files({"include": "${WHERE}"}, "other", a=app("a", 1))
    monkeypatch.chdir("/")
    for where in ("other", "./other/", str(tmp_path / "other")):
        monkeypatch.setenv("WHERE", where)
        assert names(path) == ["a"]
    monkeypatch.delenv("WHERE")
    assert faults(path) == [
        'main.json:1:13: $.include: the environment has no WHERE; wanted it set, or a default: "${WHERE:-…}"'
    ]


def test_variables_and_the_schema_s_name_in_a_file_of_an_app(files, monkeypatch):
    monkeypatch.setenv("PORT", "7")
    path = files({"include": "apps"}, a=app("a", "${PORT}", **{"$schema": "../schema.json#/$defs/app"}))
    (found,) = load_file(path).apps
    assert found.listeners[0].port == 7


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{\n "name": "a", "ports": [1],\n  "targets": ["t:1"], "portz": 1}', "apps/a.json:3:23: $.portz: unknown key"),
        ('{"name": "a",\n "ports": [1, "x"], "targets": []}', 'apps/a.json:2:15: $.ports[1]: found "x": wanted a range'),
        ('{"name": "a",\n "ports": 1, "targets": []}', "apps/a.json:2:11: $.ports: found 1; wanted a list"),
        ('{"name": "a"}', 'apps/a.json:1:1: $: missing keys "ports", "targets"'),
        ('{"name": "a",\n}', "apps/a.json:2:1: $"),
        ('{"name": "a", "name": "b", "ports": [1], "targets": []}', 'apps/a.json:1:15: $.name: '),
        ('{"name": "a", "Name": "b", "ports": [1], "targets": []}', 'apps/a.json:1:15: $.Name: "Name" is the same key as'),
        ("[]", "apps/a.json:1:1: $: found an empty list; wanted an object: one app"),
        ('{"apps": []}', 'apps/a.json:1:1: $: an included file is one app, without "apps" around it'),
        (b'{"name": "\xff"}', "apps/a.json:1:11: $: the byte 0xff is not UTF-8"),
        (b"\xef\xbb\xbf{}", "apps/a.json:1:1: $: the file begins with a byte order mark"),
        ("", "apps/a.json:1:1: $"),
        ("[section]\nx = 1", "apps/a.json:1:"),
    ],
)
def test_what_is_wrong_is_said_with_the_place_in_its_own_file(files, text, wanted):
    found = faults(files({"include": "apps", "apps": [app("m", 9)]}, a=text, b=app("b", 2)))
    assert any(one.startswith(wanted) for one in found), found
    assert all(one.startswith("apps/a.json:") for one in found)


def test_what_two_files_have_in_common_names_both_places(files):
    assert faults(files({"include": "apps", "apps": [app("m", 9)]}, a=app("x", 9), b=app("m", 3))) == [
        'apps/a.json:1:25: $.ports[0]: port 9 on 127.0.0.1 overlaps a listener of app "m" at line 1, column 54 of main.json',
        'apps/b.json:1:10: $.name: two apps are named "m"; the first is at line 1, column 39 of main.json',
    ]


def test_faults_of_all_files_are_said_at_once(files):
    found = faults(files({"include": "apps", "workers": 0}, a="{", b=app("b", 2, retries=-1), c=app("c", 0)))
    assert sorted({one.split(":")[0] for one in found}) == ["apps/a.json", "apps/b.json", "apps/c.json", "main.json"]


def test_a_folder_that_is_none_or_has_none(files):
    assert faults(files({"include": "nowhere"})) == [
        'main.json:1:13: $.include: "nowhere" cannot be read: No such file or directory'
    ]
    assert faults(files({"include": "main.json"})) == [
        'main.json:1:13: $.include: "main.json" cannot be read: Not a directory'
    ]
    assert "ends in .json, and there is no other app" in faults(files({"include": "apps"}))[0]
    assert names(files({"include": "apps", "apps": [app("m", 9)]})) == ["m"]
    assert "cannot be read" in faults(files({"include": "a\0b"}))[0]


def test_a_file_that_cannot_be_read_is_named(files, tmp_path):
    path = files({"include": "apps"}, a=app("a", 1))
    (tmp_path / "apps" / "b.json").symlink_to("nowhere")
    assert faults(path) == ["apps/b.json: cannot be read: No such file or directory"]


@pytest.mark.parametrize("value", [7, [], {}, ""])
def test_what_is_no_folder_is_said(files, value):
    assert any("$.include: " in one for one in faults(files({"include": value, "apps": [app("m", 9)]})))


def test_none_is_none(files):
    assert names(files({"include": None, "apps": [app("m", 9)]})) == ["m"]


def test_what_comes_over_the_api_includes_nothing(files):
    path = files({"include": "apps"}, a=app("a", 1))
    text = json.dumps({"include": os.path.dirname(path) + "/apps"}).encode()
    with pytest.raises(ConfigErrors, match="by a file alone"):
        load_text(text, "the configuration")
