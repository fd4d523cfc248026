"""The configuration that --init writes: right as it is, each key known to the schema that it names, never over a file."""

import json
import os
import pathlib
import urllib.parse

import pytest

from tcp_proxy.config import example
from tcp_proxy.config.load import load_file
from tcp_proxy.config.schema import load_schema


def test_it_is_right_and_names_the_schema_that_is_here(tmp_path):
    path = tmp_path / "config.json"
    assert f"  tcp-proxy --check {path}\n" in example.write(str(path), api=True)
    config = load_file(str(path))
    assert (config.apps[0].name, str(config.apps[0].listeners[0])) == (example.APP, f"127.0.0.1:{example.PORT}")
    assert len(config.apps[0].targets) == 2
    schema = urllib.parse.urlsplit(json.loads(path.read_text())["$schema"])
    assert schema.scheme == "file"
    assert json.loads(pathlib.Path(urllib.parse.unquote(schema.path)).read_text())["title"] == load_schema()["title"]


@pytest.mark.parametrize("make", [lambda p: p.write_text("mine"), lambda p: p.symlink_to("nowhere"), lambda p: p.mkdir()])
def test_what_is_there_stays(tmp_path, make):
    path = tmp_path / "config.json"
    make(path)
    before = path.lstat()
    with pytest.raises(example.CannotWrite) as error:
        example.write(str(path), api=True)
    assert str(error.value) == f"{path}: there is such a file already, so nothing is written"
    assert path.lstat() == before
    assert [one.name for one in tmp_path.iterdir()] == ["config.json"]


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(example.CannotWrite, match="No such file or directory"):
        example.write(str(tmp_path / "no" / "config.json"), api=True)


def test_a_name_that_would_be_read_as_tcpffee_s_is_refused(tmp_path):
    with pytest.raises(example.CannotWrite, match="tcpffee"):
        example.write(str(tmp_path / "config.toml"), api=True)
    assert list(tmp_path.iterdir()) == []


def full(real_open, name, flags, mode):
    os.close(real_open(name, flags, mode))
    return real_open("/dev/full", os.O_WRONLY)


def test_what_could_not_be_written_whole_is_taken_away(tmp_path, monkeypatch):
    """/dev/full, in the place of a disk that is."""
    path, real_open = tmp_path / "config.json", os.open
    monkeypatch.setattr(os, "open", lambda name, flags, mode: full(real_open, name, flags, mode))
    with pytest.raises(example.CannotWrite, match="No space left"):
        example.write(str(path), api=True)
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_could_serve_the_management_api_there_is_none(tmp_path):
    path = tmp_path / "config.json"
    assert "tcp-proxy-ctl" not in example.write(str(path), api=False)
    assert load_file(str(path)).api is None
