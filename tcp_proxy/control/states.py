"""The states of the targets: what the health threads find and what names are, put together, said, told to the workers.

Main thread only; health threads and resolver threads report here by the loop's call_soon. Owns the resolver and a
HealthRunner for each app that has checks. Every change of a target's state goes through `_tell`, and nowhere else.
"""

import logging
from collections.abc import Callable
from typing import Any

from tcp_proxy.control.events import Events
from tcp_proxy.control.health.runner import Finding, HealthRunner
from tcp_proxy.control.recall import Recall
from tcp_proxy.control.resolver import Answer, Resolver
from tcp_proxy.control.targets import KnownTarget, Targets
from tcp_proxy.loop import Loop
from tcp_proxy.messages import CloseSessions, ConnectFailed, Message
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.sansio.verdict import State

logger = logging.getLogger(__name__)


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
        self._resolver = Resolver(loop, self._answered)
        self._health = {
            name: HealthRunner(name, app.config.health, self._report, count=self._count)
            for name, app in targets.apps.items()
            if app.config.health
        }

    def __repr__(self) -> str:
        return f"<States of {self._targets!r}, {self._resolver!r}>"

    def start(self) -> None:
        for host in self._targets.by_host:
            self._resolver.want(host)
        self._recall.forget_all_but({(target.app, target.config.name) for target in self._targets})
        for target in self._targets:
            checks = self._targets.apps[target.app].config.health
            self._recall.begin(target, checks, self._health.get(target.app))
        for name, runner in self._health.items():
            runner.set_targets(self._targets.apps[name].endpoints())
            runner.start()
        for target in self._targets:
            if target.config.disabled:
                logger.info("app %s: target %s is down: %s", target.app, target.config.name, target.why)

    def stop(self) -> None:
        for runner in self._health.values():
            runner.stop()
        self._resolver.stop()

    def connect_failed(self, message: ConnectFailed, worker: int) -> None:
        """A worker could not connect: look whether the target, and its name, are still what they were."""
        target = self._targets.find(message.app, message.target)
        text = "app %s: connecting to target %s failed: %s (worker %d)"
        logger.warning(text, message.app, message.target, message.error, worker)
        if message.app in self._health:
            self._health[message.app].probe_now(message.target)
        if target in self._targets.by_host.get(target.config.address.host, []):
            self._resolver.refresh(target.config.address.host)

    def _report(self, finding: Finding) -> None:
        """In a health thread."""
        self._loop.call_soon(self._found, finding)

    def _count(self, finding: Finding) -> None:
        """In a health thread: nothing but the number of results is another one."""
        self._loop.call_soon(self._recall.found, finding)

    def _found(self, finding: Finding) -> None:
        target = self._targets.find(finding.app, finding.target)
        before = target.state
        self._targets.found(finding)
        self._recall.found(finding)
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
            if any(target.config.address.host == answer.host for target in app.targets.values()):
                runner.set_targets(app.endpoints())
        self._on_answer()

    def _tell(self, target: KnownTarget, before: State, changed: bool) -> None:
        after, name = target.state, target.config.name
        level = logging.INFO if after is State.UP else logging.WARNING
        if after is not before:
            logger.log(level, "app %s: target %s is %s (was %s): %s", target.app, name, after, before, target.why)
        elif changed:
            logger.log(level, "app %s: target %s is %s: %s", target.app, name, after, target.why)
        if changed or after is not before:
            data = {"app": target.app, "target": name, "state": after.value, "was": before.value, "why": target.why}
            self._events.publish("target", data)
        self._send(target.change())
        if after is State.DOWN and before is not State.DOWN and self._targets.apps[target.app].config.on_down == "close":
            self._send(CloseSessions(target.app, name, Reason.TARGET_DOWN.value))
