"""What the nodes of a cluster have said of one target at run time, as JSON text in etcd, and what of it counts beside this
node's file. Pure; what is no such entry is None, whoever has written it.

Each value has beside it what the file said then. It counts where the file says that now: so nodes with one file agree, a
node whose file was changed has the newer value, and none has to remember what another one knew.

    admin, weight     stand while the file's own value is `admin_file`, `weight_file`; of an added one as long as that
    removed           stands while the file's entry is that of this digest
    added             stands while the file has no target of this name, or has the one that `removed` names

A target that is added is held against the schema as one that comes by the API: it brings no script. One that has another
name in the file, and is at the place where it was, is the same one.
"""

import dataclasses
import hashlib
import json
from typing import Any

from tcp_proxy.config.diff import place_text
from tcp_proxy.config.load import ConfigErrors, load_target
from tcp_proxy.config.model import App, Target
from tcp_proxy.config.tls_model import as_said
from tcp_proxy.control.changes.overrides import ADMINS, Override, admin_of
from tcp_proxy.control.tls.trial import require

MAX_WEIGHT = 256
MOST = 64 * 1024  # characters of an entry
TEXTS = {"admin": 16, "admin_file": 16, "removed": 64, "place": 1024, "node": 256}  # keys, and most characters
NUMBERS = ("weight", "weight_file")


@dataclasses.dataclass(frozen=True, slots=True)
class PoolEntry:
    """ "" and None: nothing is said of that. `node` has said it last."""

    admin: str = ""
    admin_file: str = ""
    weight: int | None = None
    weight_file: int | None = None
    removed: str = ""
    added: Any = None  # what would stand in a file
    place: str = ""
    node: str = ""


def read(text: str) -> PoolEntry | None:
    try:
        said = json.loads(text) if len(text) <= MOST else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    for key, most in TEXTS.items():
        value = said.get(key, "")
        if type(value) is not str or len(value) > most or not value.isprintable():
            return None
    for key in NUMBERS:
        value = said.get(key)
        if value is not None and (type(value) is not int or not 0 <= value <= MAX_WEIGHT):
            return None
    if said.get("admin", "") not in ("", *ADMINS) or not isinstance(said.get("added"), str | dict | None):
        return None
    return PoolEntry(**{field.name: said[field.name] for field in dataclasses.fields(PoolEntry) if field.name in said})


def said_of(one: Override | None, node: str) -> dict[str, Any] | None:
    """The whole entry for what is said of a target here; None: nothing is."""
    if one is None or one.is_empty:
        return None
    own = one.added or one.base
    said: dict[str, Any] = {"node": node}
    if one.base is not None and (one.removed or one.added):
        said["removed"] = digest(one.base)
    if one.added is not None:
        said["added"] = json.loads(one.definition)
    if own is not None:
        said["place"] = place_text(own)
    if own is not None and one.admin:
        said |= {"admin": one.admin, "admin_file": admin_of(own)}
    if own is not None and one.weight is not None:
        said |= {"weight": one.weight, "weight_file": own.weight}
    return said


class InFile:
    """The targets that the file has of one app."""

    def __init__(self, app: App) -> None:
        self.app = dataclasses.replace(app, targets=())
        self.by_name = {one.name: one for one in app.targets}
        self.by_place = {place_text(one): one for one in reversed(app.targets)}


def standing(file: InFile, name: str, entry: PoolEntry, known: Target | None) -> tuple[str, Override | None, str]:
    """What of it counts for which target, and why something does not. `known`: what `added` was found to be before."""
    own = file.by_name.get(name)
    if entry.added is not None:
        return name, *_added(file.app, name, entry, own, known)
    own = own or file.by_place.get(entry.place)
    if own is None:
        return name, None, ""
    if entry.removed:
        stands = entry.removed == digest(own)
        return own.name, Override(own, removed=True) if stands else None, "" if stands else "removed, and here another one"
    return own.name, *_values(Override(own), own, entry, is_added=False)


def _values(one: Override, own: Target, entry: PoolEntry, *, is_added: bool) -> tuple[Override | None, str]:
    found, faults = one, []
    if entry.admin and (is_added or entry.admin_file == admin_of(own)):
        found = dataclasses.replace(found, admin=entry.admin)
    elif entry.admin:
        faults.append(f"{entry.admin}, and this file says {admin_of(own)}")
    if entry.weight is not None and (is_added or entry.weight_file == own.weight):
        found = dataclasses.replace(found, weight=entry.weight)
    elif entry.weight is not None:
        faults.append(f"weight {entry.weight}, and this file says {own.weight}")
    return None if found.is_empty else found, "; ".join(faults)


def _added(app: App, name: str, entry: PoolEntry, own: Target | None, known: Target | None) -> tuple[Override | None, str]:
    if own is not None and entry.removed != digest(own):
        return None, "added, and this file has it"
    target = known
    if target is None:
        try:
            target = require(load_target(entry.added, app))
        except ConfigErrors as errors:
            return None, f"added, and can be none here: {errors.errors[0].message}"
    if target.name != name:
        return None, f"added, and calls itself {target.name}"
    one = Override(own, added=target, definition=json.dumps(entry.added))
    return _values(one, target, entry, is_added=True)


def digest(target: Target) -> str:
    """Of files the names, as it is written."""
    plain = {field.name: getattr(target, field.name) for field in dataclasses.fields(target)}
    plain["tls"] = None if target.tls is None else as_said(target.tls)
    return hashlib.sha256(repr(plain).encode("utf-8", "surrogatepass")).hexdigest()[:16]
