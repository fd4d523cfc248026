"""Whether a value is right by a schema, for those that are: without jsonschema, which takes longer to import than all else.

"Yes" is certain. "No" only means that jsonschema is to be asked, which finds the words too; so whatever is not known here,
a keyword or a kind of value, is a "no". The keywords are those that schema.json uses.
"""

import re
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]
Rule = Callable[[Any], bool]  # whether a value is right by one part of a schema

ANYTHING: Schema = {}
IGNORED = frozenset({"$schema", "title", "description", "default", "x-wanted", "x-unit", "x-secret"})


def is_right(value: Any, schema: Schema) -> bool:
    judge = Judge()
    try:
        return judge.rule(schema)(value)
    finally:
        judge.forget()


class Judge:
    """What is to be looked at is found once for each part of a schema, when the first value is to be judged by it: a
    thousand apps have the same, and most of the schema is about what they do not have. To be forgotten at the end: rules
    know their judge, and nothing of what a reload makes may be garbage that only a search finds (runtime.memory)."""

    def __init__(self) -> None:
        self._rules: dict[int, Rule] = {}  # by the id of a part

    def __repr__(self) -> str:
        return f"<Judge of {len(self._rules)} parts>"

    def rule(self, schema: Schema) -> Rule:
        found = self._rules.get(id(schema))
        if found is None:
            said = [(keyword, wanted) for keyword, wanted in schema.items() if keyword not in IGNORED]
            rules = [CHECKS.get(keyword, _unknown)(wanted, schema, self) for keyword, wanted in said]
            found = self._rules[id(schema)] = _all_of([rule for rule in rules if rule is not None])
        return found

    def forget(self) -> None:
        self._rules.clear()


Check = Callable[[Any, Schema, Judge], Rule | None]  # None: what it says is looked at elsewhere


def _all_of(rules: list[Rule]) -> Rule:
    if len(rules) == 1:
        return rules[0]
    if len(rules) == 2:
        one, other = rules
        return lambda value: one(value) and other(value)

    def are_right(value: Any) -> bool:
        for rule in rules:  # noqa: SIM110  a generator for each value would be half of the time
            if not rule(value):
                return False
        return True

    return are_right


def _type(wanted: Any, _schema: Schema, _judge: Judge) -> Rule:
    kinds = [wanted] if isinstance(wanted, str) else wanted
    types = frozenset(found for kind in kinds for found in TYPES.get(kind, ()))
    if "integer" in kinds:
        return lambda value: type(value) in types or (type(value) is float and value.is_integer())
    return lambda value: type(value) in types


def _is_one_of(wanted: list[Any], _schema: Schema, _judge: Judge) -> Rule:
    """JSON's 1 is no true, which Python's is."""
    return lambda value: any(type(one) is type(value) and one == value for one in wanted)


def _any_of(wanted: list[Schema], _schema: Schema, judge: Judge) -> Rule:
    branches = [(branch, TYPES.get(str(branch.get("type")))) for branch in wanted]

    def is_right(value: Any) -> bool:
        kind = type(value)
        for branch, types in branches:
            if (types is None or kind in types or kind is float) and judge.rule(branch)(value):
                return True
        return False

    return is_right


def _properties(wanted: dict[str, Schema], schema: Schema, judge: Judge) -> Rule:
    """With what may be there beside them."""
    others: Any = schema.get("additionalProperties", ANYTHING)  # False: nothing
    rules: dict[str, Rule] = {}  # of those that a value has had

    def is_right(value: Any) -> bool:
        if type(value) is dict:
            for key, member in value.items():
                rule = rules.get(key)
                if rule is None:
                    part: Any = wanted.get(key, others)
                    if part is False:
                        return False
                    rule = judge.rule(part)
                    if key in wanted:
                        rules[key] = rule
                if not rule(member):
                    return False
        return True

    return is_right


def _others(_wanted: Any, schema: Schema, judge: Judge) -> Rule | None:
    return None if "properties" in schema else _properties({}, schema, judge)


def _items(wanted: Schema, _schema: Schema, judge: Judge) -> Rule:
    def are_right(value: Any) -> bool:
        if type(value) is list:
            rule = judge.rule(wanted)
            for item in value:
                if not rule(item):
                    return False
        return True

    return are_right


def _if(wanted: Schema, schema: Schema, judge: Judge) -> Rule:
    return lambda value: judge.rule(wanted)(value) or judge.rule(schema["else"])(value)


def _unknown(_wanted: Any, _schema: Schema, _judge: Judge) -> Rule:
    return lambda _value: False


def _pattern(wanted: str, _schema: Schema, _judge: Judge) -> Rule:
    search = re.compile(wanted).search
    return lambda value: type(value) is not str or search(value) is not None


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "array": (list,), "object": (dict,), "boolean": (bool,), "null": (type(None),),
    "number": (int, float), "integer": (int,),
}  # fmt: skip
CHECKS: dict[str, Check] = {
    "type": _type,
    "enum": _is_one_of,
    "const": lambda wanted, schema, judge: _is_one_of([wanted], schema, judge),
    "anyOf": _any_of,
    "minimum": lambda wanted, _, _judge: lambda value: not _is_number(value) or value >= wanted,
    "maximum": lambda wanted, _, _judge: lambda value: not _is_number(value) or value <= wanted,
    "minLength": lambda wanted, _, _judge: lambda value: type(value) is not str or len(value) >= wanted,
    "maxLength": lambda wanted, _, _judge: lambda value: type(value) is not str or len(value) <= wanted,
    "pattern": _pattern,
    "items": _items,
    "minItems": lambda wanted, _, _judge: lambda value: type(value) is not list or len(value) >= wanted,
    "maxItems": lambda wanted, _, _judge: lambda value: type(value) is not list or len(value) <= wanted,
    "required": lambda wanted, _, _judge: lambda value: type(value) is not dict or all(key in value for key in wanted),
    "minProperties": lambda wanted, _, _judge: lambda value: type(value) is not dict or len(value) >= wanted,
    "properties": _properties,
    "if": _if,
    "else": lambda _wanted, _schema, _judge: None,  # by "if"
    "additionalProperties": _others,
}
