"""A change is called one only where it is more than the rounds differ among themselves."""

import io

import pytest

pytest.importorskip("rich")

from rich.console import Console

from benchmarks.compare import changes, print_comparison
from benchmarks.measures.base import Figure, Measure
from benchmarks.results import Results

MEASURE = Measure(
    name="kept",
    title="kept requests",
    figures=(Figure("rate", "rate", "requests/s", "more"), Figure("cpu", "CPU", "us", "less")),
    run=lambda *_: {},
)


def results(rates, cpus):
    """HAProxy's are all 1."""
    rounds = [
        {"project": {"rate": rate, "cpu": cpu}, "HAProxy": {"rate": 1.0, "cpu": 1.0}}
        for rate, cpu in zip(rates, cpus, strict=True)
    ]
    return Results({"date": "2026-01-01T00:00", "commit": "0123456789"}, {"kept": rounds})


BEFORE = results([0.8, 0.9, 1.0], [1.1, 1.2, 1.3])


@pytest.mark.parametrize(
    ("after", "verdicts"),
    [
        (results([1.1, 1.2, 1.3], [0.9, 1.0, 1.0]), ["better", "better"]),
        (results([0.5, 0.6, 0.7], [1.4, 1.5, 1.6]), ["worse", "worse"]),
        (results([0.9, 1.2, 1.3], [1.0, 1.1, 1.1]), ["within the spread", "within the spread"]),
        (results([2.0, 2.0], [9.0, 9.0]), ["too few rounds to say"] * 2),
    ],
)
def test_verdicts(after, verdicts):
    assert [change.verdict for change in changes([MEASURE], BEFORE, after)] == verdicts


def test_only_what_both_have_is_compared():
    assert list(changes([MEASURE], Results({}, {}), BEFORE)) == []


def test_printed():
    out = io.StringIO()
    print_comparison(Console(file=out, width=160), [MEASURE], BEFORE, results([1.1, 1.2, 1.3], [0.9, 1.0, 1.0]))
    for words in ("2026-01-01T00:00 012345678", "0.90 (0.80-1.00)", "1.20 (1.10-1.30)", "1.33", "better"):
        assert words in out.getvalue()
