"""What clients have seen of a primary and of sticky targets, held against what a single proxy would have shown them.

Each session is an operation: it was asked for, it was greeted, and by whom; in between somebody looked once where it goes.
Two models say what may be seen (`linearizability` searches for an order):

The primary of an app is a register: (epoch, who). An election has taken it from everybody (`Stopped`) when its trigger runs,
and gives it to its target (`Elected`) at some moment after that, or never, if the next one comes first. A session is greeted
by whoever has it then. So one that was asked for when a trigger had begun is not greeted by an earlier primary, and one that
was over before is not greeted by a later one.

The target of a key is a register, too. The first session of the key writes it. It is written again only between beginning
and end of a `Move` that names its target, and then by the session that is greeted by another one. A node's copy of it may
be late meanwhile, never afterwards: at the end of the move all nodes have the same. A node that is `apart`, for it was
started while etcd did not answer, has one target of its own for a key until then.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.linearizability import NEVER, Operation, Stuck, stuck


class Seen(NamedTuple):
    asked: float
    greeted: float
    target: str
    node: str = ""


class Election(NamedTuple):
    """Its trigger began to run at some moment between two."""

    epoch: int
    target: str
    earliest: float = -NEVER
    latest: float = NEVER


class Stopped(NamedTuple):
    epoch: int


class Elected(NamedTuple):
    epoch: int
    target: str


class Primary(NamedTuple):
    """`target` "": nobody."""

    epoch: int
    target: str


def primary_fault(sessions: Iterable[Seen], elections: Sequence[Election]) -> Stuck | None:
    """None: there was one primary at a time. `elections` in the order of their epochs."""
    operations = [Operation(one.asked, one.greeted, one) for one in sessions]
    for one in elections:
        operations.append(Operation(one.earliest, one.latest, Stopped(one.epoch)))
        operations.append(Operation(one.earliest, NEVER, Elected(one.epoch, one.target)))
    return stuck(operations, Primary(-1, ""), _primary_after)


def _primary_after(state: Primary, what: Seen | Stopped | Elected) -> Iterator[Primary]:
    match what:
        case Seen():
            if what.target == state.target:
                yield state
        case Stopped():
            if what.epoch > state.epoch:
                yield Primary(what.epoch, "")
        case Elected() if what.epoch == state.epoch:
            yield Primary(what.epoch, what.target)
        case Elected() if what.epoch < state.epoch:
            yield state  # nobody was told of it


class Move(NamedTuple):
    """Between two moments keys of these targets may move; and node `apart` knows nothing of what the others know."""

    begin: float
    end: float
    targets: frozenset[str]
    apart: str = ""


class Began(NamedTuple):
    number: int
    move: Move


class Ended(NamedTuple):
    number: int
    others: frozenset[str]  # to which a key may have moved, though nobody has seen it


class Key(NamedTuple):
    """`copies`: what nodes may still have, if it is not `target`. `moves`: those that have begun, and not ended."""

    target: str
    copies: frozenset[tuple[str, str]]
    moves: frozenset[Began]


def key_fault(sessions: Iterable[Seen], moves: Sequence[Move]) -> Stuck | None:
    """None: the key had one target, but for moves that may have been. The sessions are those of one key."""
    sessions = list(sessions)
    nodes = frozenset(one.node for one in sessions)
    targets = frozenset(one.target for one in sessions).union(*(move.targets for move in moves))
    operations = [Operation(one.asked, one.greeted, one) for one in sessions]
    for number, move in enumerate(moves):
        operations.append(Operation(move.begin, move.begin, Began(number, move)))
        operations.append(Operation(move.end, move.end, Ended(number, targets)))

    def step(state: Key, what: Seen | Began | Ended) -> Iterator[Key]:
        match what:
            case Seen():
                return _seen(state, what, nodes)
            case Began():
                return iter([_begun(state, what)])
        return _ended(state, what)

    return stuck(operations, Key("", frozenset(), frozenset()), step)


def _seen(state: Key, one: Seen, nodes: frozenset[str]) -> Iterator[Key]:
    copies = dict(state.copies)
    is_apart = any(began.move.apart == one.node for began in state.moves)
    if is_apart and copies.get(one.node, one.target) == one.target:
        yield state._replace(copies=frozenset({**copies, one.node: one.target}.items()))
    elif copies.get(one.node) == one.target:
        yield state  # it has not heard of the move so far
    if state.target in ("", one.target):
        copies.pop(one.node, None)
        yield Key(one.target, frozenset(copies.items()), state.moves)
    elif any(state.target in began.move.targets for began in state.moves):
        late = {node: copies.get(node, state.target) for node in nodes if node != one.node}
        yield Key(one.target, frozenset((node, old) for node, old in late.items() if old != one.target), state.moves)


def _begun(state: Key, what: Began) -> Key:
    copies = frozenset(copy for copy in state.copies if copy[0] != what.move.apart)
    return Key(state.target, copies, state.moves | {what})


def _ended(state: Key, what: Ended) -> Iterator[Key]:
    ended = {began for began in state.moves if began.number == what.number}
    moves = state.moves - ended
    copies = state.copies if moves else frozenset()
    yield Key(state.target, copies, moves)
    if any(state.target in began.move.targets for began in ended):
        for other in what.others - {state.target}:
            yield Key(other, copies, moves)
