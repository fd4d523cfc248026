"""What an app in mode http says beside the rest becomes an Http. Pure; a part of config.build."""

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from tcp_proxy.config.model import Check, Http, Limits, Route, Target, Timeouts
from tcp_proxy.config.positions import Path, path_text, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.sticky import build_cookie
from tcp_proxy.config.values import Plain, given_of
from tcp_proxy.sansio.http1.routing import bare_host

KEYS = (
    "upstream_connections", "upstream_idle", "preserve_host", "forwarded", "allow_connect", "client_certificate",
    "trusted_proxies", "upgrades",
)  # fmt: skip
TIMEOUTS = ("request", "response", "next_request")
HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z/]+")


# What is checked when nothing else is said, with weldr's thresholds.
HTTP_CHECK = Check(type="http", interval=30.0, rise=2, fall=3)


def build_http(plain: Plain, path: Path, targets: Mapping[Path, Target], report: Report) -> Http | None:
    """None in mode tcp, where none of the keys has a meaning."""
    if plain.get("mode", "tcp") != "http":
        if plain.get("mode", "tcp") is not None:
            _only_http(plain, path, report)
        return None
    found = given_of(Http, {key: plain.get(key) for key in KEYS[:6]})
    for key, read in (("trusted_proxies", _network), ("upgrades", _protocol)):
        if plain.get(key) is not None:
            entries = [(entry, (*path, key, i)) for i, entry in enumerate(plain[key]) if entry is not None]
            found[key] = tuple(read(entry, here, report) for entry, here in entries)
    names = {target.name for target in targets.values()}
    routes = [(route, (*path, "routes", i)) for i, route in enumerate(plain.get("routes") or ()) if route is not None]
    found["routes"] = tuple(_route(route, here, names, report) for route, here in routes)
    _find_equals(found["routes"], [here for _, here in routes], report)
    asks = (plain.get("tls") or {}).get("verify", "none") != "none"
    if found.get("client_certificate") and not asks:
        text = 'no client is asked for a certificate; wanted "tls" with "verify" in the app'
        report.value((*path, "client_certificate"), text)
    found["cookie"] = build_cookie(plain, path, targets, report)
    return Http(limits=Limits(**given_of(Limits, plain.get("limits"))), **found)


def _only_http(plain: Plain, path: Path, report: Report) -> None:
    usual, usual_limits = _usual()
    for key in KEYS:
        if key in plain and not _is_usual(plain[key], usual[key]):
            report.key((*path, key), f'{shown(key)} is of mode http; wanted "mode": "http" beside it, or not this key')
    for key, most in usual_limits.items():
        if key in (plain.get("limits") or ()) and not _is_usual(plain["limits"][key], most):
            report.key((*path, "limits", key), f'{shown(key)} is of mode http; wanted "mode": "http", or not this key')
    for key in TIMEOUTS:
        if key in (plain.get("timeouts") or ()) and not _is_usual(plain["timeouts"][key], usual[key]):
            report.key((*path, "timeouts", key), f'{shown(key)} is of mode http; wanted "mode": "http", or not this key')


@cache
def _usual() -> tuple[dict[str, Any], dict[str, Any]]:
    return {**dataclasses.asdict(Http()), **dataclasses.asdict(Timeouts())}, dataclasses.asdict(Limits())


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
    for key in ("sni", "alpn", "passthrough"):
        if plain.get(key):
            report.key((*path, key), f'{shown(key)} is of mode tcp; in mode http a route has "host" and "path"')
    host, prefix = plain.get("host") or "", plain.get("path") or ""
    if host and not _is_host(host):
        is_below = host.startswith(".") and HOST.fullmatch(host[1:])
        below = f', "*{host}" for every name below it' if is_below else ', or "*." and one'
        report.value((*path, "host"), f"found {shown(host)}; wanted a host name without a port{below}")
    if "?" in prefix or "#" in prefix:
        report.value((*path, "path"), f'found {shown(prefix)}; wanted a path without "?" and "#": only the path is compared')
    elif prefix and not (prefix.startswith("/") and prefix.isascii() and prefix.isprintable() and " " not in prefix):
        report.value((*path, "path"), f'found {shown(prefix)}; wanted a path as it stands in a request, beginning with "/"')
    for i, name in enumerate(plain.get("targets") or ()):
        if name is not None and name not in names:
            report.value((*path, "targets", i), f"no target of this app is named {shown(name)}")
    return Route(host, prefix, tuple(name for name in plain.get("targets") or () if name is not None))


def _is_host(text: str) -> bool:
    if not text.startswith("["):
        return bool(HOST.fullmatch(text))
    try:
        ipaddress.IPv6Address(text[1:-1])
    except ValueError:
        return False
    return text.endswith("]") and "%" not in text


def _find_equals(routes: tuple[Route, ...], paths: list[Path], report: Report) -> None:
    """The second of two equal ones would never be used."""
    first: dict[tuple[str, str], int] = {}
    for number, route in enumerate(routes):
        key = bare_host(route.host.encode("latin-1", "replace")), route.path
        if key in first:
            other = path_text(paths[first[key]])
            report.value(paths[number], f"the same host and path as {other}; this route is never used")
        first.setdefault(key, number)
