"""What the supervisor and the process of the cluster agent say to each other, beside what all children do (messages).

    supervisor -> agent   JoinCluster, first of all · Publish and ChangeShared, as they come · LeaveCluster, at its end
    agent -> supervisor   Ready · ClusterNews, whenever something is different, and every second or two
                          Shared, when values are others · SharedChanged, for each ChangeShared

    in a take-over        JoinCluster (waits) ──> CopyRead · TakeLease        the new program's
                          HoldWrites ──> WritesHeld · ReleaseWrites           the old one's

Shared values are texts of JSON under names such as pool/APP/TARGET, whose parts are quoted (`shared_key`). What they mean
the supervisor knows, and not the agent.
"""

import json
from dataclasses import field
from typing import Any

from tcp_proxy.sansio.frozen_dataclass import dataclass

MERGE, REPLACE, CREATE, DELETE = "merge", "replace", "create", "delete"
MOST_OF_A_VALUE = 512 * 1024  # bytes of a shared value


@dataclass(frozen=True, slots=True)
class JoinCluster:
    """Be a node of this cluster. `instance` tells this life of the proxy from any other; another agent of it goes on with
    what it has in etcd. Files are read by the agent, each time it is started."""

    name: str
    node: str
    instance: str
    endpoints: tuple[str, ...]
    lease: int  # seconds
    ca: str  # path of a file; "": the system's authorities
    certificate: tuple[str, str]  # paths of chain and key; "": none is shown
    user: str
    password_file: str
    api: str  # where the management API listens; "": nowhere
    started: float  # by the clock that all loops of this machine have in common
    log_level: str
    waits: bool = False  # read, and write and say nothing before TakeLease: another program is this node


@dataclass(frozen=True, slots=True)
class CopyRead:
    """An agent that waits has read all there is, and follows it."""


@dataclass(frozen=True, slots=True)
class TakeLease:
    """Be the node from now on. `lease` 0: by a lease of its own, and as another `instance`, for the program before us may
    not have left yet; "": as that of JoinCluster."""

    lease: int = 0  # of the program before us
    until: float = 0.0  # its end for this node, as in ClusterNews
    beat: int = 0  # that was said last
    instance: str = ""


@dataclass(frozen=True, slots=True)
class HoldWrites:
    """Another program is about to be this node: write nothing until ReleaseWrites. If this is the end, do not leave."""


@dataclass(frozen=True, slots=True)
class WritesHeld:
    """What was under way has been answered. `lease` 0: none is held."""

    lease: int
    beat: int


@dataclass(frozen=True, slots=True)
class ReleaseWrites:
    """All goes on here."""


@dataclass(frozen=True, slots=True)
class LeaveCluster:
    """Others are to see at once that this node is gone. The agent ends when that is done, or could not be."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node, as it says itself, and when it was heard by this one."""

    node: str
    instance: str
    version: str
    address: str  # by which it reaches etcd
    api: str
    age: float  # seconds since its start, when it said so
    lag: float  # seconds that what it has said took to come back to it; -1.0: nothing has
    heard: float  # when this was heard, by the clock that all loops of this machine have in common


@dataclass(frozen=True, slots=True)
class ClusterNews:
    """`state`: connecting (it never was a member so far), joined, alone. `text`: why it is not joined."""

    state: str
    text: str
    endpoint: str  # who was asked last
    revision: int  # of the store, as far as this node knows what happened
    lag: float  # as in Member
    members: tuple[Member, ...] = field(default=())
    lease: int = 0  # its number; 0: none is held
    until: float = 0.0  # its end for this node, by the clock that all loops of this machine have in common; 0.0: not joined
    read: int = 0  # keys of all there is, while an agent that was never joined reads them


@dataclass(frozen=True, slots=True)
class Publish:
    """What this node says of itself, as long as it is one: it is gone with its lease. `value` "": nothing any more."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class ChangeShared:
    """Have a shared value be another one. `how`: MERGE the keys of an object into what is there (null takes one away),
    REPLACE it, CREATE it where there is none, DELETE it, or all below a key that ends with "/". What cannot be done now is
    done as soon as it can; it may be done twice."""

    number: int
    key: str
    how: str
    value: str = ""
    seconds: int = 0  # until it is gone by itself; 0: it stays
    is_leased: bool = False  # it is gone with the lease of this node
    guard: str = ""  # a key that must not have changed since revision `guarded`, 0: must not exist
    guarded: int = 0


@dataclass(frozen=True, slots=True)
class SharedChanged:
    """`fault`: why it cannot be done; "" when it is."""

    number: int
    fault: str


@dataclass(frozen=True, slots=True)
class SharedValue:
    """`value` "": it is gone. Revisions of its last change and of its first."""

    key: str
    value: str
    revision: int
    created: int = 0


@dataclass(frozen=True, slots=True)
class Shared:
    """Values that are others now. All there is comes in several: the first one `begins`, the last one `ends`."""

    values: tuple[SharedValue, ...]
    revision: int
    begins: bool = False
    ends: bool = False


def shared_key(*parts: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415  nobody else pays for it

    return "/".join(quote(part, safe="") for part in parts)


def parts_of(key: str) -> tuple[str, ...]:
    from urllib.parse import unquote  # noqa: PLC0415  nobody else pays for it

    return tuple(unquote(part, errors="replace") for part in key.split("/"))


def json_object(text: str) -> dict[str, Any]:
    """{} for what is none."""
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def changed(before: str, change: ChangeShared) -> str:
    """What a value is after a change; "": it is gone."""
    match change.how:
        case "delete":
            return ""
        case "merge":
            both = {**json_object(before), **json_object(change.value)}
            return json.dumps({key: value for key, value in both.items() if value is not None})
        case "create":
            return before or change.value
    return change.value


def supersedes(new: ChangeShared, old: ChangeShared) -> bool:
    """Whether the older change need not be made any more: so what waits for etcd is no more than there are keys."""
    if new.key != old.key or old.guard or old.is_leased or new.how == CREATE:
        return False
    return new.how != MERGE or (old.how == MERGE and json_object(old.value).keys() <= json_object(new.value).keys())
