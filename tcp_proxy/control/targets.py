"""What the supervisor knows of each target: where it is, what the checks say, and from both whether it may have sessions.

Main thread only. Findings of the health threads and answers of the resolver come here, by the loop's call_soon; what
the workers must know comes out, as a TargetChanged or in the view of an app. A target is `up` when it is not disabled or
draining, has an address and its checks do not say otherwise; before its first check it is up, unproven (DESIGN 9.9).
A new configuration is taken over by `configure`: who stays (config.diff.match_targets) keeps everything.
"""

import dataclasses
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from tcp_proxy.config import model
from tcp_proxy.config.diff import match_targets, place
from tcp_proxy.control.health.probe import PORT, owner_of, subject_of
from tcp_proxy.control.health.runner import Finding
from tcp_proxy.control.resolver import Answer, endpoints
from tcp_proxy.control.slots import Slots
from tcp_proxy.counters import ACTIVE, SEMAPHORE, UNPAID
from tcp_proxy.messages import AppView, Endpoint, TargetChanged, TargetView
from tcp_proxy.sansio.address import Address, ListenAddress, leads_to
from tcp_proxy.sansio.verdict import State

ByPort = dict[int, list[ListenAddress]]

WORSE = (State.UP, State.DRAINING, State.DOWN)


@dataclass(slots=True)
class KnownTarget:
    """One target of one app. `tokens` is the semaphore of max_connections, -1 without; `semaphore` its number.

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
    evidence: str = "not checked yet"
    name_error: str = ""
    complaint: str = ""  # the target's own word that it is not well
    addresses: tuple[tuple[int, Address], ...] = ()
    located: dict[int, tuple[Endpoint, ...]] = field(default_factory=dict)
    answers: dict[int, tuple[Endpoint, ...]] = field(default_factory=dict)  # `located`, with those that lead to `own`
    own: ByPort = field(default_factory=dict)  # its app's listeners
    findings: dict[str, Finding] = field(default_factory=dict)  # of a group: what is thought of each subject

    @property
    def state(self) -> State:
        """What the workers are told."""
        if self.config.disabled or not self.endpoints or self.is_ill:
            return State.DOWN
        return State.DRAINING if self.config.drain else self.health

    @property
    def is_ill(self) -> bool:
        """By the checks, or by its own word."""
        return self.health is State.DOWN or bool(self.complaint)

    @property
    def why(self) -> str:
        if self.config.disabled:
            return "disabled"
        if not self.endpoints:
            missing = dict.fromkeys(address.host for port, address in self.addresses if not self.located[port])
            if any(found and not self.located[port] for port, found in self.answers.items()):
                return f"{', '.join(missing)} leads to the app's own listener"
            return self.name_error or f"{', '.join(missing)} is not resolved yet"
        if self.complaint:
            return self.complaint
        if self.config.drain and self.health is not State.DOWN:
            return "draining"
        return self.evidence

    @property
    def is_named(self) -> bool:
        """Whether its address is a name, to be resolved."""
        return any(not endpoints(server, ()) for server in self.config.servers)

    @property
    def has_answers(self) -> bool:
        """Whether each of its names has had one, good or bad."""
        return bool(self.name_error) or all(self.answers.values())

    def view(self) -> TargetView:
        config = self.config
        return TargetView(
            config.name, self.slot, config.weight, config.backup, self.tokens >= 0, self.state.value, self.endpoints,
            self.servers(),
        )  # fmt: skip

    def change(self) -> TargetChanged:
        return TargetChanged(self.app, self.config.name, self.state.value, self.endpoints, self.servers())

    def servers(self) -> tuple[tuple[int, tuple[Endpoint, ...]], ...]:
        """Of a group."""
        return tuple(self.located.items()) if self.config.is_group else ()

    def subjects(self) -> dict[str, tuple[Endpoint, ...]]:
        """What is to be probed: each server of a group for itself."""
        name = self.config.name
        if not self.config.is_group:
            return {name: self.endpoints}
        return {subject_of(name, port): located for port, located in self.located.items()}

    def place(self, app: model.App, own: ByPort) -> None:
        """Where its servers are, as the configuration says it; the rest of the names is for `resolve`."""
        config = self.config
        addresses: tuple[tuple[int, Address], ...] = ((0, config.address),)
        if config.is_group:
            ports = dict.fromkeys(listener.port for listener in app.listeners)
            addresses = config.ports or tuple((port, Address(config.address.host, port)) for port in ports)
        if addresses != self.addresses:
            self.addresses, self.name_error = addresses, ""
            self.answers = {port: endpoints(address, ()) for port, address in addresses}
        elif own is self.own:
            return
        self.own = own
        self._gather()

    def resolve(self, answer: Answer) -> None:
        self.name_error = answer.error
        for port, address in self.addresses:
            if address.host == answer.host:
                self.answers[port] = endpoints(address, answer.addresses)
        self._gather()

    def found(self, finding: Finding) -> Finding:
        """What the finding on one subject means for the target: the worst of a group counts."""
        if self.config.is_group:
            known = self.subjects()
            self.findings = {name: found for name, found in self.findings.items() if name in known}
            self.findings[finding.target] = finding
            worst = max(self.findings.values(), key=lambda found: (WORSE.index(found.state), not found.is_passing))
            evidence = f"port {worst.target.rpartition(PORT)[2]}: {worst.evidence}"
            finding = dataclasses.replace(worst, target=self.config.name, evidence=evidence, changed=finding.changed)
        self.health, self.evidence = finding.state, finding.evidence
        return finding

    def _gather(self) -> None:
        """A session that came back to its own app would go round and round: what leads there is left out."""
        self.located = {port: tuple(filter(self._is_foreign, found)) for port, found in self.answers.items()}
        is_whole = all(self.located.values())
        self.endpoints = tuple(itertools.chain.from_iterable(self.located.values())) if is_whole else ()

    def _is_foreign(self, endpoint: Endpoint) -> bool:
        _, address = endpoint
        if isinstance(address, str):
            return True
        host, port = address[:2]
        return not any(leads_to(host, port, listener) for listener in self.own.get(port, ()))


@dataclass(slots=True)
class Elections:
    """What is counted of an app's elections that are over: of each time that it was a failover app."""

    found: int = 0  # that found a primary
    fruitless_rounds: int = 0
    last_seconds: float = 0.0
    total_seconds: float = 0.0


@dataclass(slots=True)
class KnownApp:
    """What follows `targets` is of a failover app, which owns it (control.failover), and outlives that."""

    config: model.App
    slot: int
    own: ByPort = field(default_factory=dict)  # its listeners
    targets: dict[str, KnownTarget] = field(default_factory=dict)
    primary: KnownTarget | None = None
    epoch: int = 0
    since: float = 0.0  # the loop's time when the primary was found
    elections: Elections = field(default_factory=Elections)

    @property
    def primary_name(self) -> str:
        """"" when there is none, or when it has left."""
        return next((target.config.name for target in self.targets.values() if target is self.primary), "")

    def view(self) -> AppView:
        config = self.config
        targets = tuple(target.view() for target in self.targets.values())
        return AppView(
            config.name, self.slot, config.balance, config.retries, config.timeouts, targets,
            self.primary_name, self.epoch, config.failover.election_wait, config.refuses, self.since,
            http=config.http, sticky=config.sticky,
        )  # fmt: skip

    def own_checks(self) -> dict[str, tuple[model.Check, ...]]:
        """Of the targets that are not checked as the app says."""
        configs = {name: target.config for name, target in self.targets.items()}
        return {name: config.health for name, config in configs.items() if config.health is not None}

    def checks_of(self, target: str) -> tuple[model.Check, ...]:
        own = self.targets[target].config.health
        return self.config.health if own is None else own

    @property
    def is_checked(self) -> bool:
        return any(self.checks_of(target) for target in self.targets)

    def endpoints(self) -> dict[str, tuple[Endpoint, ...]]:
        """What is to be probed: disabled targets are not."""
        found: dict[str, tuple[Endpoint, ...]] = {}
        for target in self.targets.values():
            if not target.config.disabled:
                found |= target.subjects()
        return found


@dataclass(slots=True)
class Changed:
    """What a new configuration has done here."""

    apps: list[KnownApp] = field(default_factory=list)  # new ones and those that are different now
    limited: list[KnownTarget] = field(default_factory=list)  # who has a new semaphore
    renamed: list[tuple[str, str, str]] = field(default_factory=list)  # (app, old name, new name)
    before: dict[int, State] = field(default_factory=dict)  # id of each target that stays -> its state


class Targets:
    """All apps and their targets, with the counter slots and semaphores that belong to them."""

    def __init__(self, apps: tuple[model.App, ...], slots: Slots) -> None:
        self.apps: dict[str, KnownApp] = {}
        self.by_host: dict[str, list[KnownTarget]] = {}
        self._slots = slots
        self.configure(apps, 0)

    def __repr__(self) -> str:
        return f"<Targets of {len(self.apps)} apps>"

    def __iter__(self) -> Iterator[KnownTarget]:
        return (target for app in self.apps.values() for target in app.targets.values())

    def find(self, app: str, target: str) -> KnownTarget | None:
        """None when it has left: whoever speaks of it may not know yet."""
        known = self.apps.get(app)
        return known.targets.get(target) if known is not None else None

    def is_resolved(self) -> bool:
        """Whether every name has had an answer, good or bad."""
        return all(target.has_answers for known in self.by_host.values() for target in known)

    def found(self, finding: Finding) -> KnownTarget | None:
        target = self.find_subject(finding.app, finding.target)
        if target is not None:
            target.found(finding)
        return target

    def find_subject(self, app: str, subject: str) -> KnownTarget | None:
        """Whose finding it is."""
        target = self.find(app, owner_of(subject))
        return target if target is not None and subject in target.subjects() else None

    def answered(self, answer: Answer) -> list[KnownTarget]:
        """The targets whose name this is, with their addresses brought up to date."""
        known = self.by_host.get(answer.host, [])
        for target in known:
            target.resolve(answer)
        return known

    def configure(
        self, apps: tuple[model.App, ...], generation: int, answers: dict[str, Answer] | None = None
    ) -> Changed:
        """Become these apps; those that are not among them leave by `remove`. `answers`: what is known of names.

        All or nothing: raises OSError or NoRoom, and nothing has changed.
        """
        semaphores = self._prepare(apps)
        changed = Changed(before={id(target): target.state for target in self})
        for app in apps:
            known = self.apps.get(app.name)
            if known is not None and known.config == app:
                continue
            if known is None:
                known = self.apps[app.name] = KnownApp(app, self._slots.take("app", app.name))
            self._configure_app(known, app, generation, semaphores, changed)
            changed.apps.append(known)
        self._sort_by_host(answers or {})
        return changed

    def remove(self, name: str, generation: int) -> None:
        """The app has left: its listeners are closed."""
        app = self.apps.pop(name)
        for target in app.targets.values():
            self._drop(target, generation)
        self._slots.retire("app", name, generation=generation)
        self._sort_by_host({})

    def give_back_tokens(self, gauges: dict[int, int]) -> None:
        """A dead worker's sessions, by slot: their tokens are free again. If they were of this semaphore: a worker may die
        before it knows of a new one, with sessions that have no token of it."""
        for target in self:
            if gauges.get(target.slot + SEMAPHORE, 0) != target.semaphore:
                continue
            held = gauges.get(target.slot + ACTIVE, 0) - gauges.get(target.slot + UNPAID, 0)
            if held > 0 and target.tokens >= 0:
                os.eventfd_write(target.tokens, held)

    def close(self) -> None:
        for target in self:
            _close_tokens(target)

    def _prepare(self, apps: tuple[model.App, ...]) -> dict[tuple[str, str], int]:
        """Everything that may fail: room for counters, and the semaphores of limits that are new."""
        limits: dict[tuple[str, str], int] = {}
        blocks = {"app": 0, "target": 0, "listener": 0}
        for app in apps:
            known = self.apps.get(app.name)
            blocks["app"] += known is None
            blocks["listener"] += len(set(app.listeners) - set(known.config.listeners if known else ()))
            for was, target in match_targets(known.config.targets if known else (), app.targets):
                if target is None:
                    continue
                blocks["target"] += was is None
                if target.max_connections and (was is None or was.max_connections != target.max_connections):
                    limits[app.name, target.name] = target.max_connections
        self._slots.require(blocks)
        semaphores: dict[tuple[str, str], int] = {}
        flags = os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC
        try:
            for key, limit in limits.items():
                semaphores[key] = os.eventfd(limit, flags)
        except OSError:
            for fd in semaphores.values():
                os.close(fd)
            raise
        return semaphores

    def _configure_app(
        self, known: KnownApp, app: model.App, generation: int, semaphores: dict[tuple[str, str], int], changed: Changed
    ) -> None:
        if not known.own or known.config.listeners != app.listeners:
            known.own = {}
            for listener in app.listeners:
                known.own.setdefault(listener.port, []).append(listener)
        old, known.config = known.targets, app
        known.targets = {}
        for was, config in match_targets([target.config for target in old.values()], app.targets):
            if config is None:
                assert was is not None
                self._drop(old[was.name], generation)
                continue
            if was is None:
                target = KnownTarget(app.name, config, self._slots.take("target", app.name, config.name))
            else:
                target = self._keep(old[was.name], config, changed)
                if target is known.primary and place(was) != place(config):
                    known.primary = None  # it is another server now, whom nobody has asked whether it can be primary
            target.place(app, known.own)
            known.targets[config.name] = target
            if (app.name, config.name) in semaphores:
                _close_tokens(target)
                target.tokens, target.semaphore = semaphores[app.name, config.name], generation
                changed.limited.append(target)
            elif not config.max_connections:
                _close_tokens(target)

    def _keep(self, target: KnownTarget, config: model.Target, changed: Changed) -> KnownTarget:
        before, target.config = target.config, config
        if before.name != config.name:
            self._slots.rename("target", (target.app, before.name), (target.app, config.name))
            changed.renamed.append((target.app, before.name, config.name))
            target.findings = {
                config.name + subject.removeprefix(before.name): found for subject, found in target.findings.items()
            }
        if before.disabled and not config.disabled:
            target.health, target.evidence, target.findings = State.UP, "not checked yet", {}
        return target

    def _drop(self, target: KnownTarget, generation: int) -> None:
        _close_tokens(target)
        self._slots.retire("target", target.app, target.config.name, generation=generation)

    def _sort_by_host(self, answers: dict[str, Answer]) -> None:
        self.by_host = {}
        for target in self:
            for host in target.config.hosts if target.is_named else ():
                self.by_host.setdefault(host, []).append(target)
                if host in answers and not target.endpoints:
                    target.resolve(answers[host])


def _close_tokens(target: KnownTarget) -> None:
    tokens, target.tokens = target.tokens, -1
    if tokens >= 0:
        os.close(tokens)
