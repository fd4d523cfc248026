"""The checks' states over a restart: what the store has of the last run is restored, what the next one needs is saved.

Main thread only. A restart changes nothing: each check of each server goes on where it was, with its count, so a target
that was known to be down has no session before its checks have said otherwise. What is saved is what a reload would go on
with: nothing of a target that is checked no more, or that has left.

One that is listed elsewhere (`srv:`, `file:`) may leave and come back by itself: it goes on as over a restart if it was
away for KEPT at most, for nobody has said that what was found is to be forgotten. That is kept in memory alone, of the
last MOST.
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

from tcp_proxy.config import model
from tcp_proxy.control.health.probe import port_of
from tcp_proxy.control.health.runner import Finding, HealthRunner
from tcp_proxy.control.health.subject import Subject
from tcp_proxy.control.store.state import REMOVED, SavedServer, SavedTarget
from tcp_proxy.control.store.state import State as Store
from tcp_proxy.control.targets.known import KnownTarget
from tcp_proxy.runtime.loop import this_moment
from tcp_proxy.sansio.verdict import Known, State

logger = logging.getLogger(__name__)

KEPT = 3600.0  # seconds
MOST = 10_000  # targets


class RestoredStates:
    """Reads and writes `store`, which may be in memory only."""

    def __init__(
        self, store: Store, wall: Callable[[], float] = time.time, clock: Callable[[], float] = this_moment
    ) -> None:  # fmt: skip
        self._store = store
        self._wall, self._clock = wall, clock
        self._left: dict[tuple[str, str], tuple[float, dict[int, tuple[Known, ...]]]] = {}  # the longest away first
        self.heard: Callable[[KnownTarget, Finding], Any] = _nothing  # of each finding, restored ones too

    def __repr__(self) -> str:
        return f"<RestoredStates from {self._store!r}>"

    def begin(self, target: KnownTarget, checks: tuple[model.Check, ...], runner: HealthRunner | None) -> None:
        """Think of a target what was thought of it last; its runner, which does not know the target yet, too."""
        if runner is None or not checks or target.config.disabled:
            return
        servers, since = self._servers(target), "before the restart"
        if not servers and target.config.origin:
            servers, since = self._of_left(target.app, target.config.name), "when it left"
        if not servers:
            return
        ports = {name: port_of(name) or 0 for name in target.subjects()}
        left = [known for port, found in servers.items() if port not in ports.values() for known in found]
        for name, port in ports.items():
            own = servers.get(port, ())
            if own or left:
                runner.restore(name, own, left)
                finding = _finding(target, Subject(name, checks, own, left))
                self.found(target, finding, target.found(finding))  # the checks may be others than those before the restart
        if target.health is not State.UP:
            text = "app %s: target %s is %s, as it was %s: %s"
            logger.warning(text, target.app, target.config.name, target.health, since, target.evidence)

    def _servers(self, target: KnownTarget) -> dict[int, tuple[Known, ...]]:
        """What each server's checks have found, by port. An older version's file has one verdict for all."""
        servers = self._store.servers(target.app, target.config.name)
        saved = self._store.get(target.app, target.config.name)
        if servers or saved is None or not saved.verdict:
            return servers
        known = Known("", saved.verdict == State.UP, saved.results, saved.evidence)
        return {port_of(name) or 0: (known,) for name in target.subjects()}

    def leave(self, app: str, target: str) -> None:
        """It is no target any more; it may come back."""
        servers = self._store.servers(app, target)
        self._left.pop((app, target), None)
        if servers:
            self._left[app, target] = self._clock(), dict(servers)
            if len(self._left) > MOST:
                del self._left[next(iter(self._left))]
        self.forget(app, target)

    def _of_left(self, app: str, target: str) -> dict[int, tuple[Known, ...]]:
        left_at, servers = self._left.pop((app, target), (0.0, {}))
        return servers if self._clock() - left_at <= KEPT else {}

    def assume_up(self, app: str, target: str) -> None:
        """Of one that is added: it begins as one whose checks have passed."""
        self._store.save_server(SavedServer(app, target, 0, (Known("", True, 0, "assumed to be up"),)))

    def found(self, target: KnownTarget, of_server: Finding, finding: Finding) -> None:
        """`finding` is what `of_server` means for the target. With `ignore` a target that fails is up all the same; what is
        saved is the checks' own opinion."""
        verdict = finding.state if finding.state is not State.UP or finding.is_passing else State.DOWN
        app, name = target.app, target.config.name
        saved = self._store.get(app, name) or SavedTarget(app, name)
        self._store.save(
            dataclasses.replace(
                saved, verdict=verdict.value, results=finding.opposed, evidence=finding.evidence, at=self._wall()
            )
        )
        self._store.save_server(SavedServer(app, name, port_of(of_server.target) or 0, of_server.known))
        self._store.forget_servers(app, name, but=target.located)  # those in their place have begun with what was known
        self.heard(target, of_server)

    def keep_servers(self, target: KnownTarget) -> None:
        """Its other servers have left, and none has come in their place: what was known of them is nobody's."""
        app, name = target.app, target.config.name
        self._store.forget_servers(app, name, but=target.located)
        if not self._store.servers(app, name):
            self.forget(app, name)

    def forget(self, app: str, target: str) -> None:
        """Nothing is known of it any more; what was said of it at run time stays."""
        self._store.forget_servers(app, target)
        saved = self._store.get(app, target)
        if saved is None or not saved.verdict:
            return
        if saved == SavedTarget(app, target, "", None, saved.verdict, saved.results, saved.evidence, saved.at):
            self._store.forget(app, target)
        else:
            self._store.save(dataclasses.replace(saved, verdict="", results=0, evidence=""))

    def rename(self, app: str, old: str, new: str) -> None:
        """It is the same target, with all that is known of it."""
        for port, known in self._store.servers(app, old).items():
            self._store.save_server(SavedServer(app, new, port, known))
        self._store.forget_servers(app, old)
        saved = self._store.get(app, old)
        if saved is not None:
            self._store.save(dataclasses.replace(saved, target=new))
            self._store.forget(app, old)

    def forget_all_but(self, known: set[tuple[str, str]]) -> None:
        """Of the targets that stood in the file, only those that still do, or were taken out of it at run time."""
        for (app, target), saved in self._store.load().items():
            if saved.origin == "file" and saved.admin != REMOVED and (app, target) not in known:
                self._store.forget(app, target)


def _finding(target: KnownTarget, server: Subject) -> Finding:
    worst = server.verdict
    thought = worst.state, worst.evidence, False, worst.is_passing, worst.opposed
    return Finding(target.app, server.name, *thought, server.known())


def _nothing(_target: KnownTarget, _finding: Finding) -> None:
    """Nobody wants to know."""
