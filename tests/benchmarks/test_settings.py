"""What may be chosen on the command line; anything else is a usage error with one clear line."""

import pathlib

import pytest

from benchmarks.settings import Settings, parse

NAMES = ["fresh", "kept"]


def test_the_defaults_as_make_gives_them():
    argv = ["--rounds", "5", "--seconds", "5", "--only", "", "--compare", "", "--output", "build/bench"]
    assert parse(argv, NAMES) == parse([], NAMES) == Settings(5, 5, (), None, pathlib.Path("build/bench"))


def test_some_measures():
    assert parse(["--only", "kept, fresh"], NAMES).only == ("kept", "fresh")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--only", "frech"], "no measure 'frech'; there are: fresh kept"),
        (["--rounds", "0"], "'0' is not a whole number above 0"),
        (["--seconds", "1.5"], "'1.5' is not a whole number"),
        (["--compare", "nowhere.json"], "no file nowhere.json"),
    ],
)
def test_usage_errors(argv, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(argv, NAMES)
    assert told in capsys.readouterr().err
