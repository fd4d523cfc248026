"""What an earlier life of the program knew about the targets, and what the next one is to know: the store's other side.

Main thread only. A target that was known to be down has no session before a check has said otherwise (DESIGN 9.9); rise
and fall count on from where they were. Verdicts are recalled for apps that have checks: without, nothing would ever
take them back.
"""

import dataclasses
import logging
import time
from collections.abc import Callable

from tcp_proxy.config import model
from tcp_proxy.control.health.runner import Finding, HealthRunner
from tcp_proxy.control.state import REMOVED, SavedTarget
from tcp_proxy.control.state import State as Store
from tcp_proxy.control.targets import KnownTarget
from tcp_proxy.sansio.verdict import State, Verdict, combine

logger = logging.getLogger(__name__)


class Recall:
    """Reads and writes `store`, which may be in memory only."""

    def __init__(self, store: Store, wall: Callable[[], float] = time.time) -> None:
        self._store = store
        self._wall = wall

    def __repr__(self) -> str:
        return f"<Recall from {self._store!r}>"

    def begin(self, target: KnownTarget, checks: tuple[model.Check, ...], runner: HealthRunner | None) -> None:
        """Think of a target what was thought of it last; its runner, which does not know the target yet, too."""
        saved = self._store.get(target.app, target.config.name)
        if saved is None or not saved.verdict or runner is None or not checks:
            return
        verdicts = [Verdict(check.rise, check.fall, check.fall_action) for check in checks]
        is_passing = saved.verdict == State.UP
        for verdict in verdicts:
            verdict.recall(is_passing, saved.results, saved.evidence)
        worst = combine(verdicts)
        assert worst is not None
        target.health, target.evidence = worst.state, worst.evidence
        for subject in target.subjects():
            runner.recall(subject, is_passing, saved.results, saved.evidence)
        if target.health is not State.UP:
            text = "app %s: target %s is %s, as it was before the restart: %s"
            logger.warning(text, target.app, target.config.name, target.health, target.evidence)

    def found(self, finding: Finding) -> None:
        """With `ignore` a target that fails is up all the same; what is saved is the checks' own opinion."""
        verdict = finding.state if finding.state is not State.UP or finding.is_passing else State.DOWN
        saved = self._store.get(finding.app, finding.target) or SavedTarget(finding.app, finding.target)
        self._store.save(
            dataclasses.replace(
                saved, verdict=verdict.value, results=finding.opposed, evidence=finding.evidence, at=self._wall()
            )
        )

    def rename(self, app: str, old: str, new: str) -> None:
        """It is the same target, with all that is known of it."""
        saved = self._store.get(app, old)
        if saved is not None:
            self._store.save(dataclasses.replace(saved, target=new))
            self._store.forget(app, old)

    def forget_all_but(self, known: set[tuple[str, str]]) -> None:
        """Of the targets that stood in the file, only those that still do, or were taken out of it at run time."""
        for (app, target), saved in self._store.load().items():
            if saved.origin == "file" and saved.admin != REMOVED and (app, target) not in known:
                self._store.forget(app, target)
