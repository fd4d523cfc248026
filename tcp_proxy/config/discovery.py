"""Entries of `targets` that are no server, but say where servers are listed: `srv:NAME`, and `file:PATH`.

Pure; the supervisor's process only. What is listed there becomes targets as entries of the configuration do (load_targets).
"""

import json
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.target_model import Discovery
from tcp_proxy.config.values import Plain
from tcp_proxy.sansio.address import name_fault, parse_target

SRV, FILE = "srv:", "file:"
DNS_PORT = 53
OF_RECORDS = ("name", "ports", "weight", "priority")  # what each record says of its server, or cannot


def is_discovery(text: Any) -> bool:
    return isinstance(text, str) and text.startswith((SRV, FILE))


def build_discoveries(entries: Sequence[Any], path: Path, report: Report) -> tuple[Discovery, ...]:
    found: dict[str, Discovery] = {}
    for number, entry in enumerate(entries):
        plain: Plain = {} if isinstance(entry, str) else entry or {}
        text: Any = entry if isinstance(entry, str) else plain.get("address")
        if not is_discovery(text):
            continue
        here = (*path, number) if isinstance(entry, str) else (*path, number, "address")
        more = {key: value for key, value in plain.items() if key != "address" and value is not None}
        fault = _fault(text) or ("it is listed here twice" if text in found else "")
        if fault:
            report.value(here, f"found {shown(text)}: {fault}")
        for key in more:
            if text.startswith(FILE):
                report.key((*path, number, key), f"the file {shown(text.removeprefix(FILE))} says that of each target")
            elif key in OF_RECORDS:
                report.key((*path, number, key), "each record of the DNS says that of its server")
        found[text] = Discovery(text, json.dumps(more) if more else "")
    return tuple(found.values())


def _fault(text: str) -> str:
    if text.startswith(FILE):
        path = text.removeprefix(FILE)
        return 'wanted "file:PATH"' if not path or "\0" in path else ""
    name = text.removeprefix(SRV).removesuffix(".")
    if "." not in name:
        return 'wanted "srv:_SERVICE._tcp.DOMAIN"'
    return name_fault(name.replace("_", "x"))


def build_nameservers(entries: Sequence[Any] | None, report: Report) -> tuple[tuple[str, int], ...]:
    """DNS servers that are asked for `srv:`, as IP addresses and ports."""
    found: list[tuple[str, int]] = []
    for number, text in enumerate(entries or ()):
        if text is None:
            continue
        try:
            host, port = _server(text)
        except ValueError:
            wanted = 'wanted an IP address, or one with a port, such as "127.0.0.1:8600"'
            report.value(("nameservers", number), f"found {shown(text)}; {wanted}")
        else:
            found.append((host, port))
    return tuple(found)


def _server(text: str) -> tuple[str, int]:
    try:
        return str(ip_address(text)), DNS_PORT
    except ValueError:
        address = parse_target(text)
        return str(ip_address(address.host)), address.port
