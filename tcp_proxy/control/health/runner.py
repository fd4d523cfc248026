"""The health checks of one app: a thread `health-<app>` with a loop of its own, which probes all targets side by side.

The only file that knows the kinds of checks (KINDS, and `script`, which has more to know). Other threads call `start`,
`set_targets`, `probe_now` and `stop`; everything else happens in the thread, which owns the loop and all probes, and where
`report` is called.

    a (target, check) pair:  IDLE ──an address──> PROBING (every address of the target at once)
                              ^                    ^  │ first success, or all have answered: Verdict.feed
            no address, or the target left    due ─┘  v
                              └──────────────────── WAITING   due: the interval ±10 %, probe_now, or new addresses

The interval is `interval`; `interval_down` while the check fails or has had no result, and longer than that when so many
are asked so often that they would be more than MOST_HURRIED a second.

Always true: two probes of one pair never overlap, and what falls due meanwhile is made up for at once afterwards; an
error of this machine is no verdict (docs/rules.md, R8), and the last KEPT descriptors are not for checks; a target that left
is probed no more, and one that stays keeps its history, whatever its addresses or its new name; a check that stays, though
perhaps with other numbers, keeps its verdict; after `stop` nothing is reported and no descriptor is left.
"""

import functools
import logging
import os
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tcp_proxy.config.model import Check
from tcp_proxy.config.secrets import hidden, secrets_of
from tcp_proxy.control.health import exchange, http, ping, script, tcp
from tcp_proxy.control.health.counts import ProbeCounts
from tcp_proxy.control.health.history import CheckHistory
from tcp_proxy.control.health.probe import Probe, Result, Secured, Start, owner_of
from tcp_proxy.control.health.subject import Endpoints, Pair, Subject
from tcp_proxy.control.scripts import Scripts, environment
from tcp_proxy.runtime.descriptors import has_room
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.sansio.verdict import Known, State, Verdict
from tcp_proxy.sansio.words import counted

logger = logging.getLogger(__name__)

KINDS: dict[str, Start] = {"tcp": tcp.start, "ping": ping.start}
CALLS_BY_NAME: dict[str, Callable[..., Probe]] = {"http": http.start, "exchange": exchange.start}  # in Host, and over TLS

JITTER = 0.1  # of the interval, to either side: targets and proxies do not fall into step
ASK_EVERY = 1.0  # seconds between two probes of a target that sessions asked for
BURST = 100  # checks that may begin together; the first round of more is spread over the interval
MOST_HURRIED = 500  # checks a second of an app that are made at `interval_down`: below a tenth of a CPU for connects
KEPT = 16  # descriptors that no check takes: for a new worker, a reload, an administrator, an election (docs/rules.md, R8)
SPREAD = 30.0  # seconds that this takes at most: who checks once an hour does not wait for an hour to know

OwnChecks = Mapping[str, tuple[Check, ...]]  # of targets that are not checked as the app says
SomeChecks = Mapping[str, tuple[Check, ...] | None]  # of some targets; None: they are checked as the app says
Tell = Callable[[list[CheckHistory]], Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the checks think of a target now. `changed`: they thought otherwise before, or nothing yet."""

    app: str
    target: str
    state: State
    evidence: str
    changed: bool
    is_passing: bool = True
    opposed: int = 0  # results in a row against what is thought
    known: tuple[Known, ...] = ()  # what each check has found


class HealthRunner:
    """`report(Finding)` is called for every first result and every change of what is thought of a target, `count(Finding)`
    when nothing but the number of results against it, or the check that thinks so, is another one."""

    def __init__(
        self,
        app: str,
        checks: tuple[Check, ...],
        report: Callable[[Finding], Any],
        loop: Loop | None = None,
        draw: Callable[[], float] = random.random,
        count: Callable[[Finding], Any] | None = None,
        counts: ProbeCounts | None = None,
        own: OwnChecks | None = None,
    ) -> None:
        self.app = app
        self._checks = checks
        self._own = dict(own or {})
        self._report = report
        self._count = count or _ignore
        self._draw = draw
        self._counts = counts or ProbeCounts()
        self._loop = loop or Loop(f"health-{app}")
        self._loop.on_error = self._bug
        self._scripts = Scripts(self._loop)
        self._thread = threading.Thread(target=self._serve, name=f"health-{app}", daemon=True)
        self._subjects: dict[str, Subject] = {}
        self._hurried: set[Pair] = set()
        self._restored: dict[str, tuple[Sequence[Known], Sequence[Known]]] = {}  # until the target comes
        self._is_over = False

    def __repr__(self) -> str:
        return f"<HealthRunner {self.app}: {len(self._checks)} checks on {len(self._subjects)} targets>"

    # -- from any thread

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Cancel what is under way, end the thread, release everything. A second call does nothing."""
        if self._thread.ident is None:  # never started: nobody else uses the loop
            self._release()
        else:
            self._loop.stop_soon()
            self._thread.join()

    def set_targets(
        self, targets: Mapping[str, Endpoints], hosts: Mapping[str, str] | None = None,
        secured: Mapping[str, Secured] | None = None,
    ) -> None:  # fmt: skip
        """From now on probe these, and no others. One without an address is known but not probed. `hosts`: how the hosts of
        them are written, for the checks that call a target by its name; otherwise they say its address. `secured`: those
        that are spoken to over TLS."""
        self._loop.call_soon(self._set_targets, dict(targets), dict(hosts or {}), dict(secured or {}))

    def change(
        self, gone: Iterable[str], targets: Mapping[str, Endpoints], hosts: Mapping[str, str],
        secured: Mapping[str, Secured], own: SomeChecks | None = None,
    ) -> None:  # fmt: skip
        """The same for a few: these subjects are probed no more, and these from now on, or elsewhere. `own`: the checks of
        targets, None where they are those of the app."""
        self._loop.call_soon(self._change, tuple(gone), dict(targets), dict(hosts), dict(secured), dict(own or {}))

    def restore(self, subject: str, own: Sequence[Known], left: Sequence[Known] = ()) -> None:
        """What an earlier life knew of it, or of servers of its target that are gone; comes before the `set_targets` that
        brings it."""
        self._loop.call_soon(self._restored.__setitem__, subject, (own, left))

    def set_checks(self, checks: tuple[Check, ...], own: OwnChecks | None = None) -> None:
        """From now on ask these questions, and those targets that have questions of their own, their own."""
        self._loop.call_soon(self._set_checks, checks, own or {})

    def rename(self, old: str, new: str) -> None:
        """It is the same target, or server of a group; comes before the `set_targets` that knows it by its new name."""
        self._loop.call_soon(self._rename, old, new)

    def probe_now(self, target: str) -> None:
        """A session could not connect: probe at once, but not more than once a second."""
        self._loop.call_soon(self._probe_now, target)

    def history(self, target: str, tell: Tell) -> bool:
        """`tell` is called in the health thread, with the last results of each check. False when the thread has ended."""
        return self._loop.call_soon(self._tell_history, target, tell)

    # -- in the thread

    def _serve(self) -> None:
        try:
            self._loop.run()
        finally:
            self._release()

    def _bug(self, call: Callable[..., Any], error: Exception) -> None:
        """One probe is lost; the thread, and with it the health of all other targets, goes on."""
        logger.error("app %s: a health check met a bug in %r", self.app, call, exc_info=error)

    def _release(self) -> None:
        self._is_over = True  # the loop's close makes the calls that are still queued: they must begin nothing
        for subject in self._subjects.values():
            subject.cancel()
        self._subjects.clear()
        self._scripts.close()
        self._loop.close()

    def _set_targets(self, targets: dict[str, Endpoints], hosts: Mapping[str, str], secured: Mapping[str, Secured]) -> None:
        self._change(tuple(self._subjects.keys() - targets.keys()), targets, hosts, secured, {})

    def _change(
        self, gone: Sequence[str], targets: dict[str, Endpoints], hosts: Mapping[str, str],
        secured: Mapping[str, Secured], own: SomeChecks,
    ) -> None:  # fmt: skip
        if self._is_over:
            return
        left: dict[str, list[Known]] = {}
        for name in gone:
            subject = self._subjects.pop(name, None)
            if subject is not None:
                left.setdefault(owner_of(name), []).extend(subject.known())
                self._drop(subject)
        other = {name for name, checks in own.items() if self._own.get(name) != checks}
        for name in other:
            self._own.pop(name, None)
        self._own |= {name: checks for name, checks in own.items() if checks is not None and name in other}
        due: list[Pair] = []
        for name, endpoints in targets.items():
            subject, new = self._subjects.get(name), []
            if subject is None:
                subject = self._new(name, left.get(owner_of(name), ()))
            elif owner_of(name) in other:
                new = self._ask_anew(subject)
            is_news = set(endpoints) != set(subject.endpoints) or subject.secured != secured.get(name)
            subject.endpoints, subject.host, subject.secured = endpoints, hosts.get(name, ""), secured.get(name)
            if not endpoints:
                subject.cancel()
            else:
                due += subject.pairs if is_news else new
            self._hurry(subject)
        self._begin_all(due)

    def _new(self, name: str, left: Sequence[Known]) -> Subject:
        own, replaced = self._restored.pop(name, ((), left))
        subject = self._subjects[name] = Subject(name, self._checks_of(name), own, replaced)
        if replaced and subject.pairs:
            self._count(self._finding(subject, subject.verdict, changed=False))
        return subject

    def _drop(self, subject: Subject) -> None:
        subject.cancel()
        self._hurried.difference_update(subject.pairs)
        subject.pairs = []  # each knows its subject: without this they would be there until garbage is looked for

    def _set_checks(self, checks: tuple[Check, ...], own: OwnChecks) -> None:
        if self._is_over:
            return
        self._checks, self._own = checks, dict(own)
        due: list[Pair] = []
        for subject in self._subjects.values():
            new = self._ask_anew(subject)
            due += new if subject.endpoints else ()
            self._hurry(subject)
        self._begin_all(due)

    def _ask_anew(self, subject: Subject) -> list[Pair]:
        """Its checks may be others; those that are new."""
        before, known = subject.verdict.state, subject.known()
        self._hurried.difference_update(subject.pairs)
        new = subject.set_checks(self._checks_of(subject.name))
        changed = subject.verdict.state is not before
        if subject.pairs and (changed or subject.known() != known):
            (self._report if changed else self._count)(self._finding(subject, subject.verdict, changed))
        for pair in subject.pairs:
            self._hasten(pair)
        return new

    def _hurry(self, subject: Subject) -> None:
        for pair in subject.pairs:
            (self._hurried.add if pair.is_hurried else self._hurried.discard)(pair)

    def _checks_of(self, target: str) -> tuple[Check, ...]:
        return self._own.get(owner_of(target), self._checks)

    def _tell_history(self, target: str, tell: Tell) -> None:
        subjects = [subject for subject in self._subjects.values() if owner_of(subject.name) == target]
        tell([history for subject in subjects for history in subject.histories()])

    def _rename(self, old: str, new: str) -> None:
        own = self._own.pop(owner_of(old), None)
        if own is not None:
            self._own[owner_of(new)] = own  # so that it is noticed if it has others now
        subject = self._subjects.pop(old, None)
        if subject is not None:
            subject.name = new
            self._subjects[new] = subject
            if subject.pairs and subject.is_proven:  # what was said of the old name may not have been heard any more
                self._report(self._finding(subject, subject.verdict, changed=False))

    def _finding(self, subject: Subject, worst: Verdict, changed: bool) -> Finding:
        thought = worst.state, worst.evidence, changed, worst.is_passing, worst.opposed
        return Finding(self.app, subject.name, *thought, subject.known())

    def _probe_now(self, name: str) -> None:
        """A probe that is under way answers the question as well as another one."""
        subject = self._subjects.get(name)
        if subject is None or not subject.endpoints or self._loop.now - subject.asked_at < ASK_EVERY:
            return
        for pair in subject.pairs:
            if not pair.probes:
                subject.asked_at = self._loop.now
                self._begin(pair)

    def _begin_all(self, pairs: list[Pair]) -> None:
        """A few together, so that their state is known soon; many one after another, to spare the network a burst."""
        if len(pairs) <= BURST:
            for pair in pairs:
                self._begin(pair)
            return
        down = [pair for pair in pairs if not pair.verdict.is_passing]
        self._spread(down, self._hurried_interval)
        self._spread([pair for pair in pairs if pair.verdict.is_passing], lambda pair: min(SPREAD, pair.check.interval))

    def _spread(self, pairs: list[Pair], over: Callable[[Pair], float]) -> None:
        for turn, pair in enumerate(pairs):
            if pair.timer is not None:
                pair.timer.cancel()
            pair.timer = self._loop.call_later(over(pair) * turn / len(pairs), self._begin, pair)

    def _hurried_interval(self, pair: Pair) -> float:
        return min(pair.check.interval, max(pair.check.interval_down, len(self._hurried) / MOST_HURRIED))

    def _interval(self, pair: Pair) -> float:
        interval = self._hurried_interval(pair) if pair.is_hurried else pair.check.interval
        return interval * (1 + JITTER * (2 * self._draw() - 1))

    def _plan(self, pair: Pair) -> None:
        """It has become one that is asked at `interval_down`, or is one no more."""
        (self._hurried.add if pair.is_hurried else self._hurried.discard)(pair)
        if pair.timer is not None:
            pair.timer.cancel()
            left = pair.began_at + self._interval(pair) - self._loop.now
            pair.timer = self._loop.call_later(max(0.0, left), self._begin, pair)

    def _hasten(self, pair: Pair) -> None:
        """Its interval may be shorter now: nobody waits for the end of an hour that was taken back."""
        interval = self._interval(pair)
        if pair.timer is not None and self._loop.now + interval < pair.timer.when:
            pair.timer.cancel()
            pair.timer = self._loop.call_later(interval, self._begin, pair)

    def _begin(self, pair: Pair) -> None:
        """Probe every address; the next round begins in about an interval.

        Probes under way are left to their end: who cancelled them for each news of the name would never have a result.
        """
        if pair.timer is not None:
            pair.timer.cancel()
            pair.timer = None
        if pair.probes:
            pair.is_due = True
            return
        pair.is_due = False
        pair.timer = self._loop.call_later(self._interval(pair), self._begin, pair)
        endpoints = pair.subject.endpoints
        pair.asked, pair.began_at = len(endpoints), self._loop.now
        pair.results = []
        if not has_room(KEPT):
            self._conclude(pair, Result(None, f"{pair.check.type}: too many open files (EMFILE)"))
            return
        start, done = self._starter(pair), functools.partial(self._answered, pair)
        pair.probes = [start(self._loop, endpoint, pair.check, done) for endpoint in endpoints]

    def _starter(self, pair: Pair) -> Start:
        # Another port is another service: whether that speaks TLS, the check says.
        secured = pair.subject.secured if pair.check.port is None else None
        if pair.check.type in CALLS_BY_NAME:
            return functools.partial(CALLS_BY_NAME[pair.check.type], host=pair.subject.host, secured=secured)
        if pair.check.type == "tcp" and secured is not None:
            return functools.partial(tcp.start, secured=secured)
        if pair.check.type != "script":
            return KINDS[pair.check.type]
        ours = {"TCP_PROXY_APP": self.app, "TCP_PROXY_TARGET": owner_of(pair.subject.name)}
        env = environment(pair.check.environment, ours)
        return lambda _loop, *asked: script.start(self._scripts, env, *asked)

    def _answered(self, pair: Pair, result: Result) -> None:
        secrets = _secrets(pair.check)
        pair.results.append(Result(result.success, hidden(result.text, secrets)) if secrets else result)
        if not result.success and len(pair.results) < pair.asked:
            return
        pair.end_probes()
        self._conclude(pair, _summary(pair.results))
        if pair.is_due:
            self._begin(pair)

    def _conclude(self, pair: Pair, result: Result) -> None:
        subject = pair.subject
        self._counts.add(self.app, subject.name, pair.check.type, result.success)
        pair.history.add(self._loop.now - pair.began_at, result)
        if result.success is None:
            if not pair.had_local_error:
                logger.warning("app %s: target %s cannot be checked: %s", self.app, subject.name, result.text)
            pair.had_local_error = True
            return
        pair.had_local_error = False
        before, was_proven, opposed = subject.verdict.state, subject.is_proven, pair.verdict.opposed
        is_news = pair.verdict.feed(result.success, result.text)
        if is_news:
            self._plan(pair)
        if not is_news and pair.verdict.opposed == opposed:
            return
        worst = subject.verdict
        if pair.verdict.state is worst.state:  # of equals, the one that has news
            worst = pair.verdict
        is_said = pair.check.fall_action == "ignore"  # nothing but the line in the log tells of it
        changed = is_news and (is_said or worst.state is not before or subject.is_proven is not was_proven)
        (self._report if is_news else self._count)(self._finding(subject, worst, changed))


@functools.lru_cache(maxsize=1024)
def _secrets(check: Check) -> tuple[str, ...]:
    return secrets_of(check, os.environ)


def _ignore(_finding: Finding) -> None:
    """Nobody wants to know."""


def _summary(results: list[Result]) -> Result:
    """Up if any address answers; an error of this machine counts only if there is nothing else, and then not."""
    for result in results:
        if result.success:
            return result
    failed = [result for result in results if result.success is False]
    if not failed:
        return results[0]
    others = counted(len(failed) - 1, "more address", "more addresses")
    return Result(False, failed[0].text + (f", and {others} failed" if len(failed) > 1 else ""))
