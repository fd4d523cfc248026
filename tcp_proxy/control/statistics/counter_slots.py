"""Who owns which counters: blocks of slots in the shared memory, handed out by kind of owner and its key, and taken back.

Main thread of the supervisor only. A block stays its owner's; asking again for the same owner gives the same block.

    taken ── retire() ──> RETIRED ──every worker knows, twice seen idle──> free, its totals in its app's block

A retired block still counts: sessions of a target that has left go on, in it (docs/rules.md, R4). Twice, because a
session's last counts are written a moment after it has left the gauge.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tcp_proxy.wire.counters import (
    ACTIVE,
    APP_ACCEPTED,
    BLOCKS,
    CONNECT_SLOTS,
    CONNECTS,
    GAUGES,
    HTTP_CONNECTIONS,
    LISTENER_ACCEPTED,
    LISTENER_ARRIVING,
    LISTENER_ENDED,
    PROCESS_SLOTS,
    Counters,
)

AT_ONCE = 250  # blocks in a slice
RUNS_AT_ONCE = 50  # that are given back in a slice

NO_ROOM = "there is no room for the counters of so many apps, listeners and targets; restart needed"

Key = tuple[str, ...]  # (app,), (app, target's name), (app, listener's address) or (app, action, entry) of access


class NoRoom(OSError):
    """A row of the counters' memory is full: of ours, or of that of a program that was taken over."""


@dataclass(slots=True, eq=False)  # found among thousands by what it is, not by what it holds
class Retired:
    kind: str
    key: Key
    first: int
    generation: int
    was_idle: bool = False
    is_free: bool = False


class CounterSlots:
    """`used` slots are given out, or were, those of the process among them."""

    def __init__(self) -> None:
        self.used = PROCESS_SLOTS
        self.gone = 0  # sessions that were connected to a target of an app that has left
        self.room = 0  # in a row of the memory; 0 as long as there is no memory
        self.retired: list[Retired] = []
        self._retired_apps: dict[Key, Retired] = {}  # those of `retired` that are apps: they may be looked for by thousands
        self._first: dict[str, dict[Key, int]] = {kind: {} for kind in BLOCKS}
        self._free: dict[str, list[int]] = {kind: [] for kind in BLOCKS}
        self._taken = 0  # how often one was

    def __repr__(self) -> str:
        return f"<CounterSlots {self.used} in {sum(map(len, self._first.values()))} blocks, {len(self.retired)} retired>"

    def given(self) -> dict[str, Any]:
        """For a program that takes over, which makes the same of it by `taken`; nothing that JSON cannot say."""
        return {
            "used": self.used,
            "gone": self.gone,
            "room": self.room,
            "retired": [[one.kind, list(one.key), one.first, one.generation] for one in self.retired],
            "first": {kind: [[list(key), first] for key, first in found.items()] for kind, found in self._first.items()},
            "free": self._free,
        }

    @classmethod
    def taken(cls, given: Mapping[str, Any]) -> "CounterSlots":
        slots = cls()
        slots.used, slots.gone, slots.room = given["used"], given["gone"], given["room"]
        for kind, found in given["first"].items():
            slots._first[kind] = {tuple(key): first for key, first in found}
        for kind, free in given["free"].items():
            slots._free[kind] = list(free)
        slots.retired = [Retired(kind, tuple(key), first, generation) for kind, key, first, generation in given["retired"]]
        slots._retired_apps = {block.key: block for block in slots.retired if block.kind == "app"}
        return slots

    def retire_all_but(self, kind: str, wanted: Container[Key], generation: int) -> None:
        """Of those that were there before a take-over."""
        for key in [key for key in self._first[kind] if key not in wanted]:
            self.retire(kind, *key, generation=generation)

    def take(self, kind: str, *key: str) -> int:
        """The first slot of this owner's block. Raises NoRoom."""
        first = self._first[kind].get(key)
        if first is None:
            first = self._first[kind][key] = self._new(kind, key)
        return first

    def blocks(self, kind: str) -> list[tuple[Key, int]]:
        """(key, first slot) of every owner of this kind. A key comes twice if an earlier owner of it has sessions left."""
        return [*self._first[kind].items(), *self.earlier(kind)]

    def owned(self, kind: str) -> Mapping[Key, int]:
        """The first slots of the owners that there are; the same mapping each time."""
        return self._first[kind]

    def earlier(self, kind: str) -> list[tuple[Key, int]]:
        """Of owners that have left, while they may have sessions."""
        return [(block.key, block.first) for block in self.retired if block.kind == kind]

    def require(self, blocks: dict[str, int]) -> None:
        """Raises NoRoom unless so many more of each kind can be taken."""
        needed = sum(BLOCKS[kind] * max(0, count - len(self._free[kind])) for kind, count in blocks.items())
        if self.room and self.used + needed > self.room:
            raise NoRoom(NO_ROOM)

    def rename(self, kind: str, old: Key, new: Key) -> None:
        self._first[kind][new] = self._first[kind].pop(old)

    def retire(self, kind: str, *key: str, generation: int) -> None:
        """The owner is gone; workers that know this `generation` begin nothing more that counts there."""
        first = self._first[kind].pop(key, None)
        if first is not None:
            self.retired.append(block := Retired(kind, key, first, generation))
            if kind == "app":
                self._retired_apps[key] = block

    def settle(self, memory: Counters, known: int) -> Iterator[None]:
        """Free what nobody writes any more, in slices; every worker knows the generation `known`."""
        blocks = [block for block in self.retired if block.kind != "app" and block.generation <= known]
        for begin in range(0, len(blocks), AT_ONCE):
            for block in blocks[begin : begin + AT_ONCE]:
                if not _is_idle(memory, block):
                    block.was_idle = False
                elif not block.was_idle:
                    block.was_idle = True
                else:
                    self._hand_in(memory, block)
                    self._set_free(memory, block)
            yield
        self.retired = [block for block in self.retired if not block.is_free]
        busy = {block.key[0] for block in self.retired if block.kind != "app"}
        for block in [block for block in self.retired if block.kind == "app" and block.generation <= known]:
            if block.key[0] not in busy:
                self.gone += sum(memory.sums(block.first + CONNECTS, CONNECT_SLOTS))
                self._set_free(memory, block)
        self.retired = [block for block in self.retired if not block.is_free]
        yield
        if blocks and not self.retired:
            yield from self._releasing(memory)

    def _releasing(self, memory: Counters) -> Iterator[None]:
        """In slices, until somebody needs a block again."""
        taken = self._taken
        for number, (first, count) in enumerate(list(self._free_runs()), 1):
            memory.release(first, count)
            if not number % RUNS_AT_ONCE:
                yield
                if self._taken != taken:
                    return

    def _new(self, kind: str, key: Key) -> int:
        if kind == "app" and (back := self._retired_apps.pop(key, None)):  # it comes before its last session has ended
            self.retired.remove(back)
            return back.first
        self._taken += 1
        if self._free[kind]:
            return self._free[kind].pop()
        size = BLOCKS[kind]
        if self.room and self.used + size > self.room:
            raise NoRoom(NO_ROOM)
        self.used += size
        return self.used - size

    def _hand_in(self, memory: Counters, block: Retired) -> None:
        """Its totals go to its app's block, which has the same words for them; nobody has those of a rule."""
        if block.kind == "rule":
            return
        app, base = self._first["app"].get(block.key[:1]), memory.rows[0]
        if app is None:
            left = self._retired_apps.get(block.key[:1])
            if left is None:
                return
            app = left.first
        if block.kind == "listener":
            base[app + APP_ACCEPTED] += memory.total(block.first + LISTENER_ACCEPTED)
            return
        for slot, total in enumerate(memory.sums(block.first, BLOCKS[block.kind])):
            if slot not in GAUGES[block.kind]:
                base[app + slot] += total

    def _set_free(self, memory: Counters, block: Retired) -> None:
        block.is_free = True
        if block.kind == "app":
            del self._retired_apps[block.key]
        memory.clear(block.first, BLOCKS[block.kind])
        self._free[block.kind].append(block.first)

    def _free_runs(self) -> Iterator[tuple[int, int]]:
        """(first slot, how many) of free slots side by side."""
        free = sorted((first, BLOCKS[kind]) for kind, blocks in self._free.items() for first in blocks)
        start = end = 0
        for first, size in free:
            if first != end:
                if end > start:
                    yield start, end - start
                start = first
            end = first + size
        if end > start:
            yield start, end - start


def _is_idle(memory: Counters, block: Retired) -> bool:
    if block.kind == "rule":  # who knows that it is gone counts nothing there
        return True
    if block.kind == "target":
        return memory.total(block.first + ACTIVE) == 0 == memory.total(block.first + HTTP_CONNECTIONS)
    is_empty = memory.total(block.first + LISTENER_ACCEPTED) == memory.total(block.first + LISTENER_ENDED)
    return is_empty and memory.total(block.first + LISTENER_ARRIVING) == 0
