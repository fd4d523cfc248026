"""A configuration of tcpffee becomes one of ours that does the same, and a list of what has no counterpart.

Pure but for `read`, which reads the file, and `load`, which makes a configuration of it that can run. One app with all
listening ports; each group is a target, named by its id, with its own checks. What tcpffee takes from its environment
(paths, the level of the log, the kind of key) is taken from there here too.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tcp_proxy.config.files import PIPE_WAIT, read_file
from tcp_proxy.config.positions import shown
from tcp_proxy.config.report import CannotImport, ConfigError, ConfigErrors
from tcp_proxy.sansio.address import parse_target

if TYPE_CHECKING:
    from tcp_proxy.config.model import Config

Plain = dict[str, Any]

MAX_SIZE = 64 * 1024 * 1024  # bytes
DEFAULT_PATH = "/etc/tcpffee/tcpffee.toml"
LEVELS = {"trace": "debug", "debug": "debug", "info": "info", "warn": "warning", "error": "error", "off": "error"}
ACTIONS = {"draining": "drain", "disabled": "down", "up": "ignore"}
INTERVAL, FALL, RISE = 5, 3, 5
MOST = 1 << 53  # of a number: what JSON has exactly
KNOWN = {"bind_addr", "stats_bind_socket", "ports", "expiration", "groups", "peers"}
GROUP_KNOWN = {"portmap", "drain", "disabled", "healthchecks"}
CHECK_KNOWN = {"fall", "rise", "fall_action", "interval", "timeout"}
HTTP = {f"http_{theirs}": theirs for theirs in ("method", "headers", "body", "status")} | {"http_target": "path"}
SLICED = "IP_WITH_FIRST_MESSAGE_SLICE"
OWN_TARGET = re.compile(r"\$\.apps\[0\]\.targets\[(\d+)\]")
ETCD = "http://127.0.0.1:2379"
OWN_LISTENER = "the app's own listener"


def read(path: str) -> Plain:
    """Raises CannotImport."""
    try:
        return parsed(path, read_file(path, MAX_SIZE, PIPE_WAIT).decode())
    except OSError as error:
        raise CannotImport(f"{path}: {error.strerror or error}") from None
    except ValueError as error:  # not in UTF-8, or not even a path
        raise CannotImport(f"{path}: this is no TOML: {error}") from None


def parsed(path: str, text: str) -> Plain:
    """Raises CannotImport."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise CannotImport(f"{path}: this is no TOML of tcpffee's: it is nested too deep") from None
    except ValueError as error:  # TOML, or a number with thousands of digits
        raise CannotImport(f"{path}: this is no TOML: {error}") from None


def load(path: str, environment: Mapping[str, str], say: Callable[[str], Any]) -> "Config":
    """The configuration in a file of tcpffee's; `say` gets what is to be said of it. Raises ConfigErrors."""
    try:
        given = read(path)
        peers = given.pop("peers", [])  # no etcd is guessed where nobody looks at it
        config, _, notes = judged(path, given, environment)
    except CannotImport as error:
        raise ConfigErrors((ConfigError(path, 0, 0, "", str(error).removeprefix(f"{path}: ")),)) from None
    if peers:
        notes.append('peers: this proxy is alone; --import writes what has a "cluster", which needs etcd (docs/cluster.md)')
    for note in notes:
        say(f"{path}: {note}")
    return config


def judged(path: str, given: Plain, environment: Mapping[str, str]) -> tuple["Config", str, list[str]]:
    """The configuration, the document as text, and what is to be said of it. A group that leads to the proxy itself is
    left out.

    Raises CannotImport, and ConfigErrors for what is wrong elsewhere.
    """
    from tcp_proxy.config.load import load_text  # noqa: PLC0415  it imports what this file is a part of

    document, notes = convert(given, environment)
    targets = document["apps"][0]["targets"]
    while True:
        text = json.dumps(document, indent=2) + "\n"
        try:
            return load_text(text.encode(), f"{path}, imported"), text, notes
        except ConfigErrors as errors:
            wrong: dict[int, str] = {}
            for error in errors.errors:
                found = OWN_TARGET.match(error.path) if OWN_LISTENER in error.message else None
                if found is None:
                    raise
                wrong.setdefault(int(found[1]), error.message)
            notes += [f"groups.{targets[i]['name']}: {message}; it is left out" for i, message in wrong.items()]
            for i in sorted(wrong, reverse=True):
                del targets[i]


def convert(given: Plain, environment: Mapping[str, str]) -> tuple[Plain, list[str]]:
    """The document, and what is to be said of it. Raises CannotImport."""
    notes: list[str] = []
    ports = _list(given.get("ports", []), "ports")
    groups = _table(given.get("groups", {}), "groups")
    if not ports or not groups:
        raise CannotImport("ports and groups are needed: nothing to listen on, or nobody to serve")
    for port in ports:
        _whole(port, "ports")
    document: Plain = _paths(environment, notes)
    api = _api(_text(given.get("stats_bind_socket", "127.0.0.1:2340"), "stats_bind_socket"), notes)
    expires = _number(given.get("expiration", 10), "expiration")
    bind = _text(given.get("bind_addr", "0.0.0.0"), "bind_addr")  # noqa: S104
    if api:
        document["api"] = api
    document["apps"] = [
        {
            "name": "tcpffee",
            "bind": "*" if bind == "::" else bind,
            "ports": ports,
            "targets": [_target(name, group, ports, notes) for name, group in groups.items()],
            "health": [],
            "sticky": {**_key(environment), "expires": expires, "ipv6_prefix": 128},
        }
    ]
    cluster = _cluster(given, notes)
    if cluster is not None:
        document["cluster"] = cluster
    _say_unknown(given, notes)
    return document, notes


def _cluster(given: Plain, notes: list[str]) -> Plain | None:
    """tcpffee's proxies talk to each other by a Raft of their own, ours by etcd, which has to be there. None: no peers."""
    peers = [_table(peer, f"peers[{i}]") for i, peer in enumerate(_list(given.get("peers", []), "peers"))]
    if not peers:
        return None
    if any("mac_address" in peer for peer in peers):
        notes.append("peers: mac_address is not needed: a node is called as its machine, or as \"cluster\" says")
    notes.append(
        f"peers: {len(peers)} proxies that share their tables, here by etcd (docs/cluster.md); "
        f"please write in \"cluster\" where yours is, {ETCD} is only a guess"
    )
    return {"endpoints": [ETCD], "name": "tcpffee"}


def _paths(environment: Mapping[str, str], notes: list[str]) -> Plain:
    found: Plain = {}
    for variable, key in (("TCPFFEE_PID_PATH", "pid_file"), ("TCPFFEE_HEALTHCHECK_SAVE_PATH", "state")):
        if environment.get(variable):
            found[key] = environment[variable]
        else:
            notes.append(f"{variable} is not set: no {key}")
    if "state" in found:
        notes.append(f"state: {found['state']} is begun anew, tcpffee's own file is renamed at the first start")
    filters = [part.strip() for part in environment.get("RUST_LOG", "").lower().split(",")]
    level = next((part for part in filters if part in LEVELS), ",".join(filters))
    if level in LEVELS:
        found["log"] = {"level": LEVELS[level]}
    elif level:
        notes.append(f"RUST_LOG={level}: filters by module have no counterpart, see log.level")
    return found


def _api(text: str, notes: list[str]) -> Plain | None:
    """tcpffee's statistics are the management API's business here."""
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


def _target(name: str, given: Any, ports: list[int], notes: list[str]) -> Plain:
    where = f"groups.{_key_text(name)}"
    group = _table(given, where)
    target: Plain = {"name": name}
    portmap = group.get("portmap")
    if isinstance(portmap, str):
        target["address"] = f"[{portmap}]" if ":" in portmap and not portmap.startswith("[") else portmap
    elif isinstance(portmap, dict):
        target["ports"] = _ports(where, portmap, ports, notes)
    else:
        raise _wrong(portmap, f"{where}.portmap", "an address, or a table of ports")
    target |= {key: True for key in ("drain", "disabled") if _flag(group.get(key, False), f"{where}.{key}")}
    checks = _list(group.get("healthchecks", []), f"{where}.healthchecks")
    target["health"] = [_check(check, f"{where}.healthchecks[{i}]", notes) for i, check in enumerate(checks)]
    notes += [f"{where}.{_key_text(key)}: unknown, left out" for key in group.keys() - GROUP_KNOWN]
    return target


def _ports(where: str, portmap: Plain, ports: list[int], notes: list[str]) -> Plain:
    """Every listening port, and no other, has a server here."""
    texts = {port: portmap[str(port)] for port in ports if str(port) in portmap}
    found = {str(port): _text(text, f"{where}.portmap.{port}") for port, text in texts.items()}
    for port in portmap.keys() - {str(port) for port in ports}:
        notes.append(f"{where}.portmap.{_key_text(port)}: nobody listens on {port}, left out")
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
    interval = _number(given.get("interval", INTERVAL), f"{where}.interval")
    if interval <= 0:
        raise _wrong(interval, f"{where}.interval", "seconds above 0")
    timeout = _number(given.get("timeout", interval / 2), f"{where}.timeout")
    if timeout > interval:
        notes.append(f"{where}.timeout: {timeout} is above the interval; {interval} is taken")
        timeout = interval
    action = _text(given.get("fall_action", "Draining"), f"{where}.fall_action")
    if action.lower() not in ACTIONS:
        raise _wrong(action, f"{where}.fall_action", "Draining, Disabled or Up")
    check: Plain = {
        "type": "http" if any(key.startswith("http_") for key in given) else "tcp",
        "interval": interval,
        "timeout": timeout,
        "rise": _whole(given.get("rise", RISE), f"{where}.rise"),
        "fall": _whole(given.get("fall", FALL), f"{where}.fall"),
        "fall_action": ACTIONS[action.lower()],
    }
    if check["type"] == "http":
        check["status"] = 200
    for key, value in given.items():
        if key in HTTP:
            check[HTTP[key]] = _of_http(key, value, f"{where}.{key}")
        elif key not in CHECK_KNOWN:
            notes.append(f"{where}.{_key_text(key)}: unknown, left out")
    return check


def _of_http(key: str, value: Any, where: str) -> Any:
    if key == "http_status":
        return _whole(value, where)
    if key != "http_headers":
        return _text(value, where)
    headers = {}
    for name, text in _table(value, where).items():
        headers[name] = text if isinstance(text, str) else str(_number(text, f"{where}.{_key_text(name)}"))
    return headers


# -- the rest


def _say_unknown(given: Plain, notes: list[str]) -> None:
    for key in sorted(given.keys() - KNOWN):
        if key.startswith("raft_"):
            notes.append(f"{_key_text(key)}: proxies talk to each other by etcd here, not by raft, left out")
        else:
            notes.append(f"{_key_text(key)}: unknown, left out")


# -- what a value is


def _table(value: Any, where: str) -> Plain:
    if not isinstance(value, dict):
        raise _wrong(value, where, "a table")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(value, where, "a list")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(value, where, "a text")
    return value


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(value, where, "true or false")
    return value


def _whole(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MOST:
        raise _wrong(value, where, "a whole number")
    return value


def _number(value: Any, where: str) -> int | float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= MOST:
        raise _wrong(value, where, "a number")
    return value


def _wrong(value: Any, where: str, wanted: str) -> CannotImport:
    """A date, as TOML has them, is shown as it is written."""
    if isinstance(value, int) and abs(value) > MOST:
        found = "a number that is too large"
    else:
        found = shown(value) if isinstance(value, str | int | float | list | dict) else str(value)
    return CannotImport(f"{where}: found {found}; wanted {wanted}")


def _key_text(key: str) -> str:
    return key if key.isprintable() else shown(key)
