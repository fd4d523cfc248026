"""What an app says of its policy becomes a Hash. Pure; a part of config.build."""

import re
from math import isqrt
from typing import Any

from tcp_proxy.config.model import Hash
from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.values import Plain, given_of
from tcp_proxy.sansio.balance import KEYED

OF_TCP, OF_HTTP, NAMED = ("first_bytes", "sni"), ("header", "cookie", "path"), ("header", "cookie")
SIZES = {"table_size": "maglev", "ring_size": "ring_hash"}
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def check_levels(app: Plain, path: Path, report: Report) -> None:
    """A level that takes less than its share would give load away while all of it are up."""
    found = app.get("overprovisioning")
    if found and found < 100:
        report.value((*path, "overprovisioning"), f"found {found}; wanted 0, or a whole number from 100 on, such as 140")


def build_hash(app: Plain, path: Path, report: Report) -> Hash:
    plain: Any = app.get("hash")
    if not plain:
        return Hash()
    path, balance = (*path, "hash"), app.get("balance", "round_robin")
    if balance not in KEYED:
        if balance is not None:
            text = f'"balance" {shown(balance)} hashes nothing; wanted "rendezvous", "maglev" or "ring_hash" beside it'
            report.key(path, text)
        return Hash()
    key = plain.get("key") or "address"
    _check_key(app, key, (*path, "key"), report)
    given = given_of(Hash, {name: value for name, value in plain.items() if name != "slice"})
    _check_name(key, given.get("name", ""), plain, path, report)
    given["slice"] = slice_of(plain, key == "first_bytes", '"first_bytes"', path, report)
    for name, policy in SIZES.items():
        if balance not in (None, policy) and given.get(name, getattr(Hash(), name)) != getattr(Hash(), name):
            report.key((*path, name), f'it is of "balance": "{policy}"')
    factor = given.get("balance_factor", 0)
    if 0 < factor < 100:
        report.value((*path, "balance_factor"), f"found {factor}; wanted 0, or a whole number from 100 on, such as 150")
    size = given.get("table_size", Hash().table_size)
    if not _is_prime(size):
        larger = next(number for number in range(size, 2 * size) if _is_prime(number))
        report.value((*path, "table_size"), f"found {size}, which is no prime; wanted one, such as {larger}")
    return Hash(**given)


def _check_key(app: Plain, key: str, path: Path, report: Report) -> None:
    is_http = app.get("mode", "tcp") == "http"
    if app.get("balance") == "source_hash" and key != "address":
        report.value(path, f'"balance" "source_hash" hashes the address; wanted "rendezvous" for the key {shown(key)}')
    if key in (OF_TCP if is_http else OF_HTTP) and app.get("mode", "tcp") is not None:
        others = ", ".join(f'"{name}"' for name in ("address", *(OF_HTTP if is_http else OF_TCP)))
        report.value(path, f'{shown(key)} is of mode {"tcp" if is_http else "http"}; wanted one of {others}')
    if key == "first_bytes" and app.get("tls"):
        report.value(path, "the first bytes of a client with TLS are of its handshake; wanted the key \"sni\"")
    if key != "address" and app.get("sticky") is not None:
        report.value(path, 'a client of an app with "sticky" is known by the key of that; wanted "address", or no "sticky"')


def _check_name(key: str, name: str, plain: Plain, path: Path, report: Report) -> None:
    if key in NAMED and not name:
        if "name" not in plain or not report:
            report.value((*path, "key"), f'missing key "name" beside it: which {key}')
    elif key not in NAMED and name:
        report.key((*path, "name"), f'the key {shown(key)} has no name; it is for "header" and "cookie"')
    elif name and not TOKEN.fullmatch(name):
        report.value((*path, "name"), f"found {shown(name)}; wanted the name of a {key}, without spaces and separators")


def slice_of(plain: Plain, wants: bool, key: str, path: Path, report: Report) -> tuple[int, int]:
    """[start, end) of the first message, for the key that `wants` one."""
    part = plain.get("slice")
    if part is not None and None not in part:
        if not wants:
            report.value((*path, "slice"), f"a slice is for the key {key}")
        elif part[0] >= part[1]:
            report.value((*path, "slice"), f"found {shown(part)}; wanted [start, end) with the end above the start")
        return int(part[0]), int(part[1])
    if wants and "slice" not in plain:
        report.value((*path, "key"), 'missing key "slice" beside it: which bytes of the first message count')
    return 0, 0


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, isqrt(number) + 1))
