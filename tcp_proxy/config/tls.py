"""What a file says of TLS becomes Tls, TargetTls and SniRoute values. Pure but for the files that it reads; a part of
config.build."""

import ipaddress
import json
from collections.abc import Callable, Mapping
from typing import Any

from tcp_proxy.config import certificates
from tcp_proxy.config.certificates import Fault, Files
from tcp_proxy.config.http import HOST
from tcp_proxy.config.model import Target
from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.tls_model import Certificate, PemFile, SniRoute, TargetTls, Tls
from tcp_proxy.config.values import Plain, given_of

HTTP_1 = ("http/1.1",)
NOT_HERE = ("certificates", "client_ca", "crl", "ca", "certificate", "alpn", "ciphersuites", "ciphers")  # of given_of


def build_tls(app: Plain, path: Path, report: Report) -> Tls | None:
    """Of the app at `path`."""
    plain = app.get("tls")
    if plain is None or not _is_possible((*path, "tls"), report):
        return None
    path = (*path, "tls")
    entries = [(entry, (*path, "certificates", i)) for i, entry in enumerate(plain.get("certificates") or ())]
    found = [_certificate(entry, here, report) for entry, here in entries if entry is not None]
    given = given_of(Tls, {key: value for key, value in plain.items() if key not in NOT_HERE})
    given["client_ca"] = _file(plain, "client_ca", certificates.read_authorities, path, report)
    given["crl"] = _file(plain, "crl", certificates.read_revoked, path, report)
    given["alpn"] = _alpn(plain, app, path, report)
    given["ciphers"] = _ciphers(plain, path, report)
    given["ciphersuites"] = tuple(name for name in plain.get("ciphersuites") or () if name is not None)
    _judge_clients(plain, path, report)
    return Tls(tuple(one for one in found if one is not None), **given)


def _judge_clients(plain: Plain, path: Path, report: Report) -> None:
    verify = plain.get("verify", "none")
    if verify in ("optional", "required") and plain.get("client_ca") is None and not (report and "client_ca" in plain):
        text = f'verify {shown(verify)} needs "client_ca": the certificates of those who may sign a client\'s'
        report.value((*path, "verify"), text)
    if verify == "none" and plain.get("client_ca") is not None:
        report.value((*path, "client_ca"), 'no client is asked for a certificate; wanted "verify": "required" beside it')
    if plain.get("crl") is not None and plain.get("client_ca") is None:
        report.value((*path, "crl"), 'it is for certificates of clients; wanted "client_ca" beside it')


def build_target_tls(plain: Any, hosts: set[str], path: Path, app: Plain, report: Report) -> TargetTls | None:
    """Of a target, which stands at `path` with its key."""
    if plain is None or plain is False or not _is_possible(path, report):
        return None
    members: Plain = {} if plain is True else plain
    given = given_of(TargetTls, {key: value for key, value in members.items() if key not in NOT_HERE})
    given["ca"] = _file(members, "ca", certificates.read_authorities, path, report)
    given["alpn"] = _alpn(members, app, path, report)
    if members.get("certificate") is not None:
        given["certificate"] = _certificate(members["certificate"], (*path, "certificate"), report)
    found = TargetTls(**given)
    if found.verify and not hosts and found.server_name is None and members.get("server_name", "") is not None:
        wanted = 'wanted "server_name" beside it, or "verify": false'
        report.value(path, f"a UNIX socket has no name that its certificate could have; {wanted}")
    if not found.verify and found.ca is not None:
        report.value((*path, "ca"), 'without "verify" nobody looks at it')
    if found.server_name is not None and not _is_name(found.server_name):
        text = f"found {shown(found.server_name)}; wanted a host name or an address"
        report.value((*path, "server_name"), text)
    for host in hosts if found.server_name is None else ():
        if not _is_name(host):
            report.value(path, f'{shown(host)} is no name that TLS can ask for; wanted "server_name" beside it')
    return found


def _is_name(text: str) -> bool:
    try:
        return "%" not in str(ipaddress.ip_address(text))  # no certificate has an interface of ours
    except ValueError:
        pass
    try:
        name = text.removesuffix(".").encode("idna").decode()
    except UnicodeError:
        return False
    return bool(HOST.fullmatch(name)) and not name.startswith("*")


def _is_possible(path: Path, report: Report) -> bool:
    try:
        certificates.require()
    except Fault as fault:
        report.value(path, str(fault))
        return False
    return True


# -- files


def _certificate(plain: Plain, path: Path, report: Report) -> Certificate | None:
    files = Files(*(plain.get(key) or "" for key in Files._fields))
    if not files.chain or any(key in plain and plain[key] is None for key in Files._fields if report):
        return None
    try:
        return certificates.read_certificate(files)
    except Fault as fault:
        key = fault.key if plain.get(fault.key) else "chain"
        report.value((*path, key), f"{_whole(plain[key])}: {fault}")
    return None


def _file(plain: Plain, key: str, read: Callable[[str], PemFile], path: Path, report: Report) -> PemFile | None:
    name = plain.get(key)
    if name is None:
        return None
    try:
        return read(name)
    except Fault as fault:
        report.value((*path, key), f"{_whole(name)}: {fault}")
    return None


def _whole(path: str) -> str:
    """However long: its end says which file it is."""
    return json.dumps(path, ensure_ascii=False)


# -- what is spoken


def _alpn(plain: Plain, app: Plain, path: Path, report: Report) -> tuple[str, ...]:
    found = tuple(name for name in plain.get("alpn") or () if name is not None)
    for i, name in enumerate(plain.get("alpn") or ()):
        if name is not None and not (name.isascii() and name.isprintable()):
            report.value((*path, "alpn", i), f"found {shown(name)}; wanted the name of a protocol, in ASCII")
        elif app.get("mode") == "http" and name not in (None, *HTTP_1):
            more = ": HTTP/2 is not spoken" if name == "h2" else ""
            report.value((*path, "alpn", i), f'found {shown(name)}; mode "http" speaks "http/1.1"{more}')
    return found or (HTTP_1 if app.get("mode") == "http" else ())


def _ciphers(plain: Plain, path: Path, report: Report) -> str | None:
    text: str | None = plain.get("ciphers")
    if text is not None:
        import ssl  # noqa: PLC0415  it takes a while, and most have no use for it

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(text)
        except (ssl.SSLError, ValueError):
            wanted = "OpenSSL knows no such ciphers (openssl ciphers -v lists them)"
            report.value((*path, "ciphers"), f"found {shown(text)}; {wanted}")
    return text


# -- routes by name


def build_sni_routes(app: Plain, path: Path, targets: Mapping[Path, Target], report: Report) -> tuple[SniRoute, ...]:
    """Of an app in mode tcp."""
    if app.get("mode", "tcp") != "tcp" or not app.get("routes"):
        return ()
    if app.get("balance") == "failover":
        text = 'balance "failover" has one target for everybody: there is nothing to choose by a name'
        report.value((*path, "routes"), text)
    if app.get("sticky") is not None:
        text = 'a client that belongs to a target goes there whatever name it asks for; wanted no "sticky"'
        report.value((*path, "routes"), text)
    names = {target.name for target in targets.values()}
    entries = [(route, (*path, "routes", i)) for i, route in enumerate(app["routes"]) if route is not None]
    found = [(_route(route, here, names, app.get("tls") is not None, report), here) for route, here in entries]
    first: dict[tuple[str, str], Path] = {}
    for route, here in found:
        for sni in route.sni or ("",):
            for alpn in route.alpn or ("",):
                other = first.setdefault((sni, alpn), here)
                if other != here:
                    where = report.where(other)
                    report.value(here, f"the same name and protocol as the route at {where}; this one is never used")
    return tuple(route for route, _ in found)


def _route(plain: Plain, path: Path, names: set[str], has_tls: bool, report: Report) -> SniRoute:
    for key in ("host", "path"):
        if plain.get(key):
            report.key((*path, key), f'{shown(key)} is of mode http; in mode tcp a route has "sni" and "alpn"')
    asked = plain.get("sni") or ()
    several = [asked] if isinstance(asked, str) else [name for name in asked if name is not None]
    for i, name in enumerate(several):
        if not HOST.fullmatch(name):
            place = (*path, "sni") if isinstance(asked, str) else (*path, "sni", i)
            report.value(place, f'found {shown(name)}; wanted a host name without a port, or "*." and one')
    for i, target in enumerate(plain.get("targets") or ()):
        if target is not None and target not in names:
            report.value((*path, "targets", i), f"no target of this app is named {shown(target)}")
    passthrough = plain.get("passthrough")
    if passthrough is False and not has_tls:
        report.value((*path, "passthrough"), 'TLS cannot be ended here without a certificate; wanted "tls" in the app')
    return SniRoute(
        tuple(dict.fromkeys(name.lower().rstrip(".") for name in several)),
        tuple(name for name in plain.get("alpn") or () if name is not None),
        tuple(name for name in plain.get("targets") or () if name is not None),
        (not has_tls) if passthrough is None else passthrough,
    )
