"""Bodies that the supervisor checks: JSON or not; as the document describes them, so the file's schema does."""

import pytest

from tcp_proxy.config.schema import load_schema
from tcp_proxy.control.api.bodies import described, parse, schemas
from tcp_proxy.control.api.problems import Problem


def test_json_is_json():
    assert parse(b'{"a": [1, null, "\\ud800"]}') == {"a": [1, None, "\ud800"]}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[NaN]", b"[-Infinity]", b"[" * 100_000, b"1" * 5000, b"1 2"])
def test_what_is_none_is_refused(body):
    with pytest.raises(Problem) as refused:
        parse(body)
    assert refused.value.status == 400


def test_a_target_is_described_by_the_schema_of_the_file():
    target = load_schema()["properties"]["apps"]["items"]["properties"]["targets"]["items"]
    assert target.items() <= schemas()["NewTarget"].items()
    for name in schemas():
        reference = described(name, "x")["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert reference.rpartition("/")[2] == name
