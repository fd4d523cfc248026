"""The report: from the path of a value to its place in the text."""

from tcp_proxy.config.positions import Fault, Lines, Scanner
from tcp_proxy.config.report import ConfigError, ConfigErrors, Report

TEXT = '{"A": [1,\n {"b": NaN, "B c": 2}]}'


def report():
    lines = Lines(TEXT)
    made = Report("f", lines)
    made.root = Scanner(TEXT, lines).document()
    return made


def test_a_value_is_reported_where_it_begins_and_a_key_where_the_key_does():
    made = report()
    made.key(("a", 1, "b c"), "key")
    made.value(("a", 1, "b c"), "value")
    made.value((), "whole")
    assert [str(error) for error in made.errors().errors] == [
        "f:1:1: $: whole",
        'f:2:13: $.A[1]["B c"]: key',
        'f:2:20: $.A[1]["B c"]: value',
    ]


def test_a_value_that_the_scanner_refused_is_not_mentioned_again():
    made = report()
    made.fault(Fault(17, ("A", 1, "b"), "found NaN"))
    made.value(("a", 1, "b"), "wanted a number")
    assert [error.message for error in made.errors().errors] == ["found NaN"]


def test_the_same_error_is_reported_once():
    made = report()
    made.value(("a", 0), "x")
    made.value(("a", 0), "x")
    assert len(made.errors().errors) == 1


def test_a_report_is_true_when_something_is_in_it():
    made = report()
    assert not made
    made.at(0, (), "x")
    assert made
    assert repr(made) == "<Report of f: 1 errors>"


def test_errors_are_shown_one_a_line_and_without_a_place_where_there_is_none():
    errors = ConfigErrors((ConfigError("f", 0, 0, "", "no file"), ConfigError("f", 1, 2, "$.a", "wrong")))
    assert str(errors) == "f: no file\nf:1:2: $.a: wrong"


def test_the_place_of_another_value_is_put_in_words():
    assert report().where(("a", 1)) == "line 2, column 2"
