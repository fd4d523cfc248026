"""Targets of an app that a worker makes when somebody asks for one: until then they are the text that they came as. Pure.

Each is a list of its fields, in their order; what is as by default at the end is left out, which of most is half.
"""

import dataclasses
import json
import typing
from collections.abc import Sequence
from operator import attrgetter

from tcp_proxy.wire.dataclass_json import fields, maker
from tcp_proxy.wire.views import TargetView

_FIELDS = dataclasses.fields(TargetView)
_SAID = sum(field.default is dataclasses.MISSING for field in _FIELDS)  # of each
_USUAL = tuple(field.default for field in _FIELDS[_SAID:])
_values = attrgetter(*(field.name for field in _FIELDS))


def text_of(targets: Sequence[TargetView]) -> str:
    rows = map(_values, targets)
    return json.dumps([row[:_SAID] if row[_SAID:] == _USUAL else row for row in rows], separators=(",", ":"), default=fields)


def targets_of(text: str) -> tuple[TargetView, ...]:
    hints = typing.get_type_hints(TargetView)
    makers = [maker(hints[field.name]) for field in _FIELDS]
    return tuple(
        TargetView(*(value if make is None else make(value) for make, value in zip(makers, row, strict=False)))
        for row in json.loads(text)
    )
