"""What may be chosen on the command line; anything else is a usage error with one clear line."""

import pathlib

import pytest

from benchmarks.measures.registry import MEASURES
from benchmarks.settings import Settings, parse

NAMES = ["fresh", "kept"]


def test_the_defaults_as_make_gives_them():
    argv = ["--rounds", "5", "--seconds", "5", "--only", "", "--compare", "", "--output", "build/bench"]
    assert parse(argv, NAMES) == parse([], NAMES) == Settings(5, 5, (), None, pathlib.Path("build/bench"))


def test_a_word_for_several_measures():
    names = list(MEASURES)
    assert parse(["--only", "tls"], names).only == tuple(name for name in names if name.startswith("tls")) != ()


def test_another_haproxy(tmp_path):
    assert parse(["--haproxy", "/bin/sh"], NAMES).haproxy == "/bin/sh"


def test_some_measures():
    assert parse(["--only", "kept, fresh"], NAMES).only == ("kept", "fresh")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--only", "frech"], "no measure 'frech'; there are: fresh kept"),
        (["--rounds", "0"], "'0' is not a whole number above 0"),
        (["--seconds", "1.5"], "'1.5' is not a whole number"),
        (["--haproxy", "/nowhere/haproxy"], "there is no program /nowhere/haproxy to measure as HAProxy"),
        (["--compare", "nowhere.json"], "no file nowhere.json"),
    ],
)
def test_usage_errors(argv, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(argv, NAMES)
    assert told in capsys.readouterr().err
