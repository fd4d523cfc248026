"""The scanner: the same values as the standard library, and the true place of each."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.config.positions import BROKEN, MAX_DEPTH, Lines, Malformed, Scanner, path_text, shown

FIXED = settings(derandomize=True, deadline=None, max_examples=60)
SPACE = st.text(" \t\n\r", max_size=3)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


def scan(text):
    scanner = Scanner(text, Lines(text))
    return scanner.document(), scanner.faults


def plain(node):
    if isinstance(node.value, dict):
        return {key: plain(member.node) for key, member in node.value.items()}
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    return node.value


def exactly(value):
    """A value with its types: 1, 1.0 and true are not the same."""
    if isinstance(value, dict):
        return {key: exactly(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exactly(item) for item in value]
    return type(value), value


def nodes(node):
    """Every node, and every key with its offset."""
    yield None, node.offset, node
    if isinstance(node.value, dict):
        for key, member in node.value.items():
            yield key, member.offset, member.node
            yield from nodes(member.node)
    elif isinstance(node.value, list):
        for item in node.value:
            yield from nodes(item)


@st.composite
def documents(draw, values=VALUES):
    """A value and a text of it, with white space and escapes drawn for every place."""

    def write(value):
        if isinstance(value, dict):
            members = [gap() + string(key) + gap() + ":" + gap() + write(item) + gap() for key, item in value.items()]
            return "{" + (",".join(members) or gap()) + "}"
        if isinstance(value, list):
            return "[" + (",".join(gap() + write(item) + gap() for item in value) or gap()) + "]"
        return string(value) if isinstance(value, str) else json.dumps(value)

    def gap():
        return draw(SPACE)

    def string(text):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))

    value = draw(values)
    return value, gap() + write(value) + gap()


@FIXED
@given(documents())
def test_the_scanner_agrees_with_the_standard_library(document):
    _, text = document
    node, faults = scan(text)
    assert exactly(plain(node)) == exactly(json.loads(text))
    assert faults == []


@FIXED
@given(documents())
def test_every_offset_is_where_its_value_or_key_begins(document):
    _, text = document
    decoder = json.JSONDecoder()
    for key, offset, node in nodes(scan(text)[0]):
        if key is not None:
            assert decoder.raw_decode(text, offset)[0] == key
        assert exactly(decoder.raw_decode(text, node.offset)[0]) == exactly(plain(node))


@FIXED
@given(documents(), st.data())
def test_what_the_standard_library_refuses_is_refused_and_what_it_takes_is_taken(document, data):
    text = document[1]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 2)))
    changed = (
        text[:start] + data.draw(st.sampled_from(["", '"', "{", "]", ",", ":", "0", "-", "e", "\\", "x"])) + text[end:]
    )
    try:
        value = json.loads(changed)
    except ValueError:
        with pytest.raises(Malformed) as refusal:
            scan(changed)
        assert 0 <= refusal.value.fault.offset <= len(changed)
    else:
        node, faults = scan(changed)
        assert faults or exactly(plain(node)) == exactly(value)


@FIXED
@given(st.text(max_size=30))
def test_any_text_is_scanned_or_malformed(text):
    try:
        scan(text)
    except Malformed as error:
        assert 0 <= error.fault.offset <= len(text)  # noqa: PT017  an answer either way is the property


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", (1, 1), "the file is empty"),
        (" \n ", (2, 2), "the text ends where a value was wanted"),
        ('{"a": 1', (1, 8), "the text ends inside the object that begins at line 1, column 1"),
        ('{"a": [1,\n', (2, 1), "the text ends inside the list that begins at line 1, column 7"),
        ('{"a": [', (1, 8), "the text ends inside the list"),
        ("{", (1, 2), "the text ends inside the object"),
        ('{"a', (1, 2), "this string has no closing quote"),
        ('{"a"', (1, 5), 'found the end of the text; wanted ":" after the key "a"'),
        ('{"a":', (1, 6), "the text ends where a value was wanted"),
        ('{"a" 1}', (1, 6), 'wanted ":" after the key "a"'),
        ("{'a': 1}", (1, 2), "JSON uses double quotes"),
        ("{a: 1}", (1, 2), 'found "a"; wanted a key in double quotes'),
        ('{"a": 1,}', (1, 9), 'found "}" after a comma'),
        ("[1,]", (1, 4), 'found "]" after a comma'),
        ("[1 2]", (1, 4), 'found "2"; wanted "," or "]"'),
        ('{"a": 1 "b": 2}', (1, 9), 'found a quote; wanted "," or "}"'),
        ('{"a": 1, // why\n}', (1, 10), "a comment, which JSON does not have"),
        ("[# no\n]", (1, 2), "a comment"),
        ("[True]", (1, 2), "JSON writes it true"),
        ("[None]", (1, 2), "JSON writes it null"),
        ("[yes]", (1, 2), 'found "yes" without quotes'),
        ("[01]", (1, 2), "not a number as JSON writes one"),
        ("[1.]", (1, 2), "not a number"),
        ("[10s]", (1, 2), "text needs quotes"),
        ("[1.2.3.4]", (1, 2), "not a number"),
        ("[-]", (1, 2), 'found "-"'),
        ("[.5]", (1, 2), 'found "."'),
        ('["a\nb"]', (1, 4), "U+000A in a string"),
        (r'["\q"]', (1, 3), "an escape that JSON does not know"),
        (r'["\u12"]', (1, 4), "an escape that JSON does not know"),
        ("{} {}", (1, 4), "after the end of the document"),
        ("\ufeff{}", (1, 1), "U+FEFF"),
        ("{\u00a0}", (1, 2), "U+00A0"),
    ],
)
def test_what_is_not_json_is_said_with_its_place(text, place, message):
    with pytest.raises(Malformed) as refusal:
        scan(text)
    assert Lines(text).at(refusal.value.fault.offset) == place
    assert message in refusal.value.fault.message


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ('{"a": NaN}', ("a",), "found NaN"),
        ("[-Infinity]", (0,), "found -Infinity"),
        ("[1e400]", (0,), "too big"),
        ("[-1e400]", (0,), "too big"),
        ("[" + "9" * 5000 + "]", (0,), "too big"),
        (r'["\ud800"]', (0,), "surrogate"),
    ],
)
def test_a_value_that_means_nothing_is_noted_and_reading_goes_on(text, path, message):
    node, faults = scan(text)
    assert [fault.path for fault in faults] == [path]
    assert message in faults[0].message
    assert node.value[0].value is BROKEN if path == (0,) else node.value["a"].node.value is BROKEN


def test_a_key_given_twice_is_noted_with_both_places_and_the_first_counts():
    node, faults = scan('{"a": 1,\n "b": 2, "a": 3}')
    assert plain(node) == {"a": 1, "b": 2}
    assert [(fault.offset, fault.path) for fault in faults] == [(18, ("a",))]
    assert "first at line 1, column 2" in faults[0].message


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_deep_nesting_is_an_error_and_not_a_recursion_error(opening):
    with pytest.raises(Malformed, match=f"more than {MAX_DEPTH} levels"):
        scan(opening * 200_000)


def test_nesting_up_to_the_limit_is_read():
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert plain(scan(text)[0]) == json.loads(text)


def test_lines_end_with_any_of_the_three_line_ends_and_columns_are_characters():
    lines = Lines("a\nb\r\nc\rd\t\U0001f600x")
    assert [lines.at(offset) for offset in (0, 1, 2, 3, 5, 7, 8, 9, 10, 11)] == [
        *((1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (4, 1), (4, 2), (4, 3), (4, 4), (4, 5))
    ]


def test_a_path_is_written_so_that_it_can_be_read_back():
    assert path_text(("apps", 0, "ports")) == "$.apps[0].ports"
    assert path_text(("$schema", "a b", 'q"', "é")) == '$.$schema["a b"]["q\\""]["é"]'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", '"a"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("a\nb\x1b", '"a\\u000ab\\u001b"'),
        ("\ud800", '"\\ud800"'),
        ("x" * 100, '"' + "x" * 57 + '..."'),
        (True, "true"),
        (None, "null"),
        ({"a": 1}, "an object"),
        ([1], "a list"),
        ([], "an empty list"),
        (0.5, "0.5"),
        (10**60, "1" + "0" * 26 + "..."),
    ],
)
def test_a_found_value_is_shown_on_one_printable_line(value, text):
    assert shown(value) == text
    assert shown(value).isprintable()


@FIXED
@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_numbers_are_exactly_those_of_the_standard_library(number):
    value = scan(json.dumps(number))[0].value
    assert type(value) is type(number)
    assert value == number
    assert math.copysign(1, value) == math.copysign(1, number) or number == 0
