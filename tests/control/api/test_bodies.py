"""Bodies that the supervisor checks: JSON or not; as the document describes them, so the file's schema does."""

import json

import pytest

from tcp_proxy.config.schema import load_schema
from tcp_proxy.control.api.bodies import MOST_VALUES, described, parse, schemas
from tcp_proxy.control.api.problems import Problem


def test_json_is_json():
    assert parse(b'{"a": [1, null, "\\ud800"]}') == {"a": [1, None, "\ud800"]}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[NaN]", b"[-Infinity]", b"[" * 100_000, b"1" * 5000, b"1 2"])
def test_what_is_none_is_refused(body):
    with pytest.raises(Problem) as refused:
        parse(body)
    assert refused.value.status == 400


@pytest.mark.parametrize("made", [lambda n: [0] * n, lambda n: {"a": {str(key): {} for key in range(n - 1)}}])
def test_a_body_has_a_limit_of_values(made):
    """What is held against a schema costs much more than its bytes, most of all when it is wrong everywhere."""
    assert parse(json.dumps(made(MOST_VALUES - 1)).encode()) == made(MOST_VALUES - 1)
    with pytest.raises(Problem, match=f"has {MOST_VALUES + 1} values; wanted at most {MOST_VALUES}") as refused:
        parse(json.dumps(made(MOST_VALUES)).encode())
    assert refused.value.status == 422


def test_a_target_is_described_by_the_schema_of_the_file():
    target = load_schema()["properties"]["apps"]["items"]["properties"]["targets"]["items"]
    assert target.items() <= schemas()["NewTarget"].items()
    for name in schemas():
        reference = described(name, "x")["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert reference.rpartition("/")[2] == name
