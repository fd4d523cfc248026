"""Policies with a table (sansio.hash_table): a key's target is found by one look, or by a few where targets are down.

Pure; one for an app in one worker, as the other balancers. The table has all targets of the app. A look that falls to one
that is not eligible is made again with other bits of the key's digest: so the keys of a target that is down are spread over
all others by their weights, no other key moves, and when it is up again it has its own. A target that has a part of its
weight only (slow start) gets that part of its keys, always the same ones: as it rises more come, and none goes.

Until there is a table, and for the rare key that LOOKS looks bring nowhere, for few of many are eligible, the weighted
rendezvous decides, which needs none.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

from tcp_proxy.sansio.balance import C, Candidate, Draw, SourceHash
from tcp_proxy.sansio.hash_table import HashTable

LOOKS = 32
_IN_A_DIGEST, _PART = 8, 16  # looks; bits of each that say what part of a target's keys this is one of


class TableHash:
    """`table`: None until there is one."""

    def __init__(self, table: HashTable | None) -> None:
        self._table = table
        self._numbers = {name: number for number, (name, _) in enumerate(table.members)} if table is not None else {}
        self._rendezvous = SourceHash(0)
        self._eligible: Sequence[Candidate] = ()
        self._by_number: list[Any] = []  # None: not eligible
        self._parts: list[float] | None = None  # of 1 << _PART, what each has of its weight; None: all of it

    def pick(self, eligible: Sequence[C], key: bytes, now: float, draw: Draw) -> C:
        table = self._table
        if table is None:
            return self._rendezvous.pick(eligible, key, now, draw)
        if eligible is not self._eligible:
            self._adopt(eligible, table)
        parts, by_number = self._parts, self._by_number
        for number in _numbers(key):
            index = table.find(number >> _PART)
            found: C | None = by_number[index]
            if found is not None and (parts is None or number & (1 << _PART) - 1 < parts[index]):
                return found
        return self._rendezvous.pick(eligible, key, now, draw)

    def _adopt(self, eligible: Sequence[Candidate], table: HashTable) -> None:
        self._eligible = eligible
        self._by_number = by_number = [None] * len(table.members)
        has: list[float] = [0.0] * len(by_number)
        for candidate in eligible:
            number = self._numbers.get(candidate.name)
            if number is not None:
                by_number[number] = candidate  # type: ignore[call-overload]
                has[number] = candidate.weight / table.members[number][1]
        most = max(has)
        is_whole = all(part == most for part, one in zip(has, by_number, strict=True) if one is not None)
        self._parts = None if is_whole else [part / most * (1 << _PART) for part in has]


def _numbers(key: bytes) -> Iterator[int]:
    """Of 64 bits each, LOOKS of them."""
    for salt in range(LOOKS // _IN_A_DIGEST):
        digest = blake2b(key, digest_size=64, salt=bytes((salt,))).digest()
        for start in range(0, 64, 8):
            yield int.from_bytes(digest[start : start + 8], "little")
