"""What the supervisor knows, as plain values that JSON can say: the bodies of the management API's answers.

Pure: reads, changes nothing. control.api.schemas describes the same shapes to the world; a test holds the two together.
"""

import dataclasses
import itertools
import json
import os
from typing import Any

from tcp_proxy.config import model, target_model
from tcp_proxy.config.diff import Change
from tcp_proxy.config.log_model import Tracing
from tcp_proxy.config.model import KINDS
from tcp_proxy.config.secrets import HIDDEN, without_secrets, without_values
from tcp_proxy.control.answers import tls_views
from tcp_proxy.control.changes.overrides import Overrides, Said, admin_of
from tcp_proxy.control.events import Event
from tcp_proxy.control.health.history import CheckHistory
from tcp_proxy.control.long_answer import Long, Parts
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.control.targets.known import KnownApp, KnownTarget
from tcp_proxy.sansio.address import client_text
from tcp_proxy.sansio.balance import KEYED
from tcp_proxy.wire.views import Endpoint

View = dict[str, Any]

TARGET_KEYS = tuple(field.name for field in dataclasses.fields(model.Target))


def app(known: KnownApp, overrides: Overrides) -> View:
    config = known.config
    return Parts({
        "name": config.name,
        "mode": "tcp" if config.http is None else "http",
        "balance": config.balance,
        "sticky": _sticky_of(config),
        "primary": known.primary_name if config.has_primary else None,
        "on_down": config.on_down,
        "retries": config.retries,
        "timeouts": dataclasses.asdict(config.timeouts),
        "health": [check(one) for one in config.health],
        "listeners": [str(address) for address in config.listeners],
        "targets": targets(known, overrides),
        "removed": overrides.removed(config.name),
        "panicking": known.is_panicking,
    })  # fmt: skip


def targets(known: KnownApp, overrides: Overrides) -> Long:
    return Long(target(one, overrides) for one in list(known.targets.values()))


def target(known: KnownTarget, overrides: Overrides) -> View:
    config = known.config
    return {
        "app": known.app,
        "name": config.name,
        "address": config.where,
        "endpoints": [_endpoint(endpoint) for endpoint in known.endpoints],
        "state": known.state.value,
        "why": known.why,
        "forced": known.is_forced,
        "ejected": known.ejected or None,
        "weight": config.weight,
        "backup": config.backup,
        "priority": config.priority,
        "zone": config.zone,
        "max_connections": config.max_connections,
        "admin": admin_of(config),
        "overrides": [
            {"key": said.key, "value": said.value, "file": said.file} for said in overrides.of(known.app, config.name)
        ],
    }


def said(known: Said) -> View:
    return {**known._asdict(), "text": str(known)}


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
    view: View = Parts({
        "workers": known.workers or "auto",
        "zone": known.zone,
        "faults": known.faults,
        **{key: getattr(known, key) for key in ("user", "group", "pid_file", "state", "shutdown_grace", "access_log")},
        "log": dataclasses.asdict(known.log),
        "api": None if known.api is None else {**dataclasses.asdict(known.api), "listen": str(known.api.listen)},
        "nameservers": [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in known.nameservers],
        **({"cluster": _cluster(known.cluster)} if known.cluster is not None else {}),
        **({"tracing": _tracing(known.tracing)} if known.tracing is not None else {}),
        "apps": Long(map(app_config, known.apps)),
    })  # fmt: skip
    return view


def _cluster(known: model.Cluster) -> View:
    chain, key = known.certificate
    return {
        "endpoints": list(known.endpoints), "name": known.name, "node": known.node or None, "lease": known.lease,
        "tls": {"ca": known.ca or None, "certificate": {"chain": chain, "key": key or None} if chain else None},
        "user": known.user or None, "password_file": known.password_file or None, "checkers": known.checkers,
    }  # fmt: skip


def _tracing(known: Tracing) -> View:
    return {**dataclasses.asdict(known), "headers": {name: HIDDEN for name, _ in known.headers}}


def app_config(known: model.App) -> View:
    """What it has no meaning for is left out, and so are targets that were found: the file says where."""
    own = [target for target in known.targets if not target.origin]
    hosts = list(dict.fromkeys(address.host for address in known.listeners))
    ports = list(dict.fromkeys(address.port for address in known.listeners))
    return Parts({
        "name": known.name,
        "mode": "tcp" if known.http is None else "http",
        "bind": hosts,
        "ports": ports,
        "targets": Long(itertools.chain(map(_discovery, known.discoveries), map(_target_config, own))),
        "balance": known.balance,
        **({"hash": _hash(known)} if known.balance in KEYED else {}),
        "overprovisioning": known.overprovisioning,
        **({"failover": _failover(known.failover)} if known.has_primary else {}),
        **({"sticky": _sticky_of(known)} if _sticky_of(known) is not None else {}),
        **(_http(known.http) if known.http is not None else {}),
        "limits": _limits(known),
        **({"accept_proxy": _accept_proxy(known.accept_proxy)} if known.accept_proxy is not None else {}),
        **({"access": _access(known.access)} if known.access is not None else {}),
        **({"tls": tls_views.tls(known.tls)} if known.tls is not None else {}),
        **({"routes": tls_views.routes(known.sni_routes)} if known.sni_routes else {}),
        "health": [check(one) for one in known.health],
        "on_down": known.on_down,
        "retries": known.retries,
        "slow_start": known.slow_start,
        **({"without_quorum": known.without_quorum} if known.without_quorum is not None else {}),
        "panic": known.panic,
        **({"outlier": dataclasses.asdict(known.outlier)} if known.outlier is not None else {}),
        "timeouts": dataclasses.asdict(known.timeouts),
        **(_source(known.source) if known.source is not None else {}),
        **{key: said for key in ("access_log", "access_log_format") if (said := getattr(known, key)) is not None},
    })  # fmt: skip


def _discovery(known: target_model.Discovery) -> Any:
    return {"address": known.source, **json.loads(known.template)} if known.template else known.source


def _limits(known: model.App) -> View:
    of_requests = {} if known.http is None else dataclasses.asdict(known.http.limits)
    return {**dataclasses.asdict(known.limits), **of_requests}


def _target_config(known: model.Target) -> View:
    health = None if known.health is None else [check(one) for one in known.health]
    ports = {str(port): str(address) for port, address in known.ports}
    where = {"address": None if ports else str(known.address), "ports": ports or None}
    proxy = None if known.send_proxy is None else dataclasses.asdict(known.send_proxy)
    others = {"send_proxy": proxy, "tls": tls_views.tls(known.tls), "health": health, **_source(known.source)}
    view = {**{key: getattr(known, key) for key in TARGET_KEYS}, **where, **others}
    del view["origin"]
    return view


def _source(known: target_model.Source | None) -> View:
    if known is None:
        return {"source": None, "transparent": None}
    entries = [*known.addresses, *([known.interface] if known.interface else ())]
    return {"source": entries or None, "transparent": known.transparent}


def _accept_proxy(known: model.AcceptProxy) -> View:
    view = dataclasses.asdict(known)
    return {"from": view.pop("networks"), **view}


def _access(known: model.Access) -> View:
    lists = (("allow", known.allow), ("deny", known.deny))
    return {key: [one.entry for one in entries] for key, entries in lists if entries}


def _failover(known: model.Failover) -> View:
    return {**dataclasses.asdict(known), "environment": without_values(known.environment)}


def _hash(known: model.App) -> View:
    view = dataclasses.asdict(known.hash)
    if known.hash.key != "first_bytes":
        del view["slice"]
    return view


def _http(known: model.Http) -> View:
    view = dataclasses.asdict(known)
    del view["cookie"]  # of "sticky"
    return view


def _sticky_of(known: model.App) -> View | None:
    if known.http is not None and known.http.cookie is not None:
        return {"key": "cookie", "cookie": dataclasses.asdict(known.http.cookie)}
    return _sticky(known.sticky) if known.sticky is not None else None


def _sticky(known: model.Sticky) -> View:
    view = dataclasses.asdict(known)
    if known.key != "source_ip+first_bytes":
        del view["slice"]
    for key in ("ipv4_prefix", "ipv6_prefix") if known.header else ("header",):
        del view[key]
    return view


def check(known: model.Check) -> View:
    """The keys that its type has, without its secrets."""
    known = without_secrets(known)
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
