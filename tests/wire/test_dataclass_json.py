"""Values of every annotated kind go to JSON and come back; other shapes are errors, never other values."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from kit.calls import Calls
from tcp_proxy.wire.dataclass_json import fields, maker


@dataclass(frozen=True)
class Inner:
    name: str
    pair: tuple[str, int] = ("a", 1)


@dataclass(frozen=True)
class Outer:
    numbers: tuple[int, ...]
    one: Inner | None
    many: tuple[Inner, ...] = ()
    address: Any = ("::1", 80, 0, 0)
    seconds: float | None = None


WHOLE = Outer((1, 2), Inner("x", ("b", 2)), (Inner("y"),), "/path", 0.5)


def there_and_back(value):
    return maker(type(value))(json.loads(json.dumps(value, default=fields)))


@pytest.mark.parametrize("value", [WHOLE, Outer((), None), Inner("é")])
def test_what_comes_back_is_the_same(value):
    assert there_and_back(value) == value


def test_what_is_as_by_default_is_not_said():
    """Of 20,000 targets nearly everything is."""
    assert fields(Outer((1,), None)) == {"numbers": (1,), "one": None}
    assert fields(Inner("x", ("b", 2))) == {"name": "x", "pair": ("b", 2)}


@pytest.mark.parametrize("kind", [int, str, bool, float | None])
def test_what_is_taken_as_it_is_has_no_maker(kind):
    assert maker(kind) is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"numbers": 5, "one": None}, TypeError),
        ({"numbers": "12", "one": None}, TypeError),  # a string is not the tuple of its characters
        ({"numbers": [], "one": {"name": "x", "pair": ["b"]}}, ValueError),
        ({"numbers": [], "one": {"name": "x", "pair": ["b", 2, 3]}}, ValueError),
        ({"numbers": [], "one": {"named": "x"}}, KeyError),
        ({"numbers": []}, TypeError),
        ({"numbers": [], "one": []}, AttributeError),
        ([], AttributeError),
    ],
)
def test_another_shape_is_an_error(body, error):
    with pytest.raises(error):
        maker(Outer)(body)


def test_a_long_list_of_numbers_costs_no_call_for_each():
    make, calls = maker(Outer), Calls()
    with calls:
        made = make({"numbers": list(range(20_000)), "one": None})
    assert len(made.numbers) == 20_000
    assert calls.most < 100
