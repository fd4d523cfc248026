"""What is said to be right at once is right by jsonschema too; and what people write is said to be right at once."""

import gc
import json
import math
import pathlib
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tcp_proxy.config.at_once import CHECKS, IGNORED, is_right
from tcp_proxy.config.positions import Lines, Scanner
from tcp_proxy.config.report import Report
from tcp_proxy.config.schema import Folder, load_schema

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = load_schema()
FILES = [ROOT / "config.json", *sorted(ROOT.glob("examples/**/*.json")), *sorted(ROOT.glob("container/**/*.json"))]

SCALARS = st.sampled_from(
    [None, True, False, 0, 1, -1, 1.0, 0.5, 5001, 70000, 1e12, math.inf, "", "a", "a:1", "auto", "tcp", "5xx", "x" * 9000]
)


def schemas(part):
    """Every schema there is, references followed."""
    yield part
    for inner in (*part.get("properties", {}).values(), *part.get("anyOf", ())):
        yield from schemas(inner)
    for key in ("items", "additionalProperties"):
        if isinstance(part.get(key), dict):
            yield from schemas(part[key])


ALL = list(schemas(SCHEMA))
JUDGES = [Draft202012Validator(part) for part in ALL]


def values(part, depth=4):
    """Values that are nearly right by a schema."""
    found = [SCALARS, *(st.just(one) for one in part.get("enum", ()))]
    if "minimum" in part:
        found += [st.sampled_from([part[end] + step for end in ("minimum", "maximum") for step in (-1, -0.5, 0, 1)])]
    if "const" in part:
        found.append(st.just(part["const"]))
    if depth:
        found += [values(branch, depth - 1) for branch in part.get("anyOf", ())]
        if "items" in part:
            found.append(st.lists(values(part["items"], depth - 1), max_size=3))
        if "properties" in part:
            required = part.get("required", ())
            members = {name: values(inner, depth - 1) for name, inner in part["properties"].items()}
            mandatory = {name: members.pop(name) for name in required}
            found.append(st.fixed_dictionaries(mandatory, optional={**members, "unknown": SCALARS}))
        elif isinstance(part.get("additionalProperties"), dict):
            inner = values(part["additionalProperties"], depth - 1)
            found.append(st.dictionaries(st.sampled_from(["1", "x"]), inner, max_size=2))
    return st.one_of(found[::-1])


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_it_agrees_with_jsonschema_on_every_part_of_the_schema(data):
    number = data.draw(st.integers(0, len(ALL) - 1))
    value = data.draw(values(ALL[number], depth=2))
    assert is_right(value, ALL[number]) == JUDGES[number].is_valid(value)


def test_every_keyword_of_the_schema_is_known():
    assert {keyword for part in ALL for keyword in part} <= CHECKS.keys() | IGNORED


def test_a_keyword_that_is_not_known_is_left_to_jsonschema():
    assert is_right(5, {"type": "integer"})
    assert not is_right(5, {"type": "integer", "multipleOf": 5})


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_the_examples_are_right_at_once(path):
    text = path.read_text()
    lines = Lines(text)
    report = Report("x", lines)
    plain = Folder(report).fold(Scanner(text, lines).document(), SCHEMA)
    gc.collect()
    assert is_right(plain, SCHEMA)
    assert not gc.collect(), "it would stay for ever: nothing is searched during a reload"


def test_what_is_right_is_loaded_without_jsonschema(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"apps": [{"name": "a", "ports": [5001], "targets": ["a:1"]}]}))
    program = "import sys, tcp_proxy.config.load as l; l.load_file(sys.argv[1]); print('jsonschema' in sys.modules)"
    words = [sys.executable, "-c", program, str(tmp_path / "config.json")]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
