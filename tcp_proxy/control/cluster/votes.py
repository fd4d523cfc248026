"""Health by vote: what each node's checks find is told to all, and a target is what most of them find.

Main thread only. Under health/APP/NODE is what a node thinks of the targets of an app (`Ballot`), under its lease; every
node counts the same texts, which etcd has given to all in the same order. A check with "scope" "local" is no matter of
votes: what it finds counts on its own node, beside what the nodes have found.

    ALONE   this node's own findings count        ──joined, all was read──>    JOINED   the majority of those in etcd counts
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from tcp_proxy.config.model import Check
from tcp_proxy.control.cluster.shared import SharedState
from tcp_proxy.control.health.runner import Finding
from tcp_proxy.control.health.subject import question_of
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.control.targets.known import KnownTarget
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.sansio.verdict import State
from tcp_proxy.sansio.vote import Opinion, checkers, majority
from tcp_proxy.wire.cluster import parts_of

HEALTH = "health"
PUBLISH_AFTER = 0.02  # seconds: what is found together is told together
MOST_EVIDENCE = 200  # characters that are told of a finding
MOST_NAMED = 100_000  # targets in a ballot
FALLEN = {"down": State.DOWN, "drain": State.DRAINING, "ignore": State.UP}
WORSE = (State.UP, State.DRAINING, State.DOWN)
WELL = Opinion(State.UP, "it passes its checks")


@dataclass(frozen=True, slots=True)
class Ballot:
    """Targets that are not up, and why; those without a finding; all others are up, if these are the targets: `names`."""

    names: str
    against: Mapping[str, Opinion]
    unproven: frozenset[str]


@dataclasses.dataclass(slots=True)
class Own:
    """What this node's checks find of one target. None: nothing so far, or no check of theirs is that kind."""

    shared: Opinion | None
    local: Opinion | None


class Leave(Protocol):
    def __call__(self, app: str, *, is_left: bool) -> Any: ...


def _nothing(app: str, *, is_left: bool) -> None:
    """Every node checks everything."""


class Votes:
    """`changed(target, before)`: its state may be another one now."""

    def __init__(
        self, loop: Loop, targets: Targets, shared: SharedState, node: str, changed: Callable[..., Any],
        when_idle: Callable[[Callable[[], Any]], Any], count: int | None = None, leave: Leave = _nothing,
    ) -> None:  # fmt: skip
        """`when_idle(call)`: as soon as the targets are those of one configuration. `count`: how many nodes check an app,
        None for all; `leave(app, is_left=…)` when others check it, or this node does again."""
        self.is_joined = False
        self._loop = loop
        self._targets = targets
        self._shared = shared
        self._node = node
        self._changed = changed
        self._count, self._leave = count, leave
        self._left: set[str] = set()  # apps that other nodes check
        self._own: dict[tuple[str, str], dict[str, Own]] = {}  # app and target: by subject
        self._ballots: dict[str, dict[str, Ballot]] = {}  # app: by node
        self._names: dict[str, str] = {}  # of the targets of an app that are voted on
        self._nodes: set[str] = set()
        self._unfit: set[str] = set()
        self._due: set[str] = set()  # apps whose ballot is to be told
        shared.observe(HEALTH, lambda keys: when_idle(lambda: self._heard(keys)))

    def __repr__(self) -> str:
        return f"<Votes of {len(self._own)} targets, {'joined' if self.is_joined else 'alone'}>"

    # -- what this node finds

    def found(self, target: KnownTarget, finding: Finding) -> None:
        """Of one server; the target has just taken it for what counts."""
        if target.app in self._left:  # a result that was under way, or what was known before a restart
            self._judge(target)
            return
        checks = self._targets.apps[target.app].checks_of(target.config.name)
        own = self._own.setdefault((target.app, target.config.name), {})
        own[finding.target] = _split(checks, finding)
        for gone in own.keys() - target.subjects().keys():
            del own[gone]
        self._publish_soon(target.app)
        self._judge(target)

    def assign(self, nodes: set[str]) -> None:
        """These are the nodes now, none while this one is alone: then it checks everything itself."""
        if self._count is None:
            return
        self._nodes = nodes - self._unfit or nodes
        for app in (*self._targets.apps, *(self._left - self._targets.apps.keys())):
            self._assign(app)

    def _assign(self, app: str) -> None:
        is_left = bool(self._nodes) and self._node not in checkers(app, self._nodes, self._count)
        if is_left is (app in self._left):
            return
        (self._left.add if is_left else self._left.discard)(app)
        for key in [key for key in self._own if key[0] == app]:
            del self._own[key]
        self._leave(app, is_left=is_left)
        self._publish_soon(app)

    def look(self, app: str) -> None:
        """Its targets, or their checks, are others."""
        if self._count is not None:
            self._assign(app)
        known = self._targets.apps.get(app)
        names = known.targets if known is not None else {}
        self._names.pop(app, None)
        for key in [key for key in self._own if key[0] == app and key[1] not in names]:
            del self._own[key]
        self._publish_soon(app)
        if known is not None:
            self._judge_some(list(known.targets.values()))

    def discount(self, unfit: set[str]) -> None:
        """What these nodes find does not count where anybody else finds something. `assign` comes after it."""
        if unfit != self._unfit:
            self._unfit = unfit
            self._judge_some(list(self._targets))

    def join(self, is_joined: bool) -> None:
        if is_joined is not self.is_joined:
            self.is_joined = is_joined
            self._judge_some(list(self._targets))

    # -- what is told

    def withdraw(self) -> None:
        """What this node has told of apps that it has no more."""
        for key in self._shared.published(HEALTH):
            parts = parts_of(key)
            if len(parts) == 3 and parts[1] not in self._targets.apps:
                self._shared.publish(*parts, value=None)

    def _publish_soon(self, app: str) -> None:
        if not self._due:
            self._loop.call_later(PUBLISH_AFTER, self._publish)
        self._due.add(app)

    def _publish(self) -> None:
        due, self._due = self._due, set()
        for app in due:
            self._shared.publish(HEALTH, app, self._node, value=self._ballot(app))

    def _ballot(self, app: str) -> dict[str, Any] | None:
        """None: nothing is checked."""
        known = self._targets.apps.get(app)
        names = [name for name in known.targets if _is_voted_on(known.checks_of(name))] if known is not None else []
        if not names or app in self._left:
            return None
        told: dict[str, Any] = {"names": self._names_of(app), "down": {}, "draining": {}, "unproven": []}
        for name in names:
            opinion = self._shared_opinion(app, name)
            if opinion is None:
                told["unproven"].append(name)
            elif opinion.state is not State.UP:
                told[opinion.state.value][name] = opinion.evidence
        return told

    def _shared_opinion(self, app: str, target: str) -> Opinion | None:
        own = self._own.get((app, target), {}).values()
        found = [one.shared for one in own if one.shared is not None]
        if not found or (len(found) < len(own) and all(one.state is State.UP for one in found)):
            return None
        return _worst(found)

    # -- what all tell

    def look_at_all(self) -> None:
        """What all tell is known from elsewhere."""
        self._heard(None)

    def _heard(self, keys: list[str] | None) -> None:
        different: dict[str, set[str] | None] = {}  # of each app: the targets that are thought otherwise of; None: all
        if keys is None:
            different = dict.fromkeys(self._ballots)
            self._ballots.clear()
            keys = self._shared.keys(HEALTH)
        for key in keys:
            parts = parts_of(key)
            if len(parts) == 3:
                found, before = self._take(parts[1], parts[2], key), different.get(parts[1], set())
                different[parts[1]] = None if found is None or before is None else before | found
        for app, names in different.items():
            known = self._targets.apps.get(app)
            if known is not None:
                self._judge_some([one for name, one in known.targets.items() if names is None or name in names])

    def _take(self, app: str, node: str, key: str) -> set[str] | None:
        known = self._shared.value(key)
        ballots = self._ballots.setdefault(app, {})
        before, ballot = ballots.pop(node, None), read(known.value) if known is not None else None
        if ballot is not None:
            ballots[node] = ballot
        if before is None or ballot is None or before.names != ballot.names:
            return None
        named = before.against.keys() | ballot.against.keys()
        return {one for one in named if before.against.get(one) != ballot.against.get(one)} | (
            before.unproven ^ ballot.unproven
        )

    def _judge_some(self, targets: list[KnownTarget]) -> None:
        for target in targets:
            before = target.state
            self._judge(target)
            if target.state is not before:
                self._changed(target, before)

    def _judge(self, target: KnownTarget) -> None:
        app, name = target.app, target.config.name
        if not _is_voted_on(self._targets.apps[app].checks_of(name)):
            return
        own = self._shared_opinion(app, name)
        voted = majority(self._opinions(app, name, own)) if self.is_joined else own
        local = [one.local for one in self._own.get((app, name), {}).values() if one.local is not None]
        found = [one for one in (voted, *local) if one is not None]
        if found and (voted is not None or own is not None or not self.is_joined):
            worst = _worst(found)
            target.health, target.evidence = worst.state, worst.evidence

    def _names_of(self, app: str) -> str:
        if app not in self._names:
            known = self._targets.apps[app]
            self._names[app] = names_of([name for name in known.targets if _is_voted_on(known.checks_of(name))])
        return self._names[app]

    def _opinions(self, app: str, target: str, own: Opinion | None) -> dict[str, Opinion]:
        found, names = {}, self._names_of(app)
        ballots = self._ballots.get(app, {})
        are_all_unfit = self._unfit >= ballots.keys()
        for node, ballot in ballots.items():
            if node in self._unfit and not are_all_unfit:
                continue
            if target in ballot.against:
                found[node] = ballot.against[target]
            elif ballot.names == names and target not in ballot.unproven:
                is_own = node == self._node and own is not None and own.state is State.UP
                found[node] = own if is_own and own is not None else WELL
        return found


def read(text: str) -> Ballot | None:
    """What a node says; None for what is nothing of the kind."""
    try:
        said = json.loads(text)
        names, unproven = said["names"], said["unproven"]
        lists = {State.DOWN: said["down"], State.DRAINING: said["draining"]}
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    if not (isinstance(names, str) and isinstance(unproven, list) and all(isinstance(one, dict) for one in lists.values())):
        return None
    if sum(map(len, (unproven, *lists.values()))) > MOST_NAMED or not all(isinstance(one, str) for one in unproven):
        return None
    against: dict[str, Opinion] = {}
    for state, listed in lists.items():
        for name, evidence in listed.items():
            if type(evidence) is not str or len(evidence) > MOST_EVIDENCE or not evidence.isprintable():
                return None
            against[name] = Opinion(state, evidence)
    return Ballot(names, against, frozenset(unproven))


def names_of(names: list[str]) -> str:
    return hashlib.sha256("\0".join(sorted(names)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _is_voted_on(checks: Iterable[Check]) -> bool:
    return any(check.scope == "cluster" for check in checks)


def _split(checks: tuple[Check, ...], finding: Finding) -> Own:
    by_question = {question_of(check): check for check in checks}
    by_question[""] = checks[0]  # restored from an older version's file: one for all
    found: dict[str, list[Opinion | None]] = {"cluster": [], "local": []}
    for known in finding.known:
        check = by_question.get(known.question)
        if check is not None:
            state = State.UP if known.is_passing else FALLEN[check.fall_action]
            text = "".join(filter(str.isprintable, known.evidence))[:MOST_EVIDENCE]
            found[check.scope].append(Opinion(state, text) if known.is_proven else None)
    return Own(_together(found["cluster"]), _together(found["local"]))


def _together(found: list[Opinion | None]) -> Opinion | None:
    """The worst; nothing while one that could be worse has had no result."""
    proven = [one for one in found if one is not None]
    worst = _worst(proven) if proven else None
    return None if worst is None or (None in found and worst.state is State.UP) else worst


def _worst(found: list[Opinion]) -> Opinion:
    return max(found, key=lambda one: WORSE.index(one.state))
