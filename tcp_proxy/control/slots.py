"""Who owns which counters: blocks of slots in the shared memory, handed out by kind of owner and its key, and taken back.

Main thread of the supervisor only. A block stays its owner's; asking again for the same owner gives the same block.

    taken ── retire() ──> RETIRED ──every worker knows, twice seen idle──> free, its totals in its app's block

A retired block still counts: sessions of a target that has left go on, in it (DESIGN 9.4). Twice, because a session's last
word is written a moment after it has left the gauge.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tcp_proxy.counters import (
    ACTIVE,
    APP_ACCEPTED,
    BLOCKS,
    CONNECT_SLOTS,
    CONNECTS,
    GAUGES,
    LISTENER_ACCEPTED,
    LISTENER_ENDED,
    PROCESS_GAUGES,
    PROCESS_SLOTS,
    Counters,
)

Key = tuple[str, ...]  # (app,), (app, target's name) or (app, listener's address)


class NoRoom(Exception):
    """A row of the counters' memory is full."""


@dataclass(slots=True)
class Retired:
    kind: str
    key: Key
    first: int
    generation: int
    was_idle: bool = False


class Slots:
    """`used` slots are given out, or were, those of the process among them."""

    def __init__(self) -> None:
        self.used = PROCESS_SLOTS
        self.gone = 0  # sessions that were connected to a target of an app that has left
        self.room = 0  # in a row of the memory; 0 as long as there is no memory
        self.retired: list[Retired] = []
        self._first: dict[tuple[str, Key], int] = {}
        self._free: dict[str, list[int]] = {kind: [] for kind in BLOCKS}

    def __repr__(self) -> str:
        return f"<Slots {self.used} in {len(self._first)} blocks, {len(self.retired)} retired>"

    def take(self, kind: str, *key: str) -> int:
        """The first slot of this owner's block. Raises NoRoom."""
        first = self._first.get((kind, key))
        if first is None:
            first = self._first[kind, key] = self._new(kind, key)
        return first

    def blocks(self, kind: str) -> Iterator[tuple[Key, int]]:
        """(key, first slot) of every owner of this kind. A key comes twice if an earlier owner of it has sessions left."""
        yield from ((key, first) for (of, key), first in self._first.items() if of == kind)
        yield from ((block.key, block.first) for block in self.retired if block.kind == kind)

    def gauges(self) -> set[int]:
        """Every slot whose value is "now", not a total."""
        blocks = {first + slot for kind in BLOCKS for _, first in self.blocks(kind) for slot in GAUGES[kind]}
        return blocks.union(PROCESS_GAUGES)

    def require(self, blocks: dict[str, int]) -> None:
        """Raises NoRoom unless so many more of each kind can be taken."""
        needed = sum(BLOCKS[kind] * max(0, count - len(self._free[kind])) for kind, count in blocks.items())
        if self.room and self.used + needed > self.room:
            raise NoRoom("there is no room for the counters of so many apps, listeners and targets; restart needed")

    def rename(self, kind: str, old: Key, new: Key) -> None:
        self._first[kind, new] = self._first.pop((kind, old))

    def retire(self, kind: str, *key: str, generation: int) -> None:
        """The owner is gone; workers that know this `generation` begin nothing more that counts there."""
        first = self._first.pop((kind, key), None)
        if first is not None:
            self.retired.append(Retired(kind, key, first, generation))

    def settle(self, memory: Counters, known: int) -> None:
        """Free what nobody writes any more; every worker knows the generation `known`."""
        for block in [block for block in self.retired if block.kind != "app" and block.generation <= known]:
            if not _is_idle(memory, block):
                block.was_idle = False
            elif not block.was_idle:
                block.was_idle = True
            else:
                self._hand_in(memory, block)
                self._set_free(memory, block)
        busy = {block.key[0] for block in self.retired if block.kind != "app"}
        for block in [block for block in self.retired if block.kind == "app" and block.generation <= known]:
            if block.key[0] not in busy:
                self.gone += sum(memory.sums(block.first + CONNECTS, CONNECT_SLOTS))
                self._set_free(memory, block)

    def _new(self, kind: str, key: Key) -> int:
        for block in self.retired:
            if kind == block.kind == "app" and block.key == key:  # it comes back before its last session has ended
                self.retired.remove(block)
                return block.first
        if self._free[kind]:
            return self._free[kind].pop()
        self.require({kind: 1})
        self.used += BLOCKS[kind]
        return self.used - BLOCKS[kind]

    def _hand_in(self, memory: Counters, block: Retired) -> None:
        """Its totals go to its app's block, which has the same words for them."""
        app, base = self._first.get(("app", block.key[:1])), memory.rows[0]
        for retired in self.retired:
            if app is None and retired.kind == "app" and retired.key == block.key[:1]:
                app = retired.first
        if app is None:
            return
        if block.kind == "listener":
            base[app + APP_ACCEPTED] += memory.total(block.first + LISTENER_ACCEPTED)
            return
        for slot, total in enumerate(memory.sums(block.first, BLOCKS[block.kind])):
            if slot not in GAUGES[block.kind]:
                base[app + slot] += total

    def _set_free(self, memory: Counters, block: Retired) -> None:
        self.retired.remove(block)
        for row in memory.rows:
            for slot in range(block.first, block.first + BLOCKS[block.kind]):
                row[slot] = 0
        self._free[block.kind].append(block.first)


def _is_idle(memory: Counters, block: Retired) -> bool:
    if block.kind == "target":
        return memory.total(block.first + ACTIVE) == 0
    return memory.total(block.first + LISTENER_ACCEPTED) == memory.total(block.first + LISTENER_ENDED)
