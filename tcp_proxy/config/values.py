"""From the plain values of a file to the fields of a dataclass, types included. Pure; the supervisor's process only."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

Plain = Mapping[str, Any]


def given_of(kind: Any, plain: Plain | None) -> dict[str, Any]:
    """The keys that have a value, as the types of the dataclass. 5.0 is a whole number in JSON Schema, and so here."""
    types = _types(kind)
    given = {key: value for key, value in (plain or {}).items() if value is not None and key in types}
    for key, value in given.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            given[key] = float(value) if types[key] is float else int(value)
    return given


@cache
def _types(kind: Any) -> dict[str, Any]:
    return {field.name: field.type for field in dataclasses.fields(kind)}
