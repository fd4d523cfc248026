"""Whether a history of operations that overlap is one that a single copy could have had: a checker of linearizability.

An operation takes effect at one moment between when it was invoked and when it returned. `stuck(operations, state, step)`
looks for an order that these times allow and in which the model permits each operation: `step(state, what)` gives the states
that may come of it, none where it cannot happen then. It is the search of Wing and Gong with Lowe's memory: each set of
operations that are done, and the state that has come of them, is gone on from once. A history is best cut by keys before: it
is linearizable exactly when each of its parts is.

The set is kept as the number of operations before the first one that is not done, and the bits of those behind it: of a
history of 100,000 operations by three clients that is a number and three bits.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

NEVER = float("inf")


class Operation(NamedTuple):
    invoked: float
    returned: float  # NEVER: it is not known that it has
    what: Any


class Stuck(NamedTuple):
    """As far as any order goes: the state then, and the operations of which none can be the next."""

    state: Any
    operations: tuple[Operation, ...]
    done: int


def stuck(operations: Iterable[Operation], state: Any, step: Callable[[Any, Any], Iterable[Any]]) -> Stuck | None:
    """None: it is linearizable."""
    history = sorted(operations, key=lambda one: one.invoked)
    furthest = Stuck(state, (), -1)
    open_ends = [(0, 0, state)]
    known = set(open_ends)
    while open_ends:
        first, bits, state = open_ends.pop()
        if first == len(history):
            return None
        found = candidates(history, first, bits)
        done = first + bits.bit_count()
        if done > furthest.done:
            furthest = Stuck(state, tuple(history[number] for number in found), done)
        for number in reversed(found):  # that invoked first is looked at first
            at = _after(first, bits, number)
            for then in step(state, history[number].what):
                if (*at, then) not in known:
                    known.add((*at, then))
                    open_ends.append((*at, then))
    return furthest


def candidates(history: list[Operation], first: int, bits: int) -> list[int]:
    """Those that may be next: none of the others was over before they were invoked."""
    found, soonest = [], NEVER
    for number in range(first, len(history)):
        one = history[number]
        if one.invoked > soonest:
            break
        if not bits >> (number - first) & 1:
            found.append(number)
            soonest = min(soonest, one.returned)
    return found


def _after(first: int, bits: int, number: int) -> tuple[int, int]:
    bits |= 1 << (number - first)
    while bits & 1:
        first, bits = first + 1, bits >> 1
    return first, bits
