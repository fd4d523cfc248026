"""What our frozen dataclasses do is what the standard library's do, for every form that the program uses."""

import copy
import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio import frozen_dataclass


def ours(cls):
    return frozen_dataclass.dataclass(frozen=True, slots=True)(cls)


def theirs(cls):
    return dataclasses.dataclass(frozen=True, slots=True)(cls)


def nothing():
    class Nothing:
        """No field at all."""

    return Nothing


def one():
    class One:
        """One field."""

        value: float

    return One


def several():
    class Several:
        """With every option of a field."""

        first: int
        shown: str = "s"
        hidden: str = dataclasses.field(default="h", repr=False)
        aside: int = dataclasses.field(default=0, compare=False)
        made: list = dataclasses.field(default_factory=list)

        @property
        def double(self):
            return self.first * 2

    return Several


def checked():
    class Checked:
        """One that looks at what it is given, and calculates a field."""

        low: int
        high: int = 0

        def __post_init__(self):
            if self.low > self.high:
                raise ValueError("low above high")
            object.__setattr__(self, "high", self.high + 1)

    return Checked


def spoken():
    class Spoken:
        """With methods of its own where there would be made ones."""

        value: int

        def __repr__(self):
            return "spoken"

        def __eq__(self, other):
            return isinstance(other, type(self))

        def __hash__(self):
            return 7

    return Spoken


@ours
class Kept:
    """One that pickle finds by its name."""

    a: int
    b: tuple[int, ...] = ()


CASES = [
    (nothing, ()), (nothing, (1,)), (one, (1.5,)), (one, ()), (several, (1,)), (several, (1, "a", "b", 3, [4])),
    (several, ()), (checked, (1, 2)), (checked, (2, 1)), (spoken, (1,)),
]  # fmt: skip


def seen(decorator, make, arguments):
    cls = decorator(make())
    result = {"doc": cls.__doc__, "match": cls.__match_args__, "fields": [field.name for field in dataclasses.fields(cls)]}
    try:
        found, again = cls(*arguments), cls(*arguments)
    except (TypeError, ValueError) as error:
        return result | {"error": str(error)}
    names = [field.name for field in dataclasses.fields(found)]
    return result | {
        "is": dataclasses.is_dataclass(found),
        "repr": repr(found),
        "values": [getattr(found, name) for name in names],
        "equal": (found == again, found == arguments, found.__eq__(3)),
        "hashable": outcome(lambda: hash(found) == hash(again)),
        "set": outcome(lambda: setattr(found, "first", 1)),
        "set another": outcome(lambda: setattr(found, "another", 1)),
        "delete": outcome(lambda: delattr(found, "first")),
        "attributes": hasattr(found, "__dict__"),
        "replaced": outcome(lambda: repr(dataclasses.replace(found, **dict.fromkeys(names[:1], 0)))),
        "copied": copy.copy(found) == found,
        "as a dictionary": dataclasses.asdict(found),
    }


def outcome(action):
    try:
        return action()
    except (AttributeError, TypeError, ValueError) as error:
        return type(error), str(error)


@pytest.mark.parametrize(("make", "arguments"), CASES)
def test_it_is_as_the_standard_librarys(make, arguments):
    expected = seen(theirs, make, arguments)
    if "set another" in expected:  # a name that is no field: the standard library's slots of 3.11 raise TypeError there
        expected["set another"] = (dataclasses.FrozenInstanceError, "cannot assign to field 'another'")
        if "first" not in expected["fields"]:
            expected["set"] = (dataclasses.FrozenInstanceError, "cannot assign to field 'first'")
            expected["delete"] = (dataclasses.FrozenInstanceError, "cannot delete field 'first'")
    assert seen(ours, make, arguments) == expected


@given(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=1), st.integers(0, 1)), min_size=2, max_size=2))
def test_two_are_equal_where_the_standard_librarys_are(pair):
    for decorator in (ours, theirs):
        cls = decorator(several())
        left, right = (cls(first, shown, aside=aside) for first, shown, aside in pair)
        assert (left == right) == (pair[0][:2] == pair[1][:2])


def test_what_is_no_number_is_equal_to_itself():
    nan = float("nan")
    cls = ours(one())
    assert cls(nan) == cls(nan)


def test_by_name():
    assert Kept(b=(1,), a=2) == Kept(2, (1,))
    with pytest.raises(TypeError, match="unexpected keyword argument 'c'"):
        Kept(1, c=2)


def test_two_lists_are_two():
    cls = ours(several())
    assert cls(1).made is not cls(1).made


def test_it_is_pickled():
    assert pickle.loads(pickle.dumps(Kept(1, (2, 3)))) == Kept(1, (2, 3))


@pytest.mark.parametrize("option", [{"init": False, "default": 1}, {"kw_only": True}, {"hash": False}])
def test_an_option_of_a_field_that_would_be_ignored_is_refused(option):
    class Odd:
        """One field."""

        value: int = dataclasses.field(**option)

    with pytest.raises(TypeError, match=r"Odd\.value: a field with init, kw_only or hash"):
        ours(Odd)


def test_one_that_is_not_frozen_is_refused():
    with pytest.raises(TypeError, match="one of the standard library's"):
        frozen_dataclass.dataclass(frozen=False, slots=True)


def test_nothing_is_compiled_for_a_class_of_which_none_is_made(monkeypatch):
    compiled = []
    monkeypatch.setattr(frozen_dataclass, "_compiled", lambda *which: compiled.append(which) or (lambda *_: None))
    cls = ours(several())
    assert compiled == []
    cls(1), cls(2)
    assert len(compiled) == 1, "and once"
