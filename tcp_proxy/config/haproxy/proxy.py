"""What one frontend, backend or listen of a haproxy.cfg says, with what its defaults say. Pure.

Each keyword that has a counterpart here has one reader in `_READERS`; every other line is noted with its number.
HAProxy's configuration manual, 4.2 (keywords) and 5 (bind and server options).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tcp_proxy.config.haproxy.text import Line, Section, seconds

Note = Callable[[Line, str], None]

ELSEWHERE = "no counterpart, left out"
TIMEOUTS = {
    "connect", "client", "server", "http-request", "http-keep-alive", "queue", "check", "tunnel", "client-fin", "server-fin",
}  # fmt: skip
# What is done here anyway, without being said.
USUAL = {
    "forwardfor", "http-keep-alive", "redispatch", "tcpka", "clitcpka", "srvtcpka", "splice-auto", "splice-request",
    "splice-response", "dontlognull", "tcp-smart-accept", "tcp-smart-connect", "prefer-last-server", "http-ignore-probes",
    "contstats", "http-use-htx", "tcplog", "httplog", "http-tunnel",
}  # fmt: skip
CLOSING = {"httpclose", "forceclose", "http-server-close"}
CHECKS = {
    "httpchk", "tcp-check", "mysql-check", "pgsql-check", "redis-check", "smtpchk", "ldap-check", "ssl-hello-chk",
    "external-check",
}  # fmt: skip
LOGGED = "sessions are logged there in a format of our own; facility and level are left out"


@dataclass(slots=True)
class Proxy:
    head: Line
    mode: str = "tcp"
    balance: Line | None = None
    hash_type: Line | None = None
    hash_balance_factor: Line | None = None
    retries: int = 3
    maxconn: int = 0
    timeouts: dict[str, float] = field(default_factory=dict)  # seconds
    check: Line | None = None  # the option that says how
    check_rules: list[Line] = field(default_factory=list)  # http-check and tcp-check
    closes: bool = False  # no kept connections to servers
    binds: list[Line] = field(default_factory=list)
    servers: list[Line] = field(default_factory=list)
    server_defaults: tuple[str, ...] = ()
    acls: dict[str, list[Line]] = field(default_factory=dict)
    uses: list[Line] = field(default_factory=list)
    default_backend: Line | None = None
    stick_on: Line | None = None
    stick_table: Line | None = None
    cookie: Line | None = None
    inspect_delay: float | None = None
    access_log: str | None = None
    source: tuple[str, ...] = ()  # the words behind it

    @property
    def kind(self) -> str:
        return self.head.words[0]

    @property
    def name(self) -> str:
        return self.head.words[1] if len(self.head.words) > 1 else ""


def read(section: Section, base: Proxy, note: Note) -> Proxy:
    """`base`: of its defaults, which stays as it is."""
    proxy = copy.deepcopy(base)
    proxy.head = section.head
    for line in section.lines:
        reader = _READERS.get(line.words[0], _unknown)
        try:
            reader(proxy, line, note)
        except (IndexError, ValueError):
            note(line, "not understood, left out")
    return proxy


def _unknown(_proxy: Proxy, line: Line, note: Note) -> None:
    note(line, ELSEWHERE)


def _mode(proxy: Proxy, line: Line, note: Note) -> None:
    if line.words[1] not in ("tcp", "http"):
        note(line, "wanted tcp or http; it is taken as tcp")
    proxy.mode = "http" if line.words[1] == "http" else "tcp"


def _timeout(proxy: Proxy, line: Line, note: Note) -> None:
    found = seconds(line.words[2])
    if line.words[1] not in TIMEOUTS:
        note(line, ELSEWHERE)
    elif found is None:
        raise ValueError
    else:
        proxy.timeouts[line.words[1]] = found


def _option(proxy: Proxy, line: Line, note: Note) -> None:
    name, more = line.words[1], line.words[2:]
    if name in CHECKS:
        proxy.check = line
    elif name in CLOSING:
        proxy.closes = True
    elif name not in USUAL:
        note(line, ELSEWHERE)
    elif more and name == "forwardfor":
        note(line, "X-Forwarded-For is always added, under this name; the rest is left out")


def _no(proxy: Proxy, line: Line, note: Note) -> None:
    """`no option X`, `no log`."""
    if line.words[1] == "log":
        proxy.access_log = "off"
        return
    if line.words[1] == "option" and line.words[2] in CLOSING:
        proxy.closes = False
    elif line.words[1] == "option" and line.words[2] in USUAL:
        note(line, "this is always so here")
    elif line.words[1] != "option" or line.words[2] in CHECKS:
        note(line, ELSEWHERE)


def _maxconn(proxy: Proxy, line: Line, _note: Note) -> None:
    proxy.maxconn = int(line.words[1])


def _retries(proxy: Proxy, line: Line, _note: Note) -> None:
    proxy.retries = int(line.words[1])


def _acl(proxy: Proxy, line: Line, _note: Note) -> None:
    proxy.acls.setdefault(line.words[1], []).append(line)


def _tcp_request(proxy: Proxy, line: Line, note: Note) -> None:
    """The client's hello is waited for here wherever a route asks for a name."""
    words = " ".join(line.words[1:])
    if line.words[1] == "inspect-delay":
        proxy.inspect_delay = seconds(line.words[2])
    elif not words.startswith("content accept if { req_ssl_hello_type 1 }") and words != (
        "content accept if { req.ssl_hello_type 1 }"
    ):
        note(line, ELSEWHERE)


def _stick(proxy: Proxy, line: Line, note: Note) -> None:
    if line.words[1:] == ("on", "src"):
        proxy.stick_on = line
    else:
        note(line, "clients stick by their address alone (stick on src); left out")


def _log(proxy: Proxy, line: Line, note: Note) -> None:
    if line.words[1:] == ("global",):
        return
    if proxy.access_log not in (None, "off"):
        note(line, "an app has one access_log; left out")
    else:
        proxy.access_log = log_place(line.words[1])
        note(line, LOGGED)


def log_place(address: str) -> str:
    """What access_log calls it."""
    if address in ("stdout", "stderr") or address.startswith("fd@"):
        return "-"
    if address.startswith("/"):
        return f"syslog+unix://{address}"
    has_port = address.partition(":")[2].isdecimal()
    return f"syslog+udp://{address}" + ("" if has_port else ":514")


def _source(proxy: Proxy, line: Line, _note: Note) -> None:
    proxy.source = line.words[1:]


def source_keys(words: tuple[str, ...], line: Line, note: Note) -> dict[str, Any]:
    """Of `source ADDRESS [usesrc …] [interface NAME]`, without its first word: what says the same of an app or a target."""
    address, *more = words
    options = dict(zip(more[::2], more[1::2], strict=False))
    found: dict[str, Any] = {}
    host = address.removeprefix("ipv4@").removeprefix("ipv6@")
    if host.count(":") == 1 or host.startswith("["):
        host = host.rpartition(":")[0].strip("[]")
        note(line, "the kernel chooses the ports of connects; left out")
    places = [*([host] if host not in ("0.0.0.0", "::", "*", "") else []), *filter(None, [options.get("interface")])]  # noqa: S104
    if places:
        found["source"] = places[0] if len(places) == 1 else places
    using = options.get("usesrc", "")
    if using in ("client", "clientip"):
        found["transparent"] = True
    elif using or options.keys() - {"usesrc", "interface"}:
        note(line, f"usesrc {using}: only clientip has a counterpart; left out")
    return found


def _stats(_proxy: Proxy, line: Line, note: Note) -> None:
    note(line, "statistics are the management API's business: see the key api")


def _kept(name: str) -> Callable[[Proxy, Line, Note], None]:
    def reader(proxy: Proxy, line: Line, _note: Note) -> None:
        _ = line.words[1]  # one that says nothing is not understood
        setattr(proxy, name, line)

    return reader


def _listed(name: str) -> Callable[[Proxy, Line, Note], None]:
    def reader(proxy: Proxy, line: Line, _note: Note) -> None:
        _ = line.words[1]  # one that says nothing is not understood
        getattr(proxy, name).append(line)

    return reader


def _default_server(proxy: Proxy, line: Line, _note: Note) -> None:
    proxy.server_defaults += line.words[1:]


def _nothing(_proxy: Proxy, _line: Line, _note: Note) -> None:
    """It only describes, or says what is so anyway."""


_READERS: dict[str, Callable[[Proxy, Line, Note], None]] = {
    "mode": _mode,
    "timeout": _timeout,
    "option": _option,
    "no": _no,
    "maxconn": _maxconn,
    "retries": _retries,
    "acl": _acl,
    "tcp-request": _tcp_request,
    "stick": _stick,
    "default-server": _default_server,
    "log": _log,
    "source": _source,
    "stats": _stats,
    "balance": _kept("balance"),
    "hash-type": _kept("hash_type"),
    "hash-balance-factor": _kept("hash_balance_factor"),
    "default_backend": _kept("default_backend"),
    "stick-table": _kept("stick_table"),
    "cookie": _kept("cookie"),
    "bind": _listed("binds"),
    "server": _listed("servers"),
    "use_backend": _listed("uses"),
    "http-check": _listed("check_rules"),
    "tcp-check": _listed("check_rules"),
    "description": _nothing,
    "id": _nothing,
    "enabled": _nothing,
}
