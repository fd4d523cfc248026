"""What was said of targets at run time (control.changes.overrides), to the store and back: it survives a restart.

Main thread only. A row keeps beside what was said the target as the file had it then, so that a file that was changed
while nothing ran has the newer value, just as with a reload.
"""

import dataclasses
import json
import logging
from collections.abc import Iterator
from typing import Any

from tcp_proxy.config.certificates import as_read
from tcp_proxy.config.diff import place
from tcp_proxy.config.model import App, Check, Config, SendProxy, Target
from tcp_proxy.config.target_model import Source
from tcp_proxy.config.tls_model import as_said
from tcp_proxy.control.changes.overrides import Key, Override, Overrides
from tcp_proxy.control.store.state import REMOVED, SavedTarget, State
from tcp_proxy.control.tls.trial import client_fault
from tcp_proxy.sansio.address import Address

logger = logging.getLogger(__name__)

AT_ONCE = 100  # in a slice: each is written as JSON


def load(store: State, file: Config) -> Overrides:
    """What of it still stands beside this file; the log says it."""
    overrides, unreadable = _read(store, file)
    for key, error in unreadable:
        logger.warning("app %s: target %s: what was said of it at run time cannot be read: %r", *key, error)
    for (app, target), one in overrides.said.items():
        logger.info("app %s: target %s: %s, as it was said before the restart", app, target, _text(one))
    return overrides


def saved_beside(store: State, file: Config) -> Overrides:
    """The same, before a log is kept."""
    return _read(store, file)[0]


def _read(store: State, file: Config) -> tuple[Overrides, list[tuple[Key, Exception]]]:
    said: dict[Key, Override] = {}
    unreadable: list[tuple[Key, Exception]] = []
    for key, saved in store.load().items():
        try:
            one = _override(saved)
        except (ValueError, TypeError, LookupError) as error:
            unreadable.append((key, error))
            continue
        if not one.is_empty:
            said[key] = one
    said = dict(sorted(said.items(), key=lambda item: item[1].number))
    return Overrides(_file_before(said, file), said).rebased(file), unreadable


def saving(store: State, overrides: Overrides) -> Iterator[None]:
    """The store knows what is said, and nothing that is no longer said. In slices; nothing is said meanwhile."""
    known = store.load()
    gone = [saved for key, saved in known.items() if key not in overrides.said]
    for number, (key, one) in enumerate(tuple(overrides.said.items()), 1):
        store.save(_saved(known.get(key) or SavedTarget(*key), one))
        if not number % AT_ONCE:
            yield
    for number, saved in enumerate(gone, 1):
        _forget(store, saved)
        if not number % AT_ONCE:
            yield


def save(store: State, overrides: Overrides) -> None:
    """The same in one turn."""
    for _ in saving(store, overrides):
        pass


def save_one(store: State, overrides: Overrides, key: Key) -> None:
    """The same of one target."""
    one, saved = overrides.said.get(key), store.get(*key)
    if one is not None:
        store.save(_saved(saved or SavedTarget(*key), one))
    elif saved is not None:
        _forget(store, saved)


def _forget(store: State, saved: SavedTarget) -> None:
    """Nothing is said of it any more."""
    if saved.origin == "api":
        store.forget(*saved.key)
    else:
        store.save(dataclasses.replace(saved, admin="", weight=None, definition=""))


def _saved(saved: SavedTarget, one: Override) -> SavedTarget:
    target = one.added or one.base
    assert target is not None
    definition = {"target": _plain(target), "as": one.definition, "number": one.number}
    if one.added and one.base:
        definition["instead_of"] = _plain(one.base)
    return dataclasses.replace(
        saved,
        admin=REMOVED if one.removed else one.admin,
        weight=one.weight,
        origin="api" if one.added else "file",
        definition=json.dumps(definition),
    )


def _file_before(said: dict[Key, Override], file: Config) -> Config:
    """The file as it probably was: with the targets that have another name now under the name they had. Apps of which
    nothing is said are the same objects, which nobody compares."""
    bases: dict[str, list[Target]] = {}
    for (name, _), one in said.items():
        bases.setdefault(name, []).extend([one.base] if one.base else [])

    def before(app: App) -> App:
        names = {target.name for target in app.targets}
        gone = [base for base in bases[app.name] if base.name not in names]
        places = {place(target) for target in gone}
        return dataclasses.replace(app, targets=(*gone, *(one for one in app.targets if place(one) not in places)))

    return dataclasses.replace(file, apps=tuple(before(app) if app.name in bases else app for app in file.apps))


def _override(saved: SavedTarget) -> Override:
    """Raises ValueError, TypeError, LookupError."""
    if not saved.definition:
        return Override(None)
    definition = json.loads(saved.definition)
    target = _target(definition["target"])
    if saved.origin == "api":
        base = _target(definition["instead_of"]) if "instead_of" in definition else None
        number = int(definition.get("number", 0))  # there was none in version 0.2
        return Override(base, saved.admin, saved.weight, target, definition["as"], number=number)
    if saved.admin == REMOVED:
        return Override(target, removed=True)
    return Override(target, saved.admin, saved.weight)


def _plain(target: Target) -> dict[str, Any]:
    """Of files their names: no key is in the store."""
    tls = None if target.tls is None else as_said(target.tls)
    return {**dataclasses.asdict(dataclasses.replace(target, tls=None)), "tls": tls}


def _target(plain: dict[str, Any]) -> Target:
    tls = None if plain.get("tls") is None else as_read(plain["tls"])
    if tls is not None and (fault := client_fault(tls)):
        raise ValueError(f"tls{fault}")
    health = plain.get("health")
    checks = None if health is None else tuple(_check(check) for check in health)
    ports = tuple((int(port), Address(**address)) for port, address in plain.get("ports", ()))
    own = {"address": Address(**plain["address"]), "ports": ports, "health": checks, "tls": tls}
    for key, kind in (("send_proxy", SendProxy), ("source", Source)):
        if plain.get(key) is not None:
            own[key] = kind(**{name: _frozen(value) for name, value in plain[key].items()})
    return Target(**{**plain, **own})


def _check(plain: dict[str, Any]) -> Check:
    """JSON has lists where a check has tuples, in whatever key: it must be equal to the file's, and hashable."""
    return Check(**{key: _frozen(value) for key, value in plain.items()})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _text(one: Override) -> str:
    if one.removed:
        return "removed"
    said = ["added"] if one.added else []
    said += [one.admin] if one.admin else []
    said += [f"weight {one.weight}"] if one.weight is not None else []
    return ", ".join(said)
