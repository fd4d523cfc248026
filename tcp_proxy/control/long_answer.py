"""An answer that may be long: made while it is written as JSON, a piece at a time, so that nobody holds the main loop.

Pure values. `pieces` goes through a value in order; what stands in it as Long, LongMap or Made is asked for when its turn
comes, no sooner. A piece is about PIECE characters, of no more than MEMBERS members, whatever the answer's length.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

PIECE = 32 * 1024  # characters: of targets, with what makes them, 1 to 5 ms
MEMBERS = 250

_encode = json.JSONEncoder().encode


class Long:
    """A list. A member that is None is left out: something was done, and nothing is to be said of it."""

    def __init__(self, members: Iterable[Any]) -> None:
        self.members = members


class LongMap:
    """An object, of pairs. A pair that is None is left out."""

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
    size = 0
    for text in _texts(value):
        texts.append(text)
        size += len(text)
        if size >= PIECE or len(texts) >= 2 * MEMBERS:  # a member and a comma each
            yield "".join(texts)
            texts, size = [], 0
    yield "".join(texts)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Long):
        yield "["
        yield from _joined(value.members)
        yield "]"
    elif isinstance(value, LongMap | Parts):
        yield "{"
        yield from _joined(value.items() if isinstance(value, Parts) else value.pairs, is_map=True)
        yield "}"
    elif isinstance(value, Made):
        yield from _texts(value.make())
    else:
        yield _encode(value)


def _joined(members: Iterable[Any], *, is_map: bool = False) -> Iterator[str]:
    comma = ""
    for member in members:
        if member is None:
            yield ""
            yield ""
            continue
        key, value = member if is_map else ("", member)
        yield f"{comma}{_encode(key)}: " if is_map else comma
        if isinstance(value, (Long, LongMap, Made, Parts)):
            yield from _texts(value)
        else:
            yield _encode(value)
        comma = ", "
