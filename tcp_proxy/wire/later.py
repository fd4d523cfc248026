"""Targets of an app that a worker makes when somebody asks for one: until then they are the text that they came as. Pure."""

import json
from collections.abc import Sequence

from tcp_proxy.wire.dataclass_json import fields, maker
from tcp_proxy.wire.views import TargetView


def text_of(targets: Sequence[TargetView]) -> str:
    return json.dumps(targets, separators=(",", ":"), default=fields)


def targets_of(text: str) -> tuple[TargetView, ...]:
    make = maker(tuple[TargetView, ...])
    assert make is not None
    found: tuple[TargetView, ...] = make(json.loads(text))
    return found
