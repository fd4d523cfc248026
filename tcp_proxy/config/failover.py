"""The failover part of an app: its values, and what only the disk can say: whether its scripts are there.

The supervisor's process only. A script that cannot be run is an error here, when the configuration is loaded; one that
goes away afterwards is a target that cannot be primary, or a warning (control.failover.primary).
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from tcp_proxy.config.model import App, Failover, Target
from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.report import Report

Plain = Mapping[str, Any]
USUAL = {field.name: field.default for field in dataclasses.fields(App)}


def build_failover(plain: Plain, path: Path, targets: Mapping[Path, Target], report: Report) -> Failover:
    """Of the app at `path`. What is said without being of any effect is an error."""
    members: Plain = plain.get("failover") or {}
    here = (*path, "failover")
    failover = _values(members)
    if plain.get("balance") != "failover":
        if plain.get("without_quorum") == "stop":
            report.value((*path, "without_quorum"), '"stop" is for apps with "balance": "failover"')
        if failover != Failover():
            report.key(here, 'there is no primary with this "balance"; wanted "balance": "failover", or no "failover"')
        return failover
    if plain.get("mode") == "http":
        report.value((*path, "balance"), '"failover" is for mode "tcp"')
    _judge_the_rest(plain, path, targets, report)
    if failover.failback and plain.get("health") == []:
        report.value((*here, "failback"), "without health checks nobody notices that a target has come back")
    if failover.check is not None:
        _require((*here, "check"), failover.check, False, report)
    for i, trigger in enumerate(members.get("triggers") or ()):
        if trigger is not None:
            _require((*here, "triggers", i), trigger, True, report)
    return failover


def _judge_the_rest(plain: Plain, path: Path, targets: Mapping[Path, Target], report: Report) -> None:
    """Keys of the app and its targets that mean nothing where one target gets all sessions."""
    if plain.get("retries") not in (None, USUAL["retries"]):
        text = "a client whose connect failed waits until it is clear who is primary"
        report.value((*path, "retries"), f'retries has no meaning with "balance": "failover": {text}')
    for key, text in (("slow_start", "none rises beside others"), ("panic", "without it clients wait for the next")):
        if plain.get(key):
            text = f"one target gets all sessions, and {text}"
            report.value((*path, key), f'{key} has no meaning with "balance": "failover": {text}')
    for place, target in targets.items():
        if target.is_group:
            text = 'is a group; with "balance": "failover" a target is one server: "host:port"'
            report.value(place, f"{shown(target.name)} {text}")
        for key, usual in (("weight", 1), ("backup", False), ("priority", 0), ("zone", "")):
            if getattr(target, key) != usual:
                text = "one target gets all sessions, and their order in the list says who comes first"
                report.value((*place, key), f'{key} has no meaning with "balance": "failover": {text}')


def _values(members: Plain) -> Failover:
    given: dict[str, Any] = {}
    for field in dataclasses.fields(Failover):
        value = members.get(field.name)
        if isinstance(value, list):
            given[field.name] = tuple(item for item in value if item is not None)
        elif value is not None:
            given[field.name] = float(value) if field.type is float else value
    return Failover(**given)


def _require(path: Path, script: str, folders: bool, report: Report) -> None:
    fault = fault_of(script, folders)
    if fault:
        report.value(path, f"{shown(script)}: {fault}")


def fault_of(script: str, folders: bool) -> str:
    """Why a path is of no use as a script, or as a folder of scripts where those are allowed; "" when it is."""
    wanted = "wanted an executable file" + (" or a folder" if folders else "")
    if "\0" in script:
        return "a zero character in a path"
    if not os.path.exists(script):
        return f"there is no such file; {wanted}"
    if os.path.isdir(script):
        return "" if folders else f"this is a folder; {wanted}"
    if not os.path.isfile(script):
        return f"this is not a regular file; {wanted}"
    return "" if os.access(script, os.X_OK) else f"it is not executable (see: chmod +x); {wanted}"


def target_fault(app: App, target: Target) -> str:
    """Why a target cannot be added to an app that runs."""
    if app.has_primary and target.is_group:
        return f'a group cannot be a target of app {app.name}: its "balance" is "failover"'
    if app.has_primary and (target.weight != 1 or target.backup):
        return f'weight and backup have no meaning in app {app.name}: its "balance" is "failover"'
    return ""
