"""`@dataclass(frozen=True, slots=True)` as the standard library's, made in a quarter of the time.

More than a hundred such classes are made when a process of ours starts, and the standard library compiles six functions for
each: that was half of what a start cost. Here only `__init__` is compiled, and when the first one of the class is made; the
others are shared by all classes.
`dataclasses.fields`, `replace` and `is_dataclass` work as ever; of the options of `field`, `default`, `default_factory`,
`repr` and `compare` do. There is no inheritance between such classes.
"""

import dataclasses
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # mypy knows that one
else:

    def dataclass(*, frozen, slots):
        """The decorator. Both options are those of the standard library, and must be true."""
        if not (frozen and slots):
            raise TypeError("a dataclass that is not frozen, or has no slots, is one of the standard library's")
        return _frozen


def _frozen(cls: type[Any]) -> type[Any]:
    if cls.__doc__ is None:  # the standard library would write one, from the signature: that takes longer than all the rest
        cls.__doc__ = f"{cls.__qualname__}."
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    fields = dataclasses.fields(made)
    compared = [field.name for field in fields if field.compare]
    shown = [field.name for field in fields if field.repr]
    made.__init__ = _init(made, fields)
    made.__setattr__ = _refuse_assignment
    made.__delattr__ = _refuse_deletion
    made.__getstate__ = _state
    made.__setstate__ = _restore
    if "__repr__" not in cls.__dict__:
        made.__repr__ = _representation(shown)
    if "__eq__" not in cls.__dict__:
        made.__eq__, made.__hash__ = _comparison(compared)
    return made  # type: ignore[no-any-return]


def _init(cls: type[Any], fields: "tuple[dataclasses.Field[Any], ...]") -> Callable[..., None]:
    """Has itself replaced by what it compiles; of most classes a process never makes one."""
    for field in fields:
        if not field.init or field.kw_only or field.hash is not None:
            text = "a field with init, kw_only or hash needs the standard library's dataclass"
            raise TypeError(f"{cls.__qualname__}.{field.name}: {text}")

    def __init__(self: Any, *args: Any, **named: Any) -> None:
        made: Any = cls
        made.__init__ = _compiled(cls, fields)
        made.__init__(self, *args, **named)

    return __init__


def _compiled(cls: type[Any], fields: "tuple[dataclasses.Field[Any], ...]") -> Callable[..., None]:
    """It gives the object another class while it sets the attributes: one with the same slots, which forbids nothing. To go
    by object.__setattr__ for each of them takes three times as long, and there are thousands of objects with 15."""
    bare = type(cls.__name__, (), {"__slots__": cls.__slots__})
    known: dict[str, Any] = {"_set": object.__setattr__, "_bare": bare, "_own": cls}
    arguments, lines = ["self"], [" _set(self, '__class__', _bare)"]
    for field in fields:
        name, value = field.name, field.name
        if field.default is not dataclasses.MISSING:
            known[f"_default_{name}"] = field.default
            arguments.append(f"{name}=_default_{name}")
        elif field.default_factory is not dataclasses.MISSING:
            known[f"_make_{name}"] = field.default_factory
            arguments.append(f"{name}=_make_{name}")
            value = f"_make_{name}() if {name} is _make_{name} else {name}"
        else:
            arguments.append(name)
        lines.append(f" self.{name} = {value}")
    lines.append(" self.__class__ = _own")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    exec(f"def __init__({', '.join(arguments)}):\n" + "\n".join(lines), known)
    found: Callable[..., None] = known["__init__"]
    found.__qualname__ = f"{cls.__qualname__}.__init__"
    return found


def _representation(names: list[str]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return __repr__


def _comparison(names: list[str]) -> tuple[Callable[[Any, object], Any], Callable[[Any], int]]:
    # Of one name attrgetter makes no tuple; and tuples take one object as equal to itself, whatever it says.
    values: Callable[[Any], Any] = operator.attrgetter(*names, *names[:1]) if names else lambda _: ()

    def __eq__(self: Any, other: object) -> Any:
        if other.__class__ is self.__class__:
            return values(self) == values(other)
        return NotImplemented

    def __hash__(self: Any) -> int:
        return hash(values(self))

    return __eq__, __hash__


def _refuse_assignment(_self: object, name: str, _value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(_self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
