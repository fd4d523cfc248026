"""What the supervisor knows of each target: where it is, what the checks say, and from both whether it may have sessions.

Main thread only. Findings of the health threads and answers of the resolver come here, by the loop's call_soon; what
the workers must know comes out, as a TargetChanged or in the view of an app. A target is `up` when it is not disabled or
draining, has an address and its checks do not say otherwise; before its first check it is up, unproven (docs/rules.md, R9).
All of them together, and how they become those of another configuration: control.targets.all_targets.
"""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field
from typing import Any

from tcp_proxy.config import model, target_model
from tcp_proxy.config.tls_model import TargetTls, distinct
from tcp_proxy.control.health.probe import PORT, subject_of
from tcp_proxy.control.health.runner import Finding
from tcp_proxy.control.targets.resolver import Answer, endpoints
from tcp_proxy.sansio.address import Address, ListenAddress, host_field, leads_to
from tcp_proxy.sansio.balance import KEYED
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.sansio.share import AT_ONCE
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire.messages import TargetChanged
from tcp_proxy.wire.views import AccessView, AppView, Endpoint, FaultView, TargetView

ByPort = dict[int, list[ListenAddress]]
ByPlace = Mapping[int, tuple[Endpoint, ...]]

HTTP_PORT, HTTPS_PORT = 80, 443  # which Host leaves out
NOT_CHECKED = "not checked yet"
NO_CIRCLES: frozenset[Endpoint] = frozenset()  # one for all
NOTHING: Mapping[Any, Any] = {}  # the same: whoever has something has another one
WORSE = (State.UP, State.DRAINING, State.DOWN)


@dataclasses.dataclass(slots=True)
class KnownTarget:
    """One target of one app. `tokens` is the semaphore of max_connections, -1 without; `semaphore` its number (Limited).

    `addresses` are its servers by listening port, `located` where they are now; the only one of a target that is no group
    has the port 0. `endpoints` are those of all, none while one of them has none.
    """

    app: str
    config: model.Target
    slot: int
    tokens: int = -1
    semaphore: int = 0
    endpoints: tuple[Endpoint, ...] = ()
    health: State = State.UP
    evidence: str = NOT_CHECKED
    name_errors: tuple[tuple[str, str], ...] = ()  # of hosts whose latest answer was none, what it was
    self_report: str = ""  # the target's own report that it is not well
    since: float = 0.0  # the loop's time when it came, or came back; 0.0: it was there from the start
    ejected: str = ""  # why, and for how long, by what clients meet there (control.targets.outliers)
    ejections: dict[str, int] | None = None  # so far, by cause (sansio.outlier.Cause)
    is_forced: bool = False  # its app panics: workers are told that it is up (control.targets.panic)
    addresses: tuple[tuple[int, Address], ...] = ()
    located: ByPlace = field(default_factory=lambda: NOTHING)
    answers: ByPlace = field(default_factory=lambda: NOTHING)  # `located`, with those that lead to `own`
    own: Mapping[int, list[ListenAddress]] = field(default_factory=lambda: NOTHING)  # its app's listeners
    circles: frozenset[Endpoint] = NO_CIRCLES  # of `answers`: those that lead back over other apps
    findings: Mapping[str, Finding] = field(default_factory=lambda: NOTHING)  # of a group: what is thought of each subject

    @property
    def state(self) -> State:
        """What is known of it."""
        health = self.health
        is_ill = health is State.DOWN or self.self_report  # as below; asked often
        if self.config.disabled or not self.endpoints or is_ill or self.ejected:
            return State.DOWN
        return State.DRAINING if self.config.drain else health

    @property
    def told(self) -> State:
        """What the workers are told."""
        return State.UP if self.is_forced and self.could_serve else self.state

    @property
    def could_serve(self) -> bool:
        """If it is well."""
        config = self.config
        return not (config.disabled or config.drain) and config.weight > 0 and bool(self.endpoints)

    @property
    def is_ill(self) -> bool:
        """By the checks, or by its own report."""
        return self.health is State.DOWN or bool(self.self_report)

    def forget_health(self, evidence: str = NOT_CHECKED) -> None:
        """Nothing is known of it."""
        self.health, self.evidence, self.findings = State.UP, evidence, NOTHING

    @property
    def why(self) -> str:
        if self.config.disabled:
            return "disabled"
        if not self.endpoints:
            missing = dict.fromkeys(address.host for port, address in self.addresses if not self.located[port])
            if any(found and not self.located[port] for port, found in self.answers.items()):
                where = "back over other apps" if self.circles else "to the app's own listener"
                return f"{', '.join(missing)} leads {where}"
            errors = (error for host, error in self.name_errors if host in missing)
            return next(errors, f"{', '.join(missing)} is not resolved yet")
        if self.self_report:
            return self.self_report
        if self.config.drain and self.health is not State.DOWN:
            return "set to drain"
        if self.ejected and self.health is not State.DOWN:
            return self.ejected
        return self.evidence

    @property
    def is_named(self) -> bool:
        """Whether its address is a name, to be resolved."""
        return any(not endpoints(server, ()) for server in self.config.servers)

    @property
    def has_answers(self) -> bool:
        """Whether each of its names has had one, good or bad."""
        failed = dict(self.name_errors)
        return all(self.answers[port] or address.host in failed for port, address in self.addresses)

    def view(self, is_http: bool = False, source: target_model.Source | None = None, tls: int = -1) -> TargetView:
        """`source`: the app's."""
        config = self.config
        hosts, names = self._hosts() if is_http else (), self.server_names() if config.tls else ()
        return TargetView(
            config.name, self.slot, config.weight, config.backup, self.tokens >= 0, self.told.value, self.endpoints,
            self.servers(), hosts, tls, names, config.send_proxy, config.source or source, self.since,
            config.priority, config.zone,
        )  # fmt: skip

    def _hosts(self) -> tuple[tuple[int, str], ...]:
        usual = HTTP_PORT if self.config.tls is None else HTTPS_PORT
        return tuple((port, host_field(address.host, address.port, usual)) for port, address in self.addresses)

    def comes_alone(self) -> bool:
        """Whether there is nothing beside it, and nothing special about it, that its app must know."""
        return self.tokens < 0 and self.config.tls is None and not self.config.is_group

    def server_names(self) -> tuple[tuple[int, str], ...]:
        """What TLS asks for, and what a certificate must have."""
        given = self.config.tls.server_name if self.config.tls else None
        names = ((port, address.host if given is None else given) for port, address in self.addresses)
        return tuple((port, name.removesuffix(".")) for port, name in names)

    def change(self) -> TargetChanged:
        return TargetChanged(self.app, self.config.name, self.told.value, self.endpoints, self.servers(), self.since)

    def servers(self) -> tuple[tuple[int, tuple[Endpoint, ...]], ...]:
        """Of a group."""
        return tuple(self.located.items()) if self.config.is_group else ()

    def subjects(self, config: model.Target | None = None) -> dict[str, tuple[Endpoint, ...]]:
        """What is to be probed: each server of a group for itself."""
        config = config or self.config
        if not config.is_group:
            return {config.name: self.endpoints}
        return {subject_of(config.name, port): located for port, located in self.located.items()}

    def written(self) -> dict[str, str]:
        """The host of each subject as it is written; "" of a UNIX socket."""
        name, is_group = self.config.name, self.config.is_group
        return {subject_of(name, port) if is_group else name: address.host for port, address in self.addresses}

    def probed(self) -> dict[str, tuple[Endpoint, ...]]:
        """Those of its subjects that are to be probed: of a disabled one nothing is."""
        return {} if self.config.disabled else self.subjects()

    def place(self, app: model.App, own: ByPort) -> None:
        """Where its servers are, as the configuration says it; the rest of the names is for `resolve`."""
        config = self.config
        addresses: tuple[tuple[int, Address], ...] = ((0, config.address),)
        if config.is_group:
            ports = dict.fromkeys(listener.port for listener in app.listeners)
            addresses = config.ports or tuple((port, Address(config.address.host, port)) for port in ports)
        if addresses != self.addresses:
            before = set(self.located)
            self.addresses, self.name_errors, self.circles = addresses, (), NO_CIRCLES
            self.answers = {port: endpoints(address, ()) for port, address in addresses}
            self.own = own
            self._gather()
            self._drop_findings(before)
        elif own is not self.own:
            self.own = own
            self._gather()

    def resolve(self, answer: Answer, leads_back: Callable[[str, Endpoint], bool]) -> None:
        """`leads_back(app, endpoint)`: whether a session of the app that goes there comes back over other apps."""
        others = tuple(known for known in self.name_errors if known[0] != answer.host)
        self.name_errors = (*others, (answer.host, answer.error)) if answer.error else others
        named = [(port, address) for port, address in self.addresses if address.host == answer.host]
        self.answers = {**self.answers, **{port: endpoints(address, answer.addresses) for port, address in named}}
        everything = itertools.chain.from_iterable(self.answers.values())
        self.circles = frozenset(endpoint for endpoint in everything if leads_back(self.app, endpoint)) or NO_CIRCLES
        self._gather()

    def found(self, finding: Finding) -> Finding:
        """What the finding on one subject means for the target: the worst of a group counts."""
        if self.config.is_group:
            self.findings = {**self.findings, finding.target: finding}
            finding = dataclasses.replace(self._worst(), changed=finding.changed)
        self.health, self.evidence = finding.state, finding.evidence
        return finding

    def _worst(self) -> Finding:
        """What is thought of a group, whose servers have had findings."""
        worst = max(self.findings.values(), key=lambda found: (WORSE.index(found.state), not found.is_passing))
        evidence = f"port {worst.target.rpartition(PORT)[2]}: {worst.evidence}"
        return dataclasses.replace(worst, target=self.config.name, evidence=evidence)

    def _drop_findings(self, before: set[int]) -> None:
        """Servers of a group have left, or come. What is thought of one that comes is for its check to say, who knows what
        was thought of those that left: until then nothing changes."""
        if self.findings:
            known = self.subjects() if self.config.is_group else {}
            self.findings = {name: found for name, found in self.findings.items() if name in known}
        if before and self.located.keys() < before:
            worst = self._worst() if self.findings else None
            self.health = worst.state if worst else State.UP
            self.evidence = worst.evidence if worst else NOT_CHECKED

    def _gather(self) -> None:
        """A session that came back to its own app would go round and round: what leads there is left out. Of 20,000 targets
        nearly all are one server, none of which leads there: what is the same is kept once."""
        self.located = self.answers
        if not all(map(self._is_foreign, itertools.chain.from_iterable(self.answers.values()))):
            self.located = {port: tuple(filter(self._is_foreign, found)) for port, found in self.answers.items()}
        servers = list(self.located.values())
        if len(servers) == 1:
            [self.endpoints] = servers
        else:
            self.endpoints = tuple(itertools.chain.from_iterable(servers)) if all(servers) else ()

    def _is_foreign(self, endpoint: Endpoint) -> bool:
        _, address = endpoint
        if isinstance(address, str):
            return True
        host, port = address[:2]
        if port not in self.own and not self.circles:
            return True  # nearly all, and there may be 20,000
        is_own = any(leads_to(host, port, listener) for listener in self.own.get(port, ()))
        return not is_own and endpoint not in self.circles


@dataclasses.dataclass(slots=True)
class Elections:
    """What is counted of an app's elections that are over: of each time that it was a failover app."""

    found: int = 0  # that found a primary
    fruitless_rounds: int = 0
    last_seconds: float = 0.0
    total_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Elected:
    """What is shown of an app's elections. Seconds are of elections that are over; nothing that JSON cannot say."""

    app: str
    primary: str
    phase: str
    epoch: int
    elections: int  # that found a primary
    fruitless_rounds: int
    last_seconds: float
    total_seconds: float
    seconds: float  # since the primary was found, or lost
    leader: str = ""  # the node of a cluster that decides; "": none, or there is no cluster


@dataclasses.dataclass(slots=True)
class KnownApp:
    """`tokens` is the semaphore of limits.sessions, -1 without; `semaphore` its number (Limited). What follows `targets` is
    of a failover app, which owns it (control.failover.primary), and outlives that."""

    config: model.App
    slot: int
    tokens: int = -1
    semaphore: int = 0
    table: int = -1  # of its clients, with limits that need one (client_tables.HasTable)
    table_number: int = 0
    own: ByPort = field(default_factory=dict)  # its listeners
    targets: dict[str, KnownTarget] = field(default_factory=dict)
    primary: KnownTarget | None = None
    epoch: int = 0
    since: float = 0.0  # the loop's time when the primary was found
    is_clustered: bool = False  # other nodes have it, too
    elections: Elections = field(default_factory=Elections)
    held: list[Callable[[], Any]] | None = None  # what its election is to hear, while its targets are others in part
    rule_slots: tuple[int, ...] = ()  # where each rule of `access` counts
    is_panicking: bool = False  # too few of its targets are up (control.targets.panic)
    faults: tuple[FaultView, ...] = ()  # on purpose (control.answers.faults)

    @property
    def is_leased(self) -> bool:
        """Whether its primary counts for as long as this node may say so (control.failover.clustered)."""
        return self.is_clustered and self.config.has_primary and self.config.without_quorum != "keep"

    def when_whole(self, call: Callable[[], Any]) -> None:
        """Now, or when its targets are those of one configuration, and the workers know them."""
        if self.held is None:
            call()
        else:
            self.held.append(call)

    def take_held(self) -> list[Callable[[], Any]]:
        """They are whole; it is for the caller to call these, in order."""
        held, self.held = self.held or [], None
        return held

    @property
    def primary_name(self) -> str:
        """"" when there is none, or when it has left."""
        return next((target.config.name for target in self.targets.values() if target is self.primary), "")

    def view(self, some: Collection[KnownTarget] | None = None) -> AppView:
        """With all its targets, or with some of them."""
        wanted = self.targets.values() if some is None else some
        ways, which = distinct([target.config.tls for target in wanted])
        return self.frame(ways, self.target_views(wanted, which))

    def target_views(self, wanted: Iterable[KnownTarget], which: Iterable[int]) -> tuple[TargetView, ...]:
        """`which`: of the ways to speak TLS with targets, for each."""
        is_http, source = itertools.repeat(self.config.http is not None), itertools.repeat(self.config.source)
        return tuple(map(KnownTarget.view, wanted, is_http, source, which))

    def needs_no_targets(self) -> bool:
        """Whether a worker can do without its targets until somebody asks for one: nothing is worked out from them before,
        and nothing comes beside them."""
        config = self.config
        is_plain = not (config.has_primary or config.sticky or config.limits.queue or config.balance in KEYED)
        return is_plain and 0 < len(self.targets) <= AT_ONCE and all(map(KnownTarget.comes_alone, self.targets.values()))

    def frame(self, ways: tuple[TargetTls, ...], targets: tuple[TargetView, ...] = (), later: str = "") -> AppView:
        config = self.config
        return AppView(
            config.name, self.slot, config.balance, config.retries, config.timeouts, targets,
            self.primary_name, self.epoch, config.failover.election_wait, config.refuses, self.since,
            http=config.http, sticky=config.sticky, is_leased=self.is_leased, closes=config.failover.on_demotion == "close",
            tls=config.tls, target_tls=ways, sni_routes=config.sni_routes, accept_proxy=config.accept_proxy,
            access=AccessView(config.access.rules, self.rule_slots, config.access.table) if config.access else None,
            slow_start=config.slow_start, outlier=config.outlier, limited=self.tokens >= 0, limits=config.limits,
            clients=self.table_number, hash=config.hash, zone=config.zone, overprovisioning=config.overprovisioning,
            faults=self.faults, later=later,
        )  # fmt: skip

    def own_checks(self) -> dict[str, tuple[model.Check, ...]]:
        """Of the targets that are not checked as the app says."""
        checks = {name: self.checks_of(name) for name in self.targets}
        return {name: own for name, own in checks.items() if own is not self.config.health}

    def checks_of(self, target: str) -> tuple[model.Check, ...]:
        return self.targets[target].config.checks(self.config.health, self.config.source)

    def unchecked(self, some: Iterable[KnownTarget]) -> list[KnownTarget]:
        """Those of them that nobody checks."""
        usual, source = self.config.health, self.config.source
        return [target for target in some if not target.config.checks(usual, source)]

    @property
    def is_checked(self) -> bool:
        return len(self.unchecked(self.targets.values())) < len(self.targets)

    def endpoints(self) -> dict[str, tuple[Endpoint, ...]]:
        """What is to be probed: disabled targets are not."""
        return {name: found for target in self.targets.values() for name, found in target.probed().items()}

    def hosts(self) -> dict[str, str]:
        """How the hosts of `endpoints` are written."""
        return {name: host for target in self.targets.values() for name, host in target.written().items()}
