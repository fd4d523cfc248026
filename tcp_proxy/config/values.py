"""From the plain values of a file to the fields of a dataclass, types included. Pure; the supervisor's process only."""

import dataclasses
from collections.abc import Container, Mapping
from functools import cache
from typing import Any

Plain = Mapping[str, Any]


def given_of(kind: Any, plain: Plain | None, but: Container[str] = ()) -> dict[str, Any]:
    """The keys that have a value, `but` these, as the types of the dataclass. 5.0 is a whole number in JSON Schema, and so
    here."""
    types, given = _types(kind), {}
    for key, value in (plain or {}).items():
        if value is not None and key in types and key not in but:
            is_number = type(value) is int or type(value) is float
            given[key] = value if not is_number else float(value) if types[key] is float else int(value)
    return given


@cache
def _types(kind: Any) -> dict[str, Any]:
    return {field.name: field.type for field in dataclasses.fields(kind)}
