"""How things look to a person."""

import re

import pytest

from tcp_proxy.ctl.show import clean, duration, is_said, mark, moment, plural, size, sparkline, state_of, table, text_of


def test_a_table():
    assert table(("name", "n"), [("a", 1), ("long", 100)], right="n", indent=" ").lines() == [
        " name    n",
        " a       1",
        " long  100",
    ]


WIDE = table(
    ("target", "state", "n", "in", "why"),
    [("a" * 20, "up*", 1, "10 kB", "b" * 60), ("x", "down (drain)", 100, "0 B", "no answer")],
    right="n in", indent="  ", optional="in",
)  # fmt: skip


@pytest.mark.parametrize("width", range(44, 120))
def test_a_table_fits_and_keeps_its_numbers(width):
    lines = WIDE.lines(width)
    assert max(map(len, lines)) <= width
    assert all(number in line for number, line in zip((" 1 ", " 100 "), lines[1:], strict=True))
    assert ("10 kB" in lines[1]) == ("in" in lines[0].split())


def test_a_table_without_a_terminal_is_as_wide_as_it_is():
    assert ("a" * 20 in WIDE.lines()[1], "b" * 60 in WIDE.lines()[1]) == (True, True)
    assert "…" not in "".join(WIDE.lines(200))


def test_colours_are_for_states_and_change_no_width():
    plain, coloured = WIDE.lines(100), WIDE.lines(100, colours=True)
    assert coloured[0] == plain[0]
    assert "\x1b[32mup*" in coloured[1]
    assert "\x1b[31mdown (drain)" in coloured[2]
    assert [re.sub("\x1b.*?m", "", line) for line in coloured] == plain


def test_a_table_stands_between_lines():
    assert list(text_of(["a", table(("n",), [(1,)]), "b"])) == ["a", "n", "1", "b"]


def test_what_was_said_is_marked():
    target = {"overrides": [{"key": "weight", "value": 5, "file": 1}]}
    assert mark(5, said=is_said(target, "weight")) == "5*"
    assert mark("up", said=is_said(target, "admin")) == "up"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9949, "9.9 kB"), (9960, "10 kB"), (999_499, "999 kB"),
     (999_600, "1.0 MB"), (1.5e15, "1.5 PB"), (5e18, "5000.0 PB")],
)  # fmt: skip
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.0094, "9 ms"), (0.9996, "1.0 s"), (59.9, "59.9 s"), (59.96, "1 min 0 s"), (306, "5 min 6 s"),
     (3600, "1 h 0 min"), (273_600, "3 d 4 h")],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_moments_are_in_utc():
    assert moment(0) == "1970-01-01T00:00:00Z"


def test_plural():
    assert [plural(n, "worker") for n in (0, 1, 2)] == ["0 workers", "1 worker", "2 workers"]


def test_sparklines():
    assert sparkline([0, 1, 4, 8]) == "▁▂▅█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""


def test_a_name_does_not_move_the_cursor():
    assert clean("a\x1b[2Jb\nü") == "a\\x1b[2Jb\\nü"


@pytest.mark.parametrize(
    ("state", "admin", "text"),
    [
        ("up", "ready", "up"), ("down", "ready", "down"), ("draining", "ready", "draining"),
        ("draining", "drain", "draining"), ("down", "drain", "down (drain)"), ("down", "disabled", "disabled"),
    ],
)  # fmt: skip
def test_a_state_says_nothing_twice(state, admin, text):
    assert state_of({"state": state, "admin": admin}) == text
