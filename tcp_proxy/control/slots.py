"""Who owns which counters: blocks of slots in the shared memory, handed out by kind of owner and its key.

Main thread of the supervisor only. A block stays its owner's; asking again for the same owner gives the same block. The
memory is made when everybody has asked.
"""

from collections.abc import Iterator

from tcp_proxy.counters import BLOCKS, GAUGES, PROCESS_GAUGES, PROCESS_SLOTS

Key = tuple[str, ...]  # (app,), (app, target's name) or (app, listener's address)


class Slots:
    """`used` slots are given out, those of the process among them."""

    def __init__(self) -> None:
        self.used = PROCESS_SLOTS
        self._first: dict[tuple[str, Key], int] = {}

    def __repr__(self) -> str:
        return f"<Slots {self.used} in {len(self._first)} blocks>"

    def take(self, kind: str, *key: str) -> int:
        """The first slot of this owner's block."""
        first = self._first.get((kind, key))
        if first is None:
            first = self._first[kind, key] = self.used
            self.used += BLOCKS[kind]
        return first

    def blocks(self, kind: str) -> Iterator[tuple[Key, int]]:
        """(key, first slot) of every owner of this kind."""
        return ((key, first) for (of, key), first in self._first.items() if of == kind)

    def gauges(self) -> set[int]:
        """Every slot whose value is "now", not a total."""
        blocks = {first + slot for (kind, _), first in self._first.items() for slot in GAUGES[kind]}
        return blocks.union(PROCESS_GAUGES)
