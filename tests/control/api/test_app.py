"""The OpenAPI document: valid, committed as it is served, complete."""

import json
import pathlib

import pytest
from openapi_spec_validator import validate

from tcp_proxy.control.api.app import make_app
from tcp_proxy.control.api.link import Link

COMMITTED = pathlib.Path(__file__).resolve().parents[3] / "tcp_proxy" / "control" / "api" / "openapi.json"


@pytest.fixture(scope="module")
def document():
    return make_app(Link(print, print)).openapi()


def operations(document):
    return [(f"{method} {path}", one) for path, item in document["paths"].items() for method, one in item.items()]


def test_the_committed_document_is_the_one_that_is_served(document):
    """Else run make docs, and look at what it changes."""
    assert json.loads(COMMITTED.read_text()) == json.loads(json.dumps(document))


def test_it_is_openapi_3_1(document):
    assert document["openapi"].startswith("3.1.")
    validate(document)


def test_every_operation_is_described_and_every_error_is_a_problem(document):
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["tags"], name
        assert "422" not in operation["responses"], name
        assert "application/problem+json" in operation["responses"]["default"]["content"], name


def test_a_token_may_be_necessary(document):
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    assert document["security"] == [{"token": []}, {}]


def test_operation_ids_are_unique(document):
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
