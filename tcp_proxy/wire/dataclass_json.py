"""Frozen dataclasses as JSON and back, by their annotated types: dataclasses, tuples, unions with None; anything else is
taken as it is. Pure.
"""

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any

Maker = Callable[[Any], Any]


def fields(value: Any) -> dict[str, Any]:
    """Of a dataclass, those that are not as by default, which of a target few are; json goes on with what is in them.
    dataclasses.asdict is six times as slow."""
    return {name: item for name, usual in _usual(type(value)) if (item := getattr(value, name)) is not usual}


def maker(kind: Any, known: dict[Any, Maker | None] = {}) -> Maker | None:  # noqa: B006  a cache for ever
    """What makes the annotated type of its JSON: dataclasses, tuples and unions with None; None for what is taken as it is.

    Made once for each type: to look at the type for each value was most of what a list of 20,000 numbers cost.
    """
    if kind not in known:
        known[kind] = _new_maker(kind)
    return known[kind]


def _new_maker(kind: Any) -> Maker | None:
    if dataclasses.is_dataclass(kind):
        return _maker_of_dataclass(kind)
    if kind is Any:
        return lambda value: tuple(value) if isinstance(value, list) else value  # a sockaddr
    if typing.get_origin(kind) is tuple:
        return _maker_of_tuple(typing.get_args(kind))
    if isinstance(kind, types.UnionType):
        inner = maker(typing.get_args(kind)[0])
        return inner and (lambda value: None if value is None else inner(value))
    return None


def _maker_of_dataclass(kind: Any) -> Maker:
    makers = {name: maker(hint) for name, hint in _hints(kind).items()}

    def make(value: Any) -> Any:
        return kind(**{name: item if (inner := makers[name]) is None else inner(item) for name, item in value.items()})

    return make


def _maker_of_tuple(parts: tuple[Any, ...]) -> Maker:
    is_endless = len(parts) == 2 and parts[1] is Ellipsis
    makers = [maker(part) for part in parts[: 1 if is_endless else None]]

    def make(value: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is no list")
        if not is_endless:
            return tuple(item if inner is None else inner(item) for inner, item in zip(makers, value, strict=True))
        return tuple(value if makers[0] is None else map(makers[0], value))

    return make


def _hints(kind: Any, known: dict[Any, dict[str, Any]] = {}) -> dict[str, Any]:  # noqa: B006  a cache for ever
    if kind not in known:
        known[kind] = typing.get_type_hints(kind)
    return known[kind]


def _usual(kind: Any, known: dict[Any, tuple[tuple[str, Any], ...]] = {}) -> tuple[tuple[str, Any], ...]:  # noqa: B006
    """Each field with its default; a cache for ever. What is equal to it and another object is said; that is no harm."""
    if kind not in known:
        known[kind] = tuple((field.name, field.default) for field in dataclasses.fields(kind))
    return known[kind]
