"""The values: their defaults are the schema's, and importing them costs a worker nothing."""

import dataclasses
import pathlib
import subprocess
import sys

import pytest

from tcp_proxy.config.model import App, Check, Config, Http, Limits, Log, Target, Timeouts
from tcp_proxy.config.schema import load_schema

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = load_schema()
APP = SCHEMA["properties"]["apps"]["items"]
TARGET = APP["properties"]["targets"]["items"]["anyOf"][1]
CHECK = APP["properties"]["health"]["anyOf"][0]


def defaults(schema):
    return {
        name: key["default"] for name, key in schema["properties"].items() if name not in schema.get("required", ())
    }


def fields(kind):
    """The defaults of a dataclass; nested ones are {}, as the schema writes them."""
    found = {}
    for field in dataclasses.fields(kind):
        if field.default_factory is not dataclasses.MISSING:
            found[field.name] = {}
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
    if kind is Check:  # a file may write these in a shorter way
        found.update(headers=dict(found["headers"]), status=int(found["status"][0]), command=None)
    return found


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (Log, SCHEMA["properties"]["log"]),
        (Timeouts, APP["properties"]["timeouts"]),
        (Check, CHECK),
        (Limits, APP["properties"]["limits"]),
    ],
)
def test_the_defaults_of_the_schema_are_those_of_the_values(kind, schema):
    assert defaults(schema) == fields(kind)


def test_the_defaults_of_a_target_are_those_of_the_schema_but_for_what_it_is():
    assert defaults(TARGET) == {**fields(Target), "name": None, "address": None, "ports": None}


def test_the_defaults_of_an_app_are_those_of_the_schema_but_for_bind(app):
    from_schema = defaults(APP)
    assert from_schema.pop("mode") == "tcp"
    for key, default in fields(Http).items():
        found = from_schema.pop(key)
        assert (tuple(found) if isinstance(found, list) else found) == default
    assert from_schema.pop("bind") == app().listeners[0].host
    assert from_schema.pop("health") == {}
    from_values = fields(App)
    assert from_values.pop("health") == (Check(),)
    assert from_values.pop("http") is None
    assert from_schema == from_values


def test_the_defaults_of_the_file_are_those_of_the_schema_but_for_their_spelling():
    from_schema = defaults(SCHEMA)
    assert from_schema.pop("$schema") is None
    assert from_schema.pop("workers") == "auto"
    from_values = fields(Config)
    assert from_values.pop("workers") is None
    assert from_schema == from_values


def test_values_written_as_their_defaults_change_nothing(app):
    written = {name: value for name, value in defaults(APP).items() if name != "bind"}
    assert app(**written, bind="127.0.0.1") == app()


def test_importing_the_values_loads_no_loader_and_no_schema_library():
    program = "import sys, tcp_proxy.config.model; print([m for m in sys.modules if 'json' in m or 'config.' in m])"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "['tcp_proxy.config.model']\n"
