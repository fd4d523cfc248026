"""The stick table of one app: which target each key belongs to, without I/O and without a clock.

A *holder* is a small number that stands for one worker. An entry is in use while some holder has sessions of its key;
`opened` and `closed` are the first and the last of them at that holder.

    (no entry) ──claim──> IN USE ──last holder: closed, released──> IDLE ──`expires` seconds──> (no entry)
                            ^                                        │
                            └───────────── claim, opened ────────────┘
    at `size`: the entry goes that is idle longest; if all are in use, the one whose first use is longest ago

Always true:
- whoever claims a key gets what the table says, and the table takes a proposal only where it has no entry, or where the
  proposal is for the very version it has: of two that come at once, the second gets the target of the first;
- a version is never used twice in a table, not even for a key that was forgotten;
- whoever may have a copy of an entry that is different now, or gone, stands in `news`, but for entries that have expired:
  a copy is to be given up before that.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class Entry:
    """`open` and `copies` are sets of holders, as bits: who has sessions of the key, and who was told of the entry."""

    __slots__ = ("copies", "key", "open", "since", "target", "version")

    def __init__(self, key: str, target: str, version: int, since: float) -> None:
        self.key = key
        self.target = target
        self.version = version
        self.since = since  # in use: when it began to be; idle: when that ended
        self.open = 0
        self.copies = 0

    def __repr__(self) -> str:
        return f"<Entry {self.key} -> {self.target} version {self.version}, {'in use' if self.open else 'idle'}>"


class News(NamedTuple):
    """To the holders of that set: the entry is another one now; with the target "": there is none."""

    holders: int
    key: str
    target: str
    version: int


class StickTable:
    """At most `size` entries. `news` is emptied by whoever passes them on."""

    def __init__(self, size: int, expires: float, version: int = 0) -> None:
        """`version`: the last one that an earlier life of the table has used."""
        self.size = size
        self.expires = expires
        self.version = version
        self.changed: set[str] = set()  # keys whose entries are to be saved anew, if `notes_changes`
        self.notes_changes = False
        self.evicted = 0  # entries that had to go because the table was full
        self.news: list[News] = []
        self.is_copy = False  # what it has is known elsewhere, too, whose time counts: nothing expires here
        self.orders: list[tuple[str, str]] | None = None  # what `set` and `delete` have done; None: nobody wants to know
        self.uses: list[tuple[str, bool]] = []  # of a copy: keys that are in use from now on, or not any more
        self._entries: dict[str, Entry] = {}
        self._in_use: OrderedDict[str, Entry] = OrderedDict()  # by `since`
        self._idle: OrderedDict[str, Entry] = OrderedDict()  # by `since`, so the first is the first to expire

    def __repr__(self) -> str:
        return f"<StickTable {len(self._in_use)} in use, {len(self._idle)} idle, at most {self.size}>"

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    @property
    def in_use(self) -> int:
        return len(self._in_use)

    # -- what workers say

    def claim(self, key: str, proposal: str, seen: int, holder: int, now: float) -> Entry | None:
        """The holder has a session of this key and wants its target.

        `proposal` is what it would take, "" for nothing; `seen` the version that it cannot use, 0 for none.
        """
        entry = self.find(key, now)
        if entry is None:
            if not proposal:
                return None
            entry = self._add(key, proposal, now)
        elif entry.version == seen and proposal and proposal != entry.target:
            self._change(entry, proposal, holder)
        entry.copies |= 1 << holder
        self._use(entry, holder, now)
        return entry

    def opened(self, key: str, target: str, holder: int, now: float) -> None:
        """The holder has used its copy. An entry that is gone meanwhile is there again; its copy is as good as new. If it is
        another one, which the holder may never have had, it hears of that: its next session goes where all others do."""
        entry = self.find(key, now)
        is_gone = entry is None
        if entry is None:
            entry = self._add(key, target, now)
        if is_gone or entry.target != target:
            self.news.append(News(1 << holder, key, entry.target, entry.version))
        entry.copies |= 1 << holder
        self._use(entry, holder, now)

    def closed(self, key: str, holder: int, now: float) -> None:
        """The holder's last session of this key has ended."""
        entry = self._entries.get(key)
        if entry is not None:
            self._unuse(entry, 1 << holder, now)

    def released(self, holder: int, now: float) -> None:
        """The holder is gone, and its sessions with it."""
        bit = 1 << holder
        for entry in self._entries.values():
            entry.copies &= ~bit
        for entry in list(self._in_use.values()):
            self._unuse(entry, bit, now)

    # -- what operators and time say

    def get(self, key: str) -> Entry | None:
        """What is stored, expired or not."""
        return self._entries.get(key)

    def find(self, key: str, now: float) -> Entry | None:
        """What the table says of this key; that is no use of it."""
        entry = self._entries.get(key)
        if entry is not None and not entry.open and now - entry.since >= self.expires and not self.is_copy:
            self._remove(entry)
            return None
        return entry

    def set(self, key: str, target: str, now: float) -> Entry:
        """From now on the key belongs to this target, whatever was said before."""
        entry = self.find(key, now)
        if entry is None:
            entry = self._add(key, target, now)
            self._idle[key] = entry
        elif entry.target != target:
            self._change(entry, target, -1)
        if self.orders is not None:
            self.orders.append((key, target))
        return entry

    def restore(self, key: str, target: str, version: int, since: float) -> None:
        """An idle entry of an earlier life. Call in the order of `since`, before anything else: the last ones stay."""
        if key not in self._entries:
            if len(self._entries) >= self.size:
                self._remove(next(iter(self._idle.values())))
            self._entries[key] = self._idle[key] = Entry(key, target, version, since)
            self.version = max(self.version, version)

    def given(self) -> dict[str, Any]:
        """For a program that takes over, which has the same holders; nothing that JSON cannot say."""
        entries = [[one.key, one.target, one.version, one.since, one.open, one.copies] for one in self._in_order()]
        return {"version": self.version, "evicted": self.evicted, "changed": list(self.changed), "entries": entries}

    def _in_order(self) -> Iterator[Entry]:
        yield from self._idle.values()
        yield from self._in_use.values()

    def take(self, given: dict[str, Any]) -> None:
        """What `given` has said, in the place of everything."""
        self._entries, self._idle, self._in_use = {}, OrderedDict(), OrderedDict()
        for key, target, version, since, is_open, copies in given["entries"]:
            entry = self._entries[key] = Entry(key, target, version, since)
            entry.open, entry.copies = is_open, copies
            (self._in_use if is_open else self._idle)[key] = entry
        self.version, self.evicted = given["version"], given["evicted"]
        self.changed.update(given["changed"])
        self.resize(self.size, self.expires)

    def delete(self, key: str) -> bool:
        entry = self._entries.get(key)
        if entry is None:
            return False
        self._forget(entry)
        if self.orders is not None:
            self.orders.append((key, ""))
        return True

    def delete_all(self, keys: Iterable[str]) -> int:
        """How many there were."""
        return sum([self.delete(key) for key in list(keys)])

    def rename(self, old: str, new: str) -> None:
        """The target is called otherwise, and the holders know; its entries stay what they were."""
        for entry in self._entries.values():
            if entry.target == old:
                entry.target = new
                self._note(entry.key)
                if entry.copies:
                    self.news.append(News(entry.copies, entry.key, new, entry.version))

    def resize(self, size: int, expires: float) -> None:
        self.size, self.expires = size, expires
        while len(self._entries) > size:
            self._evict()

    def expire(self, now: float, at_most: int) -> list[str]:
        """Forget up to so many entries whose time is over; their keys."""
        gone: list[str] = []
        while self._idle and not self.is_copy and len(gone) < at_most:
            entry = next(iter(self._idle.values()))
            if now - entry.since < self.expires:
                break
            self._remove(entry)
            gone.append(entry.key)
        return gone

    # -- one entry

    def _add(self, key: str, target: str, now: float) -> Entry:
        """In neither order yet."""
        if len(self._entries) >= self.size:
            self._evict()
        self.version += 1
        entry = self._entries[key] = Entry(key, target, self.version, now)
        self._note(key)
        return entry

    def _change(self, entry: Entry, target: str, by: int) -> None:
        """Another target. Everybody but `by`, who is answered, hears of it."""
        self.version += 1
        entry.target, entry.version = target, self.version
        self._note(entry.key)
        others = entry.copies & ~(1 << by) if by >= 0 else entry.copies
        if others:
            self.news.append(News(others, entry.key, target, entry.version))

    def _use(self, entry: Entry, holder: int, now: float) -> None:
        if not entry.open:
            entry.since = now
            self._idle.pop(entry.key, None)
            self._in_use[entry.key] = entry
            self._note(entry.key)
            if self.is_copy:
                self.uses.append((entry.key, True))
        entry.open |= 1 << holder

    def _unuse(self, entry: Entry, bit: int, now: float) -> None:
        if not entry.open & bit:
            return
        entry.open &= ~bit
        if not entry.open:
            entry.since = now
            del self._in_use[entry.key]
            self._idle[entry.key] = entry
            self._note(entry.key)
            if self.is_copy:
                self.uses.append((entry.key, False))

    def _evict(self) -> None:
        self.evicted += 1
        self._forget(next(iter((self._idle or self._in_use).values())))

    def _forget(self, entry: Entry) -> None:
        if entry.copies:
            self.version += 1
            self.news.append(News(entry.copies, entry.key, "", self.version))
        self._remove(entry)

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry.key]
        (self._in_use if entry.open else self._idle).pop(entry.key, None)
        self._note(entry.key)
        if self.is_copy and entry.open:
            self.uses.append((entry.key, False))

    def _note(self, key: str) -> None:
        if self.notes_changes:
            self.changed.add(key)
