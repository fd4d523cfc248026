"""What the nodes of a cluster share, as the supervisor knows it: texts under names, those of etcd with what this node has
said and etcd does not have yet.

Main thread only. What is said while etcd or the agent is gone waits here, in order, and counts for this node at once.
Whoever has to do with values of one kind (the first part of their names) observes it: he is called with the names that are
others now, None for all of them, and reads them with a schema of his own: nothing here is believed.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

from tcp_proxy.wire.cluster import (
    DELETE,
    MERGE,
    ChangeShared,
    Publish,
    Shared,
    SharedChanged,
    SharedValue,
    changed,
    shared_key,
    supersedes,
)

Parts = tuple[str, ...]
Observer = Callable[[list[str] | None], Any]


class SharedState:
    """`send(message)` to the agent; nothing happens while there is none."""

    def __init__(self, send: Callable[[Publish | ChangeShared], Any]) -> None:
        self.is_known = False  # all that there is was read once
        self.revision = 0
        self._send = send
        self._values: dict[str, SharedValue] = {}
        self._coming: dict[str, SharedValue] | None = None  # all there is, as far as it has come
        self._published: dict[str, str] = {}
        self._waiting: dict[int, tuple[ChangeShared, Callable[[str], Any]]] = {}
        self._numbers = itertools.count(1)
        self._observers: dict[str, list[Observer]] = {}

    def __repr__(self) -> str:
        return f"<SharedState: {len(self._values)} values, {len(self._waiting)} changes wait>"

    def observe(self, kind: str, observer: Observer) -> None:
        self._observers.setdefault(kind, []).append(observer)

    # -- what there is

    def get(self, key: str) -> str:
        """ "" for nothing."""
        known = self._values.get(key)
        text = known.value if known is not None else ""
        for change, _ in self._waiting.values():
            if change.key == key or (change.how == DELETE and change.key.endswith("/") and key.startswith(change.key)):
                text = changed(text, change)
        return text

    def value(self, key: str) -> SharedValue | None:
        """As it is in etcd."""
        return self._values.get(key)

    def keys(self, kind: str) -> list[str]:
        """Names with a value."""
        prefix = f"{kind}/"
        said = [change.key for change, _ in self._waiting.values() if not change.key.endswith("/")]
        return [key for key in dict.fromkeys((*self._values, *said)) if key.startswith(prefix) and self.get(key)]

    def each(self, kind: str) -> Iterator[tuple[str, str]]:
        """Names and texts, as they are in etcd."""
        prefix = f"{kind}/"
        return ((key, one.value) for key, one in self._values.items() if key.startswith(prefix))

    # -- what this node says

    def publish(self, *parts: str, value: Any) -> None:
        """Of itself, as long as it is one. None: nothing any more."""
        key = shared_key(*parts)
        text = "" if value is None else json.dumps(value)
        if self._published.get(key, "") != text:
            if text:
                self._published[key] = text
            else:
                del self._published[key]
            self._send(Publish(key, text))

    def change(
        self, *parts: str, how: str = MERGE, value: Any = None, is_below: bool = False, seconds: int = 0,
        is_leased: bool = False, guard: SharedValue | None = None, done: Callable[[str], Any] | None = None,
    ) -> None:  # fmt: skip
        """`is_below`: all that is below these parts. `guard`: a value that must not have changed meanwhile. `done(fault)`
        when it is in etcd, or cannot be."""
        key = shared_key(*parts) + "/" * is_below
        text = "" if value is None else json.dumps(value)
        lock = (guard.key, guard.revision) if guard is not None else ("", 0)
        message = ChangeShared(next(self._numbers), key, how, text, seconds, is_leased, *lock)
        for number in [number for number, (old, _) in self._waiting.items() if supersedes(message, old)]:
            self._waiting.pop(number)[1]("")
        self._waiting[message.number] = message, done or _nothing
        self._send(message)

    # -- a take-over

    def given(self) -> dict[str, Any]:
        """For another program that is this node from then on; nothing that JSON cannot say."""
        return {
            "revision": self.revision,
            "values": [[one.key, one.value, one.revision, one.created] for one in self._values.values()],
            "published": dict(self._published),
            # A lead that is being claimed is claimed again by whoever wants it then.
            "waiting": [dataclasses.asdict(change) for change, _ in self._waiting.values() if not change.is_leased],
        }

    def take(self, given: dict[str, Any] | None) -> None:
        """What `given` has told is known; nobody is told. None: nothing is."""
        found = given["values"] if given is not None else []
        self._values = {key: SharedValue(key, *more) for key, *more in found}
        self.is_known, self.revision = given is not None, given["revision"] if given is not None else 0

    def go_on(self, given: dict[str, Any]) -> None:
        """This node has said the same, where it has not said anything else since, and wants the same."""
        self._published = {**given["published"], **self._published}
        for one in given["waiting"]:
            number = next(self._numbers)
            known = {key: value for key, value in one.items() if key in ChangeShared.__dataclass_fields__}
            self._waiting[number] = ChangeShared(**{**known, "number": number}), _nothing

    def published(self, kind: str) -> list[str]:
        """Names of what this node says."""
        return [key for key in self._published if key.startswith(f"{kind}/")]

    def tell_all(self) -> None:
        self._tell(None)

    # -- what the agent says

    def begin(self) -> None:
        """There is another agent: it knows nothing of this."""
        for key, text in self._published.items():
            self._send(Publish(key, text))
        for change, _ in tuple(self._waiting.values()):
            self._send(change)

    def heard(self, message: Shared | SharedChanged) -> None:
        if isinstance(message, SharedChanged):
            self._answered(message)
            return
        if message.begins:
            self._coming = {}
        if self._coming is None:
            self._update(message)
            return
        self._coming.update((one.key, one) for one in message.values)
        if message.ends:
            self._values, self._coming = self._coming, None
            self.is_known, self.revision = True, message.revision
            self._tell(None)

    def _update(self, message: Shared) -> None:
        for one in message.values:
            if one.value:
                self._values[one.key] = one
            else:
                self._values.pop(one.key, None)
        self.revision = message.revision
        self._tell([one.key for one in message.values])

    def _answered(self, message: SharedChanged) -> None:
        waiting = self._waiting.pop(message.number, None)
        if waiting is None:
            return
        change, done = waiting
        keys = list(self._values) if change.key.endswith("/") else [change.key]
        self._tell([key for key in keys if key.startswith(change.key)])
        done(message.fault)

    def _tell(self, keys: list[str] | None) -> None:
        for kind, observers in tuple(self._observers.items()):
            ours = None if keys is None else [key for key in keys if key == kind or key.startswith(f"{kind}/")]
            if ours is None or ours:
                for observer in tuple(observers):
                    observer(ours)


def _nothing(_fault: str) -> None:
    """Nobody waits for it."""
