"""Configurations with the targets that were found: beside those of the file, never in the place of one."""

import json

from tcp_proxy.config.load import load_text
from tcp_proxy.control.discovery.found import Found

SOURCE = "srv:_db._tcp.example"


def config(*targets):
    text = {"apps": [{"name": "a", "ports": [5001], "targets": list(targets)}]}
    return load_text(json.dumps(text).encode(), "x")


def targets(known):
    return [(target.name, target.origin) for target in known.apps[0].targets]


def test_nothing_to_find_is_the_very_same():
    known = config("a:1")
    assert Found().filled(known) is known


def test_what_is_found_comes_behind_and_takes_no_name():
    found, file = Found(), config("b:1", SOURCE, "file:t.json")
    assert targets(found.filled(file)) == [("b:1", "")]
    found.texts[SOURCE] = json.dumps([{"address": "b:1", "weight": 9}, {"address": "c:1", "weight": 3}])
    found.texts["file:t.json"] = json.dumps(["c:1", {"name": "x", "address": "d:1"}])
    filled = found.filled(file)
    assert targets(filled) == [("b:1", ""), ("c:1", SOURCE), ("x", "file:t.json")]
    assert [target.weight for target in filled.apps[0].targets] == [1, 3, 1]
    assert repr(found) == f"<Found {SOURCE}, file:t.json>"


def test_another_answer_takes_the_place_of_the_one_before():
    found, file = Found(), config(SOURCE)
    found.texts[SOURCE] = '["a:1", "b:1"]'
    filled = found.filling(lambda: file)()
    found.texts[SOURCE] = '["b:1"]'
    assert targets(found.filled(filled)) == [("b:1", SOURCE)]
    found.texts.clear()
    assert targets(found.filled(filled)) == []


def test_what_is_said_of_each_of_them():
    found, file = Found(), config({"address": SOURCE, "max_connections": 7, "health": []})
    found.texts[SOURCE] = json.dumps([{"address": "a:1", "weight": 2}])
    (target,) = found.filled(file).apps[0].targets
    assert (target.weight, target.max_connections, target.health) == (2, 7, ())


def test_a_reload_asks_who_is_new_and_that_is_known_when_it_runs(tmp_path):
    path = tmp_path / "list.json"
    path.write_text('["a:1"]')
    source = f"file:{path}"
    found, file = Found(), config(source)
    assert targets(found.filling(lambda: file)()) == []
    read = found.asking(lambda: file)()
    assert targets(read) == [("a:1", source)]
    assert read == found.filled(read)
    assert found.texts == {}
    path.write_text('["b:1"]')
    another = found.asking(lambda: file)()
    assert (targets(found.filled(read)), targets(another)) == ([("a:1", source)], [("b:1", source)])
    [[known]], [[other]] = ([app.discoveries for app in one.apps] for one in (read, another))
    assert known == other
    assert (found.take_first(known), found.take_first(other)) == ('["a:1"]', "")
    assert targets(found.asking(lambda: file)()) == [("a:1", source)]
    del found.texts[source]
    assert targets(found.filled(file)) == []


def test_what_was_said_to_the_reload_that_runs_stays_until_the_source_says_more(tmp_path):
    """It had said nothing before; a plan, or another reload, to which it said nothing is not what runs."""
    path = tmp_path / "list.json"
    path.write_text('["a:1"]')
    found, file = Found(), config(f"file:{path}")
    runs = found.asking(lambda: file)()
    path.unlink()
    assert targets(found.asking(lambda: file)()) == []
    assert targets(found.filled(runs)) == [("a:1", f"file:{path}")]
