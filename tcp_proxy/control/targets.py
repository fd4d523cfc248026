"""What the supervisor knows of each target: where it is, what the checks say, and from both whether it may have sessions.

Main thread only. Findings of the health threads and answers of the resolver come here, by the loop's call_soon; what
the workers must know comes out, as a TargetChanged. A target is `up` when it is not disabled, has an address and its
checks do not say otherwise; before its first check it is up, unproven (DESIGN 9.9).
"""

import os
from dataclasses import dataclass, field

from tcp_proxy.config import model
from tcp_proxy.control.health.runner import Finding
from tcp_proxy.control.resolver import Answer, endpoints
from tcp_proxy.control.slots import Slots
from tcp_proxy.messages import AppView, Endpoint, TargetChanged, TargetView
from tcp_proxy.sansio.verdict import State


@dataclass(slots=True)
class KnownTarget:
    """One target of one app. `tokens` is the semaphore of max_connections, -1 without."""

    app: str
    config: model.Target
    slot: int
    tokens: int = -1
    endpoints: tuple[Endpoint, ...] = ()
    health: State = State.UP
    evidence: str = "not checked yet"
    name_error: str = ""

    @property
    def state(self) -> State:
        """What the workers are told."""
        return State.DOWN if self.config.disabled or not self.endpoints else self.health

    @property
    def why(self) -> str:
        if self.config.disabled:
            return "disabled in the configuration"
        if not self.endpoints:
            return self.name_error or f"{self.config.address.host} is not resolved yet"
        return self.evidence

    def view(self) -> TargetView:
        config = self.config
        return TargetView(
            config.name, self.slot, config.weight, config.backup, self.tokens >= 0, self.state.value, self.endpoints
        )

    def change(self) -> TargetChanged:
        return TargetChanged(self.app, self.config.name, self.state.value, self.endpoints)


@dataclass(slots=True)
class KnownApp:
    config: model.App
    slot: int
    targets: dict[str, KnownTarget] = field(default_factory=dict)

    def view(self) -> AppView:
        config = self.config
        targets = tuple(target.view() for target in self.targets.values())
        return AppView(config.name, self.slot, config.balance, config.retries, config.timeouts, targets)

    def endpoints(self) -> dict[str, tuple[Endpoint, ...]]:
        """What is to be probed: disabled targets are not."""
        return {name: target.endpoints for name, target in self.targets.items() if not target.config.disabled}


class Targets:
    """All apps and their targets, with the counter slots and semaphores that belong to them."""

    def __init__(self, apps: tuple[model.App, ...], slots: Slots) -> None:
        self.apps: dict[str, KnownApp] = {}
        self.by_host: dict[str, list[KnownTarget]] = {}
        for app in apps:
            known = self.apps[app.name] = KnownApp(app, slots.take("app", app.name))
            for config in app.targets:
                known.targets[config.name] = self._know(app, config, slots.take("target", app.name, config.name))

    def __repr__(self) -> str:
        return f"<Targets of {len(self.apps)} apps>"

    def __iter__(self):  # type: ignore[no-untyped-def]
        return (target for app in self.apps.values() for target in app.targets.values())

    def find(self, app: str, target: str) -> KnownTarget:
        return self.apps[app].targets[target]

    def is_resolved(self) -> bool:
        """Whether every name has had an answer, good or bad."""
        return all(target.endpoints or target.name_error for known in self.by_host.values() for target in known)

    def found(self, finding: Finding) -> KnownTarget:
        target = self.find(finding.app, finding.target)
        target.health, target.evidence = finding.state, finding.evidence
        return target

    def answered(self, answer: Answer) -> list[KnownTarget]:
        """The targets whose name this is, with their addresses brought up to date."""
        known = self.by_host.get(answer.host, [])
        for target in known:
            target.name_error = answer.error
            target.endpoints = endpoints(target.config.address, answer.addresses)
        return known

    def give_back_tokens(self, gauges: dict[int, int]) -> None:
        """A dead worker's sessions, by slot: their tokens are free again."""
        for target in self:
            held = gauges.get(target.slot, 0)
            if held > 0 and target.tokens >= 0:
                os.eventfd_write(target.tokens, held)

    def close(self) -> None:
        for target in self:
            if target.tokens >= 0:
                os.close(target.tokens)
                target.tokens = -1

    def _know(self, app: model.App, config: model.Target, slot: int) -> KnownTarget:
        target = KnownTarget(app.name, config, slot)
        if config.max_connections:
            flags = os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC
            target.tokens = os.eventfd(config.max_connections, flags)
        target.endpoints = endpoints(config.address, ())
        if not target.endpoints:
            self.by_host.setdefault(config.address.host, []).append(target)
        return target
