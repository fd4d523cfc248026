"""SRV records (RFC 2782) become targets, as they would stand in the file. Pure.

Priorities become levels, in their order: the lowest is level 0, which is used first. Weights are shares; ours end at 256, so
larger ones are made smaller in proportion. A weight of 0 is the smallest share.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

MOST_WEIGHT, MOST_PRIORITY = 256, 127


class Record(NamedTuple):
    priority: int
    weight: int
    port: int
    host: str  # without the dot at its end


def targets_of(records: Iterable[Record]) -> list[dict[str, Any]]:
    """In an order that does not depend on theirs, each server once: at its first level, with its largest weight there. Names
    are in small letters: a DNS may write them otherwise each time."""
    named = {record._replace(host=record.host.lower()) for record in records if record.host}
    known = sorted(named, key=lambda one: (one.priority, one.host, one.port, -one.weight))
    if not known:
        return []
    levels = {priority: level for level, priority in enumerate(dict.fromkeys(record.priority for record in known))}
    largest = max(record.weight for record in known)
    found: dict[str, dict[str, Any]] = {}
    for record in known:
        address = f"[{record.host}]:{record.port}" if ":" in record.host else f"{record.host}:{record.port}"
        weight = record.weight if largest <= MOST_WEIGHT else round(record.weight * MOST_WEIGHT / largest)
        entry: dict[str, Any] = {"address": address, "weight": max(1, weight)}
        if levels[record.priority]:
            entry["priority"] = min(levels[record.priority], MOST_PRIORITY)
        found.setdefault(address, entry)
    return list(found.values())
