"""The straight way of a file in which nothing is wrong: read by the standard library, with no note of where things stand.

Pure, but for the files that a configuration names; the supervisor's process only. With 20,000 targets it takes half as long
as the way that knows places (config.load). Where something is to be said of a file, or it is unusual, there is no straight
way: the other one begins anew, and finds the words.

Always true: what comes out is what the other way makes of the same text (test_straight).
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from tcp_proxy.config.at_once import is_right
from tcp_proxy.config.build import build
from tcp_proxy.config.expansion import Expansion
from tcp_proxy.config.last_file import LastFile
from tcp_proxy.config.model import App, Config
from tcp_proxy.config.positions import Lines, Path
from tcp_proxy.config.report import Report
from tcp_proxy.config.schema import Schema, Shapes

MOST_DIGITS = 18  # of a number that is surely not too big
UNUSUAL = "\\u"  # an escape: half a surrogate pair, or a variable that cannot be seen
EXPANDED = ("${", '"@')
SCALARS = (str, int, float, bool, type(None))


class _NoStraightWay(Exception):
    pass


class _NoReport(Report):
    """Whoever has something to say ends the way."""

    def __init__(self) -> None:
        super().__init__("", Lines(""))

    def _note(self, _offset: int, _path: Path, _message: str) -> None:
        raise _NoStraightWay

    def _find(self, _path: Path) -> NoReturn:
        raise _NoStraightWay

    def of_file(self, _file: str, _message: str) -> None:
        raise _NoStraightWay


def load_straight(
    text: str, environment: Mapping[str, str] | None, schema: Schema, last: LastFile | None = None
) -> Config | None:
    """None: it has to go the other way. `environment`, `last`: as for config.load.load_text."""
    if UNUSUAL in text:
        return None
    report = _NoReport()
    is_expanded = environment is not None and any(mark in text for mark in EXPANDED)
    try:
        root = json.loads(text, object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_constant)
        if type(root) is not dict or any(key.lower() == "include" for key in root):
            return None
        folder = _Folder(Expansion(environment or {}, report) if is_expanded else None)
        if last is None or is_expanded or type(root.get("apps")) is not list:
            plain = folder.fold(root, schema)
            found = build(plain, report) if is_right(plain, schema) else None
            if found is not None and last is not None:
                last.files = tuple(report.files)
            return found
        root["apps"], hashes = last.known(root["apps"])
        plain = folder.fold(root, schema)
        if not is_right({**plain, "apps": [app for app in plain["apps"] if type(app) is not App]}, schema):
            return None
        config = build(plain, report)
        last.keep(hashes, config.apps)
        last.files = ()
        return config
    except (_NoStraightWay, ValueError, RecursionError):
        return None


class _Folder:
    """Gives keys the schema's spelling, and strings what they stand for."""

    def __init__(self, expansion: Expansion | None) -> None:
        self._expansion = expansion
        self._shapes = Shapes()

    def fold(self, value: Any, schema: Schema) -> Any:
        kind = type(value)
        if kind is dict:
            keys, others = self._shapes.keys_of(schema)
            plain: dict[str, Any] = {}
            for key, member in value.items():
                name, part = keys.get(key) or keys.get(key.lower()) or (key, others)
                if name in plain:
                    raise _NoStraightWay
                is_itself = self._expansion is None and type(member) in SCALARS
                plain[name] = member if is_itself else self.fold(member, part)
            return plain
        if kind is list:
            items = self._shapes.items_of(schema)
            return [self.fold(item, items) for item in value]
        return self._expansion.value(value, schema, ()) if kind is str and self._expansion is not None else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NoStraightWay
    return found


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise _NoStraightWay
    return int(text)


def _real(text: str) -> float:
    if len(text) > MOST_DIGITS or "e" in text.lower():
        raise _NoStraightWay
    return float(text)


def _constant(_: str) -> NoReturn:
    raise _NoStraightWay
