"""What clients have seen of a primary, and whether there was one at each moment: a small checker of linearizability. And
what they have seen of sticky targets, which only some faults may change.

Each operation is a session: when it was asked for, when it was greeted, and by whom. Who is primary is one register;
elections write it, in their order, and each session reads it once, at some moment between its two times. `fault(sessions,
order)` is a pair of sessions that no such moments explain; None if there are.
"""

import bisect
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Seen(NamedTuple):
    asked: float
    greeted: float
    target: str
    node: str = ""


def fault(sessions: Iterable[Seen], order: Sequence[str]) -> tuple[Seen, Seen] | None:
    """`order`: the primaries, one after another; each as often as it was elected.

    Each session gets the earliest election that those before it leave: whose are over before it was asked for have one that
    is not later. Where all get one, moments can be found: the moment of each election is the last `asked` of the sessions
    that have got it or one before it.
    """
    places: dict[str, list[int]] = {}
    for number, target in enumerate(order):
        places.setdefault(target, []).append(number)
    sessions = sorted(sessions, key=lambda one: one.asked)
    got: dict[int, int] = {}  # by the number of the session: the number of its election
    ended = sorted(range(len(sessions)), key=lambda number: sessions[number].greeted)
    at, newest = 0, None  # of those that were over before: whose election is the latest
    for number, one in enumerate(sessions):
        while at < len(ended) and sessions[ended[at]].greeted < one.asked:
            if newest is None or got[ended[at]] > got[newest]:
                newest = ended[at]
            at += 1
        least = got[newest] if newest is not None else 0
        known = places.get(one.target, [])
        found = bisect.bisect_left(known, least)
        if found == len(known):
            return sessions[newest if newest is not None else number], one
        got[number] = known[found]
    return None


class Move(NamedTuple):
    """Keys of these targets may move between two moments; until the second one their sessions prove nothing."""

    begin: float
    end: float
    targets: frozenset[str]


def moved(sessions: Iterable[Seen], moves: Sequence[Move]) -> tuple[Seen, Seen] | None:
    """Two sessions of one key with two targets, though none of the moves explains it."""
    before: Seen | None = None
    for one in sorted(sessions, key=lambda one: one.asked):
        known = [move for move in moves if move.begin <= one.greeted]
        if before is not None:
            known = [move for move in known if move.end >= before.asked and before.target in move.targets]
        if any(one.asked <= move.end for move in known):
            continue  # it is under way, and may be back with the old one for a moment
        if before is not None and one.target != before.target and not known:
            return before, one
        before = one
    return None
