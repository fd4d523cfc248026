"""A page of a stick table: what is asked for, looked up a slice at a time, so that nobody waits for a big table.

Owned by the thread of the tables while it is under way. Pages go by the order of the keys: a table that changes meanwhile
shows no key twice, and leaves none out that was there all the time.
"""

from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any

from tcp_proxy.sansio.stick_table import Entry, StickTable

SLICE = 500  # entries that are looked at in one turn


def view(entry: Entry, table: StickTable, now: float) -> dict[str, Any]:
    """As the API shows it."""
    return {
        "key": entry.key,
        "target": entry.target,
        "version": entry.version,
        "in_use": bool(entry.open),
        "seconds": round(now - entry.since, 3),
        "expires_in": None if entry.open else round(max(0.0, table.expires - (now - entry.since)), 3),
    }


@dataclass(slots=True)
class Listing:
    """At most `limit` entries after the key `after`, of this `target`, with this text in the key, in use or not."""

    after: str = ""
    limit: int = 100
    target: str = ""
    contains: str = ""
    in_use: bool | None = None
    _table: StickTable | None = None
    _now: float = 0.0
    _left: list[Entry] = field(default_factory=list)
    _found: list[Entry] = field(default_factory=list)
    _by_target: dict[str, int] = field(default_factory=dict)

    def begin(self, table: StickTable | None, now: float) -> None:
        self._table, self._now = table, now
        self._left = list(table) if table is not None else []

    def look_on(self) -> bool:
        """A slice further; whether that was the last."""
        part, self._left = self._left[-SLICE:], self._left[:-SLICE]
        for entry in part:
            self._by_target[entry.target] = self._by_target.get(entry.target, 0) + 1
        self._found += [entry for entry in part if self._fits(entry)]
        if len(self._found) > self.limit + 1:
            self._found = nsmallest(self.limit + 1, self._found, key=lambda entry: entry.key)
        return not self._left

    def page(self) -> dict[str, Any]:
        table = self._table
        found = sorted(self._found, key=lambda entry: entry.key)
        shown = found[: self.limit]
        return {
            "entries": [view(entry, table, self._now) for entry in shown] if table is not None else [],
            "next": shown[-1].key if len(found) > self.limit else None,
            "size": table.size if table is not None else 0,
            "expires": table.expires if table is not None else 0.0,
            "known": len(table) if table is not None else 0,
            "in_use": table.in_use if table is not None else 0,
            "evicted": table.evicted if table is not None else 0,
            "by_target": self._by_target,
        }

    def _fits(self, entry: Entry) -> bool:
        return (
            entry.key > self.after
            and self.target in ("", entry.target)
            and self.contains in entry.key
            and self.in_use in (None, bool(entry.open))
        )
