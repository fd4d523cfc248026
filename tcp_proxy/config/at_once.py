"""Whether a value is right by a schema, for those that are: without jsonschema, which takes longer to import than all else.

"Yes" is certain. "No" only means that jsonschema is to be asked, which finds the words too; so whatever is not known here,
a keyword or a kind of value, is a "no". The keywords are those that schema.json uses.
"""

import re
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

IGNORED = frozenset({"$schema", "title", "description", "default", "x-wanted", "x-unit", "x-secret"})


def is_right(value: Any, schema: Schema) -> bool:
    for keyword, wanted in schema.items():
        if keyword not in IGNORED:
            check = CHECKS.get(keyword)
            if check is None or not check(value, wanted, schema):
                return False
    return True


def _is_of(value: Any, kind: str) -> bool:
    found = type(value)
    if kind == "number":
        return found is int or found is float
    if kind == "integer":
        return found is int or (found is float and value.is_integer())
    return found is TYPES.get(kind)


def _type(value: Any, wanted: Any, _: Schema) -> bool:
    return _is_of(value, wanted) if isinstance(wanted, str) else any(_is_of(value, kind) for kind in wanted)


def _is_one_of(value: Any, wanted: list[Any], _: Schema) -> bool:
    """JSON's 1 is no true, which Python's is."""
    return any(type(one) is type(value) and one == value for one in wanted)


def _properties(value: Any, wanted: dict[str, Schema], _: Schema) -> bool:
    return type(value) is not dict or all(is_right(value[key], part) for key, part in wanted.items() if key in value)


def _others(value: Any, wanted: Any, schema: Schema) -> bool:
    if type(value) is not dict:
        return True
    others = value.keys() - schema.get("properties", {}).keys()
    return not others if wanted is False else all(is_right(value[key], wanted) for key in others)


def _is_number(value: Any) -> bool:
    return _is_of(value, "number")


TYPES = {"string": str, "array": list, "object": dict, "boolean": bool, "null": type(None)}
CHECKS: dict[str, Callable[[Any, Any, Schema], bool]] = {
    "type": _type,
    "enum": _is_one_of,
    "const": lambda value, wanted, schema: _is_one_of(value, [wanted], schema),
    "anyOf": lambda value, wanted, _: any(is_right(value, branch) for branch in wanted),
    "minimum": lambda value, wanted, _: not _is_number(value) or value >= wanted,
    "maximum": lambda value, wanted, _: not _is_number(value) or value <= wanted,
    "minLength": lambda value, wanted, _: type(value) is not str or len(value) >= wanted,
    "maxLength": lambda value, wanted, _: type(value) is not str or len(value) <= wanted,
    "pattern": lambda value, wanted, _: type(value) is not str or re.search(wanted, value) is not None,
    "items": lambda value, wanted, _: type(value) is not list or all(is_right(item, wanted) for item in value),
    "minItems": lambda value, wanted, _: type(value) is not list or len(value) >= wanted,
    "maxItems": lambda value, wanted, _: type(value) is not list or len(value) <= wanted,
    "required": lambda value, wanted, _: type(value) is not dict or all(key in value for key in wanted),
    "minProperties": lambda value, wanted, _: type(value) is not dict or len(value) >= wanted,
    "properties": _properties,
    "if": lambda value, wanted, schema: is_right(value, wanted) or is_right(value, schema["else"]),
    "else": lambda _value, _wanted, _schema: True,  # by "if"
    "additionalProperties": _others,
}
