"""The states of the targets: what the health threads find and what names are, put together, said, told to the workers.

Main thread only; health threads and resolver threads report here by the loop's call_soon. Owns the resolver and a
HealthRunner for each app that has checks. Every change of a target's state that they find goes through `_tell`; what a
new configuration changes goes to the workers in the views of the apps, and is said by `apply`.
"""

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

from tcp_proxy.config.model import NO_TARGETS
from tcp_proxy.control.events import Events
from tcp_proxy.control.health.counts import ProbeCounts
from tcp_proxy.control.health.history import CheckHistory
from tcp_proxy.control.health.runner import Finding, HealthRunner
from tcp_proxy.control.slices import each
from tcp_proxy.control.targets.all_targets import Changed, ChangedApp, Targets
from tcp_proxy.control.targets.asked import Asked, asked, own, parts
from tcp_proxy.control.targets.known import KnownApp, KnownTarget
from tcp_proxy.control.targets.resolver import Answer, Resolver
from tcp_proxy.control.targets.restored import RestoredStates
from tcp_proxy.control.targets.self_reports import SelfReports
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.sansio.share import AT_ONCE, Share
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire.counters import Counters
from tcp_proxy.wire.messages import CloseSessions, ConnectFailed, Message, TargetFailed

logger = logging.getLogger(__name__)

TRY_AGAIN = 5.0  # seconds until a thread that could not be started is tried again
OF_AN_APP = 20  # targets that starting, or ending, the checks of an app takes as long as: each has a thread of its own


class Votes(Protocol):
    """What other nodes find counts, too (control.cluster.votes)."""

    def found(self, target: KnownTarget, finding: Finding) -> Any: ...
    def look(self, app: str) -> Any: ...


class States:
    """`send(message)` goes to all workers; `answered()` is called when a name has had an answer."""

    def __init__(
        self,
        loop: Loop,
        targets: Targets,
        events: Events,
        send: Callable[[Message], Any],
        answered: Callable[[], Any],
        restored: RestoredStates,
        memory: Counters | None = None,
    ) -> None:
        self._memory = memory
        self._loop = loop
        self._targets = targets
        self._events = events
        self._send = send
        self._on_answer = answered
        self._restored = restored
        self._held: list[Callable[[], Any]] | None = None  # what waits, while something does
        self.probes = ProbeCounts()
        self._resolver = Resolver(loop, self._answered)
        self._wanted: set[str] = set()
        self._is_over = False
        self.is_serving = False  # from then on a target that comes up is one that comes back
        self._health: dict[str, HealthRunner] = {}
        self._outliers: Any = None  # control.targets.outliers.Outliers, from the first app on that has `outlier`
        self.ejections_taken: list[dict[str, Any]] = []  # those of the program before us, until the first app that has such
        self.votes: Votes | None = None  # of a node of a cluster
        self._left_to_others: set[str] = set()  # apps that other nodes check
        self._panics: Any = None  # control.targets.panic.Panics, from the first app on that has a threshold
        self.self_reports = SelfReports(loop, targets, lambda target, before: self._tell(target, before, changed=False))

    def __repr__(self) -> str:
        return f"<States of {self._targets!r}, {self._resolver!r}>"

    def start(self) -> None:
        self._restored.forget_all_but({(target.app, target.config.name) for target in self._targets})
        self.want(self._targets.by_host)
        for app in self._targets.apps.values():
            for _ in self._check(ChangedApp(app, is_new=True, touched=list(app.targets.values()))):
                pass
            self._look_at_outliers(app)
            self._look_for_panic(app)
        self.ejections_taken = []  # of no app that there is
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
        """Those that no target has."""
        for host in self._wanted - self._targets.by_host.keys():
            self._wanted.discard(host)
            self._resolver.forget(host)

    def forget_counts(self) -> None:
        """How checks of targets that are gone came out: their threads may have said so after they had left."""
        self.probes.keep({(target.app, target.config.name) for target in self._targets})

    def hold(self) -> None:
        """Whatever is found waits: what there is of targets is not whole."""
        self._held = []
        if self._panics is not None:
            self._panics.is_held = True

    def release(self) -> None:
        """Now it counts, in order."""
        held, self._held = self._held, None
        for call in held or ():
            call()
        if self._panics is not None:
            self._panics.release()

    def apply(self, changed: Changed) -> None:
        """The targets have a new configuration, and the workers know it."""
        for _ in self.applying(changed):
            pass

    def applying(self, changed: Changed) -> Iterator[None]:
        """The same in slices."""
        yield from each(changed.left, self._forget)
        yield from each(changed.unknown, lambda target: self._restored.forget(target.app, target.config.name))
        yield from each(changed.renamed, self._rename)
        yield from each(changed.fewer, self._restored.keep_servers)
        yield from each(changed.moved, self._rename_subject)
        yield from each(changed.added, self._begin)
        share = Share()
        for one in changed.apps:
            yield from self._check(one)
            yield from each(one.touched, partial(self._say_news, changed.before))
            self._look_at_votes(one.app.config.name)
            self._look_at_outliers(one.app)
            self._look_for_panic(one.app)
            if share.is_used_up(OF_AN_APP + len(one.touched)):
                yield
        self.want(self._targets.by_host)
        self.forget_names()

    def _forget(self, key: tuple[str, str]) -> None:
        self._restored.leave(*key)
        self.probes.forget(*key)

    def _rename(self, names: tuple[str, str, str]) -> None:
        self._restored.rename(*names)
        self.probes.rename(*names)

    def _rename_subject(self, names: tuple[str, str, str]) -> None:
        name, old, new = names
        if name in self._health:
            self._health[name].rename(old, new)

    def _begin(self, target: KnownTarget) -> None:
        if target.app in self._health:
            checks = self._targets.apps[target.app].checks_of(target.config.name)
            self._restored.begin(target, checks, self._health[target.app])

    def _say_news(self, states: dict[int, State], target: KnownTarget) -> None:
        before = states.get(id(target))
        if before is not None and before is not target.state:
            self._say(target, before, changed=True)

    def remove(self, app: KnownApp) -> None:
        """The app has left the targets. What belongs to none any more is there until `removed`."""
        if self._outliers is not None:
            self._outliers.remove(app.config.name)
        runner = self._health.pop(app.config.name, None)
        for target in app.targets:
            self._restored.forget(app.config.name, target)
        if runner is not None:
            runner.stop()
        self._look_at_votes(app.config.name)

    def removed(self) -> None:
        """That was all."""
        self.forget_names()
        self.forget_counts()

    def probe_now(self, app: str, target: str) -> bool:
        """Whether there is a check to be made."""
        if app not in self._health or not self._targets.apps[app].checks_of(target):
            return False
        known = self._targets.find(app, target)
        for subject in known.subjects() if known is not None else ():
            self._health[app].probe_now(subject)
        return True

    @contextlib.contextmanager
    def assumed_up(self, app: str, target: str) -> Iterator[None]:
        """Within, this target is added: it is up, and its checks count their failures from the start."""
        self._restored.assume_up(app, target)
        try:
            yield
        except BaseException:
            self._restored.forget(app, target)
            raise

    def history(self, target: KnownTarget, tell: Callable[[list[CheckHistory]], Any]) -> None:
        """The last results of the checks of one target; `tell` is called in this thread."""
        runner = self._health.get(target.app)
        if runner is None or not runner.history(target.config.name, lambda found: self._loop.call_soon(tell, found)):
            tell([])

    def _check(self, one: ChangedApp) -> Iterator[None]:
        """Have the app's targets checked as its configuration says."""
        app, name = one.app, one.app.config.name
        runner = self._health.get(name)
        if runner is None:
            yield from self._starting_checks(app)
        elif app.is_checked:
            if one.checks_differ:
                runner.set_checks(app.config.health, app.own_checks())
            gone = [subject for target in one.left for subject in one.gone[id(target)]]
            if gone or one.unnamed:
                runner.change(gone, {}, {}, {}, dict.fromkeys(one.unnamed))
            for some in parts(one.touched):
                gone = [subject for target in some for subject in one.gone.get(id(target), ())]
                runner.change(gone, *self._asked(name, some), own(app, some))
                if len(some) == AT_ONCE:
                    yield
        else:
            del self._health[name]
            runner.stop()
        looked_at = app.targets.values() if one.checks_differ else one.touched
        yield from each(app.unchecked(looked_at), self._trust)
        if not (app.targets or app.config.discoveries):
            logger.warning("app %s %s", name, NO_TARGETS)

    def _starting_checks(self, app: KnownApp) -> Iterator[None]:
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
        try:
            for some in parts(list(app.targets.values())):
                for target in some:
                    self._restored.begin(target, app.checks_of(target.config.name), runner)
                runner.change((), *self._asked(name, some))
                if len(some) == AT_ONCE:
                    yield
            runner.start()
        except GeneratorExit:  # the program ends
            runner.stop()
            raise
        except RuntimeError as error:  # no more threads for this user or machine
            runner.stop()
            self._start_later(app, error)
            return
        self._health[name] = runner

    def _start_later(self, app: KnownApp, error: Exception) -> None:
        logger.error("app %s: its targets cannot be checked for now: %s", app.config.name, error)
        self._loop.call_later(TRY_AGAIN, lambda: deque(self._starting_checks(app), 0))

    def _trust(self, target: KnownTarget) -> None:
        """Nobody checks it any more."""
        before = target.state
        target.forget_health("not checked")
        self._restored.forget(target.app, target.config.name)
        if target.state is not before:
            self._tell(target, before, changed=True)

    def stop(self) -> None:
        self._is_over = True
        if self._outliers is not None:
            self._outliers.stop()
        for runner in self._health.values():
            runner.stop()
        self._resolver.stop()

    def connect_failed(self, message: ConnectFailed, worker: int) -> None:
        """A worker could not connect: look whether the target, and its name, are still what they were."""
        target = self._targets.find(message.app, message.target)
        if target is None:
            return
        if message.error:
            text = "app %s: connecting to target %s failed: %s (worker %d)"
            logger.warning(text, message.app, message.target, message.error, worker)
            self.probe_now(message.app, message.target)
        for host in target.config.hosts:
            if id(target) in self._targets.by_host.get(host, {}):
                self._resolver.refresh(host)

    def target_failed(self, message: TargetFailed) -> None:
        """A worker says what clients met there."""
        if self._held is not None:
            self._held.append(lambda: self.target_failed(message))
        elif self._outliers is not None:
            self._outliers.failed(message)

    def ejections(self) -> list[dict[str, Any]]:
        """For the program that takes over."""
        return self._outliers.given() if self._outliers is not None else []

    def _look_at_outliers(self, app: KnownApp) -> None:
        if self._outliers is None and app.config.outlier is not None:
            from tcp_proxy.control.targets.outliers import Outliers  # noqa: PLC0415  loaded with the first app that needs it

            def changed(target: KnownTarget, before: State) -> None:
                self._tell(target, before, changed=False)

            self._outliers = Outliers(self._loop, self._targets, self._memory, self._events, changed)
            self._outliers.taken, self.ejections_taken = self.ejections_taken, []
        if self._outliers is not None:
            self._outliers.look(app)

    def vote(self, votes: Votes) -> None:
        """From now on, what counts is what they say."""
        self.votes = votes
        self._restored.heard = votes.found

    def leave_to_others(self, app: str, *, is_left: bool) -> None:
        """Other nodes check its targets, or this one does again."""
        (self._left_to_others.add if is_left else self._left_to_others.discard)(app)
        runner, known = self._health.get(app), self._targets.apps.get(app)
        if runner is not None and known is not None:
            for some in parts(list(known.targets.values())):
                gone = [subject for target in some for subject in target.subjects()] if is_left else ()
                runner.change(gone, *self._asked(app, some))

    def _asked(self, app: str, targets: list[KnownTarget]) -> Asked:
        return ({}, {}, {}) if app in self._left_to_others else asked(targets)

    def _look_at_votes(self, app: str) -> None:
        if self.votes is not None:
            self.votes.look(app)

    def _report(self, finding: Finding) -> None:
        """In a health thread."""
        self._loop.call_soon(self._found, finding)

    def _count(self, finding: Finding) -> None:
        """In a health thread: nothing but the number of results is another one."""
        self._loop.call_soon(self._found, finding, False)

    def _found(self, finding: Finding, is_news: bool = True) -> None:
        if self._held is not None:
            self._held.append(lambda: self._found(finding, is_news))
            return
        target = self._targets.find_subject(finding.app, finding.target)
        if target is None or not self._targets.apps[finding.app].checks_of(target.config.name):
            return  # it has left meanwhile, or its checks have
        before = target.state
        self._restored.found(target, finding, target.found(finding))
        if is_news or target.state is not before:
            self._tell(target, before, finding.changed)

    def _answered(self, answer: Answer) -> None:
        if self._held is not None:
            self._held.append(lambda: self._answered(answer))
            return
        before = {id(target): target.state for target in self._targets.named(answer.host)}
        by_app: dict[str, list[KnownTarget]] = {}
        for target in self._targets.answered(answer):
            self._tell(target, before[id(target)], changed=True)
            by_app.setdefault(target.app, []).append(target)
        if answer.error:
            logger.warning("name %s: %s", answer.host, answer.error)
        else:
            logger.info("name %s is %s", answer.host, ", ".join(ip for _, ip in answer.addresses))
        for name, targets in by_app.items():
            if name in self._health:
                self._health[name].change((), *self._asked(name, targets))
        self._on_answer()

    def changed(self, target: KnownTarget, before: State) -> None:
        """It may be in another state now, by what somebody else has found."""
        self._tell(target, before, changed=False)

    def _tell(self, target: KnownTarget, before: State, changed: bool) -> None:
        if self._held is not None:
            self._held.append(lambda: self._tell(target, before, changed))
            return
        if self._targets.find(target.app, target.config.name) is not target:
            return  # it has left, while this waited
        if target.state is State.UP is not before and self.is_serving and not target.is_forced:
            target.since = self._loop.now
        self._say(target, before, changed)
        self._send(target.change())
        self._look_for_panic(self._targets.apps[target.app])
        went_down = target.is_ill and target.state is State.DOWN and before is not State.DOWN
        if went_down and not target.config.disabled and self._targets.apps[target.app].config.on_down == "close":
            self._send(CloseSessions(target.app, target.config.name, Reason.TARGET_DOWN.value))

    def _look_for_panic(self, app: KnownApp) -> None:
        if self._panics is None and app.config.panic:
            from tcp_proxy.control.targets.panic import Panics  # noqa: PLC0415  loaded with the first app that needs it

            self._panics = Panics(self._loop, self._targets, self._events, lambda target: self._send(target.change()))
            self._panics.is_held = self._held is not None
        if app.config.panic or app.is_panicking:
            self._panics.look(app.config.name)

    def _say(self, target: KnownTarget, before: State, changed: bool) -> None:
        after, name = target.state, target.config.name
        level = logging.INFO if after is State.UP else logging.WARNING
        rise = self._targets.apps[target.app].config.slow_start
        why = target.why
        if rise and after is State.UP is not before and target.since:
            why = f"{why}; it rises to its weight in {rise:g} s"
        if after is not before:
            logger.log(level, "app %s: target %s is %s (was %s): %s", target.app, name, after, before, why)
        elif changed:
            logger.log(level, "app %s: target %s is %s: %s", target.app, name, after, target.why)
        if changed or after is not before:
            data = {"app": target.app, "target": name, "state": after.value, "was": before.value, "why": target.why}
            self._events.publish("target", data)
