"""Nodes that are unfit, as their operators have said: unfit/NODE in etcd, with the reason, gone with the node's lease.

What such a node finds of targets counts in no vote, it is none of the `checkers`, and it decides on no primary, as long as
there is another node. Its clients are served.
"""

import json
from typing import Any

from tcp_proxy.control.cluster.shared import SharedState
from tcp_proxy.wire.cluster import parts_of

UNFIT = "unfit"
MOST_WHY = 200  # characters


def unfit_nodes(shared: SharedState) -> dict[str, str]:
    """By name, why."""
    found = {}
    for key, text in shared.each(UNFIT):
        parts, why = parts_of(key), read(text)
        if len(parts) == 2 and why is not None:
            found[parts[1]] = why
    return found


def read(text: str) -> str | None:
    """None: it is nothing of the kind."""
    try:
        said: Any = json.loads(text)
        why = said["why"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return why if type(why) is str and len(why) <= MOST_WHY and (why.isprintable() or not why) else None
