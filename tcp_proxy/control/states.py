"""The states of the targets: what the health threads find and what names are, put together, said, told to the workers.

Main thread only; health threads and resolver threads report here by the loop's call_soon. Owns the resolver and a
HealthRunner for each app that has checks. Every change of a target's state that they find goes through `_tell`; what a
new configuration changes goes to the workers in the views of the apps, and is said by `apply`.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from tcp_proxy.control.complaints import Complaints
from tcp_proxy.control.events import Events
from tcp_proxy.control.health.counts import ProbeCounts
from tcp_proxy.control.health.history import CheckHistory
from tcp_proxy.control.health.probe import owner_of
from tcp_proxy.control.health.runner import Finding, HealthRunner
from tcp_proxy.control.recall import Recall
from tcp_proxy.control.resolver import Answer, Resolver
from tcp_proxy.control.targets import Changed, KnownApp, KnownTarget, Targets
from tcp_proxy.loop import Loop
from tcp_proxy.messages import CloseSessions, ConnectFailed, Message
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.sansio.verdict import State

logger = logging.getLogger(__name__)

TRY_AGAIN = 5.0  # seconds until a thread that could not be started is tried again


class States:
    """`send(message)` goes to all workers; `answered()` is called when a name has had an answer."""

    def __init__(
        self,
        loop: Loop,
        targets: Targets,
        events: Events,
        send: Callable[[Message], Any],
        answered: Callable[[], Any],
        recall: Recall,
    ) -> None:
        self._loop = loop
        self._targets = targets
        self._events = events
        self._send = send
        self._on_answer = answered
        self._recall = recall
        self.probes = ProbeCounts()
        self._resolver = Resolver(loop, self._answered)
        self._wanted: set[str] = set()
        self._has_begun = self._is_over = False
        self._health: dict[str, HealthRunner] = {}
        self.complaints = Complaints(loop, targets, lambda target, before: self._tell(target, before, changed=False))

    def __repr__(self) -> str:
        return f"<States of {self._targets!r}, {self._resolver!r}>"

    def start(self) -> None:
        self._recall.forget_all_but({(target.app, target.config.name) for target in self._targets})
        self.want(self._targets.by_host)
        for app in self._targets.apps.values():
            self._check(app)
        self._has_begun = True
        for target in self._targets:
            if target.config.disabled or target.config.drain:
                logger.info("app %s: target %s is %s: %s", target.app, target.config.name, target.state, target.why)

    def want(self, hosts: Iterable[str]) -> None:
        """Have these names resolved from now on; those of targets are not forgotten."""
        for host in {*hosts} - self._wanted:
            self._wanted.add(host)
            self._resolver.want(host)

    def is_answered(self, hosts: Iterable[str]) -> bool:
        return all(self._resolver.answer(host) for host in hosts)

    def answers(self) -> dict[str, Answer]:
        """What is known of each name."""
        known = {host: self._resolver.answer(host) for host in self._wanted}
        return {host: answer for host, answer in known.items() if answer is not None}

    def forget_names(self) -> None:
        """Those that no target has, and how checks of targets that are gone came out."""
        self.probes.keep({(target.app, target.config.name) for target in self._targets})
        for host in self._wanted - self._targets.by_host.keys():
            self._wanted.discard(host)
            self._resolver.forget(host)

    def apply(self, changed: Changed) -> None:
        """The targets have a new configuration, and the workers know it."""
        for name, old, new in changed.renamed:
            self._recall.rename(name, old, new)
            target = self._targets.find(name, new)
            if name in self._health and target is not None:
                for subject in target.subjects():
                    self._health[name].rename(old + subject.removeprefix(new), subject)
                self.probes.rename(name, old, new)
        for app in changed.apps:
            self._check(app)
            for target in app.targets.values():
                before = changed.before.get(id(target))
                if before is not None and before is not target.state:
                    self._say(target, before, changed=True)
        self.want(self._targets.by_host)
        self.forget_names()

    def remove(self, app: str) -> None:
        """The app has left the targets."""
        runner = self._health.pop(app, None)
        if runner is not None:
            runner.stop()
        self.forget_names()

    def probe_now(self, app: str, target: str) -> bool:
        """Whether there is a check to be made."""
        if app not in self._health or not self._targets.apps[app].checks_of(target):
            return False
        known = self._targets.find(app, target)
        for subject in known.subjects() if known is not None else ():
            self._health[app].probe_now(subject)
        return True

    def history(self, target: KnownTarget, tell: Callable[[list[CheckHistory]], Any]) -> None:
        """The last results of the checks of one target; `tell` is called in this thread."""
        runner = self._health.get(target.app)
        if runner is None or not runner.history(target.config.name, lambda found: self._loop.call_soon(tell, found)):
            tell([])

    def _check(self, app: KnownApp) -> None:
        """Have the app's targets checked as its configuration says."""
        name = app.config.name
        runner = self._health.get(name)
        if runner is None:
            self._start_checks(app)
        elif app.is_checked:
            runner.set_checks(app.config.health, app.own_checks())
            runner.set_targets(app.endpoints())
        else:
            del self._health[name]
            runner.stop()
        for target in app.targets.values():
            if not app.checks_of(target.config.name):
                self._trust(target)

    def _start_checks(self, app: KnownApp) -> None:
        name = app.config.name
        if self._is_over or self._targets.apps.get(name) is not app or name in self._health or not app.is_checked:
            return
        try:
            runner = HealthRunner(
                name, app.config.health, self._report, count=self._count, counts=self.probes, own=app.own_checks()
            )
        except OSError as error:
            self._start_later(app, error)
            return
        if not self._has_begun:
            for target in app.targets.values():
                self._recall.begin(target, app.checks_of(target.config.name), runner)
        runner.set_targets(app.endpoints())
        try:
            runner.start()
        except RuntimeError as error:  # no more threads for this user or machine
            runner.stop()
            self._start_later(app, error)
            return
        self._health[name] = runner

    def _start_later(self, app: KnownApp, error: Exception) -> None:
        logger.error("app %s: its targets cannot be checked for now: %s", app.config.name, error)
        self._loop.call_later(TRY_AGAIN, self._start_checks, app)

    def _trust(self, target: KnownTarget) -> None:
        """Nobody checks it any more."""
        before = target.state
        target.health, target.evidence, target.findings = State.UP, "not checked", {}
        if target.state is not before:
            self._tell(target, before, changed=True)

    def stop(self) -> None:
        self._is_over = True
        for runner in self._health.values():
            runner.stop()
        self._resolver.stop()

    def connect_failed(self, message: ConnectFailed, worker: int) -> None:
        """A worker could not connect: look whether the target, and its name, are still what they were."""
        target = self._targets.find(message.app, message.target)
        if target is None:
            return
        text = "app %s: connecting to target %s failed: %s (worker %d)"
        logger.warning(text, message.app, message.target, message.error, worker)
        self.probe_now(message.app, message.target)
        for host in target.config.hosts:
            if target in self._targets.by_host.get(host, []):
                self._resolver.refresh(host)

    def _report(self, finding: Finding) -> None:
        """In a health thread."""
        self._loop.call_soon(self._found, finding)

    def _count(self, finding: Finding) -> None:
        """In a health thread: nothing but the number of results is another one."""
        if owner_of(finding.target) == finding.target:  # of a group it is not kept: one server of many
            self._loop.call_soon(self._recall.found, finding)

    def _found(self, finding: Finding) -> None:
        target = self._targets.find_subject(finding.app, finding.target)
        if target is None or not self._targets.apps[finding.app].checks_of(target.config.name):
            return  # it has left meanwhile, or its checks have
        before = target.state
        self._recall.found(target.found(finding))
        self._tell(target, before, finding.changed)

    def _answered(self, answer: Answer) -> None:
        before = {id(target): target.state for target in self._targets.by_host.get(answer.host, [])}
        for target in self._targets.answered(answer):
            self._tell(target, before[id(target)], changed=True)
        if answer.error:
            logger.warning("name %s: %s", answer.host, answer.error)
        else:
            logger.info("name %s is %s", answer.host, ", ".join(ip for _, ip in answer.addresses))
        for name, runner in self._health.items():
            app = self._targets.apps[name]
            if any(answer.host in target.config.hosts for target in app.targets.values()):
                runner.set_targets(app.endpoints())
        self._on_answer()

    def _tell(self, target: KnownTarget, before: State, changed: bool) -> None:
        self._say(target, before, changed)
        self._send(target.change())
        went_down = target.is_ill and target.state is State.DOWN and before is not State.DOWN
        if went_down and not target.config.disabled and self._targets.apps[target.app].config.on_down == "close":
            self._send(CloseSessions(target.app, target.config.name, Reason.TARGET_DOWN.value))

    def _say(self, target: KnownTarget, before: State, changed: bool) -> None:
        after, name = target.state, target.config.name
        level = logging.INFO if after is State.UP else logging.WARNING
        if after is not before:
            logger.log(level, "app %s: target %s is %s (was %s): %s", target.app, name, after, before, target.why)
        elif changed:
            logger.log(level, "app %s: target %s is %s: %s", target.app, name, after, target.why)
        if changed or after is not before:
            data = {"app": target.app, "target": name, "state": after.value, "was": before.value, "why": target.why}
            self._events.publish("target", data)
