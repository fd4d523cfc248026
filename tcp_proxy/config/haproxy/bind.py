"""The bind lines of one frontend become listeners of apps: those with the same TLS and the same ports are one app's. Pure.

HAProxy's configuration manual, 4.2 (bind) and 5.1 (bind options).
"""

import json
from typing import Any

from tcp_proxy.config.haproxy.proxy import ELSEWHERE, Note
from tcp_proxy.config.haproxy.text import Line

Plain = dict[str, Any]

VALUED = {
    "crt", "alpn", "npn", "ca-file", "verify", "crl-file", "ssl-min-ver", "ciphers", "ciphersuites", "name", "id",
    "process", "thread", "shards", "maxconn", "backlog", "mss", "interface", "curves", "ecdhe", "crt-list", "user", "group",
    "mode", "uid", "gid", "level", "nice", "tcp-ut", "ssl-max-ver", "namespace", "proto", "severity-output",
    "crt-ignore-err", "ca-ignore-err",
}  # fmt: skip
FLAGS = {
    "ssl", "accept-proxy", "strict-sni", "no-sslv3", "no-tlsv10", "no-tlsv11", "no-tls-tickets", "v4v6", "v6only", "tfo",
    "defer-accept", "transparent", "prefer-client-ciphers", "allow-0rtt", "generate-certificates", "force-tlsv12",
    "force-tlsv13", "accept-netscaler-cip", "no-alpn", "quic-force-retry",
}  # fmt: skip
USED = {  # or what is so here anyway
    "accept-proxy", "v6only", "v4v6", "ssl", "no-sslv3", "no-tlsv10", "no-tlsv11", "name", "id", "process", "thread",
    "shards",
}  # fmt: skip
USED_IN_TLS = {
    "crt", "alpn", "ca-file", "verify", "crl-file", "ssl-min-ver", "ciphers", "ciphersuites", "strict-sni", "no-tls-tickets",
    "force-tlsv12", "force-tlsv13",
}  # fmt: skip
FAMILIES = {"", "ipv4", "ipv6", "tcp", "tcp4", "tcp6", "mptcp", "mptcp4", "mptcp6"}  # MPTCP falls back to TCP
MIN_VERSIONS = {"TLSv1.2": "1.2", "TLSv1.3": "1.3"}


def listeners(lines: list[Line], note: Note) -> list[Plain]:
    """`bind`, `ports`, and `tls` and `accept_proxy` where there are some; a dict for each app that is needed."""
    found: dict[str, tuple[Plain, dict[str, list[Any]]]] = {}  # what is said of them -> addresses -> ports
    for line in lines:
        options = _options(line, note)
        more = _more(options, line, note)
        _, ports = found.setdefault(json.dumps(more, sort_keys=True), (more, {}))
        for word in line.words[1].split(","):
            where = _address(word, "v6only" in options)
            if where is None:
                note(line, f"{word}: only addresses with ports have a counterpart, left out")
            elif where[1] not in ports.setdefault(where[0], []):
                ports[where[0]].append(where[1])
    return [app for more, ports in found.values() for app in _apps(more, ports)]


def _apps(more: Plain, ports: dict[str, list[Any]]) -> list[Plain]:
    """An app has all its ports on each of its addresses."""
    together: dict[str, tuple[list[str], list[Any]]] = {}
    for address, its in ports.items():
        together.setdefault(json.dumps(its), ([], its))[0].append(address)
    return [{"bind": where[0] if len(where) == 1 else where, "ports": its, **more} for where, its in together.values()]


def _address(text: str, is_v6_only: bool) -> tuple[str, int | str] | None:
    """The address and the port, or range of ports."""
    family, _, rest = text.rpartition("@")
    if family not in FAMILIES:
        return None
    is_v6 = family.endswith("6")
    host, _, port = rest.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    first, _, last = port.partition("-")
    if not first.isdecimal() or (last and not last.isdecimal()) or "/" in host:
        return None
    if host in ("", "*"):
        host = "::" if is_v6 else "0.0.0.0"  # noqa: S104
    if host == "::" and not is_v6_only:
        host = "*"  # IPv4 too, as Linux has it
    return host.replace("localhost", "127.0.0.1"), port if last else int(first)


def _options(line: Line, note: Note) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    left = list(line.words[2:])
    while left:
        option = left.pop(0)
        if option in VALUED and left:
            found.setdefault(option, []).append(left.pop(0))
        else:
            found.setdefault(option, [])
            if option not in FLAGS:
                note(line, f"{option}: {ELSEWHERE}")
    return found


def _more(options: dict[str, list[str]], line: Line, note: Note) -> Plain:
    more: Plain = {}
    used = USED | USED_IN_TLS if "ssl" in options else USED
    if "accept-proxy" in options:
        more["accept_proxy"] = {"from": "any"}
        note(line, 'accept-proxy: whoever connects is believed, as there; "from" had better name the proxies')
    if "ssl" in options:
        more["tls"] = _tls(options, line, note)
    for option, values in options.items():
        if option not in used and option in VALUED | FLAGS:
            note(line, f"{' '.join([option, *values])}: {ELSEWHERE}")
    return more


def _tls(options: dict[str, list[str]], line: Line, note: Note) -> Plain:
    tls: Plain = {"certificates": [{"chain": path} for path in options.get("crt", [])]}
    if any(path.endswith("/") for path in options.get("crt", [])):
        note(line, "crt: a folder of certificates has no counterpart: each file is an entry of tls.certificates")
    if not tls["certificates"]:
        note(line, "ssl: wanted crt: tls.certificates is empty")
    for option, key in (("ca-file", "client_ca"), ("crl-file", "crl"), ("ciphers", "ciphers")):
        if options.get(option):
            tls[key] = options[option][-1]
    if options.get("ciphersuites"):
        tls["ciphersuites"] = options["ciphersuites"][-1].split(":")
    if options.get("verify"):
        tls["verify"] = options["verify"][-1]
    version = MIN_VERSIONS.get(options.get("ssl-min-ver", [""])[-1], "1.3" if "force-tlsv13" in options else "")
    if version == "1.3":
        tls["min_version"] = version
    elif options.get("ssl-min-ver") and not version:
        note(line, f"ssl-min-ver {options['ssl-min-ver'][-1]}: at least TLS 1.2 is spoken")
    names = [name for word in options.get("alpn", []) for name in word.split(",")]
    if "h2" in names:
        note(line, "alpn h2: clients are spoken to in HTTP/1.1; left out")
    if [name for name in names if name != "h2"]:
        tls["alpn"] = [name for name in names if name != "h2"]
    tls |= {"strict_sni": True} if "strict-sni" in options else {}
    tls |= {"tickets": False} if "no-tls-tickets" in options else {}
    return tls
