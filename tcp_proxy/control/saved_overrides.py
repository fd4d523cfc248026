"""What was said of targets at run time (control.overrides), to the store and back: it survives a restart.

Main thread only. A row keeps beside what was said the target as the file had it then, so that a file that was changed
while nothing ran has the newer word, just as with a reload.
"""

import dataclasses
import json
import logging
from typing import Any

from tcp_proxy.config.diff import place
from tcp_proxy.config.model import App, Check, Config, Target
from tcp_proxy.control.overrides import Key, Override, Overrides
from tcp_proxy.control.state import REMOVED, SavedTarget, State
from tcp_proxy.sansio.address import Address

logger = logging.getLogger(__name__)


def load(store: State, file: Config) -> Overrides:
    """What of it still stands beside this file."""
    said: dict[Key, Override] = {}
    for key, saved in store.load().items():
        try:
            one = _override(saved)
        except (ValueError, TypeError, LookupError) as error:
            logger.warning("app %s: target %s: what was said of it at run time cannot be read: %r", *key, error)
            continue
        if not one.is_empty:
            said[key] = one
    overrides = Overrides(_file_before(said, file), said).rebased(file)
    for (app, target), one in overrides.said.items():
        logger.info("app %s: target %s: %s, as it was said before the restart", app, target, _text(one))
    return overrides


def save(store: State, overrides: Overrides) -> None:
    """The store knows what is said, and nothing that is no longer said."""
    known = store.load()
    for key, one in overrides.said.items():
        store.save(_saved(known.get(key) or SavedTarget(*key), one))
    for key, saved in known.items():
        if key not in overrides.said and saved.origin == "api":
            store.forget(*key)
        elif key not in overrides.said:
            store.save(dataclasses.replace(saved, admin="", weight=None, definition=""))


def _saved(saved: SavedTarget, one: Override) -> SavedTarget:
    target = one.added or one.base
    assert target is not None
    definition = {"target": dataclasses.asdict(target), "as": one.definition}
    if one.added and one.base:
        definition["instead_of"] = dataclasses.asdict(one.base)
    return dataclasses.replace(
        saved,
        admin=REMOVED if one.removed else one.admin,
        weight=one.weight,
        origin="api" if one.added else "file",
        definition=json.dumps(definition),
    )


def _file_before(said: dict[Key, Override], file: Config) -> Config:
    """The file as it probably was: with the targets that have another name now under the name they had."""

    def before(app: App) -> App:
        names = {target.name for target in app.targets}
        gone = [one.base for key, one in said.items() if key[0] == app.name and one.base and one.base.name not in names]
        places = {place(target) for target in gone}
        return dataclasses.replace(app, targets=(*gone, *(one for one in app.targets if place(one) not in places)))

    return dataclasses.replace(file, apps=tuple(map(before, file.apps)))


def _override(saved: SavedTarget) -> Override:
    """Raises ValueError, TypeError, LookupError."""
    if not saved.definition:
        return Override(None)
    definition = json.loads(saved.definition)
    target = _target(definition["target"])
    if saved.origin == "api":
        base = _target(definition["instead_of"]) if "instead_of" in definition else None
        return Override(base, saved.admin, saved.weight, target, definition["as"])
    if saved.admin == REMOVED:
        return Override(target, removed=True)
    return Override(target, saved.admin, saved.weight)


def _target(plain: dict[str, Any]) -> Target:
    health = plain.get("health")
    checks = None if health is None else tuple(_check(check) for check in health)
    ports = tuple((int(port), Address(**address)) for port, address in plain.get("ports", ()))
    return Target(**{**plain, "address": Address(**plain["address"]), "ports": ports, "health": checks})


def _check(plain: dict[str, Any]) -> Check:
    headers = tuple((name, value) for name, value in plain["headers"])
    return Check(**{**plain, "headers": headers, "status": tuple(plain["status"]), "command": tuple(plain["command"])})


def _text(one: Override) -> str:
    if one.removed:
        return "removed"
    said = ["added"] if one.added else []
    said += [one.admin] if one.admin else []
    said += [f"weight {one.weight}"] if one.weight is not None else []
    return ", ".join(said)
