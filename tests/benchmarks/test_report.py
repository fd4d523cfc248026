"""What a reader sees: medians, ratios with their spread, and whether the bounds are reached."""

import io

import pytest

pytest.importorskip("rich")

from rich.console import Console

from benchmarks.measures.base import Figure, Measure
from benchmarks.ratios import Spread
from benchmarks.report import markdown, number, print_about, print_table, sections, shown
from benchmarks.results import Results

MEASURE = Measure(
    name="fresh",
    title="new connections",
    figures=(
        Figure("rate", "rate", "connections/s", "more", bound=1.0),
        Figure("cpu", "CPU", "us", "less", bound=1.0),
        Figure("start", "start", "s", "less", limit=0.35),
    ),
    run=lambda *_: {},
)
ROUNDS = [
    {
        "project": {"rate": rate, "cpu": 100.0, "start": 0.3},
        "HAProxy": {"rate": 10000.0, "cpu": 90.0, "start": 0.1},
        "nginx": {"rate": 20000.0, "cpu": 90.0, "start": 0.1},
    }
    for rate in (9000.0, 10000.0, 12000.0)
]
RESULTS = Results({"date": "today", "settings": {"HAProxy": "maxconn [9]\n"}}, {"fresh": ROUNDS})


def test_rows():
    [(title, rows)] = sections([MEASURE], RESULTS)
    assert title == "new connections"
    assert rows == [
        ["rate", "connections/s", "10,000", "10,000", "20,000", "1.00 (0.90-1.20)", ">= 1 reached", "0.50 (0.45-0.60)"],
        ["CPU", "us", "100", "90", "90", "1.11", "<= 1 not reached", "1.11"],
        ["start", "s", "0.3", "0.1", "0.1", "3.00", "<= 0.35 reached", "3.00"],
    ]


def test_a_measure_that_failed_has_no_rows():
    assert list(sections([MEASURE], Results({}, {"fresh": [{"HAProxy": {"rate": 1.0}}]}))) == []
    assert list(sections([MEASURE], Results({}))) == []


def test_the_table_and_all_settings_are_printed():
    out = io.StringIO()
    console = Console(file=out, width=170)
    print_about(console, RESULTS)
    print_table(console, [MEASURE], RESULTS)
    for words in ("date: today", "maxconn [9]", "1.00 (0.90-1.20)", "not reached"):
        assert words in out.getvalue()


def test_markdown():
    lines = markdown([MEASURE], RESULTS).splitlines()
    assert {line.count("|") for line in lines} == {9}
    assert "| **new connections** |" in lines[2]


def test_numbers():
    assert [number(value) for value in (12345.6, 99.95, 1.234, 0.0401, 0.0)] == ["12,346", "100", "1.23", "0.0401", "0"]


def test_spreads():
    assert shown(None) == ""
    assert shown(Spread(1.0, 1.0, 1.0, 1)) == "1.00"
