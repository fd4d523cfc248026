"""What a node's configuration file says of each app, short enough to be told to all others, and how two differ. Pure.

A digest for each key of an app that is not at its default. Where a proxy listens is not compared: machines have addresses of
their own. Secrets are not in what is digested (control.answers.views).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

OWN = frozenset({"name", "bind", "ports"})  # keys that say nothing of what nodes must agree on
MOST = 256 * 1024  # characters of all keys' digests; beyond that it is one digest for each app
LENGTH = 12

Digests = dict[str, dict[str, str] | str]  # by app: by key, or of all keys together


def of_app(view: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, str]:
    """`view` as the API shows it; `usual`: that of an app with nothing but defaults."""
    return {
        key: _digest(json.dumps(value, sort_keys=True))
        for key, value in view.items()
        if key not in OWN and (key not in usual or usual[key] != value)
    }


def of_all(apps: Mapping[str, dict[str, str]]) -> Digests:
    size = sum(len(app) + sum(len(key) + LENGTH + 8 for key in keys) for app, keys in apps.items())
    if size <= MOST:
        return dict(apps)
    return {app: _together(keys) for app, keys in apps.items()}


def read(text: str) -> Digests | None:
    """What another node says; None for what is nothing of the kind."""
    try:
        apps = json.loads(text)["apps"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return apps if isinstance(apps, dict) and all(_is_app(*item) for item in apps.items()) else None


def written(digests: Digests) -> dict[str, Any]:
    return {"apps": digests}


def differences(mine: Digests, theirs: Digests) -> list[str]:
    """One line for each app that differs, with its keys."""
    found = []
    for app in sorted(mine.keys() | theirs.keys()):
        if app not in theirs or app not in mine:
            found.append(f"app {app}: only {'here' if app in mine else 'there'}")
            continue
        one, other = mine[app], theirs[app]
        if isinstance(one, dict) and isinstance(other, dict):
            keys = [key for key in sorted(one.keys() | other.keys()) if one.get(key) != other.get(key)]
            if keys:
                found.append(f"app {app}: {', '.join(keys)}")
        elif _together(one) != _together(other):
            found.append(f"app {app}: something is different")
    return found


def _is_app(name: Any, keys: Any) -> bool:
    def is_text(value: Any) -> bool:
        return type(value) is str and len(value) <= 256 and value.isprintable()

    if not is_text(name):
        return False
    return is_text(keys) or (isinstance(keys, dict) and all(is_text(key) and is_text(one) for key, one in keys.items()))


def _together(keys: dict[str, str] | str) -> str:
    return keys if isinstance(keys, str) else _digest(json.dumps(keys, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:LENGTH]
