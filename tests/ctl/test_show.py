"""How things look to a person."""

import pytest

from tcp_proxy.ctl.show import clean, duration, moment, plural, size, sparkline, table


def test_a_table():
    assert table(("name", "n"), [("a", 1), ("long", 100)], right="n", indent=" ") == [
        " name    n",
        " a       1",
        " long  100",
    ]


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
