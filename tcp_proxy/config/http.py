"""What an app in mode http says beside the rest becomes an Http. Pure; a part of config.build."""

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from tcp_proxy.config.model import Check, Http, Limits, Route, Target, Timeouts
from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.values import Plain, given_of

KEYS = (
    "upstream_connections", "upstream_idle", "preserve_host", "forwarded", "allow_connect", "trusted_proxies", "upgrades",
    "limits", "routes",
)  # fmt: skip
TIMEOUTS = ("request", "response", "next_request")
HOST = re.compile(r"(\*\.)?[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]")
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z/]+")


# What is checked when nothing else is said, with weldr's thresholds.
HTTP_CHECK = Check(type="http", interval=30.0, rise=2, fall=3, status=("2xx",))


def build_http(plain: Plain, path: Path, targets: Mapping[Path, Target], report: Report) -> Http | None:
    """None in mode tcp, where none of the keys has a meaning."""
    if plain.get("mode", "tcp") != "http":
        if plain.get("mode", "tcp") is not None:
            _only_http(plain, path, report)
        return None
    found = given_of(Http, {key: plain.get(key) for key in KEYS[:5]})
    for key, read in (("trusted_proxies", _network), ("upgrades", _protocol)):
        if plain.get(key) is not None:
            entries = [(entry, (*path, key, i)) for i, entry in enumerate(plain[key]) if entry is not None]
            found[key] = tuple(read(entry, here, report) for entry, here in entries)
    names = {target.name for target in targets.values()}
    routes = [(route, (*path, "routes", i)) for i, route in enumerate(plain.get("routes") or ()) if route is not None]
    found["routes"] = tuple(_route(route, here, names, report) for route, here in routes)
    return Http(limits=Limits(**given_of(Limits, plain.get("limits"))), **found)


def _only_http(plain: Plain, path: Path, report: Report) -> None:
    usual = {**dataclasses.asdict(Http()), **dataclasses.asdict(Timeouts()), "limits": {}}
    for key in KEYS:
        if key in plain and not _is_usual(plain[key], usual[key]):
            report.key((*path, key), f'{shown(key)} is of mode http; wanted "mode": "http" beside it, or not this key')
    for key in TIMEOUTS:
        if key in (plain.get("timeouts") or ()) and not _is_usual(plain["timeouts"][key], usual[key]):
            report.key((*path, "timeouts", key), f'{shown(key)} is of mode http; wanted "mode": "http", or not this key')


def _is_usual(found: Any, usual: Any) -> bool:
    return found is None or (tuple(found) if isinstance(found, list) else found) == usual


def _network(text: str, path: Path, report: Report) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        report.value(path, f'found {shown(text)}: {error}; wanted an address or a network, such as "192.0.2.0/24"')
        return text


def _protocol(text: str, path: Path, report: Report) -> str:
    if not TOKEN.fullmatch(text):
        report.value(path, f'found {shown(text)}; wanted the name of a protocol, such as "websocket"')
    return text


def _route(plain: Plain, path: Path, names: set[str], report: Report) -> Route:
    host, prefix = plain.get("host") or "", plain.get("path") or ""
    if host and not HOST.fullmatch(host):
        report.value((*path, "host"), f'found {shown(host)}; wanted a host name without a port, or "*." and one')
    if prefix and not (prefix.startswith("/") and prefix.isascii() and prefix.isprintable() and " " not in prefix):
        report.value((*path, "path"), f'found {shown(prefix)}; wanted a path as it stands in a request, beginning with "/"')
    for i, name in enumerate(plain.get("targets") or ()):
        if name is not None and name not in names:
            report.value((*path, "targets", i), f"no target of this app is named {shown(name)}")
    return Route(host, prefix, tuple(name for name in plain.get("targets") or () if name is not None))
