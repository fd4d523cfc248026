"""Files that list targets: read when they change, judged, reported once."""

import json
import os
import threading

import pytest

from kit.waiting import wait_until
from tcp_proxy.config.load import load_text
from tcp_proxy.control.discovery import target_files
from tcp_proxy.control.discovery.target_files import TargetFiles, read_targets
from tcp_proxy.runtime.loop import Loop


@pytest.fixture
def app():
    text = {"apps": [{"name": "a", "ports": [5001], "targets": []}]}
    return load_text(json.dumps(text).encode(), "x").apps[0]


@pytest.fixture
def watch(monkeypatch):
    monkeypatch.setattr(target_files, "POLL", 0.005)
    loop, said = Loop("test"), []
    files = TargetFiles(loop, lambda *what: said.append(what))
    yield files, loop, said
    files.stop()
    loop.close()


def until(loop, condition):
    def turned():
        loop.run_once(0.01)
        return condition()

    wait_until(turned, "the report")


def replace(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


@pytest.mark.parametrize("text", ["5", '"b:1"', "true", "null", "{}"])
def test_what_is_no_list_is_wrong(app, tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    fault = f"{tmp_path}/t.json:1:1: $: found {text}; wanted a list of targets"
    assert read_targets(str(tmp_path / "t.json"), (app,)) == ("", fault)


def test_a_change_is_reported_once_and_a_wrong_one_with_its_place(watch, app, tmp_path):
    files, loop, said = watch
    path = tmp_path / "t.json"
    path.write_text('["b:1"]')
    files.watch({str(path): (app,)})
    until(loop, lambda: len(said) == 1)
    replace(path, '["b:1", {"address": "c:1", "weight": "x"}]')
    until(loop, lambda: len(said) == 2)
    path.unlink()
    until(loop, lambda: len(said) == 3)
    replace(path, '["d:1"]')
    until(loop, lambda: len(said) == 4)
    assert said[0] == (str(path), '["b:1"]', "")
    assert said[1][2].startswith(f"{path}:1:")
    assert "$[1].weight" in said[1][2]
    assert said[2] == (str(path), "", "No such file or directory")
    assert said[3] == (str(path), '["d:1"]', "")


def test_one_that_is_not_watched_any_more_is_not_looked_at(watch, app, tmp_path):
    files, loop, said = watch
    one, two = tmp_path / "1.json", tmp_path / "2.json"
    for path in (one, two):
        path.write_text("[]")
    files.watch({str(one): (app,)})
    until(loop, lambda: len(said) == 1)
    files.watch({str(two): (app,)})
    until(loop, lambda: len(said) == 2)
    replace(one, '["x:1"]')
    replace(two, '["y:1"]')
    until(loop, lambda: len(said) == 3)
    assert said[2][0] == str(two)


def test_a_thread_that_hung_in_a_disk_meanwhile_neither_says_nor_changes_anything(watch, app, tmp_path, monkeypatch):
    """All files have left, and one has come, before it is through with what it reads."""
    files, loop, said = watch
    slow, path = tmp_path / "slow.json", tmp_path / "t.json"
    for each in (slow, path):
        each.write_text("[]")
    is_there, goes_on = threading.Event(), threading.Event()

    def read(name, apps):
        if name == str(slow):
            is_there.set()
            goes_on.wait()
        return read_targets(name, apps)

    monkeypatch.setattr(target_files, "read_targets", read)
    files.watch({str(slow): (app,)})
    hangs = files._thread
    is_there.wait()
    files.watch({})
    files.watch({str(path): (app,)})
    until(loop, lambda: len(said) == 1)
    goes_on.set()
    hangs.join()
    replace(path, '["x:1"]')
    until(loop, lambda: len(said) == 2)
    assert [what[0] for what in said] == [str(path)] * 2


def test_the_program_ends_though_the_disk_hangs(watch, app, tmp_path, monkeypatch):
    files, _, _ = watch
    is_there, goes_on = threading.Event(), threading.Event()

    def read(*_):
        is_there.set()
        goes_on.wait()
        return "[]", ""

    monkeypatch.setattr(target_files, "read_targets", read)
    monkeypatch.setattr(target_files, "STOP_WAIT", 0.01)
    files.watch({str(tmp_path / "t.json"): (app,)})
    hangs = files._thread
    is_there.wait()
    files.stop()
    assert hangs.is_alive()
    goes_on.set()
    hangs.join()


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"{}", "wanted a list"), (b"[", "t.json:1:"), (b"\xff", "utf-8"), (b'["file:x"]', "can be said in the file only"),
        (b'["127.0.0.1:5001"]', "the app's own listener"),
    ],
)  # fmt: skip
def test_what_is_wrong(app, tmp_path, data, fault):
    path = tmp_path / "t.json"
    path.write_bytes(data)
    text, said = read_targets(str(path), (app,))
    assert text == ""
    assert fault in said


def test_one_that_is_too_big(app, tmp_path, monkeypatch):
    monkeypatch.setattr(target_files, "MOST_BYTES", 3)
    (tmp_path / "t.json").write_text("[  ]")
    assert read_targets(str(tmp_path / "t.json"), (app,)) == ("", "this is bigger than 3 bytes")
