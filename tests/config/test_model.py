"""The values: their defaults are the schema's, and importing them costs a worker nothing."""

import dataclasses
import pathlib
import subprocess
import sys

import pytest

from tcp_proxy.config.log_model import Log
from tcp_proxy.config.model import App, Check, Config, Hash, Http, Limits, SessionLimits, Target, Timeouts
from tcp_proxy.config.schema import load_schema

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = load_schema()
APP = SCHEMA["properties"]["apps"]["items"]
TARGET = APP["properties"]["targets"]["items"]["anyOf"][1]
CHECK = APP["properties"]["health"]["anyOf"][0]


def defaults(schema):
    needed = schema.get("required", schema.get("else", {}).get("required", ()))
    return {name: key["default"] for name, key in schema["properties"].items() if name not in needed}


def fields(kind):
    """The defaults of a dataclass; nested ones are {}, as the schema writes them."""
    found = {}
    for field in dataclasses.fields(kind):
        if field.default_factory is not dataclasses.MISSING:
            found[field.name] = {}
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
    if kind is Check:  # a file may write these in a shorter way
        del found["source"]  # its target's, or its app's
        found.update(headers=dict(found["headers"]), status=list(found["status"]), command=None, environment=[])
    return found


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (Log, SCHEMA["properties"]["log"]),
        (Timeouts, APP["properties"]["timeouts"]),
        (Check, CHECK),
    ],
)
def test_the_defaults_of_the_schema_are_those_of_the_values(kind, schema):
    assert defaults(schema) == fields(kind)


def test_the_limits_of_the_schema_are_those_of_sessions_and_those_of_requests():
    assert defaults(APP["properties"]["limits"]) == {**fields(SessionLimits), **fields(Limits)}


def test_the_defaults_of_what_is_hashed_are_those_of_the_schema():
    assert defaults(APP["properties"]["hash"]) == {**fields(Hash), "slice": None}


def test_the_defaults_of_a_target_are_those_of_the_schema_but_for_what_it_is():
    ours = {**fields(Target), "name": None, "address": None, "ports": None, "transparent": None}
    assert ours.pop("origin") == ""  # of those that are found
    assert defaults(TARGET) == ours


def test_the_defaults_of_an_app_are_those_of_the_schema_but_for_bind(app):
    from_schema = defaults(APP)
    assert from_schema.pop("mode") == "tcp"
    http = fields(Http)
    assert http.pop("cookie") is None  # said in "sticky"
    for key, default in http.items():
        found = from_schema[key] if key == "limits" else from_schema.pop(key)
        assert (tuple(found) if isinstance(found, list) else found) == default
    assert from_schema.pop("bind") == app().listeners[0].host
    assert from_schema.pop("health") == {}
    assert from_schema.pop("transparent") is None  # in `source`
    from_values = fields(App)
    assert from_values.pop("health") == (Check(),)
    assert from_values.pop("http") is None
    assert from_values.pop("sni_routes") == ()
    assert from_values.pop("zone") == ""  # said at the top
    assert from_values.pop("discoveries") == ()  # in `targets`
    assert from_schema == from_values


def test_the_defaults_of_the_file_are_those_of_the_schema_but_for_their_spelling():
    from_schema = defaults(SCHEMA)
    assert from_schema.pop("$schema") is None
    assert from_schema.pop("include") is None  # what it has included are apps
    assert from_schema.pop("workers") == "auto"
    from_schema["nameservers"] = tuple(from_schema["nameservers"])
    from_values = fields(Config)
    assert from_values.pop("workers") is None
    assert from_schema == from_values


def test_values_written_as_their_defaults_change_nothing(app):
    written = {name: value for name, value in defaults(APP).items() if name != "bind"}
    assert app(**written, bind="127.0.0.1") == app()


def test_importing_the_values_loads_no_loader_and_no_schema_library():
    program = "import sys, tcp_proxy.config.model; print([m for m in sys.modules if 'json' in m or 'config.' in m])"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    values = [f"tcp_proxy.config.{name}" for name in ("log_model", "target_model", "tls_model", "model")]
    assert result.stdout == f"{values}\n"
