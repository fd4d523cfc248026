"""`sticky` of an app becomes a Sticky or, in mode http, a StickyCookie. Pure; a part of config.build."""

import re
from collections.abc import Mapping
from typing import Any

from tcp_proxy.config.balance import slice_of
from tcp_proxy.config.discovery import FILE, SRV
from tcp_proxy.config.model import App, Sticky, StickyCookie, Target
from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.values import Plain, given_of

OF_HTTP = ("cookie", "header")
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
ATTRIBUTE = re.compile(r"[ -:<-~]*")  # RFC 6265, 4.1.1: no control character, and no semicolon
NAMELESS = 'with a sticky cookie each needs a "name": what the cookie says is made of that, and of an address it would tell'


def build_sticky(app: Plain, path: Path, report: Report) -> Sticky | None:
    """Of mode tcp."""
    plain, path = app.get("sticky"), (*path, "sticky")
    if plain is None:
        return None
    if app.get("balance") == "failover":
        report.value(path, 'balance "failover" has one target for everybody: nothing can be sticky there')
    key = plain.get("key", "source_ip")
    if key != "header" and plain.get("header"):
        report.key((*path, "header"), 'it is of the key "header", in mode http')
    if app.get("mode") == "http":
        if key == "header":
            return _build_header(app, plain, path, report)
        if key not in ("cookie", None):
            report.value(path, 'mode "http" balances requests, not clients: they stay by "key": "cookie" or "header" there')
        return None
    if key in OF_HTTP:
        report.value((*path, "key"), f'{shown(key)} is of mode http; wanted "mode": "http" beside it, or "source_ip"')
    if plain.get("cookie"):
        report.key((*path, "cookie"), 'it is of the key "cookie", in mode http')
    given = given_of(Sticky, {key: value for key, value in plain.items() if key != "slice"})
    wants = plain.get("key") == "source_ip+first_bytes"
    given["slice"] = slice_of(plain, wants, '"source_ip+first_bytes"', path, report)
    return Sticky(**given)


def _build_header(app: Plain, plain: Plain, path: Path, report: Report) -> Sticky:
    for key in ("slice", "ipv4_prefix", "ipv6_prefix", "cookie"):
        if plain.get(key) is not None and plain[key] != getattr(Sticky(), key, {}):
            report.key((*path, key), "a client is known by a header here")
    name = plain.get("header") or ""
    if not name and ("header" not in plain or not report):
        report.value((*path, "key"), 'missing key "header" beside it: which one')
    elif name and not TOKEN.fullmatch(name):
        report.value((*path, "header"), f"found {shown(name)}; wanted the name of a header, without spaces and separators")
    if app.get("routes"):
        text = 'a client that belongs to a target goes there whatever it asks for; wanted no "sticky", or its key "cookie"'
        report.value((*path[:-1], "routes"), text)
    return Sticky(**given_of(Sticky, {key: plain[key] for key in plain if key != "slice"}))


def build_cookie(app: Plain, path: Path, targets: Mapping[Path, Target], report: Report) -> StickyCookie | None:
    """Of mode http."""
    plain: Any = app.get("sticky")
    if plain is None or plain.get("key") != "cookie":
        return None
    here, path = path, (*path, "sticky")
    for key in ("expires", "size", "slice", "ipv4_prefix", "ipv6_prefix"):
        if plain.get(key) is not None and plain[key] != getattr(Sticky(), key):
            report.key((*path, key), "a cookie is kept by the client: there is no table that it would be of")
    cookie = StickyCookie(**given_of(StickyCookie, plain.get("cookie")))
    if "samesite" in (plain.get("cookie") or ()) and plain["cookie"]["samesite"] is None and not report:
        cookie = StickyCookie(**{**given_of(StickyCookie, plain["cookie"]), "samesite": None})
    path = (*path, "cookie")
    if not TOKEN.fullmatch(cookie.name):
        report.value((*path, "name"), f"found {shown(cookie.name)}; wanted the name of a cookie, without separators")
    for key in ("path", "domain"):
        if not ATTRIBUTE.fullmatch(getattr(cookie, key)):
            report.value((*path, key), f"found {shown(getattr(cookie, key))}; wanted ASCII without controls and ;")
    if cookie.samesite == "None" and cookie.secure is False:
        report.value((*path, "secure"), 'browsers take no cookie with "samesite": "None" that is not secure; wanted true')
    _refuse_nameless(app, here, targets, report)
    return cookie


def _refuse_nameless(app: Plain, path: Path, targets: Mapping[Path, Target], report: Report) -> None:
    for place, target in targets.items():
        if target.name == target.where:
            report.value(place, f"found {shown(target.name)}: {NAMELESS}")
    for number, entry in enumerate(app.get("targets") or ()):
        text = entry.get("address") if isinstance(entry, dict) else entry
        if isinstance(text, str) and text.startswith(SRV):
            wanted = f'{NAMELESS}, and the DNS names hosts alone; wanted "{FILE}PATH", whose entries have names'
            report.value((*path, "targets", number), f"found {shown(text)}: {wanted}")


def nameless(app: App, target: Target) -> str:
    """Why a target cannot be added to an app that runs; "" if it can."""
    has_cookie = app.http is not None and app.http.cookie is not None
    return f"target {target.name} of app {app.name}: {NAMELESS}" if has_cookie and target.name == target.where else ""
