"""A configuration of tcpffee becomes one of ours that does the same, and a list of what has no counterpart.

Pure but for `read`, which reads the file. One app with all listening ports; each group is a target, named by its id, with
its own checks. What tcpffee takes from its environment (paths, the kind of key) is taken from there here too.
"""

import tomllib
from collections.abc import Mapping
from typing import Any

from tcp_proxy.sansio.address import parse_target

Plain = dict[str, Any]

DEFAULT_PATH = "/etc/tcpffee/tcpffee.toml"
LEVELS = {"trace": "debug", "debug": "debug", "info": "info", "warn": "warning", "error": "error"}
ACTIONS = {"draining": "drain", "disabled": "down", "up": "ignore"}
INTERVAL, FALL, RISE = 5, 3, 5
KNOWN = {"bind_addr", "stats_bind_socket", "ports", "expiration", "groups", "peers"}
GROUP_KNOWN = {"portmap", "drain", "disabled", "healthchecks"}
CHECK_KNOWN = {"fall", "rise", "fall_action", "interval", "timeout"}
HTTP = {f"http_{theirs}": theirs for theirs in ("method", "headers", "body", "status")} | {"http_target": "path"}
SLICED = "IP_WITH_FIRST_MESSAGE_SLICE"


class CannotImport(Exception):
    """One line for the user."""


def read(path: str) -> Plain:
    """Raises CannotImport."""
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise CannotImport(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CannotImport(f"{path}: this is no TOML: {error}") from None


def convert(given: Plain, environment: Mapping[str, str]) -> tuple[Plain, list[str]]:
    """The document, and what is to be said of it. Raises CannotImport."""
    notes: list[str] = []
    ports = _list(given.get("ports"), "ports")
    groups = _table(given.get("groups"), "groups")
    if not ports or not groups:
        raise CannotImport("ports and groups are needed: nothing to listen on, or nobody to serve")
    for port in ports:
        if not isinstance(port, int) or isinstance(port, bool):
            raise CannotImport(f"ports: found {port!r}; wanted a number")
    document: Plain = _paths(environment, notes)
    api = _api(given.get("stats_bind_socket", "127.0.0.1:2340"), notes)
    if api:
        document["api"] = api
    document["apps"] = [
        {
            "name": "tcpffee",
            "bind": "*" if given.get("bind_addr") == "::" else given.get("bind_addr", "0.0.0.0"),  # noqa: S104
            "ports": ports,
            "targets": [_target(name, _table(group, f"groups.{name}"), ports, notes) for name, group in groups.items()],
            "health": [],
            "sticky": {**_key(environment), "expires": given.get("expiration", 10), "ipv6_prefix": 128},
        }
    ]
    _say_unknown(given, notes)
    return document, notes


def _paths(environment: Mapping[str, str], notes: list[str]) -> Plain:
    found: Plain = {}
    for variable, key in (("TCPFFEE_PID_PATH", "pid_file"), ("TCPFFEE_HEALTHCHECK_SAVE_PATH", "state")):
        if environment.get(variable):
            found[key] = environment[variable]
        else:
            notes.append(f"{variable} is not set: no {key}")
    if "state" in found:
        notes.append(f"state: {found['state']} is begun anew, tcpffee's own file is renamed at the first start")
    level = environment.get("RUST_LOG", "").lower()
    if level in LEVELS:
        found["log"] = {"level": LEVELS[level]}
    elif level:
        notes.append(f"RUST_LOG={level}: filters by module have no counterpart, see log.level")
    return found


def _api(listen: Any, notes: list[str]) -> Plain | None:
    """tcpffee's statistics are the management API's business here."""
    text = str(listen)
    host, _, port = text.rpartition(":")
    notes.append("stats_bind_socket: the management API listens there; its routes are others (docs/api.md)")
    if host in ("127.0.0.1", "[::1]", "localhost"):
        return {"listen": f"{host.replace('localhost', '127.0.0.1')}:{port}"}
    notes.append(f"stats_bind_socket: {text} can be reached from elsewhere, which needs api.token_file: on 127.0.0.1 now")
    return {"listen": f"127.0.0.1:{port}"}


def _key(environment: Mapping[str, str]) -> Plain:
    kind = environment.get("TCPFFEE_KEY_TYPE", "IP") or "IP"
    if kind == "IP":
        return {"key": "source_ip"}
    if kind != SLICED:
        raise CannotImport(f"TCPFFEE_KEY_TYPE={kind}; wanted IP or {SLICED}")
    part = []
    for end in ("START", "END"):
        text = environment.get(f"TCPFFEE_KEY_FIRST_MESSAGE_SLICE_{end}", "")
        if not text.isdecimal():
            raise CannotImport(f"TCPFFEE_KEY_FIRST_MESSAGE_SLICE_{end}={text}; wanted a number, for the key type {SLICED}")
        part.append(int(text))
    if part[0] >= part[1]:
        raise CannotImport(f"the slice of the first message, {part[0]} to {part[1]}, is empty")
    return {"key": "source_ip+first_bytes", "slice": part}


# -- groups


def _target(name: str, group: Plain, ports: list[int], notes: list[str]) -> Plain:
    where = f"groups.{name}"
    target: Plain = {"name": name}
    portmap = group.get("portmap")
    if isinstance(portmap, str):
        target["address"] = f"[{portmap}]" if ":" in portmap and not portmap.startswith("[") else portmap
    elif isinstance(portmap, dict):
        target["ports"] = _ports(where, portmap, ports, notes)
    else:
        raise CannotImport(f"{where}.portmap: found {portmap!r}; wanted an address, or a table of ports")
    target |= {key: group[key] for key in ("drain", "disabled") if group.get(key)}
    checks = _list(group.get("healthchecks", []), f"{where}.healthchecks")
    target["health"] = [_check(check, f"{where}.healthchecks[{i}]", notes) for i, check in enumerate(checks)]
    notes += [f"{where}.{key}: unknown, left out" for key in group.keys() - GROUP_KNOWN]
    return target


def _ports(where: str, portmap: Plain, ports: list[int], notes: list[str]) -> Plain:
    """Every listening port, and no other, has a server here."""
    found = {str(port): str(portmap[str(port)]) for port in ports if str(port) in portmap}
    for port in portmap.keys() - {str(port) for port in ports}:
        notes.append(f"{where}.portmap.{port}: nobody listens on {port}, left out")
    missing = [port for port in ports if str(port) not in found]
    try:
        servers = {port: parse_target(text) for port, text in found.items()}
    except ValueError as error:
        raise CannotImport(f"{where}.portmap: {error}") from None
    if missing and not servers:
        raise CannotImport(f"{where}.portmap: it has no server for any of the ports")
    for lacking in missing:
        host = next(iter(servers.values())).host
        found[str(lacking)] = f"[{host}]:{lacking}" if ":" in host else f"{host}:{lacking}"
        notes.append(f"{where}.portmap: no server for the port {lacking}; {found[str(lacking)]} is taken, please look")
    return found


def _check(given: Any, where: str, notes: list[str]) -> Plain:
    given = _table(given, where)
    interval = given.get("interval", INTERVAL)
    if not isinstance(interval, int | float) or isinstance(interval, bool) or interval <= 0:
        raise CannotImport(f"{where}.interval: found {interval!r}; wanted seconds")
    timeout = given.get("timeout", interval / 2)
    if timeout > interval:
        notes.append(f"{where}.timeout: {timeout} is above the interval; {interval} is taken")
        timeout = interval
    action = str(given.get("fall_action", "Draining"))
    if action.lower() not in ACTIONS:
        raise CannotImport(f"{where}.fall_action: found {action!r}; wanted Draining, Disabled or Up")
    check: Plain = {
        "type": "http" if any(key.startswith("http_") for key in given) else "tcp",
        "interval": interval,
        "timeout": timeout,
        "rise": given.get("rise", RISE),
        "fall": given.get("fall", FALL),
        "fall_action": ACTIONS[action.lower()],
    }
    for key, value in given.items():
        if key in HTTP:
            check[HTTP[key]] = {name: str(text) for name, text in value.items()} if key == "http_headers" else value
        elif key not in CHECK_KNOWN:
            notes.append(f"{where}.{key}: unknown, left out")
    return check


# -- the rest


def _say_unknown(given: Plain, notes: list[str]) -> None:
    for key in sorted(given.keys() - KNOWN):
        if key.startswith("raft_"):
            notes.append(f"{key}: proxies do not talk to each other by raft here, left out")
        else:
            notes.append(f"{key}: unknown, left out")
    if given.get("peers"):
        notes.append(f"peers: {len(given['peers'])} proxies that share their tables have no counterpart: this one is alone")


def _table(value: Any, where: str) -> Plain:
    if not isinstance(value, dict):
        raise CannotImport(f"{where}: found {value!r}; wanted a table")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise CannotImport(f"{where}: found {value!r}; wanted a list")
    return value
