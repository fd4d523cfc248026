"""The pool is one: what is said of targets at run time on any node of a cluster counts on all, on those that join later too.

Main thread only. What was said here counts here at once (control.changes.operator) and goes to the others; what they say is
applied as a reset is (Reload.revise): worked out in a thread, in slices. Under pool/APP/TARGET is what is said of it
(pool_entry); the key `pool` says that this is a pool.

    UNKNOWN ──all was read: what only this node says is forgotten, or offered to a cluster that has no pool──> SHARED
    SHARED ──another entry, another file──> looked at; what stands is what runs
"""

import logging
from collections.abc import Callable
from typing import Any

from tcp_proxy.config.model import App, Target
from tcp_proxy.control.changes import pool_entry
from tcp_proxy.control.changes.operator import MOST_TARGETS
from tcp_proxy.control.changes.overrides import Key, Override, Overrides
from tcp_proxy.control.changes.pool_entry import InFile, PoolEntry
from tcp_proxy.control.changes.reload import Reload
from tcp_proxy.control.cluster.shared import SharedState
from tcp_proxy.control.context import Context
from tcp_proxy.control.events import Event
from tcp_proxy.wire.cluster import CREATE, DELETE, REPLACE, parts_of, shared_key

logger = logging.getLogger(__name__)

POOL = "pool"
MOST_TOLD = 1000  # events of one look
LATER = 5.0  # seconds until what could not be applied is tried again


class SharedPool:
    def __init__(self, context: Context, overrides: Overrides, reload: Reload, shared: SharedState, node: str) -> None:
        self._context = context
        self._overrides = overrides
        self._reload = reload
        self._shared = shared
        self._node = node
        self._entries: dict[str, str] = {}  # by key, as they count here
        self._added: dict[tuple[str, str], Target] = {}  # by key and text: what was found to be a target
        self._faults: dict[str, str] = {}  # by key: why something does not count, each told once
        self._refused: set[tuple[str, str]] = set()  # by key and text: added ones that cannot run here
        self._fault = ""  # why nothing of it could be applied
        self._is_busy = self._is_due = False
        self.is_applied = False
        self._waiting: list[Callable[[], Any]] = []
        shared.observe(POOL, self._changed)
        context.events.observe(self._happened)

    def __repr__(self) -> str:
        return f"<SharedPool of {len(self._entries)} entries>"

    def when_applied(self, then: Callable[[], Any]) -> None:
        self._waiting.append(then)

    # -- what is said here

    def said(self, app: str, target: str, *keys: str) -> None:
        """Something was said of it here, and is applied: admin or weight, or whether it is a target at all."""
        self._say(app, target, self._overrides.said.get((app, target)), keys)

    def reset(self, app: str, target: str) -> None:
        """As the file says, of an app or a target; "" stands for all."""
        parts = (POOL, *([app] if app else ()), *([target] if target else ()))
        self._shared.change(*parts, how=DELETE, is_below=not target)
        for key in [key for key in self._entries if key == shared_key(*parts) or key.startswith(shared_key(*parts) + "/")]:
            del self._entries[key]

    def _say(self, app: str, target: str, one: Override | None, keys: tuple[str, ...] = ()) -> None:
        said = pool_entry.said_of(one, self._node)
        key = shared_key(POOL, app, target)
        if said is None:
            self._shared.change(POOL, app, target, how=DELETE)
        elif keys and self._shared.get(key):  # another node may say the other one just now
            new = {"node", "place", *keys, *(f"{key}_file" for key in keys)}
            self._shared.change(POOL, app, target, value={key: value for key, value in said.items() if key in new})
        else:
            self._shared.change(POOL, app, target, how=REPLACE, value=said)
        self._note([key])

    # -- what others say

    def _changed(self, keys: list[str] | None) -> None:
        if keys is None and not self._shared.value(POOL) and not self._shared.get(POOL):
            for (app, target), one in self._overrides.said.items():
                self._say(app, target, one)
            self._shared.change(POOL, how=CREATE, value={"node": self._node})
        self._is_due = self._note(keys) or self._is_due or not self.is_applied
        self._look()

    def _note(self, keys: list[str] | None) -> bool:
        """Take over what is there; whether it is anything new."""
        known, before = keys, dict(self._entries) if keys is None else None
        if keys is None:
            self._entries = {key: self._shared.get(key) for key in self._shared.keys(POOL)}
            return self._entries != before
        is_new = False
        for key in known or ():
            text = self._shared.get(key) if key != POOL else ""
            if text != self._entries.get(key, ""):
                is_new = True
                if text:
                    self._entries[key] = text
                else:
                    del self._entries[key]
        return is_new

    def _happened(self, event: Event) -> None:
        if event.kind == "reload" and event.data["ok"] and event.data["changes"]:
            self._refused.clear()
            self._is_due = True
            self._context.loop.call_soon(self._look)

    def _look(self) -> None:
        if self._is_busy or not self._is_due or not self._shared.is_known or self._context.is_stopping:
            return
        self._is_busy, self._is_due = True, False
        before = dict(self._overrides.said)
        entries: dict[str, str] = {}
        faults: dict[str, str] = {}

        def revised(known: Overrides) -> Overrides:
            faults.clear()
            entries.clear()
            entries.update(self._entries)  # as they are now, in a thread: in one step
            return Overrides(known.file, self._standing(known.file.apps, entries, faults))

        self._reload.revise(revised, lambda fault: self._revised(fault, before, faults, entries))

    def _standing(self, apps: tuple[App, ...], entries: dict[str, str], faults: dict[str, str]) -> dict[Key, Override]:
        """In a thread."""
        files = {app.name: InFile(app) for app in apps}
        found: dict[Key, Override] = {}
        by_app: dict[str, int] = {}
        for key, text in sorted(entries.items(), key=lambda item: _is_by_place(files, item[0])):
            parts, entry = parts_of(key), pool_entry.read(text)
            file = files.get(parts[1]) if len(parts) == 3 else None
            if entry is None or len(parts) != 3:
                faults[key] = "this is no entry that this version knows"
                continue
            if file is None or (key, text) in self._refused:
                continue
            name, one, fault = pool_entry.standing(file, parts[2], entry, self._added.get((key, text)))
            if one is not None and one.added is not None:
                self._added[key, text] = one.added
                by_app[parts[1]] = by_app.get(parts[1], 0) + 1
                if by_app[parts[1]] > MOST_TARGETS:
                    one, fault = None, f"more than {MOST_TARGETS} are added"
            if fault:
                faults[key] = f"{fault}; {_said_by(entry)}"
            if one is not None:
                found.setdefault((parts[1], name), one)
        return found

    def _revised(self, fault: str, before: dict[Key, Override], faults: dict[str, str], entries: dict[str, str]) -> None:
        self._is_busy = False
        self._is_due = self._is_due or entries != self._entries
        if self._context.is_stopping:
            return
        for key, text in faults.items():
            if self._faults.get(key) != text:
                logger.warning("cluster: %s does not count here: %s", "/".join(parts_of(key)), text)
        self._faults = faults
        if fault:
            self._is_due = True
            self._refuse(fault, entries)
            return
        self._added = {key: target for key, target in self._added.items() if entries.get(key[0]) == key[1]}
        self._tell(before, entries)
        if not self.is_applied:
            self.is_applied = True
            waiting, self._waiting = self._waiting, []
            for then in waiting:
                then()
        self._look()

    def _refuse(self, fault: str, entries: dict[str, str]) -> None:
        """Something of it cannot run here: what was added, most likely. The rest is not to wait for it."""
        new = {
            (key, text) for key, text in entries.items() if (key, text) in self._added and (key, text) not in self._refused
        }
        more = ", added ones are left out" if new else ""
        if new or fault != self._fault:
            logger.error("what other nodes say of targets cannot be applied%s: %s", more, fault)
        self._fault = fault
        self._refused |= new
        if new:
            self._look()
        else:
            self._context.loop.call_later(LATER, self._look)

    def _tell(self, before: dict[Key, Override], entries: dict[str, str]) -> None:
        after = self._overrides.said
        different = [key for key in dict.fromkeys((*before, *after)) if _plain(before.get(key)) != _plain(after.get(key))]
        for app, target in different[:MOST_TOLD]:
            now = [str(said) for said in after[app, target].said(app, target)] if (app, target) in after else []
            entry = pool_entry.read(entries.get(shared_key(POOL, app, target), ""))
            text = f"{'; '.join(now) or f'app {app}: target {target}: as the file says again'}, {_said_by(entry)}"
            logger.info("cluster: %s", text)
            data = {"app": app, "target": target, "what": "cluster", "text": text}
            self._context.events.publish("administration", data)


def _plain(one: Override | None) -> Any:
    return one and (one.admin, one.weight, one.added, one.removed)


def _said_by(entry: PoolEntry | None) -> str:
    return f"says node {entry.node}" if entry is not None and entry.node else "says another node"


def _is_by_place(files: dict[str, InFile], key: str) -> bool:
    """Those that the file has by this name come first."""
    parts = parts_of(key)
    return len(parts) != 3 or parts[1] not in files or parts[2] not in files[parts[1]].by_name
