"""What the supervisor knows, as plain values that JSON can say: the bodies of the management API's answers.

Pure: reads, changes nothing. control.api.schemas describes the same shapes to the world; a test holds the two together.
"""

import dataclasses
import os
from typing import Any

from tcp_proxy.config import model
from tcp_proxy.config.diff import Change
from tcp_proxy.config.model import KINDS
from tcp_proxy.control.events import Event
from tcp_proxy.control.health.history import CheckHistory
from tcp_proxy.control.overrides import admin_of
from tcp_proxy.control.targets import KnownApp, KnownTarget
from tcp_proxy.control.workers import Worker
from tcp_proxy.messages import Endpoint
from tcp_proxy.sansio.address import client_text

View = dict[str, Any]


def app(known: KnownApp) -> View:
    config = known.config
    return {
        "name": config.name,
        "mode": "tcp" if config.http is None else "http",
        "balance": config.balance,
        "sticky": _sticky(config.sticky) if config.sticky is not None else None,
        "primary": known.primary_name if config.has_primary else None,
        "on_down": config.on_down,
        "retries": config.retries,
        "timeouts": dataclasses.asdict(config.timeouts),
        "health": [check(one) for one in config.health],
        "listeners": [str(address) for address in config.listeners],
        "targets": [target(one) for one in known.targets.values()],
    }


def target(known: KnownTarget) -> View:
    config = known.config
    return {
        "app": known.app,
        "name": config.name,
        "address": config.where,
        "endpoints": [_endpoint(endpoint) for endpoint in known.endpoints],
        "state": known.state.value,
        "why": known.why,
        "weight": config.weight,
        "backup": config.backup,
        "max_connections": config.max_connections,
        "admin": admin_of(config),
    }


def worker(known: Worker) -> View:
    state = "draining" if known.is_draining else "serving" if known.is_ready else "starting"
    return {"index": known.index, "pid": known.pid, "state": state}


def room(known: Worker) -> View:
    return {"index": known.index, "pid": known.pid, "capacity": known.capacity, "descriptors": _descriptors(known.pid)}


def _descriptors(pid: int) -> int:
    """0 when it is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def event(known: Event) -> View:
    return {"number": known.number, "at": known.at, "kind": known.kind, "data": known.data}


def change(known: Change) -> View:
    """`closes` and `needs_restart` are in the text as well."""
    return {**dataclasses.asdict(known), "text": str(known)}


def config(known: model.Config) -> View:
    """The configuration as a file could say it: with every default, and addresses as text."""
    view: View = {
        "workers": known.workers or "auto",
        **{key: getattr(known, key) for key in ("pid_file", "state", "shutdown_grace", "access_log")},
        "log": dataclasses.asdict(known.log),
        "api": None if known.api is None else {**dataclasses.asdict(known.api), "listen": str(known.api.listen)},
        "apps": [_app_config(one) for one in known.apps],
    }
    return view


def _app_config(known: model.App) -> View:
    """What it has no meaning for is left out."""
    hosts = list(dict.fromkeys(address.host for address in known.listeners))
    ports = list(dict.fromkeys(address.port for address in known.listeners))
    return {
        "name": known.name,
        "mode": "tcp" if known.http is None else "http",
        "bind": hosts,
        "ports": ports,
        "targets": [_target_config(one) for one in known.targets],
        "balance": known.balance,
        **({"failover": dataclasses.asdict(known.failover)} if known.has_primary else {}),
        **({"sticky": _sticky(known.sticky)} if known.sticky is not None else {}),
        **(dataclasses.asdict(known.http) if known.http is not None else {}),
        "health": [check(one) for one in known.health],
        "on_down": known.on_down,
        "retries": known.retries,
        "timeouts": dataclasses.asdict(known.timeouts),
    }


def _target_config(known: model.Target) -> View:
    health = None if known.health is None else [check(one) for one in known.health]
    ports = {str(port): str(address) for port, address in known.ports}
    where = {"address": None if ports else str(known.address), "ports": ports or None}
    return {**dataclasses.asdict(known), **where, "health": health}


def _sticky(known: model.Sticky) -> View:
    view = dataclasses.asdict(known)
    if known.key == "source_ip":
        del view["slice"]
    return view


def check(known: model.Check) -> View:
    """The keys that its type has."""
    view = {key: value for key, value in dataclasses.asdict(known).items() if known.type in KINDS.get(key, (known.type,))}
    if known.type == "http":
        view["headers"] = dict(known.headers)
        view["status"] = [int(status) if status.isdigit() else status for status in known.status]
    return view


def check_history(known: CheckHistory) -> View:
    """A check, what it thinks of its target, and why."""
    return {
        "check": check(known.check),
        "port": known.port,
        "verdict": known.verdict,
        "probes": [dataclasses.asdict(probed) for probed in known.probes],
    }


def _endpoint(endpoint: Endpoint) -> str:
    _, address = endpoint
    return f"unix:{address}" if isinstance(address, str) else client_text(address)
