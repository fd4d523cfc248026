"""All apps and their targets, and how they become those of another configuration: who stays keeps everything.

Main thread only. What is different is said by config.delta; the work grows with that, and not with how many targets there
are. `Changed` says what was done, to those who follow: the workers, the health threads, the state file.
"""

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tcp_proxy.config import model
from tcp_proxy.config.delta import AppDelta, whole
from tcp_proxy.config.diff import place
from tcp_proxy.control.health.probe import owner_of
from tcp_proxy.control.health.runner import Finding
from tcp_proxy.control.statistics.counter_slots import CounterSlots, Key
from tcp_proxy.control.targets.client_tables import Tables, close_table, forget_worker, make_tables, set_table
from tcp_proxy.control.targets.known import ByPort, KnownApp, KnownTarget
from tcp_proxy.control.targets.resolver import Answer
from tcp_proxy.control.targets.semaphores import (
    Limited,
    Limits,
    close_tokens,
    give_back_tokens,
    make_semaphores,
    set_semaphore,
)
from tcp_proxy.sansio.address import leads_to
from tcp_proxy.sansio.share import Share
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire.views import Endpoint


@dataclass(slots=True)
class ChangedApp:
    """One app: new, or different now. `gone` are subjects that are not to be probed any more."""

    app: KnownApp
    is_new: bool
    checks_differ: bool = False  # of the app itself
    is_reordered: bool = False
    touched: list[KnownTarget] = field(default_factory=list)  # those that are new, or that workers are to be told of
    left: list[KnownTarget] = field(default_factory=list)
    gone: dict[int, list[str]] = field(default_factory=dict)  # by id of each target that has such
    unnamed: list[str] = field(default_factory=list)  # names that no target has any more


@dataclass(slots=True)
class Changed:
    """What a new configuration has done here."""

    apps: list[ChangedApp] = field(default_factory=list)
    limited: list[Limited] = field(default_factory=list)  # who has a new semaphore
    tables: list[KnownApp] = field(default_factory=list)  # who has a new table of clients
    renamed: list[tuple[str, str, str]] = field(default_factory=list)  # (app, old name, new name)
    moved: list[tuple[str, str, str]] = field(default_factory=list)  # (app, old name of a subject, new name)
    added: list[KnownTarget] = field(default_factory=list)  # to apps, old and new
    left: list[tuple[str, str]] = field(default_factory=list)  # (app, target)
    fewer: list[KnownTarget] = field(default_factory=list)  # groups that have lost servers and have got no new ones
    unknown: list[KnownTarget] = field(default_factory=list)  # of whom nothing is known any more
    before: dict[int, State] = field(default_factory=dict)  # id of each target that stays and is touched -> its state


class Targets:
    """All apps and their targets, with the counter slots and semaphores that belong to them."""

    def __init__(self, apps: Iterable[model.App], slots: CounterSlots, is_clustered: bool = False) -> None:
        self._is_clustered = is_clustered
        self.apps: dict[str, KnownApp] = {}
        self.by_host: dict[str, dict[int, KnownTarget]] = {}  # those whose address is a name; each by its id
        self.is_discovering = False  # somebody who lists targets has not said anything yet
        self._slots = slots
        self.listening: dict[int, dict[str, KnownApp]] = {}  # by port and name: the apps that listen there
        self.configure(list(map(whole, apps)), 0)

    def __repr__(self) -> str:
        return f"<Targets of {len(self.apps)} apps>"

    def __iter__(self) -> Iterator[KnownTarget]:
        return (target for app in self.apps.values() for target in app.targets.values())

    def find(self, app: str, target: str) -> KnownTarget | None:
        """None when it has left: whoever speaks of it may not know yet."""
        known = self.apps.get(app)
        return known.targets.get(target) if known is not None else None

    def named(self, host: str) -> list[KnownTarget]:
        """Whose name this is."""
        return list(self.by_host.get(host, {}).values())

    def is_resolved(self) -> bool:
        """Whether every name has had an answer, good or bad, and all targets are known."""
        named = (target for known in self.by_host.values() for target in known.values())
        return not self.is_discovering and all(target.has_answers for target in named)

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
        known = self.named(answer.host)
        for target in known:
            target.resolve(answer, self._leads_back)
        return known

    def configure(
        self, deltas: Sequence[AppDelta], generation: int, answers: Mapping[str, Answer] | None = None, now: float = 0.0
    ) -> Changed:
        """Become what these make of it; apps that are no more leave by `remove`. `answers`: what is known of names. `now`:
        when it is, for those that come into an app that was there, or come back.

        All or nothing: raises OSError, which NoRoom is, and nothing has changed.
        """
        work = self.configuring(deltas, generation, answers, now)
        while True:
            try:
                next(work)
            except StopIteration as over:
                changed: Changed = over.value
                return changed

    def configuring(
        self, deltas: Sequence[AppDelta], generation: int, answers: Mapping[str, Answer] | None = None, now: float = 0.0
    ) -> Generator[None, None, Changed]:
        """The same in slices; what raises comes first."""
        semaphores, tables = self._prepare(deltas)
        yield
        changed, share = Changed(), Share()
        for delta in deltas:
            if share.is_used_up():
                yield
            known = self.apps.get(delta.app.name)
            if known is None:
                slot = self._slots.take("app", delta.app.name)
                known = self.apps[delta.app.name] = KnownApp(delta.app, slot, is_clustered=self._is_clustered)
            made = semaphores, tables
            one = _Configuring(self, self._slots, known, delta, changed, generation, made, answers or {}, share, now)
            changed.apps.append((yield from one.becoming()))
        return changed

    def remove(self, name: str, generation: int) -> KnownApp:
        """The app has left: its listeners are closed."""
        app = self.apps.pop(name)
        self.listens(app, {})
        close_tokens(app)
        close_table(app)
        for target in app.targets.values():
            self.drop(target, generation)
        for rule in rules_of(app.config):
            self._slots.retire("rule", name, *rule, generation=generation)
        self._slots.retire("app", name, generation=generation)
        return app

    def listens(self, known: KnownApp, own: ByPort) -> None:
        """These are its listeners from now on."""
        for port in known.own:
            apps = self.listening[port]
            apps.pop(known.config.name, None)
            if not apps:
                del self.listening[port]
        known.own = own
        for port in own:
            self.listening.setdefault(port, {})[known.config.name] = known

    def _leads_back(self, app: str, endpoint: Endpoint) -> bool:
        """Whether who goes there comes back to the app over others, as far as addresses that are known show it. Those in the
        configuration are judged there (config.loops); names are, whenever they are resolved."""
        seen: set[str] = set()
        todo = [endpoint]
        while todo:
            there = todo.pop()
            if isinstance(there[1], str):
                continue
            host, port = there[1][:2]
            for name, known in self.listening.get(port, {}).items():
                if name in seen or not any(leads_to(host, port, listener) for listener in known.own[port]):
                    continue
                if name != app:
                    seen.add(name)
                    todo += [found for target in known.targets.values() for found in target.endpoints]
                elif there is not endpoint:  # else it is its own listener: the target looks for that
                    return True
        return False

    def give_back_tokens(self, blocks: Iterable[tuple[Key, int]], gauges: dict[int, int]) -> None:
        """Of the targets and apps with these first slots. `gauges`: of a dead worker, by slot."""
        for key, slot in blocks:
            limited = self.find(*key) if len(key) == 2 else self.apps.get(key[0])
            if limited is not None and limited.slot == slot:
                give_back_tokens(limited, gauges)

    def forget_worker(self, number: int) -> None:
        """It is dead: no client has a session in it any more."""
        forget_worker(self.apps.values(), number)

    def close(self) -> None:
        for limited in (*self, *self.apps.values()):
            close_tokens(limited)
        for app in self.apps.values():
            close_table(app)

    def drop(self, target: KnownTarget, generation: int) -> None:
        """It is no target any more."""
        self.unname(target)
        close_tokens(target)
        self._slots.retire("target", target.app, target.config.name, generation=generation)

    def unname(self, target: KnownTarget) -> None:
        """Before its address may be another one."""
        for host in target.config.hosts:
            known = self.by_host.get(host, {})
            if known.pop(id(target), None) is not None and not known:
                del self.by_host[host]

    def name(self, target: KnownTarget, answers: Mapping[str, Answer]) -> None:
        for host in target.config.hosts if target.is_named else ():
            self.by_host.setdefault(host, {})[id(target)] = target
            if host in answers and not target.endpoints:
                target.resolve(answers[host], self._leads_back)

    def _prepare(self, deltas: Sequence[AppDelta]) -> tuple[Limits, Tables]:
        """Everything that may fail: room for counters, and the semaphores and tables of limits that are new."""
        limits: Limits = {}
        tables: dict[str, model.SessionLimits] = {}
        blocks = {"app": 0, "target": 0, "listener": 0, "rule": 0}
        owned = self._slots.owned("target")  # some may be of a program that was taken over
        for delta in deltas:
            app, known = delta.app, self.apps.get(delta.app.name)
            blocks["app"] += known is None and (app.name,) not in self._slots.owned("app")
            blocks["rule"] += len(set(rules_of(app)) - set(rules_of(known.config) if known else ()))
            if known is None or known.config.listeners is not app.listeners:
                blocks["listener"] += len(set(app.listeners) - set(known.config.listeners if known else ()))
            sessions = app.limits.sessions
            if sessions and (known is None or known.config.limits.sessions != sessions):
                limits[app.name, ""] = sessions
            if app.limits.table and (known is None or known.table < 0 or known.config.limits.table != app.limits.table):
                tables[app.name] = app.limits
            for was, target in delta.pairs:
                if target is None:
                    continue
                blocks["target"] += was is None and (app.name, target.name) not in owned
                if target.max_connections and (was is None or was.max_connections != target.max_connections):
                    limits[app.name, target.name] = target.max_connections
        self._slots.require(blocks)
        semaphores = make_semaphores(limits)
        try:
            return semaphores, make_tables(tables)
        except OSError:
            for fd in semaphores.values():
                os.close(fd)
            raise


class _Configuring:
    """One app that becomes what a delta says."""

    def __init__(
        self, targets: Targets, slots: CounterSlots, known: KnownApp, delta: AppDelta, changed: Changed, generation: int,
        made: tuple[Limits, Tables], answers: Mapping[str, Answer], share: Share, now: float,
    ) -> None:  # fmt: skip
        self._share = share
        self._now = now
        self._targets = targets
        self._slots = slots
        self._app = known
        self._delta = delta
        self._changed = changed
        self._generation = generation
        self._semaphores, self._tables = made
        self._answers = answers
        self._done = ChangedApp(known, delta.is_new, is_reordered=delta.is_reordered)

    def becoming(self) -> Generator[None, None, ChangedApp]:
        known, app, done = self._app, self._delta.app, self._done
        before, known.config = known.config, app
        self._limit(known, "", app.limits.sessions)
        if set_table(known, app.name, self._tables, app.limits, self._generation + 1):
            self._changed.tables.append(known)
        done.checks_differ = before.health != app.health
        self._count_rules(before)
        has_moved = not known.own or before.listeners != app.listeners
        if has_moved:
            own: ByPort = {}
            for listener in app.listeners:
                own.setdefault(listener.port, []).append(listener)
            self._targets.listens(known, own)
        stay, is_renamed = known.targets, False
        added: list[KnownTarget] = []
        leaving = [stay.pop(was.name) for was, now in self._delta.pairs if was is not None and now is None]
        pairs = [(stay[was.name] if was else None, now) for was, now in self._delta.pairs if now is not None]
        for left in leaving:
            self._leave(left)
            if self._share.is_used_up():
                yield
        for target, config in pairs:
            if self._share.is_used_up():
                yield
            if target is None:
                added.append(self._come(config))
            else:
                is_renamed |= target.config.name != config.name
                self._keep(target, config)
        if (has_moved or (before.http is None) != (app.http is None)) and not self._delta.is_new:
            yield from self._look_at_others({id(target) for target, _ in pairs if target is not None}, before)
        if is_renamed or self._delta.is_reordered:
            names = {target.config.name: target for target in (*stay.values(), *added)}
            known.targets = {target.name: names[target.name] for target in app.targets}
        else:
            stay.update((target.config.name, target) for target in added)
        return done

    def _count_rules(self, before: model.App) -> None:
        name, rules = self._app.config.name, rules_of(self._app.config)
        for rule in rules_of(before):
            if rule not in rules:
                self._slots.retire("rule", name, *rule, generation=self._generation)
        self._app.rule_slots = tuple(self._slots.take("rule", name, *rule) for rule in rules)

    def _come(self, config: model.Target) -> KnownTarget:
        app = self._app
        target = KnownTarget(app.config.name, config, self._slots.take("target", app.config.name, config.name))
        target.since = 0.0 if self._delta.is_new else self._now
        self._changed.added.append(target)
        target.place(app.config, app.own)
        if not target.endpoints:
            self._targets.name(target, self._answers)
        if config.max_connections:
            self._limit(target, config.name, config.max_connections)
        self._done.touched.append(target)
        return target

    def _leave(self, target: KnownTarget) -> None:
        self._done.gone[id(target)] = list(target.probed())
        self._done.unnamed.append(target.config.name)
        self._done.left.append(target)
        self._targets.drop(target, self._generation)
        self._changed.left.append((target.app, target.config.name))

    def _keep(self, target: KnownTarget, config: model.Target) -> None:
        changed, was = self._changed, target.config
        changed.before[id(target)] = target.state
        probed = list(target.probed())
        has_address = place(was) == place(config)
        if not has_address:
            self._targets.unname(target)
            target.ejected = ""
        target.config = config
        if was.name != config.name:
            rest = [subject.removeprefix(was.name) for subject in target.subjects(was)]
            self._rename(target, was.name, rest)
            probed = [config.name + subject.removeprefix(was.name) for subject in probed]
        if was.disabled and not config.disabled:
            target.forget_health()
            target.ejected = ""
            changed.unknown.append(target)
        if target is self._app.primary and not has_address:
            self._app.primary = None  # it is another server now, whom nobody has asked whether it can be primary
        self._place(target)
        if not has_address:
            self._targets.name(target, self._answers)
        if target.state is State.UP is not changed.before[id(target)]:
            target.since = self._now
        self._limit(target, config.name, config.max_connections)
        self._done.touched.append(target)
        self._done.gone[id(target)] = [name for name in probed if name not in target.probed()]

    def _rename(self, target: KnownTarget, old: str, rest: list[str]) -> None:
        changed, app, new = self._changed, target.app, target.config.name
        self._slots.rename("target", (app, old), (app, new))
        changed.renamed.append((app, old, new))
        self._done.unnamed.append(old)
        changed.moved += [(app, old + part, new + part) for part in rest]
        target.findings = {new + subject.removeprefix(old): found for subject, found in target.findings.items()}

    def _place(self, target: KnownTarget) -> None:
        servers = target.located.keys()
        target.place(self._app.config, self._app.own)
        if target.located.keys() < servers:
            self._changed.fewer.append(target)

    def _limit(self, limited: Limited, name: str, limit: int) -> None:
        if set_semaphore(limited, (self._app.config.name, name), self._semaphores, limit, self._generation):
            self._changed.limited.append(limited)

    def _look_at_others(self, done: set[int], before: model.App) -> Iterator[None]:
        """The app listens elsewhere, which matters for groups and for what leads back to it; or it has another mode, in
        which workers know other things of each target."""
        is_other_mode = (before.http is None) != (self._app.config.http is None)
        for target in tuple(self._app.targets.values()):
            if self._share.is_used_up():
                yield
            if id(target) in done:
                continue
            state, probed, where = target.state, list(target.probed()), (target.endpoints, target.servers())
            self._place(target)
            if is_other_mode or (target.endpoints, target.servers()) != where:
                self._changed.before[id(target)] = state
                self._done.touched.append(target)
                self._done.gone[id(target)] = [name for name in probed if name not in target.probed()]


def rules_of(app: model.App) -> tuple[tuple[str, str], ...]:
    """Those of its access."""
    return app.access.rules if app.access is not None else ()
