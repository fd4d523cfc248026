"""Health checks that fit the schema become Check values, unless they contradict themselves or what they check.

Pure; the supervisor's process only. As in config.build, None stands for a value that is already reported as wrong.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tcp_proxy.config.failover import fault_of
from tcp_proxy.config.model import KINDS, Check
from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.values import Plain, given_of
from tcp_proxy.sansio.address import Address
from tcp_proxy.sansio.escapes import decoded
from tcp_proxy.sansio.pattern import regex
from tcp_proxy.sansio.presets import NAMED_USERS, OWN_TLS, TIMEOUTS

CHECK = Check()  # for its defaults
HTTPS = "https"  # how the type "http" with "tls" is written, too
BUILT_HERE = ("headers", "status", "command", "environment")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[^\0-\x1f\x7f]*")
REQUEST_PATH = re.compile(r"/[\x21-\x7e]*|\*")

Places = Mapping[Path, tuple[Address, ...]]  # the servers that are checked, by where they stand in the file


def checks(plain: Any, path: Path, targets: Places, report: Report) -> tuple[Check, ...]:
    """What stands at a key `health`: one check or several."""
    if not isinstance(plain, list):
        return () if plain is None else (_check(plain, path, targets, report),)
    return tuple(_check(check, (*path, i), targets, report) for i, check in enumerate(plain) if check is not None)


def _check(plain: Plain, path: Path, targets: Places, report: Report) -> Check:
    given = given_of(Check, {key: value for key, value in plain.items() if key not in BUILT_HERE})
    kind = plain.get("type", CHECK.type)
    if kind == HTTPS:
        kind, given["type"], given["tls"] = "http", "http", True
        if plain.get("tls") is False:
            report.value((*path, "tls"), 'found false; a check of type "https" is over TLS: wanted "http", or no "tls"')
    if kind is not None:
        _keys(plain, kind, path, report)
    _times(plain, given, path, report)
    if kind == "http":
        _http(plain, given, path, report)
    if kind == "exchange":
        _exchange(plain, path, report)
    if kind == "script":
        _script(plain, given, path, report)
    unix = next((place for place, servers in targets.items() if any(server.path for server in servers)), None)
    if unix is not None and kind == "ping":
        report.value((*path, "type"), f"a UNIX socket cannot be pinged, and the target at {report.where(unix)} is one")
    elif unix is not None and plain.get("port") is not None and kind != "ping":
        report.value((*path, "port"), f"a UNIX socket has no port, and the target at {report.where(unix)} is one")
    return Check(**given)


def _keys(plain: Plain, kind: str, path: Path, report: Report) -> None:
    """Keys of other types; a ping has no port, for instance."""
    for key, value in plain.items():
        kinds = KINDS.get(key)
        if kinds is not None and kind not in kinds and value is not None:
            wanted = f"checks of type {' or '.join(map(shown, kinds))}"
            report.key((*path, key), f"{shown(key)} is for {wanted}; this one is of type {shown(plain.get('type', kind))}")


def _times(plain: Plain, given: dict[str, Any], path: Path, report: Report) -> None:
    """Nothing is above the interval: what is left out is the interval where that is below the default."""
    interval = plain.get("interval", CHECK.interval)
    for key, text in (("timeout", "a timeout"), ("interval_down", "an interval_down")):
        seconds = plain.get(key, getattr(CHECK, key))
        if key not in plain and interval is not None:
            usual = TIMEOUTS.get(plain.get("preset") or "", CHECK.timeout) if key == "timeout" else getattr(CHECK, key)
            given[key] = min(usual, float(interval))
        elif interval is not None and seconds is not None and seconds > interval:
            place = f"at {report.where((*path, 'interval'))}" if "interval" in plain else "which is the default"
            report.value(
                (*path, key),
                f"{text} of {seconds} seconds is above the interval of {interval} seconds, {place}; wanted at most that",
            )


# -- http


def _http(plain: Plain, given: dict[str, Any], path: Path, report: Report) -> None:
    headers, status = plain.get("headers"), plain.get("status")
    if headers is not None:
        given["headers"] = tuple(http_headers(headers, (*path, "headers"), report))
    if status is not None:
        several = status if isinstance(status, list) else [status]
        given["status"] = tuple(one if isinstance(one, str) else str(int(one)) for one in several if one is not None)
    method, target = plain.get("method"), plain.get("path")
    if method is not None and not TOKEN.fullmatch(method):
        report.value((*path, "method"), f'found {shown(method)}; wanted the name of a method, as in "GET"')
    if target is not None and not REQUEST_PATH.fullmatch(target):
        wanted = "wanted a path that begins with / and has no spaces (%20 is one) and nothing but ASCII"
        report.value((*path, "path"), f"found {shown(target)}; {wanted}")


def http_headers(plain: Plain, path: Path, report: Report) -> Iterable[tuple[str, str]]:
    """Names and values, as they are sent."""
    for name, value in plain.items():
        if not TOKEN.fullmatch(name):
            report.key((*path, name), f"{shown(name)} is no name of a header: wanted letters, digits and -")
        elif value is not None and not HEADER_VALUE.fullmatch(value):
            report.value((*path, name), f"found {shown(value)}; wanted a value without control characters")
        elif value is not None:
            yield name, value.strip()


# -- exchange


def _exchange(plain: Plain, path: Path, report: Report) -> None:
    preset = plain.get("preset")
    wants = [key for key in ("preset", "expect", "expect_regex") if plain.get(key)]
    if len(wants) > 1:
        report.value((*path, wants[1]), f"{shown(wants[1])} beside {shown(wants[0])}; wanted one of them")
    elif not wants and not any(key in plain and plain[key] is None for key in ("preset", "expect", "expect_regex")):
        wanted = '"expect", "expect_regex" or "preset": what a healthy target answers'
        report.value(path, f'a check of type "exchange" needs {wanted}')
    if preset is not None and plain.get("send"):
        report.value((*path, "send"), f"the preset {shown(preset)} knows what it sends; wanted no \"send\"")
    if plain.get("user") and preset not in NAMED_USERS:
        report.value((*path, "user"), f'"user" is for the presets {" and ".join(map(shown, sorted(NAMED_USERS)))}')
    if plain.get("tls") and preset in OWN_TLS:
        report.value((*path, "tls"), f"the preset {shown(preset)} has no TLS: the protocol begins it in a way of its own")
    for key, parse in (("send", decoded), ("expect", decoded), ("expect_regex", regex)):
        if plain.get(key):
            try:
                parse(plain[key])
            except ValueError as error:
                report.value((*path, key), f"found {shown(plain[key])}: {error}")
    if "\0" in (plain.get("user") or ""):
        report.value((*path, "user"), "a zero character in a name")


# -- script


def _script(plain: Plain, given: dict[str, Any], path: Path, report: Report) -> None:
    command = plain.get("command")
    words = [command] if isinstance(command, str) else command or []
    if None in words:
        return
    given["command"] = tuple(words)
    given["environment"] = tuple(word for word in plain.get("environment") or () if word is not None)
    place = (*path, "command", 0) if isinstance(command, list) else (*path, "command")
    if words and (fault := fault_of(words[0], folders=False)):
        report.value(place, f"{shown(words[0])}: {fault}")
    elif any("\0" in word for word in words):
        report.value((*path, "command"), "a zero character in an argument")
    elif not words and not (report and "command" in plain):
        report.value(path, 'a check of type "script" needs a "command": the path of an executable')
