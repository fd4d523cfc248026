"""Tables of consistent hashes: which target a number falls to. Maglev (NSDI '16, section 3.4) and a ring (Karger et al.).

Pure. A table is worked out from names and weights alone, so all workers have the same, and after a restart, too. It has the
targets of the configuration, whatever their state: who may have sessions is for its user to look at (sansio.hashed), and a
check that fails costs nobody a new table.

`building` is a generator: most steps are less than a millisecond, so that the loop that takes them has its turns in between
(a table of 65,537 entries takes about 60 ms in all). The table is there, and is used, when the last step is done.
"""

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Protocol

Member = tuple[str, int]  # name, weight

PROBES = 8192  # of a Maglev table in a step
DIGESTS = 512  # in a step; of a ring each makes POINTS points
POINTS = 8
BITS = 44  # of a place on the ring; what is left of 64 is the number of its target
INDEX_BITS = 20
BUCKETS, SORTED = 1024, 32  # a ring is sorted in parts, so many of them in a step
MOST_MEMBERS = 1 << INDEX_BITS


class HashTable(Protocol):
    members: Sequence[Member]

    def find(self, number: int) -> int:
        """The index of the member that this number of 48 bits falls to."""


class Maglev:
    """Each target fills the entries of a permutation of its own, in turns by weight, until the table is full.

    All have the same number of entries but for one, by weight. When a target goes, its entries are shared out, and a few
    others are moved: about 1 % with a table of a hundred entries for each target (`size` is a prime).
    """

    def __init__(self, members: Sequence[Member], entries: "array[int]") -> None:
        self.members = members
        self.entries = entries
        self._size = len(entries)

    def __repr__(self) -> str:
        return f"<Maglev of {len(self.members)} members, {self._size} entries>"

    @classmethod
    def building(cls, members: Sequence[Member], size: int) -> "Iterator[HashTable | None]":
        """Gives None at each step, and the table at last. `members`: at least one, each with a weight above 0."""
        following, skips = [], []  # where each looks next, and how far from there the one after it is
        for number, (name, _) in enumerate(members):
            seed = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            following.append(int.from_bytes(seed[:8], "little") % size)
            skips.append(int.from_bytes(seed[8:], "little") % (size - 1) + 1)
            if number % DIGESTS == 0:
                yield None
        entries = array("l", [-1]) * size
        left, probes = size, 0
        for index in turns([weight for _, weight in members]):
            place, skip = following[index], skips[index]
            while entries[place] >= 0:
                place += skip
                if place >= size:
                    place -= size
                probes += 1
            entries[place] = index
            place += skip
            following[index] = place if place < size else place - size
            left -= 1
            if not left:
                break
            probes += 2  # a turn costs as much
            if probes >= PROBES:
                probes = 0
                yield None
        yield cls(members, entries)

    def find(self, number: int) -> int:
        return self.entries[number % self._size]


def turns(weights: Sequence[int]) -> Iterator[int]:
    """Whose turn it is, without end: who has most weight in every round, the others in as many as they have of it."""
    most = max(weights)
    if min(weights) == most:
        while True:
            yield from range(len(weights))
    owed = [0] * len(weights)
    while True:
        for index, weight in enumerate(weights):
            owed[index] += weight
            if owed[index] >= most:
                owed[index] -= most
                yield index


class Ring:
    """Each target has points on a circle, as many as it has weight; a number is the target's whose point comes next.

    A target with n points has its share to within one in the square root of n. For each unit of weight there is a power of
    two of points, so many that all have more than half of `size` and not more: it stays the same for most changes, and then
    a target that goes moves only its own numbers, and one that comes only those that become its own.
    """

    def __init__(self, members: Sequence[Member], points: "array[int]") -> None:
        self.members = members
        self.points = points
        self._size = len(points)

    def __repr__(self) -> str:
        return f"<Ring of {len(self.members)} members, {self._size} points>"

    @classmethod
    def building(cls, members: Sequence[Member], size: int) -> "Iterator[HashTable | None]":
        """As Maglev's."""
        unit = 2.0 ** math.floor(math.log2(size / sum(weight for _, weight in members)))
        shift, digests = BITS + INDEX_BITS - BUCKETS.bit_length() + 1, 0
        buckets: list[list[int]] = [[] for _ in range(BUCKETS)]
        for index, (name, weight) in enumerate(members):
            data = name.encode("utf-8", "surrogatepass")
            left = max(1, math.ceil(weight * unit))
            for number in range(math.ceil(left / POINTS)):
                digest = blake2b(data, digest_size=64, salt=number.to_bytes(8, "little")).digest()
                for start in range(0, 8 * min(left, POINTS), 8):
                    point = int.from_bytes(digest[start : start + 8], "little") >> INDEX_BITS << INDEX_BITS | index
                    buckets[point >> shift].append(point)
                left -= POINTS
                digests += 1
                if digests % DIGESTS == 0:
                    yield None
        points = array("Q")
        for number, bucket in enumerate(buckets):
            points.extend(sorted(bucket))
            if number % SORTED == 0:
                yield None
        yield cls(members, points)

    def find(self, number: int) -> int:
        place = bisect_left(self.points, number >> 48 - BITS << INDEX_BITS)
        return self.points[place if place < self._size else 0] & MOST_MEMBERS - 1


TABLES = {"maglev": Maglev.building, "ring_hash": Ring.building}  # by the policy
