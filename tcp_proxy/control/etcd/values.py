"""What is said to etcd and what it says, as values, and their form on its JSON gateway. No I/O.

Keys and values travel as base64 with padding, of the standard alphabet (3.4 refuses any other); 64-bit numbers as strings;
what is 0, "" or false is left out. A key that is no UTF-8 is kept as Python keeps such file names (surrogateescape).
"""

import base64
from binascii import a2b_base64
from dataclasses import dataclass
from typing import Any, NamedTuple

Json = dict[str, Any]


class KeyValue(NamedTuple):
    """A tuple, for there may be 100,000. `revision`: of the last change; `created`: of the first one; `lease` 0: none."""

    key: str
    value: bytes
    revision: int
    created: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """A change of one key. `value` None: it is gone, and `lease` is 0."""

    key: str
    value: bytes | None
    revision: int
    created: int = 0
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a read came to: `kvs` as they were at `revision` of the store; `more`: there are others after them."""

    kvs: tuple[KeyValue, ...]
    revision: int
    cluster: int
    more: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    """`value` None: that of the key stays, which has to exist; only its lease is another one."""

    key: str
    value: bytes | None
    lease: int = 0

    def as_json(self) -> Json:
        made: Json = {"key": encoded(self.key)}
        if self.value is None:
            made["ignore_value"] = True
        else:
            made["value"] = base64.b64encode(self.value).decode()
        return {**made, "lease": str(self.lease)} if self.lease else made


@dataclass(frozen=True, slots=True)
class Get:
    key: str

    def as_json(self) -> Json:
        return {"key": encoded(self.key)}


@dataclass(frozen=True, slots=True)
class Delete:
    """`prefix`: of every key that begins so."""

    key: str
    prefix: bool = False

    def as_json(self) -> Json:
        made: Json = {"key": encoded(self.key)}
        return {**made, "range_end": range_end(self.key)} if self.prefix else made


Operation = Put | Get | Delete
_REQUESTS = {Put: "request_put", Get: "request_range", Delete: "request_delete_range"}


@dataclass(frozen=True, slots=True)
class Compare:
    """Of a key's revisions, 0 for a key that does not exist: `target` CREATE, MOD; `result` EQUAL, GREATER, LESS.

    Never of a VALUE: such a compare is false for a key that does not exist, whatever it asks."""

    key: str
    target: str
    result: str
    number: int

    def as_json(self) -> Json:
        field = {"CREATE": "create_revision", "MOD": "mod_revision"}[self.target]
        return {"key": encoded(self.key), "target": self.target, "result": self.result, field: str(self.number)}


def is_absent(key: str) -> Compare:
    return Compare(key, "CREATE", "EQUAL", 0)


def is_present(key: str) -> Compare:
    return Compare(key, "CREATE", "GREATER", 0)


def is_unchanged(key: str, revision: int) -> Compare:
    """Since this revision of the key; 0: it still does not exist."""
    return Compare(key, "MOD", "EQUAL", revision)


@dataclass(frozen=True, slots=True)
class Done:
    """What a transaction came to. `found`: what each Get of the branch that was taken has read, in order."""

    succeeded: bool
    revision: int
    found: tuple[KeyValue | None, ...]


def transaction(compares: tuple[Compare, ...], then: tuple[Operation, ...], otherwise: tuple[Operation, ...]) -> Json:
    made = {"compare": [one.as_json() for one in compares], "success": _all(then), "failure": _all(otherwise)}
    return {name: value for name, value in made.items() if value}


def done(body: Json) -> Done:
    """Raises ValueError and its like for what is no answer to a transaction."""
    ranges = [one["response_range"] for one in body.get("responses", ()) if "response_range" in one]
    read = [[key_value(kv) for kv in one.get("kvs", ())] for one in ranges]
    return Done(bool(body.get("succeeded")), int(body["header"]["revision"]), tuple(kvs[0] if kvs else None for kvs in read))


def key_value(body: Json) -> KeyValue:
    return KeyValue(
        decoded(body["key"]), a2b_base64(body.get("value", "")), int(body["mod_revision"]),
        int(body["create_revision"]), int(body.get("lease", 0)),
    )  # fmt: skip


def event(body: Json) -> Event:
    kv = body["kv"]
    if body.get("type") == "DELETE":
        return Event(decoded(kv["key"]), None, int(kv["mod_revision"]))
    one = key_value(kv)
    return Event(one.key, one.value, one.revision, one.created, one.lease)


def encoded(key: str) -> str:
    return base64.b64encode(key.encode("utf-8", "surrogateescape")).decode()


def decoded(text: str) -> str:
    return a2b_base64(text).decode("utf-8", "surrogateescape")


def range_end(prefix: str) -> str:
    """The first key that does not begin so, as etcd wants it."""
    raw = prefix.encode("utf-8", "surrogateescape").rstrip(b"\xff")
    return base64.b64encode(raw[:-1] + bytes([raw[-1] + 1]) if raw else b"\0").decode()


def _all(operations: tuple[Operation, ...]) -> list[Json]:
    return [{_REQUESTS[type(one)]: one.as_json()} for one in operations]
