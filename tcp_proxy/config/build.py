"""Values that fit the schema become a Config, unless they contradict each other.

Pure; the supervisor's process only. The schema judges one value at a time; here is what takes two: names used twice,
listeners that meet, a timeout above its interval; and what needs a parser: addresses and ranges.

None stands for a value that is already reported as wrong: whatever depends on it is not judged. Defaults come from
config.model and from nowhere else: a key that is left out is not passed on.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from sys import intern
from typing import Any, NamedTuple

from tcp_proxy.config.access import build_access
from tcp_proxy.config.balance import build_hash, check_levels
from tcp_proxy.config.checks import checks
from tcp_proxy.config.cluster import build_cluster
from tcp_proxy.config.discovery import build_discoveries, build_nameservers, is_discovery
from tcp_proxy.config.failover import build_failover, target_fault
from tcp_proxy.config.http import HTTP_CHECK, build_http
from tcp_proxy.config.limits import build_limits
from tcp_proxy.config.log_model import Log
from tcp_proxy.config.logs import check_access_log, check_log
from tcp_proxy.config.loops import find_loop
from tcp_proxy.config.model import Api, App, Config, Target, Timeouts
from tcp_proxy.config.outlier import build_outlier
from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.proxyproto import build_accept_proxy, build_send_proxy
from tcp_proxy.config.report import Report
from tcp_proxy.config.source import build_source
from tcp_proxy.config.sticky import build_sticky, nameless
from tcp_proxy.config.tls import build_sni_routes, build_target_tls, build_tls
from tcp_proxy.config.tracing import build_tracing
from tcp_proxy.config.values import Plain, given_of
from tcp_proxy.sansio.address import (
    ANY,
    Address,
    ListenAddress,
    hosts_overlap,
    leads_to,
    parse_listen,
    parse_listen_host,
    parse_port,
    parse_ports,
    parse_target,
    parse_target_or_host,
)

LOOPBACK = "127.0.0.1"
# Keys that are taken over as they are.
TOP = ("zone", "faults", "pid_file", "state", "shutdown_grace", "access_log", "user", "group")
# The same, of an app.
OF_APP = (
    "balance", "overprovisioning", "on_down", "without_quorum", "retries", "slow_start", "panic", "access_log",
    "access_log_format",
)  # fmt: skip
BUILT = frozenset(("health", "tls", "send_proxy", "source", "transparent"))  # of a target: not as they are
PLACED = BUILT | {"address", "name", "ports"}  # nor are these
MOST_LISTENERS = 200_000
HOST_NAME = re.compile(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]")


def build(plain: Plain, report: Report) -> Config:
    """The configuration; worth something only if the report has stayed empty."""
    listeners = Listeners(report)
    names: dict[str, Path] = {}
    zone = plain.get("zone") or ""
    apps: list[App] = []
    places: list[Path] = []
    for i, app in enumerate(plain.get("apps") or ()):
        if app is not None:
            path: Path = ("apps", i)
            is_built = isinstance(app, App)  # before (config.last_file)
            _claim_name(names, app.name if is_built else app.get("name"), (*path, "name"), "app", report)
            built = listeners.keep(app, (*path, "ports")) if is_built else _app(app, path, listeners, report)
            apps.append(built if built.zone == zone else replace(built, zone=zone))
            places.append((*path, "targets"))
    _refuse_loops(apps, places, report)
    for key in ("pid_file", "state"):
        if "\0" in (plain.get(key) or ""):
            report.value((key,), "a zero character in a path")
    check_access_log(plain, (), report)
    check_log(plain.get("log"), report)
    if plain.get("group") is not None and plain.get("user") is None and not (report and "user" in plain):
        report.value(("group",), 'it is the group of a user; wanted "user" beside it')
    workers = plain.get("workers")
    return Config(
        apps=tuple(apps),
        workers=None if workers in (None, "auto") else int(workers),
        log=Log(**given_of(Log, plain.get("log"))),
        api=_api(plain["api"], listeners, report) if plain.get("api") is not None else None,
        cluster=build_cluster(plain["cluster"], report) if plain.get("cluster") is not None else None,
        tracing=build_tracing(plain["tracing"], report) if plain.get("tracing") is not None else None,
        nameservers=build_nameservers(plain.get("nameservers"), report),
        **given_of(Config, {key: plain.get(key) for key in TOP}),
    )


def _api(plain: Plain, listeners: "Listeners", report: Report) -> Api:
    text, token_file, hosts = plain.get("listen"), plain.get("token_file"), plain.get("hosts") or ()
    path: Path = ("api", "listen") if text is not None else ("api",)
    listen = Api().listen
    if text is not None:
        try:
            listen = parse_listen(text)
        except ValueError as error:
            report.value(path, f"found {shown(text)}: {error}")
    if "\0" in (token_file or ""):
        report.value(("api", "token_file"), "a zero character in a path")
    if not listen.path:
        is_open = listen.host == ANY or not ipaddress.ip_address(listen.host).is_loopback
        if is_open and not token_file:
            wanted = 'wanted a "token_file" beside it, or a loopback address'
            report.value(path, f"{shown(str(listen))} can be reached from other machines; {wanted}")
        listeners.of_api(listen, path)
    for i, host in enumerate(hosts):
        if host is not None and not HOST_NAME.fullmatch(host):
            report.value(("api", "hosts", i), f"found {shown(host)}; wanted a host name without a port")
    return Api(listen, token_file, tuple(host.lower() for host in hosts if host is not None))


def _app(plain: Plain, path: Path, listeners: "Listeners", report: Report) -> App:
    name = plain.get("name")
    entries = plain.get("targets") or ()
    targets = _targets(entries, (*path, "targets"), plain, report)
    if targets and len(targets) == len(entries) and all(target.weight == 0 for target in targets.values()):
        text = "every target has the weight 0, so none would get a session; wanted at least one above 0"
        report.value((*path, "targets"), text)
    given: dict[str, Any] = given_of(App, {key: plain.get(key) for key in OF_APP})
    check_access_log(plain, path, report)
    if "health" in plain:
        checked = {place: target.servers for place, target in targets.items() if target.health is None}
        given["health"] = checks(plain["health"], (*path, "health"), checked, report)
    elif plain.get("mode") == "http":
        given["health"] = (HTTP_CHECK,)
    addresses = listeners.of_app(plain, path)
    _check_groups(targets, {address.port for address in addresses}, report)
    _refuse_own(targets, addresses, report)
    check_levels(plain, path, report)
    given["failover"] = build_failover(plain, path, targets, report)
    return App(
        name=name or "",
        listeners=addresses,
        targets=tuple(targets.values()),
        timeouts=Timeouts(**given_of(Timeouts, plain.get("timeouts"))),
        http=build_http(plain, path, targets, report),
        sticky=build_sticky(plain, path, report),
        hash=build_hash(plain, path, report),
        tls=build_tls(plain, path, report),
        sni_routes=build_sni_routes(plain, path, targets, report),
        accept_proxy=build_accept_proxy(plain, path, report),
        access=build_access(plain, path, report),
        outlier=build_outlier(plain, path, report),
        source=build_source(plain, path, report),
        discoveries=build_discoveries(entries, (*path, "targets"), report),
        limits=build_limits(plain, (*path, "limits"), targets.values(), report),
        **given,
    )


def _claim_name(names: dict[str, Path], name: str | None, path: Path, kind: str, report: Report) -> None:
    """Report a name that is taken, or that a log line could not show."""
    if name is None:
        return
    if not name.isprintable() or name != name.strip():
        report.value(path, f"found {shown(name)}; wanted a name without control characters and without space around it")
    elif name in names:
        report.value(path, f"two {kind}s are named {shown(name)}; the first is at {report.where(names[name])}")
    else:
        names[name] = path


# -- targets


def _targets(entries: Sequence[Any], path: Path, app: Plain, report: Report) -> dict[Path, Target]:
    """The targets of the app by where they stand."""
    targets: dict[Path, Target] = {}
    names: dict[str, Path] = {}
    unnamed: dict[Address, Path] = {}
    for i, entry in enumerate(entries):
        here = (*path, i)
        plain: Plain = {"address": entry} if isinstance(entry, str) else entry or {}
        text, name = plain.get("address"), plain.get("name")
        if is_discovery(text):
            continue
        address_path = here if isinstance(entry, str) else (*here, "address")
        _claim_name(names, name, (*here, "name"), "target", report)
        if plain.get("ports") is not None or (text is None and _lacks_address(entry, report)):
            ports = _ports_of_group(plain, here, report)
            if ports:
                servers = tuple(address for _, address in ports)
                rest = _rest(plain, here, (*here, "ports"), servers, app, report)
                targets[here] = Target(name=name or "", address=Address(), ports=ports, **rest)
            continue
        if text is None:
            continue
        try:
            address = parse_target_or_host(text)
        except ValueError as error:
            report.value(address_path, f"found {shown(text)}: {error}")
            continue
        if name is None:
            twice = unnamed.setdefault(address, address_path)
            if twice != address_path:
                report.value(
                    address_path,
                    f"{shown(text)} is a target twice; the first is at {report.where(twice)} "
                    '(give one a "name" if that is meant, or more "weight" for a bigger share)',
                )
                continue
            _claim_name(names, text, address_path, "target", report)
        rest = _rest(plain, here, address_path, (address,), app, report)
        targets[here] = Target(name=intern(name or text), address=address, **rest)  # apps have the same names
    return targets


def _rest(
    plain: Plain, path: Path, place: Path, servers: tuple[Address, ...], app: Plain, report: Report
) -> dict[str, Any]:
    """What there is to say of a target beside where it is, which stands at `place`."""
    given = given_of(Target, plain, PLACED)
    if plain.keys().isdisjoint(BUILT):  # nearly all, and there may be 20,000
        return given
    if plain.get("health") is not None:
        given["health"] = checks(plain["health"], (*path, "health"), {place: servers}, report)
    hosts = {server.host for server in servers if server.host}
    given["send_proxy"] = build_send_proxy(plain.get("send_proxy"), (*path, "send_proxy"), report)
    given["source"] = build_source(plain, path, report)
    given["tls"] = build_target_tls(plain.get("tls"), hosts, (*path, "tls"), app, report)
    return given


def _lacks_address(entry: Any, report: Report) -> bool:
    """Whether none is given; one that is None may have been reported as wrong."""
    return isinstance(entry, dict) and entry.get("address") is None and ("address" not in entry or not report)


def _ports_of_group(plain: Plain, path: Path, report: Report) -> tuple[tuple[int, Address], ...]:
    """Listening port -> server, of a target with `ports`."""
    if plain.get("address") is not None:
        report.value((*path, "ports"), 'a target has an "address" or "ports", not both')
    elif plain.get("ports") is None:
        if "ports" not in plain or not report:
            report.value(path, 'missing key "address" (or "ports", for a group of servers)')
    elif "name" not in plain:
        report.value(path, 'missing key "name": a target with "ports" has no other')
    servers: dict[int, Address] = {}
    wrong = False
    for port, text in (plain.get("ports") or {}).items():
        try:
            servers[parse_port(port)] = parse_target(text or "")
        except ValueError as error:
            wrong = True
            if text is not None:
                report.value((*path, "ports", port), f"found {shown(port)}: {shown(text)}: {error}")
    return () if wrong else tuple(sorted(servers.items()))


def _check_groups(targets: Mapping[Path, Target], ports: set[int], report: Report) -> None:
    """Every listening port of the app has its server in every group."""
    for path, target in targets.items():
        mine = {port for port, _ in target.ports} if target.ports else ports
        if mine == ports:
            continue
        place = (*path, "ports")
        for port in sorted(ports - mine)[:1]:
            report.value(place, f"no server for the port {port}, on which the app listens; wanted one for each of its ports")
        for port in sorted(mine - ports):
            report.value((*place, str(port)), f"the app does not listen on {port}")


def _refuse_own(targets: Mapping[Path, Target], listeners: Sequence[ListenAddress], report: Report) -> None:
    """A client would be sent round and round, until nobody has a descriptor left."""
    by_port: dict[int, list[ListenAddress]] = {}
    for listener in listeners:
        by_port.setdefault(listener.port, []).append(listener)
    by_host = list({listener.host: listener for listener in reversed(listeners)}.values())  # for targets on all ports
    for path, target in targets.items():
        if target.address.port and target.address.port not in by_port:
            continue  # nearly all, and there may be 20,000
        met = (
            listener
            for server in target.servers
            for listener in (by_port.get(server.port, ()) if server.port else by_host)
            if leads_to(server.host, listener.port, listener)
        )
        if (own := next(met, None)) is not None:
            what = f"this leads to the app's own listener {own}: every session would come back to the app itself"
            report.value(path, f"found {shown(target.where)}; {what}; wanted the address of a server")


def _refuse_loops(apps: Sequence[App], places: Sequence[Path], report: Report) -> None:
    loop = () if report else find_loop(apps)
    if loop:
        way = " -> ".join(apps[number].name for number in (*loop, loop[0]))
        text = f"apps lead to each other: {way}; every session could go round and round; wanted the addresses of servers"
        report.value(places[loop[0]], text)


def build_more_targets(plain: Sequence[Any], app: App, report: Report) -> list[Target]:
    """Those in a list, for an app that there is."""
    for discovery in build_discoveries(plain, (), report):
        report.value((), f"{shown(discovery.source)} can be said in the file only")
    targets = _targets(plain, (), {"mode": "http" if app.http is not None else "tcp"}, report)
    _check_groups(targets, {address.port for address in app.listeners}, report)
    _refuse_own(targets, app.listeners, report)
    usual = [target for target in targets.values() if target.health is None]
    for check in app.health:
        is_unix = any(server.path for target in usual for server in target.servers)
        if is_unix and (check.type == "ping" or check.port is not None):
            report.value((), f"a UNIX socket cannot be checked as app {app.name} wants it: it has no host and no port")
    for path, target in targets.items():
        if fault := target_fault(app, target) or nameless(app, target):
            report.value(path, fault)
        if any(check.type == "script" for check in target.health or ()):
            report.value((*path, "health"), 'a check of type "script" can be said in the file only: it starts a program')
    return list(targets.values())


# -- listeners


class Claim(NamedTuple):
    """A listener of one port: its host, the entry of `ports` it comes from, and its app's name."""

    host: str
    entry: Path
    app: str


class Meeting(NamedTuple):
    port: int
    one: Claim
    other: Claim


def _first_met(host: str, known: Mapping[str, Any]) -> str | None:
    """One of the known hosts that this one meets, found without looking at all of them where that can be."""
    everywhere = "::" if ":" in host else "0.0.0.0"  # noqa: S104  compared, not bound
    for other in (host, ANY, everywhere):
        if other in known:
            return other
    if host in (ANY, everywhere):
        return next((other for other in known if hosts_overlap(host, other)), None)
    return None


class Listeners:
    """All listeners of the file, by port, so that two that meet are found."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._taken: dict[int, dict[str, Claim]] = {}  # by port and host
        self._count = 0

    def __repr__(self) -> str:
        return f"<Listeners on {len(self._taken)} ports>"

    def of_app(self, plain: Plain, path: Path) -> tuple[ListenAddress, ...]:
        """The listeners of one app; what meets an earlier one is reported."""
        hosts = self._hosts(plain.get("bind", LOOPBACK), (*path, "bind"))
        ranges = self._ranges(plain.get("ports") or (), (*path, "ports"))
        name = plain.get("name") or ""
        for ports, entry in ranges:
            if not self._has_room(len(ports) * len(hosts), entry):
                return ()
            meetings: dict[Path, list[Meeting]] = {}
            for port in ports:
                for meeting in self._claim(port, [Claim(host, entry, name) for host in hosts]):
                    meetings.setdefault(meeting.other.entry, []).append(meeting)
            for met in meetings.values():
                self._overlap(met)
        return tuple(ListenAddress(host, port) for ports, _ in ranges for port in ports for host in hosts)

    def keep(self, app: App, entry: Path) -> App:
        """One that was built before, when none of its listeners met another."""
        if self._has_room(len(app.listeners), entry):
            for address in app.listeners:
                if met := self._claim(address.port, [Claim(address.host, entry, app.name)]):
                    self._overlap(met)
        return app

    def of_api(self, address: Address, path: Path) -> None:
        """The management API's; after those of all apps."""
        if met := self._claim(address.port, [Claim(address.host, path, "")]):
            self._overlap(met)

    def _claim(self, port: int, claims: list["Claim"]) -> list["Meeting"]:
        """Take a port for listeners that do not meet each other; each may meet an earlier one."""
        taken = self._taken.setdefault(port, {})
        meetings = []
        for one in claims:
            met = _first_met(one.host, taken)
            if met is not None:
                meetings.append(Meeting(port, one, taken[met]))
        for one in claims:
            taken.setdefault(one.host, one)
        return meetings

    def _has_room(self, count: int, entry: Path) -> bool:
        """A few words of a file can ask for more listeners than any machine has memory for."""
        before, self._count = self._count, self._count + count
        if before <= MOST_LISTENERS < self._count:
            self._report.value(entry, f"this makes more than {MOST_LISTENERS} listeners in all")
        return self._count <= MOST_LISTENERS

    def _hosts(self, bind: Any, path: Path) -> list[str]:
        """The addresses to listen on; those that meet an earlier one are reported and left out."""
        entries = [(bind, path)] if not isinstance(bind, list) else [(text, (*path, i)) for i, text in enumerate(bind)]
        hosts: dict[str, Path] = {}
        for text, here in entries:
            if text is None:
                continue
            try:
                host = parse_listen_host(text)
            except ValueError as error:
                self._report.value(here, f"found {shown(text)}: {error}")
                continue
            first = _first_met(host, hosts)
            if first is None:
                hosts[host] = here
            else:
                place = self._report.where(hosts[first])
                self._report.value(here, f"{shown(text)} and {shown(first)} at {place} overlap; wanted one of them")
        return list(hosts)

    def _ranges(self, entries: Sequence[Any], path: Path) -> list[tuple[range, Path]]:
        ranges = []
        for i, entry in enumerate(entries):
            if entry is None:
                continue
            try:
                ranges.append((parse_ports(entry if isinstance(entry, str) else int(entry)), (*path, i)))
            except ValueError as error:
                self._report.value((*path, i), f"found {shown(entry)}: {error}")
        return ranges

    def _overlap(self, meetings: list["Meeting"]) -> None:
        """Report one entry that meets another, on one port or many."""
        one, other = meetings[0].one, meetings[0].other
        ports = sorted({meeting.port for meeting in meetings})
        what = f"port {ports[0]}" if len(ports) == 1 else f"{len(ports)} ports from {ports[0]} to {ports[-1]}"
        owner = "of this app" if other.entry[:2] == one.entry[:2] else f"of app {shown(other.app)}"
        on = f"on {one.host}" if one.host == other.host else f"on {one.host} (there on {other.host})"
        verb = "overlaps" if len(ports) == 1 else "overlap"
        self._report.value(one.entry, f"{what} {on} {verb} a listener {owner} at {self._report.where(other.entry)}")
