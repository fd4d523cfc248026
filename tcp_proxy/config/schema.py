"""schema.json at work: keys folded to its spelling, values held against it, violations put into sentences.

The supervisor's process only. `jsonschema` finds what is wrong (it is imported when something is, for that takes longer
than everything else here together: config.at_once); what it finds is said in our own words, from the schema's
`x-wanted`, its limits and its units.

Always true: a violation leaves None where the wrong value was, so that what is checked afterwards can tell "wrong" from
"left out" (null itself means "left out" wherever the schema allows it).
"""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tcp_proxy.config import other_names
from tcp_proxy.config.at_once import is_right
from tcp_proxy.config.positions import BROKEN, NUMBER, Node, Path, shown
from tcp_proxy.config.report import Report

KEY, VALUE, CONTENT = "key", "value", "content"  # what is wrong: a key, a value, or what a value lacks
SCHEMA = os.path.join(os.path.dirname(__file__), "schema.json")

Schema = dict[str, Any]
Violation = Any  # of jsonschema; its own type allows for schemas that ours is not
ANYTHING: Schema = {}
Expand = Callable[[str, Schema, Path], Any]


def load_schema() -> Schema:
    """The published schema with each reference replaced by what it refers to: validating looks nothing up."""
    with open(SCHEMA, "rb") as file:
        schema: Schema = json.load(file)
    whole: Schema = _inlined(schema, schema.pop("$defs"))
    return whole


def _inlined(part: Any, defs: Schema) -> Any:
    if isinstance(part, list):
        return [_inlined(item, defs) for item in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref")
    if isinstance(reference, str):
        return _inlined(defs[reference.removeprefix("#/$defs/")], defs)
    return {key: _inlined(value, defs) for key, value in part.items()}


# -- keys


class Folder:
    """Turns nodes into plain values with the schema's spelling of each key that the schema names."""

    def __init__(self, report: Report, expand: Expand | None = None) -> None:
        """`expand`: what a string stands for (config.expansion); None where it is only itself."""
        self._report = report
        self._expand = expand
        self._shapes = Shapes()

    def fold(self, node: Node, schema: Schema, path: Path = ()) -> Any:
        """The value of a node. `path` is where it stands, as written."""
        value = node.value
        if isinstance(value, list):
            items = self._shapes.items_of(schema)
            return [self.fold(item, items, (*path, i)) for i, item in enumerate(value)]
        if isinstance(value, dict):
            return self._object(value, schema, path)
        if self._expand is not None and type(value) is str:
            value = self._expand(value, schema, path)
            if value is None:
                node.value = BROKEN  # it is reported
        return None if value is BROKEN else value

    def _object(self, members: dict[str, Any], schema: Schema, path: Path) -> dict[str, Any]:
        keys, others = self._shapes.keys_of(schema)
        plain: dict[str, Any] = {}
        spelt: dict[str, str] = {}
        for key, (offset, node) in list(members.items()):
            name, part = keys.get(key.lower(), (key, others))
            if name in plain:
                first = self._report.where_offset(members[spelt[name]].offset)
                message = (
                    f"{shown(key)} is the same key as {shown(spelt[name])} at {first}; letter case does not matter"
                )
                self._report.at(offset, (*path, key), message)
                del members[key]  # so that a later search for the name finds the first of the two
                continue
            spelt[name] = key
            plain[name] = self.fold(node, part, (*path, key))
        return plain


class Shapes:
    """What each part of a schema says of the insides of a value, found once."""

    def __init__(self) -> None:
        self._shapes: dict[int, _Shape] = {}

    def __repr__(self) -> str:
        return f"<Shapes of {len(self._shapes)} parts>"

    def keys_of(self, schema: Schema) -> tuple[dict[str, tuple[str, Schema]], Schema]:
        """Its keys by their lower-case spelling, each as it is spelt and with its schema; the schema of all other keys."""
        shape = self._of(schema)
        return shape.keys, shape.others

    def items_of(self, schema: Schema) -> Schema:
        """That of the items of a list."""
        return self._of(schema).items

    def _of(self, schema: Schema) -> "_Shape":
        shape = self._shapes.get(id(schema))
        if shape is None:
            known: dict[str, tuple[str, Schema]] = {}
            items = others = ANYTHING
            for branch in (schema, *schema.get("anyOf", ())):
                known.update((name.lower(), (name, sub)) for name, sub in branch.get("properties", {}).items())
                items = branch.get("items", items)
                others = branch.get("additionalProperties") or others
            shape = self._shapes[id(schema)] = _Shape(known, items, others)
        return shape


class _Shape(NamedTuple):
    keys: dict[str, tuple[str, Schema]]
    items: Schema
    others: Schema


# -- values


def validate(plain: Any, schema: Schema, report: Report) -> None:
    """Report every violation, and put None in the place of each wrong value (an object that lacks a key is kept)."""
    if is_right(plain, schema):
        return
    from jsonschema.validators import Draft202012Validator

    wrong: list[Path] = []
    for error in Draft202012Validator(schema).iter_errors(plain):
        for path, kind, message in _errors_of(error):
            if kind == KEY:
                report.key(path, message)
            else:
                report.value(path, message)
            if kind == VALUE:
                wrong.append(path)
    for path in wrong:
        _blank(plain, path)


def _blank(plain: Any, path: Path) -> None:
    if not path:
        return
    for step in path[:-1]:
        plain = plain[step]
        if plain is None:
            return
    plain[path[-1]] = None


def _errors_of(error: Violation) -> Iterator[tuple[Path, str, str]]:
    """What to say about one violation: path, what is wrong there, sentence."""
    path: Path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        for key in error.instance:
            if key not in error.schema["properties"]:
                yield (*path, key), KEY, _unknown_key(key, error.schema)
    elif error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        yield path, CONTENT, f"missing {'key' if len(missing) == 1 else 'keys'} {', '.join(map(shown, missing))}"
    elif error.validator == "anyOf" and (closest := _closest(error)):
        for inner in closest:
            yield from _errors_of(inner)
    else:
        yield path, VALUE, _wrong_value(error.instance, error.schema, path[-1] if path else None)


def _closest(error: Violation) -> list[Violation]:
    """The violations inside the one alternative that has the value's own type, unless it is the value that is wrong."""
    branches: dict[Any, list[Violation]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.relative_schema_path[0], []).append(inner)
    fitting = [branch for branch in branches.values() if not any(_is_own(inner) for inner in branch)]
    return fitting[0] if len(fitting) == 1 else []


def _is_own(error: Violation) -> bool:
    return not error.relative_path and error.validator not in ("additionalProperties", "required")


# -- sentences


def _unknown_key(key: str, schema: Schema) -> str:
    from difflib import get_close_matches

    known = {name.lower(): name for name in schema["properties"]}
    very_close = get_close_matches(key.lower(), known, n=1, cutoff=0.8)
    meant = other_names.answer(key, schema["properties"], elsewhere=not very_close)
    if meant:
        return f"unknown key {shown(key)}; {meant}"
    close = get_close_matches(key.lower(), known, n=1)
    if close:
        return f"unknown key {shown(key)}; did you mean {shown(known[close[0]])}?"
    for name, sub in schema["properties"].items():
        inside = (inner for part in (sub, *sub.get("anyOf", ())) for inner in part.get("properties", ()))
        if key.lower() in inside:
            return f"unknown key {shown(key)} here; it belongs in {shown(name)}"
    return f"unknown key {shown(key)}; known here: {', '.join(schema['properties'])}"


def _wrong_value(found: Any, schema: Schema, key: Any = None) -> str:
    sentence = f"found {_described(found, schema)}; wanted {wanted(schema)}"
    meant = other_names.answer_value(key, found) if isinstance(found, str) else ""
    if meant:
        return f"{sentence}; {meant}"
    choices = [choice for choice in schema.get("enum", ()) if isinstance(choice, str)]
    if isinstance(found, str) and choices:
        from difflib import get_close_matches

        close = get_close_matches(found.lower(), choices, n=1)
        if close:
            return f"{sentence}; did you mean {shown(close[0])}?"
    if isinstance(found, str) and NUMBER.fullmatch(found) and "number" in wanted(schema):
        return f"{sentence}, without quotes"
    return sentence


def _described(found: Any, schema: Schema) -> str:
    if isinstance(found, str) and len(found) > schema.get("maxLength", len(found)):
        return f"text of {len(found)} characters"
    if isinstance(found, list):
        most = [branch["maxItems"] for branch in (schema, *schema.get("anyOf", ())) if "maxItems" in branch]
        if most and len(found) > max(most):
            return f"a list of {len(found)}, which is more than {max(most)}"
    return "{}" if found == {} else shown(found)


def wanted(schema: Schema) -> str:
    """What a schema asks for, in words."""
    if "x-wanted" in schema:
        return str(schema["x-wanted"])
    if "enum" in schema:
        return f"one of {', '.join(map(shown, schema['enum']))}"
    kinds = schema.get("type", "object")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if kind in ("integer", "number"):
        unit = schema.get("x-unit")
        number = f"a number{' of ' + unit if unit else ''}" if kind == "number" else "a whole number"
        low, high = schema.get("minimum"), schema.get("maximum")
        return f"{number} from {low} to {high}"
    if kind == "string" and "maxLength" in schema:
        return f"text of {schema.get('minLength', 0)} to {schema['maxLength']} characters"
    return {"string": "text", "boolean": "true or false", "array": "a list", "object": "an object"}[kind]
