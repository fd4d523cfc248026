"""What the nodes of a cluster think of a target, made into one state: by every node in the same way. Pure.

A target is down when more than half of those who have a finding say so; it drains when more than half say that it is not up.
So one node that is cut off from a target takes it from nobody, and of two that disagree the one that reaches it is believed.
Whoever has no finding, because it has just begun or does not check, has no vote.
"""

import hashlib
from collections.abc import Iterable, Mapping

from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.sansio.verdict import State


@dataclass(frozen=True, slots=True)
class Opinion:
    state: State
    evidence: str


def majority(opinions: Mapping[str, Opinion]) -> Opinion | None:
    """By node. None: nobody has a finding."""
    if not opinions:
        return None
    count = len(opinions)
    against = {name: one for name, one in opinions.items() if one.state is not State.UP}
    down = {name: one for name, one in against.items() if one.state is State.DOWN}
    if 2 * len(down) > count:
        return _said(State.DOWN, down, count)
    if 2 * len(against) > count:
        return _said(State.DRAINING, against, count)
    rest = {name: one for name, one in opinions.items() if name not in against}
    return _said(State.UP, rest, count)


def _said(state: State, agreeing: Mapping[str, Opinion], count: int) -> Opinion:
    first = min(agreeing)
    text = agreeing[first].evidence
    return Opinion(state, text if count == 1 else f"{text} (node {first}; {len(agreeing)} of {count} nodes say {state})")


def checkers(app: str, nodes: Iterable[str], count: int | None) -> set[str]:
    """Those of them that check the app's targets; None: all. Rendezvous hashing: few change when a node comes or leaves."""
    if count is None:
        return set(nodes)

    def weight(node: str) -> bytes:
        return hashlib.sha256(f"{app}\0{node}".encode("utf-8", "surrogatepass")).digest()

    return set(sorted(nodes, key=weight)[:count])
