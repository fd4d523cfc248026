"""A saved run is read again as it was; anything else is refused in one line."""

import json
import pathlib

import pytest

from benchmarks import results
from benchmarks.results import Results, Unreadable, load
from benchmarks.settings import Settings

FOUND = Results(
    {"date": "today"}, {"start": [{"project": {"start": 0.3}, "HAProxy": {"start": 0.1}}]}, ["start, nginx: failed"]
)


def test_saved_and_loaded(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(FOUND.as_json())
    assert load(path) == FOUND


def test_the_file_has_the_ratios_too():
    [found] = json.loads(FOUND.as_json())["ratios"]
    assert (found["measure"], found["figure"], found["subject"], found["peer"]) == ("start", "start", "project", "HAProxy")
    assert (round(found["median"], 6), found["count"]) == (3.0, 1)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 0}'])
def test_another_file(text, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(Unreadable, match=r"other\.json"):
        load(path)


def test_where_and_with_what(monkeypatch):
    monkeypatch.setattr(results, "version", lambda name: f"{name} 1")
    monkeypatch.setattr(results, "shown_settings", dict)
    about = results.about(Settings(1, 2, (), None, pathlib.Path()))
    assert (about["rounds"], about["seconds"]) == (1, 2)
    assert {"date", "commit", "dirty", "kernel", "cpu", "cpus", "versions", "settings"} <= set(about)
    assert about["versions"]["wrk"] == "wrk 1"
