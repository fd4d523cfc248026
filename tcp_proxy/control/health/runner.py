"""The health checks of one app: a thread `health-<app>` with a loop of its own, which probes all targets side by side.

The only file that knows the kinds of checks (KINDS). Other threads call `start`, `set_targets`, `probe_now` and `stop`;
everything else happens in the thread, where `report` is called too.

    a (target, check) pair:  WAITING ──interval, ±10 %, or probe_now──> PROBING (every address of the target at once)
                                ^                                          │ first success, or all have answered
                                └──────────────── Verdict.feed ────────────┘

Always true: two probes of one pair never overlap; an error of this machine is no verdict (DESIGN 9.8); a target that
left is probed no more, and one that stays keeps its history, whatever its addresses.
"""

import logging
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tcp_proxy.config.model import Check
from tcp_proxy.control.health import ping, tcp
from tcp_proxy.control.health.probe import Probe, Result, Start
from tcp_proxy.loop import Loop, Timer
from tcp_proxy.messages import Endpoint
from tcp_proxy.sansio.verdict import State, Verdict, combine

logger = logging.getLogger(__name__)

KINDS: dict[str, Start] = {"tcp": tcp.start, "ping": ping.start}

JITTER = 0.1  # of the interval, to either side: targets and proxies do not fall into step
ASK_EVERY = 1.0  # seconds between two probes of a target that sessions asked for

Endpoints = tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the checks think of a target now. `changed`: they thought otherwise before, or nothing yet."""

    app: str
    target: str
    state: State
    evidence: str
    changed: bool


class _Pair:
    """One check on one target. `probes` are those under way, one for each address."""

    def __init__(self, subject: "_Subject", check: Check) -> None:
        self.subject = subject
        self.check = check
        self.verdict = Verdict(check)
        self.probes: list[Probe] = []
        self.results: list[Result] = []
        self.timer: Timer | None = None
        self.had_local_error = False

    def cancel(self) -> None:
        for probe in self.probes:
            probe.cancel()
        self.probes = []
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _Subject:
    """One target: where it is, and a pair for each check."""

    def __init__(self, name: str, checks: tuple[Check, ...]) -> None:
        self.name = name
        self.endpoints: Endpoints = ()
        self.pairs = [_Pair(self, check) for check in checks]
        self.asked_at = float("-inf")


class HealthRunner:
    """`report(Finding)` is called for every first result and every change of what is thought of a target."""

    def __init__(
        self,
        app: str,
        checks: tuple[Check, ...],
        report: Callable[[Finding], Any],
        loop: Loop | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.app = app
        self._checks = checks
        self._report = report
        self._draw = draw
        self._loop = loop or Loop(f"health-{app}")
        self._thread = threading.Thread(target=self._serve, name=f"health-{app}", daemon=True)
        self._subjects: dict[str, _Subject] = {}

    def __repr__(self) -> str:
        return f"<HealthRunner {self.app}: {len(self._checks)} checks on {len(self._subjects)} targets>"

    # -- from any thread

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Cancel what is under way, end the thread, release everything."""
        self._loop.stop_soon()
        if self._thread.ident is None:  # never started
            self._loop.close()
        else:
            self._thread.join()

    def set_targets(self, targets: Mapping[str, Endpoints]) -> None:
        """From now on probe these, and no others."""
        self._loop.call_soon(self._set_targets, dict(targets))

    def probe_now(self, target: str) -> None:
        """A session could not connect: probe at once, but not more than once a second."""
        self._loop.call_soon(self._probe_now, target)

    # -- in the thread

    def _serve(self) -> None:
        self._loop.run()
        for subject in self._subjects.values():
            for pair in subject.pairs:
                pair.cancel()
        self._loop.close()

    def _set_targets(self, targets: dict[str, Endpoints]) -> None:
        for name in self._subjects.keys() - targets.keys():
            for pair in self._subjects.pop(name).pairs:
                pair.cancel()
        for name, endpoints in targets.items():
            subject = self._subjects.get(name)
            if subject is None:
                subject = self._subjects[name] = _Subject(name, self._checks)
            had_none = not subject.endpoints
            subject.endpoints = endpoints
            if had_none and endpoints:
                for pair in subject.pairs:
                    self._begin(pair)

    def _probe_now(self, name: str) -> None:
        subject = self._subjects.get(name)
        if subject is None or self._loop.now - subject.asked_at < ASK_EVERY:
            return
        subject.asked_at = self._loop.now
        for pair in subject.pairs:
            self._begin(pair)

    def _begin(self, pair: _Pair) -> None:
        """Probe every address, unless a probe is under way; and let the next round begin in about an interval."""
        if pair.timer is not None:
            pair.timer.cancel()
        interval = pair.check.interval * (1 + JITTER * (2 * self._draw() - 1))
        pair.timer = self._loop.call_later(interval, self._begin, pair)
        endpoints = pair.subject.endpoints
        if pair.probes or not endpoints:
            return
        pair.results = []
        start = KINDS[pair.check.type]
        pair.probes = [
            start(self._loop, endpoint, pair.check, lambda result: self._answered(pair, result, len(endpoints)))
            for endpoint in endpoints
        ]

    def _answered(self, pair: _Pair, result: Result, expected: int) -> None:
        pair.results.append(result)
        if result.success or len(pair.results) == expected:
            for probe in pair.probes:
                probe.cancel()
            pair.probes = []
            self._conclude(pair)

    def _conclude(self, pair: _Pair) -> None:
        """Up if any address answered; an error of this machine counts only if there is nothing else, and then not."""
        subject = pair.subject
        result = next((r for r in pair.results if r.success), None) or next(
            (r for r in pair.results if r.success is False), pair.results[-1]
        )
        if result.success is None:
            if not pair.had_local_error:
                logger.warning("app %s: target %s cannot be checked: %s", self.app, subject.name, result.text)
            pair.had_local_error = True
            return
        pair.had_local_error = False
        before = combine(each.verdict for each in subject.pairs)
        state_before = before.state if before is not None else State.UP
        was_proven = all(each.verdict.is_proven for each in subject.pairs)
        turned = pair.verdict.feed(result.success, self._evidence(pair, result))
        after = combine(each.verdict for each in subject.pairs)
        assert after is not None
        is_proven = all(each.verdict.is_proven for each in subject.pairs)
        changed = after.state is not state_before
        if changed or turned or is_proven != was_proven:
            worst = pair.verdict if pair.verdict.state is after.state else after
            self._report(Finding(self.app, subject.name, after.state, worst.evidence, changed or is_proven != was_proven))

    def _evidence(self, pair: _Pair, result: Result) -> str:
        verdict = pair.verdict
        agrees = result.success is verdict.is_passing or not verdict.is_proven
        count = 1 if agrees else verdict.opposed + 1
        limit = verdict.rise if result.success else verdict.fall
        return f"{result.text} ({min(count, limit)} of {limit} {'rise' if result.success else 'fall'})"
