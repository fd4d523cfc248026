"""`source` and `transparent` of an app, and of a target: from where connects come.

Pure; the supervisor's process only.
"""

from typing import Any

from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.target_model import Source
from tcp_proxy.config.values import Plain
from tcp_proxy.sansio.source import is_interface, parse_source


def build_source(plain: Plain, path: Path, report: Report) -> Source | None:
    """None: nothing is said of it."""
    entries, transparent = plain.get("source"), plain.get("transparent")
    if entries is None and transparent is None:
        return None
    addresses: list[str] = []
    interface = ""
    for here, text in _each(entries, (*path, "source")):
        try:
            entry = parse_source(text)
        except ValueError as error:
            report.value(here, f"found {shown(text)}: {error}")
            continue
        if not is_interface(entry):
            addresses.append(entry)
        elif interface:
            report.value(here, f"{shown(interface)} and {shown(entry)} are two interfaces; wanted one")
        else:
            interface = entry
    return Source(tuple(dict.fromkeys(addresses)), interface, bool(transparent))


def _each(entries: Any, path: Path) -> list[tuple[Path, str]]:
    if isinstance(entries, str):
        return [(path, entries)]
    return [((*path, number), text) for number, text in enumerate(entries or ()) if text is not None]
