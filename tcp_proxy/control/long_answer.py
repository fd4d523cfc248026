"""An answer that may be long: made while it is written as JSON, a piece at a time, so that nobody holds the main loop.

Pure values. `pieces` goes through a value in order; what stands in it as Long, LongMap or Made is asked for when its turn
comes, no sooner. A piece is about PIECE characters, of no more than MEMBERS members, whatever the answer's length.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

PIECE = 32 * 1024  # characters: of targets, with what makes them, 1 to 5 ms
MEMBERS = 250
TOGETHER = 10  # members that are written by one call of the encoder

_encode = json.JSONEncoder().encode


class Long:
    """A list. A member that is None is left out: something was done, and nothing is to be said of it."""

    def __init__(self, members: Iterable[Any]) -> None:
        self.members = members


class LongMap:
    """An object, of pairs with different keys. A pair that is None is left out."""

    def __init__(self, pairs: Iterable[tuple[str, Any] | None]) -> None:
        self.pairs = pairs


class Made:
    """A value that is made when everything before it is written."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


class Parts(dict[str, Any]):
    """An object that has some of these within. A plain dict has none."""


def pieces(value: Any) -> Iterator[str]:
    """Together they are the value's JSON text."""
    texts: list[str] = []
    size = count = 0
    for text, members in _texts(value):
        texts.append(text)
        size += len(text)
        count += members
        if size >= PIECE or count >= MEMBERS:
            yield "".join(texts)
            texts, size, count = [], 0, 0
    yield "".join(texts)


def _texts(value: Any) -> Iterator[tuple[str, int]]:
    """Each with how many members were made for it."""
    kind = type(value)
    if kind is Long:
        yield "[", 0
        yield from _joined(value.members)
        yield "]", 0
    elif kind is LongMap or kind is Parts:
        yield "{", 0
        yield from _joined(value.items() if kind is Parts else value.pairs, is_map=True)
        yield "}", 0
    elif kind is Made:
        yield from _texts(value.make())
    else:
        yield _encode(value), 0


def _joined(members: Iterable[Any], *, is_map: bool = False) -> Iterator[tuple[str, int]]:
    """Members that have nothing to be asked for within are written together: to call the encoder takes longer than one."""
    comma, made = "", 0
    plain: list[Any] = []
    for member in members:
        made += 1
        is_within = member is not None and type(member[1] if is_map else member) in WITHIN
        if member is not None and not is_within:
            plain.append(member)
        if plain and (is_within or made >= TOGETHER):
            yield comma + _together(plain, is_map), made
            comma, made, plain = ", ", 0, []
        if is_within:
            key, value = member if is_map else ("", member)
            yield f"{comma}{_encode(key)}: " if is_map else comma, made
            yield from _texts(value)
            comma, made = ", ", 0
        elif made >= TOGETHER:
            yield "", made
            made = 0
    yield comma + _together(plain, is_map) if plain else "", made


def _together(plain: list[Any], is_map: bool) -> str:
    """Keys are different ones."""
    return _encode(dict(plain) if is_map else plain)[1:-1]


WITHIN = frozenset((Long, LongMap, Made, Parts))
