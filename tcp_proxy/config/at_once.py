"""Whether a value is right by a schema, for those that are: without jsonschema, which takes longer to import than all else.

"Yes" is certain. "No" only means that jsonschema is to be asked, which finds the words too; so whatever is not known here,
a keyword or a kind of value, is a "no". The keywords are those that schema.json uses.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

Schema = dict[str, Any]

IGNORED = frozenset({"$schema", "title", "description", "default", "x-wanted", "x-unit", "x-secret"})


def is_right(value: Any, schema: Schema) -> bool:
    return Judge().is_right(value, schema)


class Judge:
    """What is to be looked at is found once for each part of a schema: a thousand apps have the same."""

    def __init__(self) -> None:
        self._checks: dict[int, list[tuple[Check, Any, Schema]]] = {}  # by the id of a part

    def __repr__(self) -> str:
        return f"<Judge of {len(self._checks)} parts>"

    def is_right(self, value: Any, schema: Schema) -> bool:
        checks = self._checks.get(id(schema))
        if checks is None:
            checks = self._checks[id(schema)] = [
                (CHECKS.get(keyword, _unknown), _prepared(keyword, wanted), schema)
                for keyword, wanted in schema.items()
                if keyword not in IGNORED
            ]
        for check, wanted, whole in checks:  # noqa: SIM110  a generator for each value would be half of the time
            if not check(value, wanted, whole, self):
                return False
        return True

    def are_right(self, values: Iterable[Any], schema: Schema) -> bool:
        for value in values:  # noqa: SIM110  as above
            if not self.is_right(value, schema):
                return False
        return True


Check = Callable[[Any, Any, Schema, Judge], bool]


def _prepared(keyword: str, wanted: Any) -> Any:
    if keyword == "type":
        kinds = [wanted] if isinstance(wanted, str) else wanted
        return frozenset(found for kind in kinds for found in TYPES.get(kind, ())), "integer" in kinds
    if keyword == "anyOf":
        return [(branch, TYPES.get(str(branch.get("type")))) for branch in wanted]
    return re.compile(wanted) if keyword == "pattern" else wanted


def _type(value: Any, wanted: Any, _: Schema, _judge: Judge) -> bool:
    types, takes_integers = wanted
    return type(value) in types or (takes_integers and type(value) is float and value.is_integer())


def _is_one_of(value: Any, wanted: list[Any], _: Schema, _judge: Judge) -> bool:
    """JSON's 1 is no true, which Python's is."""
    return any(type(one) is type(value) and one == value for one in wanted)


def _any_of(value: Any, wanted: list[tuple[Schema, tuple[type, ...] | None]], _: Schema, judge: Judge) -> bool:
    kind = type(value)
    for branch, types in wanted:
        if (types is None or kind in types or kind is float) and judge.is_right(value, branch):
            return True
    return False


def _properties(value: Any, wanted: dict[str, Schema], _: Schema, judge: Judge) -> bool:
    if type(value) is dict:
        for key, member in value.items():
            part = wanted.get(key)
            if part is not None and not judge.is_right(member, part):
                return False
    return True


def _others(value: Any, wanted: Any, schema: Schema, judge: Judge) -> bool:
    if type(value) is not dict:
        return True
    others = value.keys() - schema.get("properties", {}).keys()
    return not others if wanted is False else judge.are_right([value[key] for key in others], wanted)


def _if(value: Any, wanted: Schema, schema: Schema, judge: Judge) -> bool:
    return judge.is_right(value, wanted) or judge.is_right(value, schema["else"])


def _unknown(_value: Any, _wanted: Any, _schema: Schema, _judge: Judge) -> bool:
    return False


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "array": (list,), "object": (dict,), "boolean": (bool,), "null": (type(None),),
    "number": (int, float), "integer": (int,),
}  # fmt: skip
CHECKS: dict[str, Check] = {
    "type": _type,
    "enum": _is_one_of,
    "const": lambda value, wanted, schema, judge: _is_one_of(value, [wanted], schema, judge),
    "anyOf": _any_of,
    "minimum": lambda value, wanted, _, _judge: not _is_number(value) or value >= wanted,
    "maximum": lambda value, wanted, _, _judge: not _is_number(value) or value <= wanted,
    "minLength": lambda value, wanted, _, _judge: type(value) is not str or len(value) >= wanted,
    "maxLength": lambda value, wanted, _, _judge: type(value) is not str or len(value) <= wanted,
    "pattern": lambda value, wanted, _, _judge: type(value) is not str or wanted.search(value) is not None,
    "items": lambda value, wanted, _, judge: type(value) is not list or judge.are_right(value, wanted),
    "minItems": lambda value, wanted, _, _judge: type(value) is not list or len(value) >= wanted,
    "maxItems": lambda value, wanted, _, _judge: type(value) is not list or len(value) <= wanted,
    "required": lambda value, wanted, _, _judge: type(value) is not dict or all(key in value for key in wanted),
    "minProperties": lambda value, wanted, _, _judge: type(value) is not dict or len(value) >= wanted,
    "properties": _properties,
    "if": _if,
    "else": lambda _value, _wanted, _schema, _judge: True,  # by "if"
    "additionalProperties": _others,
}
